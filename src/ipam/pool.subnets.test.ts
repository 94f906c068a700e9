// Full and fragmented subnets in the real pool: what is left alone and for how long, what goes on, how a freed address
// reaches a pod that waits, and which addresses are named in a subnet without whole /28s.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { PodwayError } from '../base/errors.ts';
import { addToIp, type Ipv4, parseCidr, parseIpv4 } from '../base/ip.ts';
import { CloudError } from '../cloud/port.ts';
import { densestFree } from './plan/dense.ts';
import { podOwner, TestNode } from './testkit.ts';

const MINUTE = 60_000;
const blocks = (node: TestNode) =>
  [...node.pool.state.enis.values()].flatMap((eni) =>
    [...eni.blocks.values()].map(({ cidr }) => cidr.length),
  );
const count = (node: TestNode, action: string) => node.cloud.calls.filter((call) => call === action).length;

test('a full /26: each freed address reaches the first waiting pod within two seconds, at few calls', async () => {
  for (let seed = 1; seed <= 20; seed++) {
    await using node = new TestNode({
      seed,
      cloud: { subnets: { 'subnet-0a': '10.0.0.0/26' } },
      settings: { warm: 0, lastingWaitMs: 10 * MINUTE, waitMs: 10 * MINUTE },
    });
    await node.start();
    node.cloud.occupy('subnet-0a', 0);
    const served: string[] = [];
    for (const name of ['a', 'b', 'c'])
      void node.pool.acquire(podOwner(name)).then(
        () => served.push(name),
        () => {},
      );
    await node.clock.advance(45_000 + seed * 321);
    // It asks what the subnet has: a change that is refused costs the account more than a read.
    assert.equal(count(node, 'AssignPrivateIpAddresses'), 1);
    const looks = count(node, 'DescribeSubnets');
    assert.ok(looks >= 20 && looks <= 70, `${looks} looks in 45 s`);
    for (let freed = 1; freed <= 3; freed++) {
      node.cloud.vacate('subnet-0a');
      node.cloud.occupy('subnet-0a', 1);
      await node.clock.advance(2_000);
      assert.equal(served.length, freed, `seed ${seed}`);
    }
    assert.deepEqual(served, ['a', 'b', 'c']);
  }
});

test('where EC2 does not tell what a full subnet has, the probe is the assignment itself', async () => {
  await using node = new TestNode({
    cloud: { subnets: { 'subnet-0a': '10.0.0.0/26' } },
    settings: { warm: 0, lastingWaitMs: 10 * MINUTE, waitMs: 10 * MINUTE },
  });
  await node.start();
  node.cloud.occupy('subnet-0a', 0);
  node.cloud.before = (action) => {
    if (action === 'DescribeSubnets') throw new CloudError(action, 'UnauthorizedOperation', 'denied');
  };
  const waiting = node.pool.acquire(podOwner('a'));
  await node.clock.advance(20_000);
  const tries = count(node, 'AssignPrivateIpAddresses');
  assert.ok(tries >= 8 && tries <= 30, `${tries} tries in 20 s`);
  node.cloud.vacate('subnet-0a');
  await node.clock.advance(2_000);
  assert.ok(await Promise.race([waiting, null]));
});

test('a throttled look at a full subnet is no reason to try the change', async () => {
  await using node = new TestNode({
    cloud: { subnets: { 'subnet-0a': '10.0.0.0/26' } },
    settings: { warm: 0, lastingWaitMs: 10 * MINUTE, waitMs: 10 * MINUTE },
  });
  await node.start();
  node.cloud.occupy('subnet-0a', 0);
  const waiting = node.pool.acquire(podOwner('a'));
  await node.clock.advance(1_000);
  const tries = count(node, 'AssignPrivateIpAddresses');
  node.cloud.before = (action) => {
    if (action === 'DescribeSubnets') throw new CloudError(action, 'RequestLimitExceeded', 'too many');
  };
  await node.clock.advance(20_000);
  assert.equal(count(node, 'AssignPrivateIpAddresses'), tries);
  assert.equal(node.pool.trouble()?.code, 'SUBNET_EXHAUSTED');
  node.cloud.before = () => {};
  node.cloud.vacate('subnet-0a');
  await node.clock.advance(2_000);
  assert.ok(await Promise.race([waiting, null]));
});

