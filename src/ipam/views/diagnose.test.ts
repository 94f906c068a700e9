// Every cause that a pod can wait with, made to happen, and what it tells: the object's id, what it has and its limit,
// since when, when Podway tries again, and what an operator can do.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { causes } from '../../base/causes.ts';
import { type ExplainedCause, explainCause, PodwayError } from '../../base/errors.ts';
import { CloudError, type EniId } from '../../cloud/port.ts';
import { podOwner, settle, TestNode, type TestNodeOptions } from '../testkit.ts';
import { diagnose } from './diagnose.ts';

type Told = ExplainedCause & { message: string };

async function fill(node: TestNode, count: number): Promise<void> {
  const all = Array.from({ length: count }, (_, i) => node.pool.acquire(podOwner(`p${i}`)));
  await node.clock.advance(5_000);
  await Promise.all(all);
}

/** What a pod that comes now is told: at once, or after `wait` ms in the line. */
async function refusal(node: TestNode, wait: number): Promise<Told> {
  const came = node.clock.now();
  const refused = node.pool.acquire(podOwner('late')).catch((error: unknown) => error);
  await node.clock.advance(wait);
  const error = await Promise.race([refused, settle().then(() => node.pool.trouble())]);
  assert.ok(error instanceof PodwayError, String(error));
  const told = explainCause(error);
  assert.equal(told.does, causes[error.code].does);
  assert.equal(told.next, causes[error.code].next);
  assert.equal(told.doc, `docs/causes.md#${error.code.toLowerCase()}`);
  assert.ok(typeof told.since === 'number' && told.since > 0 && told.since <= node.clock.now(), 'since');
  if (told.nextAt !== undefined) assert.ok(told.nextAt >= came, 'nextAt is not of the past');
  return { ...told, message: error.message };
}

const failing = (action: RegExp, code: string): TestNodeOptions => ({
  cloud: {
    before: (called) => {
      if (action.test(called)) throw new CloudError(called, code, 'as the test says');
    },
  },
  settings: { warm: 0 },
});

test('ADDRESS_LIMIT names the instance, its addresses and since when it is full', async () => {
  await using node = new TestNode({ settings: { warm: 0 } });
  await node.start();
  await fill(node, 27);
  const full = node.clock.now();
  await node.clock.advance(60_000);
  const told = await refusal(node, 0);
  assert.deepEqual([told.cause, told.object, told.has, told.limit], ['ADDRESS_LIMIT', 'i-0fake', 27, 27]);
  assert.ok(full - told.since! <= 5_000);
  assert.equal(told.nextAt, undefined, 'it waits for somebody to delete a pod');
});

test('ENIs without addresses that come or go are no limit: the pod waits for them', async () => {
  await using node = new TestNode({ settings: { warm: 0 } });
  await node.start();
  await fill(node, 27);
  const { state } = node.pool;
  const [primary, ...others] = [...state.enis.values()];
  const uses = new Map(
    [...state.uses].filter(([, use]) => use.kind === 'held' && use.lease.eni?.id === primary!.id),
  );
  const context = {
    ...{ instanceId: 'i-0fake', limits: node.pool.limits, policy: node.pool.policy, now: node.clock.now() },
    ...{ position: 0, known: true, waitingSince: node.clock.now() },
  };
  for (const [change, words] of [
    [{ phase: 'attached' }, /is being set up/],
    [{ phase: 'leaving' }, /is being detached/],
    [{ missingSince: 1 }, /is not listed by EC2/],
  ] as const) {
    const enis = new Map([[primary!.id, primary!]]);
    for (const eni of others) enis.set(eni.id, { ...eni, blocks: new Map(), ...change });
    const told = diagnose({ ...state, enis, uses }, context);
    assert.deepEqual([told.code, told.details.object], ['POOL_GROWING', others[0]!.id]);
    assert.match(told.message, words);
  }
});

test('ENI_LIMIT names the foreign ENI and the slots', async () => {
  await using node = new TestNode({ settings: { warm: 0 } });
  const other = node.cloud.addInstanceEni({ deviceIndex: 1, description: 'a file system' });
  node.cloud.addInstanceEni({ deviceIndex: 2, description: 'a file system' });
  await node.start();
  await fill(node, 9);
  const told = await refusal(node, 0);
  assert.deepEqual([told.cause, told.object, told.has, told.limit], ['ENI_LIMIT', other.id, 3, 3]);
  assert.match(told.message, /2 are of others: .*a file system/);
});

test('COOLDOWN says when the next address for this pod is free', async () => {
  await using node = new TestNode({ settings: { warm: 0, waitMs: 5_000 } });
  await node.start();
  await fill(node, 27);
  const released = node.clock.now();
  node.pool.release(podOwner('p3'));
  const told = await refusal(node, 6_000);
  assert.deepEqual([told.cause, told.object, told.has, told.limit], ['COOLDOWN', 'i-0fake', 27, 27]);
  assert.deepEqual([told.since, told.nextAt], [released, released + 30_000]);
});

