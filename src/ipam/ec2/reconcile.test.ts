import assert from 'node:assert/strict';
import { test } from 'node:test';
import { formatIp, type Ipv4 } from '../../base/ip.ts';
import { CloudError } from '../../cloud/port.ts';
import { metadataOf, podOwner, TestNode } from '../testkit.ts';

const MINUTE = 60_000;
const describes = (node: TestNode) =>
  node.cloud.calls.filter((call) => call === 'DescribeNetworkInterfaces').length;

/** A node at rest: its warm pool is there and its last change is long past. */
async function restedNode(metadata = true): Promise<TestNode> {
  const node = new TestNode();
  if (metadata) node.metadata = metadataOf(node.cloud);
  await node.start();
  await node.clock.advance(8 * MINUTE);
  return node;
}

test('at rest a node describes at most once in five minutes, and reads the metadata meanwhile', async () => {
  await using node = await restedNode();
  let reads = 0;
  node.cloud.calls.length = 0;
  const { get } = node.metadata!;
  node.metadata!.get = (path) => {
    reads++;
    return get(path);
  };
  await node.clock.advance(60 * MINUTE);
  const all = describes(node);
  assert.ok(all >= 7 && all <= 12, `${all} describes in an hour`);
  assert.deepEqual([...new Set(node.cloud.calls)], ['DescribeNetworkInterfaces']);
  assert.ok(reads >= 200 && reads <= 270, `${reads} metadata requests in an hour`);
});

test('a minute after a change of its own it describes once', async () => {
  await using node = await restedNode(false);
  node.cloud.calls.length = 0;
  await node.pool.acquire(podOwner('a'));
  await node.clock.advance(1_000);
  assert.deepEqual(node.cloud.calls, ['AssignPrivateIpAddresses']);
  await node.clock.advance(100_000);
  assert.equal(describes(node), 1);
});

test('what others change shows within 35 s, by a hint of the metadata service', async () => {
  await using node = await restedNode();
  const eni = [...node.cloud.enis.values()][0]!;
  const victim = eni.addresses[1]!.ip;
  node.cloud.takeAway(eni.id, victim);
  await node.clock.advance(35_000);
  assert.ok(node.pool.snapshot().enis[0]!.addresses.some((one) => one.missing));
});

test('an ENI whose link vanishes asks for a describe at once', async () => {
  await using node = await restedNode(false);
  await node.pool.reconcileNow();
  const { eniId } = node.identity.primary;
  const from = node.pool.snapshot().cloud.lastDescribe!;
  node.pool.noteNode({ linkless: new Set([eniId]), onLinks: new Map() });
  await node.clock.advance(1_000);
  const asked = node.pool.snapshot().cloud.lastDescribe!;
  assert.ok(asked > from);
  node.pool.noteNode({ linkless: new Set([eniId]), onLinks: new Map() });
  await node.clock.advance(10_000);
  assert.equal(node.pool.snapshot().cloud.lastDescribe, asked, 'once');
});

test('at rest an ENI of ours that hangs loose is found and deleted within half an hour', async () => {
  await using node = await restedNode();
  const tags = { 'podway.io/instance': node.cloud.instanceId };
  const loose = { subnetId: 'subnet-0a', groupIds: [], description: '', secondaryCount: 1, clientToken: 'x' };
  await node.cloud.createNetworkInterface({ ...loose, tags });
  await node.clock.advance(31 * MINUTE);
  assert.equal(node.cloud.enis.size, 1);
});

test('a describe that lags behind the metadata service is repeated', async () => {
  await using node = await restedNode();
  const eni = [...node.cloud.enis.values()][0]!;
  const before = structuredClone(eni);
  node.cloud.describeLag = () => [before];
  const victim = eni.addresses[1]!.ip;
  const isFree = () =>
    node.pool.snapshot().enis[0]!.addresses.some((one) => one.ip === formatIp(victim) && !one.missing);
  node.cloud.takeAway(eni.id, victim);
  await node.clock.advance(45_000);
  assert.ok(isFree());
  node.cloud.describeLag = undefined;
  await node.clock.advance(90_000);
  assert.ok(!isFree());
});