test('an ENI is made in a full subnet when a look finds room for it, and not before', async () => {
  await using node = new TestNode({
    cloud: { subnets: { 'subnet-0a': '10.0.0.0/27' } },
    settings: { warm: 0, lastingWaitMs: 10 * MINUTE, waitMs: 10 * MINUTE },
  });
  await node.start();
  const first = Array.from({ length: 9 }, (_, i) => node.pool.acquire(podOwner(`p${i}`)));
  await node.clock.advance(5_000);
  await Promise.all(first);
  node.cloud.occupy('subnet-0a', 1);
  const waiting = node.pool.acquire(podOwner('late'));
  await node.clock.advance(30_000);
  assert.equal(count(node, 'CreateNetworkInterface'), 1, 'one address is too few for an ENI and a pod');
  node.cloud.vacate('subnet-0a');
  await node.clock.advance(10_000);
  assert.ok(await Promise.race([waiting, null]));
  assert.equal(count(node, 'CreateNetworkInterface'), 2);
});

for (const [what, code, seconds] of [
  ['a lasting cause', 'SUBNET_EXHAUSTED', 5],
  ['one that passes', 'CLOUD_THROTTLED', 30],
] as const)
  test(`with ${what} a pod is refused ${seconds} s after it came, and not before`, async () => {
    await using node = new TestNode({ settings: { warm: 0 } });
    await node.start();
    if (code === 'SUBNET_EXHAUSTED') node.cloud.occupy('subnet-0a', 0);
    else
      node.cloud.before = (action) => {
        if (/Assign|Create/.test(action)) throw new CloudError(action, 'RequestLimitExceeded', 'too many');
      };
    const refused: PodwayError[] = [];
    node.pool.acquire(podOwner('one')).catch((error: PodwayError) => refused.push(error));
    await node.clock.advance(seconds * 1_000 - 100);
    assert.equal(refused.length, 0);
    await node.clock.advance(2_000);
    assert.deepEqual(
      refused.map((error) => [error.code, error.cni]),
      [[code, code === 'SUBNET_EXHAUSTED' ? 101 : 11]],
    );
  });

test('a full subnet is left alone while the policy has another; it is used again later', async () => {
  await using node = new TestNode({
    cloud: { subnets: { 'subnet-0a': '10.0.0.0/26', 'subnet-0b': '10.0.1.0/26' } },
    settings: { warm: 2, subnetIds: ['subnet-0a', 'subnet-0b'] },
  });
  await node.start();
  await node.clock.advance(1_000);
  node.cloud.occupy('subnet-0a', 0);
  const all = ['a', 'b', 'c', 'd', 'e'].map((name) => node.pool.acquire(podOwner(name)));
  await node.clock.advance(5_000);
  const leases = await Promise.all(all);
  const subnets = new Set([...node.pool.state.enis.values()].map((eni) => eni.subnetId));
  assert.deepEqual([...subnets].sort(), ['subnet-0a', 'subnet-0b']);
  assert.equal(leases.filter(({ eni }) => eni.deviceIndex === 1).length, 3);
  const facts = node.pool.state.subnets.get('subnet-0a')!;
  assert.equal(facts.free, 0);
  node.cloud.calls.length = 0;
  await node.clock.advance(MINUTE / 2);
  assert.equal(count(node, 'AssignPrivateIpAddresses') + count(node, 'CreateNetworkInterface'), 0);
  node.cloud.vacate('subnet-0a');
  await node.clock.advance(3 * MINUTE);
  const more = Array.from({ length: 8 }, (_, i) => node.pool.acquire(podOwner(`m${i}`)));
  await node.clock.advance(5_000);
  const later = await Promise.all(more);
  assert.ok(
    later.some(({ eni }) => eni.deviceIndex === 0),
    'the subnet that has addresses again is used',
  );
});

