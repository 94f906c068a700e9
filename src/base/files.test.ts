import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { writeFileAtomic } from './files.ts';

const dir = mkdtempSync(join(tmpdir(), 'podway-files-'));
after(() => rmSync(dir, { recursive: true }));

test('the file has the text and the mode, and nothing lies beside it', () => {
  writeFileAtomic(join(dir, 'a'), 'one');
  writeFileAtomic(join(dir, 'a'), 'two', 0o644);
  assert.equal(readFileSync(join(dir, 'a'), 'utf8'), 'two');
  assert.equal(statSync(join(dir, 'a')).mode & 0o777, 0o644);
  assert.deepEqual(readdirSync(dir), ['a']);
});

test('a write that fails leaves the old file and nothing aside', () => {
  mkdirSync(join(dir, 'b'));
  assert.throws(() => writeFileAtomic(join(dir, 'b'), 'text'), { code: 'EISDIR' });
  assert.throws(() => writeFileAtomic(join(dir, 'none', 'c'), 'text'), { code: 'ENOENT' });
  assert.deepEqual(readdirSync(dir).sort(), ['a', 'b']);
});
