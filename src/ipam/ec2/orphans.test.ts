import assert from 'node:assert/strict';
import { rmSync } from 'node:fs';
import { test } from 'node:test';
import type { CreateEni, EniDescription, EniId, Tags } from '../../cloud/port.ts';
import { podOwner, TestNode } from '../testkit.ts';
import { ownTags, TAG_CLUSTER, TAG_INSTANCE } from './tags.ts';

const MINUTE = 60_000;
const CLUSTER = 'blue';

async function started(): Promise<TestNode> {
  const node = new TestNode({ settings: { warm: 0 } });
  node.tags = { [TAG_CLUSTER]: CLUSTER };
  await node.start();
  return node;
}
/** An unattached ENI with these tags, as a crash or somebody else leaves it. */
async function leave(node: TestNode, tags: Tags): Promise<EniId> {
  const request: CreateEni = {
    subnetId: 'subnet-0a',
    groupIds: [],
    description: '',
    secondaryCount: 1,
    tags,
    clientToken: `${node.cloud.calls.length}`,
  };
  return (await node.cloud.createNetworkInterface(request)).id;
}
const own = (node: TestNode, since: number, more: Tags = {}): Tags =>
  ownTags({ [TAG_CLUSTER]: CLUSTER, ...more }, node.cloud.instanceId, since);
const without = (tags: Tags, name: string): Tags =>
  Object.fromEntries(Object.entries(tags).filter(([key]) => key !== name));
const attachTo = (eni: EniDescription, instanceId: string, deviceIndex: number): void => {
  const id = `attach-${eni.id}`;
  eni.attachment = {
    id,
    instanceId,
    deviceIndex,
    networkCard: 0,
    status: 'attached',
    deleteOnTermination: false,
  };
  eni.status = 'in-use';
};

test('a new ENI says in the call that makes it whose it is, what for, and since when', async () => {
  await using node = await started();
  await Promise.all(Array.from({ length: 10 }, (_, i) => node.pool.acquire(podOwner(`p${i}`))));
  const eni = [...node.cloud.enis.values()].find((one) => one.attachment?.deviceIndex === 1)!;
  const { 'podway.io/created': created, ...tags } = eni.tags;
  assert.deepEqual(tags, {
    'podway.io/cluster': CLUSTER,
    'podway.io/instance': node.cloud.instanceId,
    'podway.io/purpose': 'pods',
  });
  assert.match(created!, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/);
  assert.ok(Math.abs(Date.parse(created!) - node.clock.now()) < 5_000);
});

test('an unowned ENI is deleted once it was seen twice and its grace is over', async () => {
  const cases: [string, (node: TestNode) => Tags][] = [
    ['an hour old', (node) => own(node, node.clock.now() - 60 * MINUTE)],
    ['just made', (node) => own(node, node.clock.now())],
    ['of tomorrow, by a clock that was wrong', (node) => own(node, node.clock.now() + 1_440 * MINUTE)],
    ['of an earlier version', (node) => ({ [TAG_INSTANCE]: node.cloud.instanceId })],
    ['whose time nobody can read', (node) => ({ ...own(node, 0), 'podway.io/created': 'long ago' })],
  ];
  for (const [name, tags] of cases) {
    await using node = await started();
    const id = await leave(node, tags(node));
    await node.stop();
    // With the journal went the record of what was about to be made.
    rmSync(node.path, { recursive: true });
    await node.start();
    await node.clock.advance(25_000);
    assert.ok(node.cloud.enis.has(id), `${name}: seen once`);
    if (name !== 'an hour old') {
      await node.clock.advance(33_000);
      assert.ok(node.cloud.enis.has(id), `${name}: within the grace`);
    }
    await node.clock.advance(2 * MINUTE);
    assert.ok(!node.cloud.enis.has(id), name);
  }
});

test('an agent that restarts with its journal asks EC2 once, and looks for unowned ENIs at its first rest', async () => {
  await using node = await started();
  const id = await leave(node, own(node, node.clock.now() - 60 * MINUTE));
  await node.stop();
  const before = node.cloud.calls.length;
  await node.start();
  await node.clock.advance(MINUTE);
  const asked = node.cloud.calls.slice(before).filter((call) => call === 'DescribeNetworkInterfaces');
  assert.equal(asked.length, 1);
  await node.clock.advance(10 * MINUTE);
  assert.ok(!node.cloud.enis.has(id));
});

test('an unowned ENI that somebody else has seen is looked for at once, however often it is told', async () => {
  await using node = await started();
  await node.clock.advance(20 * MINUTE);
  const id = await leave(node, own(node, node.clock.now() - 60 * MINUTE));
  const before = node.cloud.calls.length;
  for (let second = 0; second < 25; second++) {
    node.pool.sawLoose(id);
    await node.clock.advance(1_000);
  }
  // One look is a describe of the instance and one by tag.
  assert.equal(node.cloud.calls.length - before, 2);
  assert.ok(node.cloud.enis.has(id), 'seen once');
  await node.clock.advance(MINUTE);
  assert.ok(!node.cloud.enis.has(id));
});