test('auto: single addresses where there is no whole /28, a prefix again when there is, and the singles drain', async () => {
  await using node = new TestNode({ settings: { warm: 3, addressing: 'auto', cooldownMs: 1_000 } });
  node.cloud.fragment('subnet-0a');
  await node.start();
  await node.clock.advance(2_000);
  assert.deepEqual(blocks(node), [32, 32, 32]);
  const first = await node.pool.acquire(podOwner('first'));
  await node.clock.advance(2_000);
  assert.deepEqual(blocks(node), [32, 32, 32, 32]);
  node.cloud.calls.length = 0;
  await node.clock.advance(60 * MINUTE);
  const tries = count(node, 'AssignPrivateIpAddresses');
  assert.ok(tries > 3 && tries < 15, `${tries} tries in an hour`);
  node.cloud.vacate('subnet-0a');
  await node.clock.advance(13 * MINUTE);
  assert.deepEqual(blocks(node).sort(), [28, 32]);
  const second = await node.pool.acquire(podOwner('second'));
  assert.ok(node.cloud.enis.get(second.eni.id)!.ipv4Prefixes.some(({ ip }) => ip <= second.ips[0]!));
  node.pool.release(first.owner);
  await node.clock.advance(3 * MINUTE);
  assert.deepEqual(blocks(node), [28]);
});

test('prefix: without a whole /28 nothing is kept warm, and pods that wait get single addresses', async () => {
  await using node = new TestNode({ settings: { warm: 3, addressing: 'prefix' } });
  node.cloud.fragment('subnet-0a');
  await node.start();
  await node.clock.advance(2_000);
  assert.deepEqual(blocks(node), []);
  const cause = node.pool.trouble();
  assert.ok(cause instanceof PodwayError);
  const waiting = node.pool.acquire(podOwner('a'));
  await node.clock.advance(2_000);
  assert.equal((await waiting).ips.length, 1);
  assert.deepEqual(blocks(node), [32]);
});

test('a new ENI whose prefixes do not fit in the subnet comes with one, or with single addresses', async () => {
  await using node = new TestNode({ settings: { warm: 0, addressing: 'auto', waitMs: 5 * MINUTE } });
  node.cloud.fragment('subnet-0a', 10);
  await node.start();
  const all = Array.from({ length: 9 * 16 + 20 }, (_, i) => node.pool.acquire(podOwner(`p${i}`)));
  await node.clock.advance(4 * MINUTE);
  const served = await Promise.allSettled(all);
  assert.equal(blocks(node).filter((length) => length === 28).length, 10);
  assert.equal(served.filter(({ status }) => status === 'fulfilled').length, 160 + 4);
});

test('the addresses that are named are of the most broken /28s', () => {
  const cidr = parseCidr('10.0.0.0/26');
  const base = parseIpv4('10.0.0.0');
  const at = (...offsets: number[]) => offsets.map((offset) => addToIp(base, offset));
  const used = new Set<number>(at(20, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42, 43, 44, 45));
  assert.deepEqual(densestFree(cidr, used, 3), at(32, 46, 47));
  // Then the first block, whose first four EC2 keeps.
  assert.deepEqual(densestFree(cidr, used, 5), at(32, 46, 47, 4, 5));
  const all = densestFree(cidr, used, 100);
  assert.equal(all.length, 59 - used.size);
  assert.ok(!all.includes(addToIp(base, 63)));
});

