import assert from 'node:assert/strict';
import { test } from 'node:test';
import { differenceTable } from './views.ts';

test('a side that has nothing to say of a difference shows a dash', () => {
  const shown = differenceTable([
    { kind: 'address', object: 'node-1: 10.0.0.6', journal: 'free', kernel: null, cloud: null, api: null },
    { kind: 'held-twice', object: '10.0.0.7', journal: ['a', 'b'] },
  ]);
  assert.deepEqual(
    shown.split('\n').map((line) => line.split(/ {2,}/)),
    [
      ['KIND', 'OBJECT', 'JOURNAL', 'KERNEL', 'CLOUD', 'API'],
      ['address', 'node-1: 10.0.0.6', 'free', '-', '-', '-'],
      ['held-twice', '10.0.0.7', '["a","b"]', '-', '-', '-'],
    ],
  );
});
