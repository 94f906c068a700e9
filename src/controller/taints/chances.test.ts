// A free address of a subnet opens one node that was full, and the next one when that is used or nobody came.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { PodwayNode } from '../../kube/index.ts';
import { type Chances, type Full, fullSubnets, isOpen, nextChances } from './chances.ts';

const full = (...names: string[]): Map<string, Full> =>
  new Map(names.map((name) => [name, { needs: [{ subnetId: 's', addresses: 1 }], pods: 3 }]));
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
  const nodes = new Map([['a', { needs: [{ subnetId: 't', addresses: 1 }], pods: 0 }]]);
  assert.deepEqual(open(nextChances(new Map(), nodes, free(5), 0), 0, 0), []);
});

type Addresses = NonNullable<NonNullable<PodwayNode['status']>['addresses']>;
const saying = (more: Partial<Addresses>): Map<string, Full> => {
  const base = { held: 3, free: 0, cooling: 0, waiting: 0, obtainable: 0, lack: 'SUBNET_EXHAUSTED' };
  const metadata = { name: 'a' };
  const spec = { instanceId: 'i-0', subnets: ['s'] };
  const own = { metadata, spec, status: { addresses: { ...base, ...more } } } as PodwayNode;
  return fullSubnets(new Map([['a', own]]), () => true);
};
const needs = (addresses: number, subnetId = 's') => [{ subnetId, addresses }];

for (const [what, more, count, isOpened] of [
  ['a new ENI is needed and 1 is free', { needs: needs(2) }, 1, false],
  ['a new ENI is needed and 2 are free', { needs: needs(2) }, 2, true],
  ['a slot is free and so is 1', { needs: needs(1) }, 1, true],
  ['a slot is free and nothing else', { needs: needs(1) }, 0, false],
  ['the type takes no more', { needs: [] }, 9, false],
  ['the other one of two subnets has enough', { needs: [...needs(1, 't'), ...needs(2)] }, 2, true],
  ['a pod that waits on it gets what is free', { needs: needs(1), waiting: 1 }, 1, false],
  ['there is one beside that of the pod that waits on it', { needs: needs(1), waiting: 1 }, 2, true],
  ['its agent does not say what it needs', {}, 1, true],
] as const)
  test(`a node ${isOpened ? 'opens' : 'stays shut'}: ${what}`, () => {
    const nodes = saying(more as Partial<Addresses>);
    assert.equal([...nextChances(new Map(), nodes, free(count), 0)].length, isOpened ? 1 : 0);
  });

test('two free addresses open one node that needs both', () => {
  const nodes = new Map([...full('a', 'b')].map(([name, one]) => [name, { ...one, needs: needs(2) }]));
  assert.deepEqual(open(nextChances(new Map(), nodes, free(3), 0), 0), ['a']);
});

test('an open node closes when its address has gone elsewhere, and opens at once when one is free again', () => {
  const first = nextChances(new Map(), full('a'), free(1), 0);
  const unasked = nextChances(first, full('a'), new Map(), 1_000);
  assert.deepEqual(open(unasked, 1_000), ['a']);
  const gone = nextChances(first, full('a'), free(0), 2_000);
  assert.deepEqual(open(gone, 2_000), []);
  assert.deepEqual(open(nextChances(gone, full('a'), free(1), 4_000), 4_000), ['a']);
});