test('in a subnet without whole /28s addresses are named densely, unless some are set aside for others', async () => {
  await using node = new TestNode({
    cloud: { subnets: { 'subnet-0a': '10.0.0.0/25' } },
    settings: { warm: 0, addressing: 'auto', waitMs: MINUTE },
  });
  // Somebody's interface has an address of every /28, and nearly all of the one from 10.0.0.48.
  const other = node.cloud.addInstanceEni({ deviceIndex: 1 });
  const held = [20, 36, 70, 86, 102, ...Array.from({ length: 13 }, (_, i) => 48 + i)];
  for (const offset of held) node.cloud.put(other.id, addToIp(parseIpv4('10.0.0.0'), offset) as Ipv4);
  await node.start();
  const lease = node.pool.acquire(podOwner('a'));
  await node.clock.advance(3_000);
  assert.equal((await lease).ips[0], parseIpv4('10.0.0.61'));
  // A reservation: EC2 does not count 62 as free, no interface has it, and whoever names 63 might name it too.
  node.cloud.reserve('subnet-0a', addToIp(parseIpv4('10.0.0.0'), 62) as Ipv4);
  const next = node.pool.acquire(podOwner('b'));
  await node.clock.advance(3_000);
  // The modelled EC2 takes the lowest; two interfaces have 4 and 5.
  assert.equal((await next).ips[0], parseIpv4('10.0.0.6'));
});

test('an ENI that is made there has dense addresses, too; one that is taken unseen makes EC2 choose', async () => {
  await using node = new TestNode({
    cloud: { subnets: { 'subnet-0a': '10.0.0.0/26' } },
    settings: { warm: 0, addressing: 'auto', waitMs: MINUTE },
  });
  const at = (offset: number) => addToIp(parseIpv4('10.0.0.0'), offset) as Ipv4;
  const other = node.cloud.addInstanceEni({ deviceIndex: 2 });
  for (const offset of [20, 33, 34, 35, 36, 37, 38, 39, 40]) node.cloud.put(other.id, at(offset));
  await node.start();
  const first = Array.from({ length: 9 }, (_, i) => node.pool.acquire(podOwner(`p${i}`)));
  await node.clock.advance(3_000);
  await Promise.all(first);
  // The two of the fullest block that are left are named with the new ENI, its own address among them.
  const next = node.pool.acquire(podOwner('next'));
  await node.clock.advance(3_000);
  const lease = await next;
  const made = node.cloud.enis.get(lease.eni.id)!;
  const offsets = made.addresses.map(({ ip }) => ip - at(0)).sort((a, b) => a - b);
  assert.ok(
    offsets.every((offset) => offset < 16 || offset >= 32),
    offsets.join(),
  );
  assert.equal(node.pool.state.creations.size, 0);
});

test('a kill after such a create: the same names are asked for again, and the one ENI is found', async () => {
  await using node = new TestNode({
    cloud: { subnets: { 'subnet-0a': '10.0.0.0/26' } },
    settings: { warm: 0, addressing: 'auto', waitMs: MINUTE },
  });
  const other = node.cloud.addInstanceEni({ deviceIndex: 2 });
  for (const offset of [20, 36, 40]) node.cloud.put(other.id, addToIp(parseIpv4('10.0.0.0'), offset) as Ipv4);
  await node.start();
  const first = Array.from({ length: 9 }, (_, i) => node.pool.acquire(podOwner(`p${i}`)));
  await node.clock.advance(3_000);
  await Promise.all(first);
  let isLost = true;
  node.cloud.after = async (action) => {
    if (action === 'CreateNetworkInterface' && isLost) await new Promise(() => {});
  };
  void node.pool.acquire(podOwner('next')).catch(() => {});
  await node.clock.advance(3_000);
  assert.equal(node.cloud.enis.size, 3, 'it was made, and nobody was told');
  node.abandon();
  isLost = false;
  await node.start();
  await node.clock.advance(3 * MINUTE);
  assert.equal(node.pool.state.creations.size, 0);
  const named = [...node.cloud.enis.values()].filter(({ attachment }) => attachment?.deviceIndex === 1);
  assert.ok(named.length <= 1 && node.cloud.enis.size <= 3, 'no second one was made');
});
