// The ENI slot that is kept for a trunk: pods' ENIs do not fill it, a full node says so with numbers and makes room as
// its pods end, a type without trunks keeps none; and a trunk that comes is known at once, at a bounded rate of
// describes.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { PodwayError } from '../base/errors.ts';
import { readEnvironment } from './config/incumbent-env.ts';
import { maxPods } from './config/max-pods.ts';
import { resolvePolicy } from './config/sources.ts';
import { defaultPolicy, type PoolPolicy } from './policy.ts';
import { m5Large, podOwner, TestNode } from './testkit.ts';

const policy: PoolPolicy = {
  ...defaultPolicy,
  podLimit: 29,
  targets: { kind: 'warm', free: 0 },
  idleReleaseMs: 60_000,
};
const keeping = { ...policy, keepsTrunkSlot: true };

async function fill(node: TestNode, from: number, to: number): Promise<PromiseSettledResult<unknown>[]> {
  const all = [];
  for (let n = from; n < to; n++) all.push(node.pool.acquire(podOwner(`p${n}`)));
  const settled = Promise.allSettled(all);
  await node.clock.advance(40_000);
  return settled;
}
const attached = (node: TestNode) =>
  [...node.cloud.enis.values()].filter(({ attachment }) => attachment).length;
const describes = (node: TestNode) =>
  node.cloud.calls.filter((action) => action === 'DescribeNetworkInterfaces').length;

test('pods’ ENIs leave a slot for the trunk; the refused pod, the explanation and max-pods say so', async () => {
  await using node = new TestNode({ settings: { warm: 0, waitMs: 10_000 } });
  await node.start();
  node.pool.setPolicy(keeping);
  const answers = await fill(node, 0, 19);
  const refused = answers.filter((one) => one.status === 'rejected');
  assert.equal(refused.length, 1);
  const error = (refused[0] as PromiseRejectedResult).reason as PodwayError;
  assert.equal(error.code, 'ENI_LIMIT');
  assert.match(error.message, /takes 3 ENIs: 2 are the node's own .*, 1 is kept for the trunk/);
  assert.equal(attached(node), 2);
  assert.equal(node.pool.trunkLack(), null);
  const told = await node.pool.explain({ source: 'settings', notes: [], secondsOf: () => 1 });
  assert.match(told.notes.join(), /1 of 3 ENI slots is kept for the trunk/);
  assert.equal(told.inputs.limits.addresses, 18);
  assert.equal(maxPods(m5Large, { reservedEnis: 1 }), 20);
  // With the trunk the slot is taken, and the node has what it had.
  node.cloud.addInstanceEni({ deviceIndex: 2, interfaceType: 'trunk' });
  await node.pool.reconcileNow();
  await fill(node, 19, 20);
  assert.equal(attached(node), 3);
});

test('a full node tells ENI_LIMIT with numbers, and frees a slot when the pods of an ENI have ended', async () => {
  await using node = new TestNode({ settings: { warm: 0 } });
  await node.start();
  node.pool.setPolicy(policy);
  await fill(node, 0, 20);
  assert.equal(attached(node), 3);
  node.pool.setPolicy(keeping);
  const lack = node.pool.trunkLack()!;
  assert.deepEqual([lack.code, lack.details.has, lack.details.limit], ['ENI_LIMIT', 3, 3]);
  const told = await node.pool.explain({ source: 'settings', notes: [], secondsOf: () => 1 });
  assert.match(told.notes.join(), /ENI_LIMIT: m5.large takes 3 ENIs and has 3: the trunk .* finds no slot/);
  // The emptiest ENI gives no more addresses, and goes with its pods.
  const last = [...node.cloud.enis.values()].find(({ attachment }) => attachment?.deviceIndex === 2)!;
  for (const lease of node.pool.held()) if (lease.eni?.id === last.id) node.pool.release(lease.owner);
  await node.clock.advance(200_000);
  assert.equal(attached(node), 2);
  assert.equal(node.pool.trunkLack(), null);
});

test('a type without trunks keeps no slot, and says so; ENABLE_POD_ENI asks as a policy does', () => {
  const own = (branchEnis: number, env: Record<string, string> = {}) => ({
    limits: { ...m5Large, branchEnis },
    zone: 'us-west-2a',
    subnetId: 'subnet-own',
    settings: { cooldownMs: 30_000 },
    environment: readEnvironment(env).pool,
  });
  const known = { network: null, node: null, eniConfigs: null, subnets: null, groups: null };
  const of = (facts: ReturnType<typeof own>, wantsTrunk: boolean) => {
    const { policy: found, notes } = resolvePolicy(facts, {
      ...known,
      serviceFamily: null,
      wantsTrunk,
      trouble: null,
    });
    return [found.keepsTrunkSlot ?? false, found.podLimit, notes.join()];
  };
  assert.deepEqual(of(own(9), false), [false, 29, '']);
  // One ENI's addresses less, and nine branches more.
  assert.deepEqual(of(own(9), true), [true, 29, '']);
  assert.deepEqual(of(own(4), true), [true, 24, '']);
  assert.deepEqual(of(own(9, { ENABLE_POD_ENI: 'true' }), false), [true, 29, '']);
  const [kept, pods, note] = of(own(0), true);
  assert.deepEqual([kept, pods], [false, 29]);
  assert.match(String(note), /m5\.large takes no trunk/);
});

test('a trunk is known as soon as somebody asks; questions in vain cost few describes', async () => {
  await using node = new TestNode();
  await node.start();
  node.pool.setPolicy(keeping);
  const before = describes(node);
  const { signal } = new AbortController();
  const found = node.pool.trunkWithin(30_000, signal);
  for (let second = 0; second < 8; second++) {
    await node.clock.advance(1_000);
    node.pool.seekTrunk();
  }
  assert.ok(describes(node) - before <= 6, `${describes(node) - before} describes in 8 s`);
  const trunk = node.cloud.addInstanceEni({ deviceIndex: 2, interfaceType: 'trunk' });
  await node.clock.advance(8_000);
  assert.equal((await found)?.id, trunk.id);
  assert.equal(node.pool.awaitsTrunk, false);
});

test('a wait for a trunk ends in time, and with its caller', async () => {
  await using node = new TestNode();
  await node.start();
  const stop = new AbortController();
  const late = node.pool.trunkWithin(5_000, stop.signal);
  await node.clock.advance(6_000);
  assert.equal(await late, null);
  const gone = node.pool.trunkWithin(5_000, stop.signal);
  stop.abort(new Error('gone'));
  await assert.rejects(gone, /gone/);
});
