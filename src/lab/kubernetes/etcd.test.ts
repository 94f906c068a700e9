import assert from 'node:assert/strict';
import { test } from 'node:test';
import { progressTold } from './etcd.ts';

test('which etcd tells how far a watch is', () => {
  for (const [version, tells] of [
    ['3.3.27', false],
    ['3.4.23', false],
    ['3.4.31', true],
    ['3.5.12', false],
    ['3.5.13', true],
    ['3.6.0', true],
  ] as const)
    assert.equal(progressTold(`etcd Version: ${version}\nGit SHA: x\n`), tells, version);
  assert.equal(progressTold('something else'), true);
});