test('SUBNET_EXHAUSTED names the subnet, its size, and the next probe', async () => {
  await using node = new TestNode({
    cloud: { subnets: { 'subnet-0a': '10.0.0.0/26' } },
    settings: { warm: 0 },
  });
  await node.start();
  node.cloud.occupy('subnet-0a', 0);
  const told = await refusal(node, 6_000);
  assert.deepEqual([told.cause, told.object], ['SUBNET_EXHAUSTED', 'subnet-0a']);
  assert.deepEqual([told.has, told.limit], [59, 59]);
  assert.match(told.message, /^subnet-0a \(10\.0\.0\.0\/26, 59 addresses\) has 0 free: /);
  assert.ok(told.nextAt! - node.clock.now() <= 2_000, 'a waiting pod makes the pool probe');
});

test('SUBNET_EXHAUSTED tells how many a new ENI needs where the subnet has one', async () => {
  await using node = new TestNode({
    cloud: { subnets: { 'subnet-0a': '10.0.0.0/26' } },
    settings: { warm: 0 },
  });
  await node.start();
  await fill(node, 9);
  node.cloud.occupy('subnet-0a', 1);
  const told = await refusal(node, 6_000);
  assert.match(told.message, / has 1 free, and a new ENI with an address for a pod needs 2: /);
});

test('SUBNET_FRAGMENTED names the subnet and its size', async () => {
  await using node = new TestNode(failing(/^Assign|^Create/, 'InsufficientCidrBlocks'));
  await node.start();
  const told = await refusal(node, 6_000);
  assert.deepEqual([told.cause, told.object], ['SUBNET_FRAGMENTED', 'subnet-0a']);
  assert.match(
    told.message,
    /^subnet-0a \(10\.0\.0\.0\/19, 8187 addresses\) has no whole \/28 free \(8186 addresses are\): /,
  );
  assert.ok(told.nextAt !== undefined);
});

for (const [cause, code] of [
  ['CLOUD_DENIED', 'UnauthorizedOperation'],
  ['CLOUD_THROTTLED', 'RequestLimitExceeded'],
  ['CLOUD_UNREACHABLE', 'Network'],
  ['INTERNAL', 'SomethingNew'],
] as const)
  test(`${cause} names the action, its failures, and the next try`, async () => {
    await using node = new TestNode(failing(/^Assign|^Create/, code));
    await node.start();
    const told = await refusal(node, 29_000);
    assert.equal(told.cause, cause);
    assert.ok(told.object !== undefined, 'object');
    assert.match(String(told.has), /^\d+ failed tr(y|ies)$/);
    assert.match(told.message, new RegExp(`(Assign|Create)\\w+: ${code}: as the test says`));
    assert.ok(told.nextAt! > 0);
  });

test('POOL_GROWING names what is growing and how much is on its way', async () => {
  const gate = Promise.withResolvers<void>();
  await using node = new TestNode({
    cloud: { before: (action) => (action === 'AssignPrivateIpAddresses' ? gate.promise : undefined) },
    settings: { warm: 0 },
  });
  await node.start();
  const [primary] = node.cloud.enis.keys();
  const told = await refusal(node, 1_000);
  assert.deepEqual([told.cause, told.object, told.has, told.limit], ['POOL_GROWING', primary, 1, 27]);
  gate.resolve();
});

test('AGENT_STARTING names the instance while no ENI is known', async () => {
  const gate = Promise.withResolvers<void>();
  await using node = new TestNode({ cloud: { before: () => gate.promise } });
  node.open();
  const told = await refusal(node, 0);
  assert.deepEqual([told.cause, told.object, told.has, told.limit], ['AGENT_STARTING', 'i-0fake', 0, 3]);
  gate.resolve();
});

test('ENI_WITHOUT_LINK and ADDRESS_ON_LINK name the ENI and the address', async () => {
  await using node = new TestNode({ settings: { warm: 0, idleReleaseMs: 600_000 } });
  await node.start();
  await fill(node, 27);
  const second = node.pool.held().find((lease) => lease.eni?.deviceIndex === 1)!;
  node.pool.release(second.owner);
  await node.clock.advance(31_000);
  const noLink = { linkless: new Set<EniId>([second.eni!.id]), onLinks: new Map() };
  node.pool.noteNode(noLink);
  const one = await refusal(node, 1_000);
  assert.deepEqual([one.cause, one.object, one.has, one.limit], ['ENI_WITHOUT_LINK', second.eni!.id, 9, 9]);
  node.pool.endWait('container-of-late', 'eth0');
  node.pool.noteNode({ linkless: new Set(), onLinks: new Map([[second.ips[0]!, 'eth1']]) });
  const other = await refusal(node, 1_000);
  assert.deepEqual([other.cause, other.has, other.limit], ['ADDRESS_ON_LINK', 1, 27]);
  assert.match(String(other.object), /^10\.0\./);
});
