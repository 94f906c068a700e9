import assert from 'node:assert/strict';
import { test } from 'node:test';
import { formatCidr, formatIp, type Ipv4 } from '../../base/ip.ts';
import type { Datapath } from '../../datapath/datapath.ts';
import { defaultPolicy } from '../../ipam/policy.ts';
import type { GivenLease } from '../../ipam/state.ts';
import { podOwner, TestNode } from '../../ipam/testkit.ts';
import { createApiServer } from '../api-server.ts';
import { parseAgentConfig } from '../config.ts';
import { journalAndCloud } from './cloud.ts';

const config = parseAgentConfig({ nodeName: 'n', runDir: '/run/podway' });
const look = (node: TestNode) =>
  journalAndCloud({
    config,
    api: createApiServer(config),
    pool: node.pool,
    cloud: node.cloud,
    datapath: {} as Datapath,
  });

test('check and show say one thing about one address', async () => {
  await using node = new TestNode();
  await node.start();
  const lease = await node.pool.acquire(podOwner('a'));
  await node.clock.advance(1_000);
  assert.deepEqual(await look(node), []);
  const other = node.cloud.giveToAnother(lease.eni.id, lease.ips[0] as Ipv4);
  const [before] = await look(node);
  assert.deepEqual(
    [before!.object, before!.journal, before!.cloud],
    ['10.0.0.5', `held by container-of-a on ${lease.eni.id}`, 'not assigned'],
  );
  await node.pool.reconcileNow();
  await node.clock.advance(1_000);
  const after = await look(node);
  assert.equal(after.length, 1, 'one line for one address');
  const shown = node.pool.snapshot().enis[0]!.addresses.find((one) => one.containerId)!;
  assert.equal(shown.state, 'quarantined');
  assert.equal(
    after[0]!.journal,
    `quarantined by container-of-a on ${lease.eni.id}: EC2 has given it to ${other}`,
  );
  // Somebody else's is no difference once it is known as such.
  node.cloud.putOn(lease.eni.id);
  assert.equal((await look(node)).length, 2);
  await node.pool.reconcileNow();
  assert.equal((await look(node)).length, 1);
});

test('prefixes, other subnets, tags, loose and foreign ENIs are compared too', async () => {
  await using node = new TestNode({
    cloud: { subnets: { 'subnet-0a': '10.0.0.0/24', 'subnet-0b': '10.0.1.0/24' } },
    settings: { warm: 0 },
  });
  await node.start();
  const policy = { ...defaultPolicy, addressing: 'prefix', podLimit: 29, subnetIds: ['subnet-0b'] } as const;
  node.pool.setPolicy({ ...policy, targets: { kind: 'warm', free: 0 }, primaryGives: false });
  const lease = await acquired(node);
  assert.deepEqual(await look(node), []);
  const second = node.cloud.enis.get(lease.eni.id)!;
  assert.equal(second.subnetId, 'subnet-0b');
  const [prefix] = second.ipv4Prefixes;
  second.ipv4Prefixes = [];
  const gone = await look(node);
  assert.deepEqual(
    gone.map((one) => [one.kind, one.object, one.cloud]).sort(),
    [
      ['address', formatIp(lease.ips[0]!), 'not assigned'],
      ['address', formatCidr(prefix!), 'not assigned'],
    ].sort(),
  );
  second.ipv4Prefixes = [prefix!];
  const { tags } = second;
  second.tags = {};
  assert.deepEqual(
    (await look(node)).map((one) => [one.object, one.cloud]),
    [[second.id, 'its tags do not say that it is this node’s']],
  );
  second.tags = tags;
  second.attachment!.deleteOnTermination = false;
  assert.match((await look(node))[0]!.cloud!, /outlive/);
  second.attachment!.deleteOnTermination = true;
  const foreign = node.cloud.addInstanceEni({ deviceIndex: 2, description: 'a file system' });
  const loose = await node.cloud.createNetworkInterface({
    subnetId: 'subnet-0a',
    groupIds: [],
    description: '',
    secondaryCount: 0,
    tags,
    clientToken: 'loose',
  });
  assert.deepEqual(
    (await look(node)).map((one) => [one.object, one.journal, one.cloud]),
    [
      [foreign.id, null, 'attached to this instance as device 2'],
      [loose.id, null, 'tagged for this node and attached to nothing'],
    ],
  );
  // A foreign ENI is no difference once it is known as such.
  await node.pool.reconcileNow();
  assert.deepEqual(
    (await look(node)).map((one) => one.object),
    [loose.id],
  );
  // The pool has heard of the loose one: it is deleted after its grace.
  await node.clock.advance(150_000);
  assert.deepEqual(await look(node), []);
});

async function acquired(node: TestNode): Promise<GivenLease> {
  const waiting = node.pool.acquire(podOwner('p'));
  await node.clock.advance(5_000);
  return waiting;
}
