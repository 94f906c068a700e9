import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { needAccess } from './labs.ts';

const skip = process.getuid?.() === 0 ? false : 'needs root to become another user';

/** Run by the pinned Node, which loads all while it is root still: its checkout may be closed to others. */
const NOBODY = `
const { needAccess } = await import(process.argv[1]);
process.setgroups([]); process.setgid(65534); process.setuid(65534);
try { needAccess(process.argv[2]); console.log('let in'); } catch (error) { console.log(error.code); }
`;

test("another user is told that the labs are root's, and not that there are none", { skip }, () => {
  const dir = mkdtempSync(join(tmpdir(), 'podway-labs-'));
  const closed = join(dir, 'run');
  mkdirSync(closed, { mode: 0o700 });
  try {
    needAccess(closed);
    needAccess(join(dir, 'absent'));
    const labs = join(import.meta.dirname, 'labs.ts');
    const args = ['--disable-warning=ExperimentalWarning', '--input-type=module', '-e', NOBODY, labs, closed];
    const { stdout, stderr } = spawnSync(process.execPath, args, { encoding: 'utf8', timeout: 30_000 });
    assert.equal(stdout, 'NOT_ROOT\n', stderr);
  } finally {
    rmSync(dir, { recursive: true });
  }
});
