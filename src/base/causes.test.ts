import assert from 'node:assert/strict';
import { test } from 'node:test';
import { causes } from './causes.ts';

test('a number of ours names one cause', () => {
  const ours = Object.values(causes)
    .map((row) => row.cni)
    .filter((number) => number >= 100 && number !== 999);
  assert.equal(new Set(ours).size, ours.length, ours.join());
});