test('what is not this node’s to delete stays, however long it hangs there', async () => {
  await using node = await started();
  const long = node.clock.now() - 600 * MINUTE;
  const kept: [string, EniId][] = [];
  const keep = async (name: string, tags: Tags) => {
    const id = await leave(node, tags);
    kept.push([name, id]);
    return node.cloud.enis.get(id)!;
  };
  await keep('another cluster’s', own(node, long, { [TAG_CLUSTER]: 'green' }));
  await keep('another instance’s', ownTags({}, 'i-0other', long));
  await keep('a user’s', {});
  await keep('one of another CNI', { 'node.k8s.amazonaws.com/instance_id': node.cloud.instanceId });
  await keep('of another purpose', { ...own(node, long), 'podway.io/purpose': 'branch' });
  await keep('kept away by its operator', { ...own(node, long), 'node.k8s.amazonaws.com/no_manage': 'true' });
  attachTo(await keep('ours by its tags, in use by another instance', own(node, long)), 'i-0other', 3);
  (await keep('an efa-only one', own(node, long))).interfaceType = 'efa-only';
  (await keep('not available', own(node, long))).status = 'pending';
  await node.restart();
  await node.clock.advance(120 * MINUTE);
  for (const [name, id] of kept) assert.ok(node.cloud.enis.has(id), name);
  const there = node.cloud.enis.get(kept[6]![1])!;
  assert.equal(there.attachment?.instanceId, 'i-0other', 'not detached either');
});

test('an ENI that another instance takes between the looks and the deletion is left there', async () => {
  await using node = await started();
  const id = await leave(node, own(node, node.clock.now() - 60 * MINUTE));
  node.cloud.after = (action) => {
    const eni = node.cloud.enis.get(id);
    if (action === 'DescribeNetworkInterfaces' && node.pool.state.enis.has(id) && eni && !eni.attachment)
      attachTo(eni, 'i-0other', 2);
  };
  await node.restart();
  await node.clock.advance(3 * MINUTE);
  attachTo(node.cloud.enis.get(id)!, 'i-0other', 2);
  await node.clock.advance(30 * MINUTE);
  assert.equal(node.cloud.enis.get(id)?.attachment?.instanceId, 'i-0other');
  assert.ok(!node.pool.state.enis.has(id));
});

test('an ENI attached by hand takes a slot and nothing else; kept away or of another cluster, ours is as foreign', async () => {
  await using node = await started();
  const long = node.clock.now() - 600 * MINUTE;
  const tags: Tags[] = [
    {},
    { ...own(node, long), 'node.k8s.amazonaws.com/no_manage': 'true' },
    own(node, long, { [TAG_CLUSTER]: 'green' }),
  ];
  for (const one of tags) {
    const id = await leave(node, one);
    attachTo(node.cloud.enis.get(id)!, node.cloud.instanceId, 1);
    await node.restart();
    const before = structuredClone(node.cloud.enis.get(id));
    await node.clock.advance(20 * MINUTE);
    assert.deepEqual(node.cloud.enis.get(id), before);
    assert.deepEqual(
      node.pool.state.foreign.map((eni) => eni.id),
      [id],
    );
    node.cloud.takeAway(id);
    await node.clock.advance(10 * MINUTE);
  }
  // Without a cluster's name it is the tags of an earlier version, and ours.
  const id = await leave(node, without(own(node, long), TAG_CLUSTER));
  attachTo(node.cloud.enis.get(id)!, node.cloud.instanceId, 1);
  node.cloud.enis.get(id)!.attachment!.deleteOnTermination = false;
  await node.restart();
  assert.ok(node.pool.state.enis.has(id));
  assert.ok(node.cloud.enis.get(id)!.attachment!.deleteOnTermination, 'it ends with the instance');
});

test('an ENI that its operator keeps away later leaves the pool with its last pod, and stays as it is', async () => {
  await using node = await started();
  const pods = Array.from({ length: 10 }, (_, i) => node.pool.acquire(podOwner(`p${i}`)));
  await node.clock.advance(5_000);
  const leases = await Promise.all(pods);
  const eni = [...node.cloud.enis.values()].find((one) => one.attachment?.deviceIndex === 1)!;
  eni.tags = { ...eni.tags, 'node.k8s.amazonaws.com/no_manage': 'true' };
  await node.pool.reconcileNow();
  const last = leases.find((lease) => lease.eni.id === eni.id)!;
  assert.deepEqual(node.pool.find(last.owner)?.ips, last.ips);
  const before = structuredClone(eni);
  node.pool.release(last.owner);
  await node.pool.reconcileNow();
  await node.clock.advance(60 * MINUTE);
  assert.deepEqual(node.cloud.enis.get(eni.id), before);
  assert.ok(!node.pool.state.enis.has(eni.id));
  assert.deepEqual(
    node.pool.state.foreign.map((one) => one.id),
    [eni.id],
  );
  await node.restart();
  assert.ok(!node.pool.state.enis.has(eni.id));
});

test('an ENI that EC2 lists twice, between two pages, counts once', async () => {
  await using node = await started();
  node.cloud.addInstanceEni({ deviceIndex: 1, description: 'a file system' });
  node.cloud.describeLag = (truth) => [...truth, ...structuredClone(truth)];
  await node.restart();
  await node.clock.advance(MINUTE);
  assert.equal(node.pool.state.foreign.length, 1);
  assert.equal(node.pool.state.enis.size, 1);
});
