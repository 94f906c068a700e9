// A free address of a subnet opens one node that was full, and the next one when that is used or nobody came.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Chances, type Full, isOpen, nextChances } from './chances.ts';

const full = (...names: string[]): Map<string, Full> =>
  new Map(names.map((name) => [name, { subnets: ['s'], pods: 3 }]));
const open = (chances: Chances, now: number, pods = 3): string[] =>
  [...chances].filter(([, chance]) => isOpen(chance, pods, now)).map(([name]) => name);
const free = (count: number) => new Map([['s', count]]);

test('each free address opens one node', () => {
  const nodes = full('a', 'b', 'c');
  assert.deepEqual(open(nextChances(new Map(), nodes, free(0), 0), 0), []);
  const two = nextChances(new Map(), nodes, free(2), 0);
  assert.deepEqual(open(two, 0), ['a', 'b']);
  assert.deepEqual(
    open(nextChances(two, nodes, free(2), 2_000), 2_000),
    ['a', 'b'],
    'the same count, no third',
  );
});

test('a node closes when a pod has come, or after its time; then another has the chance', () => {
  const nodes = full('a', 'b');
  const first = nextChances(new Map(), nodes, free(1), 0);
  assert.deepEqual(open(first, 1_000), ['a']);
  assert.deepEqual(open(first, 1_000, 4), []);
  assert.deepEqual(open(first, 20_000), []);
  const second = nextChances(first, nodes, free(1), 20_000);
  assert.deepEqual(open(second, 20_000), ['b']);
  const third = nextChances(second, nodes, free(1), 41_000);
  assert.deepEqual(open(third, 41_000), ['a']);
});

test('a node whose subnet is another one is not opened', () => {
  const nodes = new Map([['a', { subnets: ['t'], pods: 0 }]]);
  assert.deepEqual(open(nextChances(new Map(), nodes, free(5), 0), 0, 0), []);
});