test('a stale metadata service costs three describes at most and removes nothing', async () => {
  await using node = await restedNode();
  const before = node.pool.snapshot();
  const { get } = node.metadata!;
  node.metadata!.get = async (path) => (path.endsWith('local-ipv4s') ? '10.0.0.4' : get(path));
  const from = describes(node);
  await node.clock.advance(20 * MINUTE);
  const asked = describes(node) - from;
  // Three beside those of twenty minutes at rest.
  assert.ok(asked >= 4 && asked <= 7, `${asked} describes`);
  assert.deepEqual(node.pool.snapshot().enis, before.enis);
  node.metadata!.get = async () => '';
  await node.clock.advance(4 * MINUTE);
  assert.deepEqual(node.pool.snapshot().enis, before.enis);
});

test('calls about a new ENI that EC2 does not know everywhere yet are repeated; the ENI is kept', async () => {
  await using node = new TestNode({ settings: { warm: 0 } });
  await node.start();
  const unknownTo: Record<string, number> = {};
  node.cloud.after = (action) => {
    if (action !== 'CreateNetworkInterface') return;
    for (const each of [
      'AttachNetworkInterface',
      'ModifyNetworkInterfaceAttribute',
      'DescribeNetworkInterfaces',
      'AssignPrivateIpAddresses',
    ])
      unknownTo[each] = 3;
  };
  node.cloud.before = (action) => {
    if ((unknownTo[action] ?? 0) === 0) return;
    unknownTo[action]!--;
    const code = action.startsWith('Modify')
      ? 'InvalidAttachmentID.NotFound'
      : 'InvalidNetworkInterfaceID.NotFound';
    throw new CloudError(action, code, 'not known here yet');
  };
  const pods = Array.from({ length: 12 }, (_, i) => node.pool.acquire(podOwner(`p${i}`)));
  await node.clock.advance(20_000);
  await Promise.all(pods);
  const more = Array.from({ length: 4 }, (_, i) => node.pool.acquire(podOwner(`q${i}`)));
  await node.clock.advance(10_000);
  await Promise.all(more);
  assert.equal(node.cloud.calls.filter((call) => call === 'CreateNetworkInterface').length, 1);
  assert.equal(node.cloud.enis.size, 2);
  assert.deepEqual(Object.values(unknownTo), [0, 0, 0, 0]);
});

test('an ENI that cannot be attached is deleted, also when EC2 does not know it at once', async () => {
  await using node = new TestNode({ settings: { warm: 0 } });
  await node.start();
  let unknown = 0;
  node.cloud.before = (action) => {
    if (action === 'AttachNetworkInterface') {
      unknown = 4;
      throw new CloudError(action, 'UnauthorizedOperation', 'no');
    }
    if (unknown > 0 && /Describe|Delete/.test(action)) {
      unknown--;
      throw new CloudError(action, 'InvalidNetworkInterfaceID.NotFound', 'not known here yet');
    }
  };
  const tenth = Array.from({ length: 10 }, (_, i) => node.pool.acquire(podOwner(`p${i}`)));
  void Promise.allSettled(tenth);
  await node.clock.advance(40_000);
  assert.ok(node.cloud.calls.includes('CreateNetworkInterface'));
  assert.equal(node.cloud.enis.size, 1, 'the ENI that nobody can use stays');
});

test('the metadata service hints at a prefix that somebody took', async () => {
  await using node = new TestNode({ settings: { warm: 1, addressing: 'prefix' } });
  node.metadata = metadataOf(node.cloud);
  await node.start();
  const lease = await node.pool.acquire(podOwner('p'));
  await node.clock.advance(2 * MINUTE);
  const before = describes(node);
  await node.clock.advance(MINUTE);
  assert.equal(describes(node), before, 'without a change nothing is asked');
  const eni = node.cloud.enis.get(lease.eni.id)!;
  node.cloud.takeAway(eni.id, eni.ipv4Prefixes[0]!.ip as Ipv4, true);
  await node.clock.advance(45_000);
  assert.equal(eni.ipv4Prefixes.length, 1, 'it is had back');
});

test('a describe that is older than the instance is asked for again soon', async () => {
  await using node = new TestNode();
  node.cloud.describeLag = () => [];
  await node.start();
  assert.equal(node.pool.state.enis.size, 0);
  node.cloud.describeLag = undefined;
  await node.clock.advance(5_000);
  assert.ok([...node.pool.state.enis.values()].some((eni) => eni.primary && eni.phase === 'ready'));
  assert.ok(node.pool.counts().free > 0);
});
