// What a node bears by what its agent has said of it.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { PodwayNode, PodwayNodeAddresses } from '../../kube/index.ts';
import type { NodeView } from '../view.ts';
import { decide } from './plan.ts';

const OTHER = { key: 'someone.else', effect: 'NoSchedule' };
const STARTUP = { key: 'podway.dev/agent-not-ready', effect: 'NoSchedule' };
const OUT = { key: 'podway.dev/no-address', effect: 'NoSchedule' };

const nodeOf = (...taints: (typeof OTHER)[]): NodeView => ({
  metadata: { name: 'n', uid: 'u1' },
  spec: { providerID: 'aws:///z/i-1', taints },
  conditions: [],
  podEni: [undefined, undefined],
});
const addresses = (more: Partial<PodwayNodeAddresses>): PodwayNodeAddresses => ({
  ...{ held: 3, free: 0, cooling: 0, waiting: 0, obtainable: 0 },
  ...more,
});
const own = (of: Partial<PodwayNodeAddresses>, status: Partial<PodwayNode['status']> = {}): PodwayNode => ({
  metadata: { name: 'n' },
  spec: { instanceId: 'i-1' },
  status: {
    nodeUID: 'u1',
    addresses: addresses(of),
    conditions: [{ type: 'Ready', status: 'True' }],
    ...status,
  },
});
const LONG: Parameters<typeof decide>[2] = { outSince: 0, hasChance: false, now: 10_000 };
const keys = (node: NodeView, of: PodwayNode | undefined, context = LONG) =>
  decide(node, of, context).taints?.map(({ key }) => key) ?? null;

test('a node without an address is tainted once that has lasted, others’ taints stay', () => {
  assert.deepEqual(keys(nodeOf(OTHER), own({})), [OTHER.key, OUT.key]);
  assert.equal(keys(nodeOf(), own({}), { ...LONG, outSince: 9_500 }), null);
  assert.equal(keys(nodeOf(OUT), own({})), null, 'once');
  const { condition } = decide(nodeOf(), own({ lack: 'SUBNET_EXHAUSTED', cooling: 1 }), LONG);
  assert.equal(condition?.status, 'False');
  assert.equal(condition?.reason, 'SubnetExhausted');
  assert.match(condition!.message, /3 addresses are held, 1 cools, none is free/);
  const waited = decide(nodeOf(), own({ free: 1, obtainable: 2, waiting: 3 }), LONG).condition!.message;
  assert.match(waited, /3 pods wait, they need all that is left \(1 free, 2 that EC2 can still give\)/);
});

for (const [what, of, taken] of [
  ['a free one', { free: 1 }, true],
  ['one that can be had', { obtainable: 1 }, true],
  ['a free one that a pod waits for', { free: 1, waiting: 1 }, false],
] as const)
  test(`${what} ${taken ? 'takes the taint off at once' : 'does not'}`, () => {
    assert.deepEqual(keys(nodeOf(OTHER, OUT), own(of)), taken ? [OTHER.key] : null);
  });

test('nothing counts that was said of another Node or instance', () => {
  for (const said of [undefined, own({}, { nodeUID: 'u0' }), { ...own({}), spec: { instanceId: 'i-2' } }]) {
    assert.deepEqual(
      keys(nodeOf(OUT, STARTUP), said),
      [STARTUP.key],
      'no word, no taint for want of addresses',
    );
    assert.equal(decide(nodeOf(), said, LONG).isOut, false);
  }
});

test('the startup taint goes when the agent is ready, and a node without addresses is not open in between', () => {
  const starting = own({ free: 2 }, { conditions: [{ type: 'Ready', status: 'False' }] });
  assert.equal(keys(nodeOf(STARTUP), starting), null);
  assert.deepEqual(keys(nodeOf(STARTUP), own({ free: 2 })), []);
  assert.deepEqual(keys(nodeOf(STARTUP), own({}), { ...LONG, outSince: null }), [OUT.key]);
});

test('a chance opens a node whose agent says that it is out', () => {
  assert.deepEqual(keys(nodeOf(OUT), own({}), { ...LONG, hasChance: true }), []);
});

test('a node that was never without addresses needs no condition', () => {
  assert.equal(decide(nodeOf(), own({ free: 1 }), LONG).condition, null);
  const node = { ...nodeOf(), conditions: [{ type: 'PodwayAddressesAvailable', status: 'False' as const }] };
  assert.equal(decide(node, own({ free: 1 }), LONG).condition?.status, 'True');
});
