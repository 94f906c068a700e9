import assert from 'node:assert/strict';
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { ensurePackages } from './packages.ts';

const dir = mkdtempSync(join(tmpdir(), 'podway-packages-'));
after(() => rmSync(dir, { recursive: true }));
const program = (name: string, script = '') => {
  writeFileSync(join(dir, name), `#!/bin/sh\n${script}\n`);
  chmodSync(join(dir, name), 0o755);
};
const ask = async (name: string): Promise<string[]> => {
  const said: string[] = [];
  await ensurePackages([name], (text) => said.push(text), dir);
  return said;
};

test('nothing is installed, or said, where all is there or there is no apt-get', async () => {
  assert.deepEqual(await ask('runc'), []);
  program('apt-get', 'exit 1');
  program('runc');
  assert.deepEqual(await ask('runc'), []);
});

test('a package is installed with a line that says so', async () => {
  program('apt-get', `echo "$@" >${dir}/asked`);
  assert.match((await ask('other'))[0]!, /^apt-get install other: /);
  assert.match(readFileSync(join(dir, 'asked'), 'utf8'), / install -y -qq --no-install-recommends other$/m);
});

test('a package that apt-get does not have is told in its words', async () => {
  program('apt-get', 'echo "E: Unable to locate package other" >&2; exit 100');
  await assert.rejects(ask('other'), /apt-get did not install other: E: Unable to locate package other/);
});
