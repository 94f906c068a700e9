// The keeper of branches on the embedded API and an EC2 in memory: what others take away is told with the pod's name
// and comes back, branches are made where and with what the node's agent says.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { formatCidr, formatIp } from '../../base/ip.ts';
import { withBudget } from '../../cloud/budget.ts';
import { CloudError, type EniId } from '../../cloud/port.ts';
import { FakeCloud } from '../../cloud/testing.ts';
import { pods, podwayNodes, securityGroupPolicies } from '../../kube/index.ts';
import { startApi } from '../../lab/cluster/api/testing.ts';
import { installDefinitions } from '../../lab/cluster/definitions.ts';
import { Bench, clock } from './testing.ts';

async function until<T>(
  what: string,
  look: () => Promise<T> | T,
): Promise<Exclude<T, false | null | undefined>> {
  for (let tries = 0; tries < 1_500; tries++) {
    const found = await look();
    if (found) return found as Exclude<T, false | null | undefined>;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  return assert.fail(`${what}: not within 30 s`);
}

/** One node and one pod that has its branch; `work` does the rest. */
async function withBranch(
  cloud: FakeCloud,
  newEnis: object | null,
  work: (bench: Bench) => Promise<void>,
): Promise<void> {
  await using api = await startApi();
  installDefinitions(api.api.store);
  const { client } = api;
  await using bench = new Bench(client, cloud);
  await bench.addNode('n-1', 'i-01');
  if (newEnis)
    await client.create(podwayNodes, {
      metadata: { name: 'n-1' },
      spec: { instanceId: 'i-01', newEnis } as never,
    });
  await client.create(securityGroupPolicies, {
    metadata: { name: 'all', namespace: 'default' },
    spec: { podSelector: {}, securityGroups: { groupIds: ['sg-0web'] } },
  });
  await bench.addPod('a', 'n-1');
  bench.start();
  await until('a has its branch', () => bench.branchOf('a'));
  await work(bench);
}

const associationOf = (cloud: FakeCloud, eniId: string) =>
  [...cloud.trunkAssociations.values()].find(({ branchId }) => branchId === eniId);
const trunkOf = (cloud: FakeCloud) =>
  [...cloud.enis.values()].find(({ interfaceType }) => interfaceType === 'trunk');
const losses = ({ told }: Bench) => told.filter(({ reason }) => reason === 'BranchLost');

test('an association that vanishes is told with the pod’s name, and comes back under its VLAN id', async () => {
  const cloud = new FakeCloud();
  await withBranch(cloud, null, async (bench) => {
    const { eniId, vlanId } = (await bench.branchOf('a'))!;
    cloud.dropAssociation(associationOf(cloud, eniId)!.id);
    const again = await until('it is back', () => associationOf(cloud, eniId));
    assert.equal(again.vlanId, vlanId);
    assert.deepEqual(
      losses(bench).map(({ about }) => about),
      ['a'],
    );
    assert.match(losses(bench)[0]!.text, /^BRANCH_LOST: eni-\w+ was taken off its trunk/);
  });
});

test('a branch that is deleted is made anew with the pod’s address and VLAN id, and the pod is told', async () => {
  const cloud = new FakeCloud();
  await withBranch(cloud, null, async (bench) => {
    for (const _ of ['once', 'once more']) {
      const was = (await bench.branchOf('a'))!;
      cloud.dropAssociation(associationOf(cloud, was.eniId)!.id);
      await cloud.deleteNetworkInterface(was.eniId as EniId);
      const is = await until('another is told', async () => {
        const found = await bench.branchOf('a');
        return found?.eniId === was.eniId ? null : found;
      });
      assert.deepEqual([is.ip, is.vlanId], [was.ip, was.vlanId]);
      assert.deepEqual(cloud.enis.get(is.eniId as EniId)!.groupIds, ['sg-0web']);
    }
    assert.ok(losses(bench).length >= 2);
  });
});

test('a deleted branch whose address somebody has by now stays lost, and says so', async () => {
  const cloud = new FakeCloud();
  await withBranch(cloud, null, async (bench) => {
    const { eniId, ip } = (await bench.branchOf('a'))!;
    await bench.stop();
    cloud.dropAssociation(associationOf(cloud, eniId)!.id);
    await cloud.deleteNetworkInterface(eniId as EniId);
    const theirs = { groupIds: [], description: '', secondaryCount: 0, tags: {}, clientToken: 'theirs' };
    await cloud.createNetworkInterface({ ...theirs, subnetId: 'subnet-0a', ips: [ip!] });
    bench.start();
    await until('the pod is told', () =>
      bench.told.some(({ about, text }) => about === 'a' && /BRANCH_LOST: .* cannot be taken/.test(text)),
    );
    assert.equal((await bench.branchOf('a'))!.eniId, eniId);
  });
});

test('a trunk that is detached is attached again', async () => {
  const cloud = new FakeCloud();
  await withBranch(cloud, null, async (bench) => {
    const trunk = trunkOf(cloud)!;
    await cloud.detachNetworkInterface(trunk.attachment!.id);
    await until('it is back', () => trunkOf(cloud)!.attachment?.instanceId === 'i-01');
    assert.equal(trunkOf(cloud)!.id, trunk.id);
    assert.deepEqual(
      losses(bench).map(({ about }) => about),
      ['a'],
    );
  });
});

test('in place of a trunk that is deleted comes another, and its branches go there', async () => {
  const cloud = new FakeCloud();
  await withBranch(cloud, null, async (bench) => {
    const { eniId, vlanId } = (await bench.branchOf('a'))!;
    const trunk = trunkOf(cloud)!;
    let refusals = 0;
    cloud.before = (action) => {
      if (action === 'CreateTags' && ++refusals === 1)
        throw new CloudError(action, 'UnauthorizedOperation', 'not allowed');
    };
    await cloud.detachNetworkInterface(trunk.attachment!.id);
    await cloud.deleteNetworkInterface(trunk.id);
    const again = await until('the branch is on a trunk', () => associationOf(cloud, eniId));
    assert.notEqual(again.trunkId, trunk.id);
    assert.equal(again.vlanId, vlanId);
    assert.ok(losses(bench).some(({ about }) => about === 'a'));
    // A tag that cannot be written yet takes nothing from the pod.
    const tags = () => cloud.enis.get(eniId as EniId)!.tags;
    await until('its tags say so', () => tags()['podway.io/trunk'] === again.trunkId);
    assert.equal(refusals, 2);
    assert.equal((await bench.branchOf('a'))!.associationId, again.id);
    // The next leader finds it there, and gives its VLAN id to nobody.
    await bench.stop();
    bench.start();
    for (const name of ['b', 'c']) await bench.addPod(name, 'n-1');
    const others = await Promise.all(['b', 'c'].map((name) => until(name, () => bench.branchOf(name))));
    assert.ok(others.every((one) => one.vlanId !== vlanId));
    assert.equal(associationOf(cloud, eniId)!.vlanId, vlanId);
  });
});

test('a branch is made in the first subnet for new ENIs that is not full, with IPv6 where pods have it', async () => {
  const cloud = new FakeCloud({
    subnets: { 'subnet-0a': '10.0.0.0/24', 'subnet-0b': '10.0.1.0/24', 'subnet-0c': '10.0.2.0/24' },
  });
  cloud.addIpv6();
  cloud.occupy('subnet-0b', 0);
  const newEnis = { families: 'dual', subnets: ['subnet-0b', 'subnet-0c'], groups: ['sg-0pods'] };
  await withBranch(cloud, newEnis, async (bench) => {
    const told = (await bench.branchOf('a'))!;
    const eni = cloud.enis.get(told.eniId as EniId)!;
    assert.equal(eni.subnetId, 'subnet-0c');
    assert.equal(formatCidr(told.subnet!), '10.0.2.0/24');
    assert.equal(formatCidr(told.subnet6!), '2001:db8:0:3::/64');
    assert.deepEqual([told.ip, told.ip6], [eni.addresses[0]!.ip, eni.ipv6Addresses[0]!]);
    const creates = () => cloud.calls.filter((call) => call === 'CreateNetworkInterface').length;
    const before = creates();
    await bench.addPod('b', 'n-1');
    const other = await until('b has its branch', () => bench.branchOf('b'));
    assert.equal(cloud.enis.get(other.eniId as EniId)!.subnetId, 'subnet-0c');
    assert.equal(creates() - before, 1, 'the full subnet is left alone');
    // One that is deleted comes back with both addresses.
    cloud.dropAssociation(associationOf(cloud, told.eniId)!.id);
    await cloud.deleteNetworkInterface(told.eniId as EniId);
    const again = await until('another is told', async () => {
      const found = (await bench.branchOf('a'))!;
      return found.eniId !== told.eniId && found;
    });
    assert.deepEqual([formatIp(again.ip!), formatIp(again.ip6!)], [formatIp(told.ip!), formatIp(told.ip6!)]);
  });
});

test('a pod of IPv6 alone is told of no IPv4 address, also of a branch made anew', async () => {
  const cloud = new FakeCloud();
  cloud.addIpv6();
  await withBranch(cloud, { families: 'ipv6', subnets: ['subnet-0a'] }, async (bench) => {
    const was = (await bench.branchOf('a'))!;
    assert.deepEqual([was.ip, was.subnet, formatCidr(was.subnet6!)], [null, null, '2001:db8:0:1::/64']);
    cloud.dropAssociation(associationOf(cloud, was.eniId)!.id);
    await cloud.deleteNetworkInterface(was.eniId as EniId);
    const is = await until('another is told', async () => {
      const found = (await bench.branchOf('a'))!;
      return found.eniId !== was.eniId && found;
    });
    assert.deepEqual([is.ip, is.ip6], [null, was.ip6]);
  });
});

test('branches of a subnet that is configured no more are found by their tags, and end with their pods', async () => {
  const cloud = new FakeCloud({ subnets: { 'subnet-0a': '10.0.0.0/24', 'subnet-0b': '10.0.1.0/24' } });
  const tags = {
    'podway.io/purpose': 'branch',
    'podway.io/cluster': 'c',
    'podway.io/trunk': 'eni-gone',
    'podway.io/vlan': '7',
    'podway.io/pod': 'default/gone',
    'podway.io/pod-uid': 'gone',
  };
  const of = { groupIds: [], description: '', secondaryCount: 0, clientToken: 'gone' };
  const left = await cloud.createNetworkInterface({ ...of, subnetId: 'subnet-0b', tags });
  const newEnis = { families: 'ipv4', subnets: ['subnet-0a'] };
  await using api = await startApi();
  installDefinitions(api.api.store);
  await using bench = new Bench(api.client, cloud);
  await bench.addNode('n-1', 'i-01');
  const spec = { instanceId: 'i-01', cluster: 'c', newEnis };
  await api.client.create(podwayNodes, { metadata: { name: 'n-1' }, spec: spec as never });
  bench.start();
  await until('it is gone', () => !cloud.enis.has(left.id));
});

test('with few calls left a pod that waits goes before the ends of others', async () => {
  const cloud = new FakeCloud();
  let bench: Bench | null = null;
  const bounded = withBudget(cloud, clock, () => bench?.isPodWaiting ?? false);
  await using api = await startApi();
  const { client } = api;
  bench = new Bench(client, cloud, bounded);
  await using _over = bench;
  await bench.addNode('n-1', 'i-01');
  const old = ['a', 'b', 'c', 'd', 'e', 'f'];
  for (const name of old) await bench.addPod(name, 'n-1');
  bench.start();
  for (const name of old) await until(`${name} has its branch`, () => bench!.branchOf(name));
  bounded.grant({ reads: 5, changes: 0.05 }, 3_600_000);
  for (const name of old) await client.delete(pods, name, 'default', { gracePeriodSeconds: 0 });
  await until('the ends have begun', () => cloud.trunkAssociations.size < old.length);
  await bench.addPod('new', 'n-1');
  const told = await until('the new one has its branch', () => bench!.branchOf('new'));
  const left = [...cloud.trunkAssociations.values()].filter(({ branchId }) => branchId !== told.eniId);
  assert.ok(left.length > 0, 'others still wait for their end');
});
