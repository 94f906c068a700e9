// The controller's own calls are of the same budget as the nodes', by what waits for them.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { AskedCalls } from '../../kube/index.ts';
import { grantsOf, ownAsks } from './keeper.ts';

const BUDGET = { reads: 15, changes: 10 };
const ask = (changes: number, waiting: number): AskedCalls => ({ reads: 1, changes, waiting });
const sum = (grants: ReadonlyMap<string, { changes: number }>, of: RegExp) =>
  [...grants].filter(([name]) => of.test(name)).reduce((all, [, { changes }]) => all + changes, 0);

test('what fits is granted to nobody, and little is not asked for', () => {
  assert.deepEqual(ownAsks(null), []);
  assert.deepEqual(ownAsks({ reads: 0.4, changes: 0.1, nodesWaiting: 3 }), []);
  const own = ownAsks({ reads: 1, changes: 4, nodesWaiting: 2 });
  assert.equal(own.length, 2);
  assert.equal(grantsOf([['n-1', ask(5, 1)], ...own], BUDGET).size, 0);
});

test('branches of waiting pods go before warm pools, and beside nodes on which pods wait node by node', () => {
  const own = ownAsks({ reads: 1, changes: 12, nodesWaiting: 3 });
  const before = grantsOf([['n-1', ask(5, 0)], ['n-2', ask(5, 0)], ...own], BUDGET);
  assert.ok(sum(before, /^controller/) > 9.5);
  const beside = grantsOf([['n-1', ask(5, 1)], ...own], BUDGET);
  assert.equal(Math.round(sum(beside, /^n-/) * 10) / 10, 2.5, 'one of four');
  const after = grantsOf([['n-1', ask(9, 1)], ...ownAsks({ reads: 1, changes: 6, nodesWaiting: 0 })], BUDGET);
  assert.equal(Math.round(sum(after, /^n-/)), 9, 'what nobody waits for comes last');
});
