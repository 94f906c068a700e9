import assert from 'node:assert/strict';
import { test } from 'node:test';
import { attachedNow, type Core } from './core.ts';
import { TestNode } from './testkit.ts';

test('a primary ENI that a describe lacks stays in the node’s network', async () => {
  await using node = new TestNode();
  await node.start();
  const { state } = node.pool;
  const enis = new Map([...state.enis].map(([id, eni]) => [id, { ...eni, missingSince: 1 }]));
  assert.deepEqual(
    attachedNow({ state: { ...state, enis } } as unknown as Core).map((eni) => eni.primary),
    [true],
  );
});
