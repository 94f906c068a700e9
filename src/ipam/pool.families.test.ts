// Pools whose pods have IPv6: which calls bring a /80 and when, what a pod gets, what a restart and a lost journal leave, and
// that no IPv6 address comes twice.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { PodwayError } from '../base/errors.ts';
import { cidrContains, familyOf, formatIp } from '../base/ip.ts';
import type { GivenLease } from './state.ts';
import { podOwner, TestNode, type TestNodeOptions } from './testkit.ts';

function node(families: 'ipv6' | 'dual', options: TestNodeOptions = {}): TestNode {
  const made = new TestNode({ ...options, settings: { families, ...options.settings } });
  made.cloud.addIpv6();
  return made;
}

async function acquireAll(on: TestNode, count: number, from = 0): Promise<GivenLease[]> {
  const all = Array.from({ length: count }, (_, i) => on.pool.acquire(podOwner(`p${from + i}`)));
  await on.clock.advance(5_000);
  return Promise.all(all);
}

const familiesOf = ({ ips }: GivenLease) => ips.map(familyOf);

test('a pod of both families has an address of each, of one ENI; a new ENI brings its /80 in the call that makes it', async () => {
  await using on = node('dual');
  await on.start();
  const leases = await acquireAll(on, 27);
  assert.deepEqual(new Set(leases.map((lease) => familiesOf(lease).join())), new Set(['4,6']));
  assert.equal(new Set(leases.flatMap(({ ips }) => ips)).size, 54);
  for (const { ips, eni } of leases) {
    const { addresses, ipv6Prefixes } = on.cloud.enis.get(eni.id)!;
    assert.ok(addresses.some(({ ip }) => ip === ips[0]));
    assert.ok(ipv6Prefixes.some((cidr) => cidrContains(cidr, ips[1]!)));
  }
  assert.equal(on.cloud.enis.size, 3);
  assert.deepEqual(
    [...on.cloud.enis.values()].map((eni) => eni.ipv6Prefixes.length),
    [1, 1, 1],
  );
  assert.equal(
    on.cloud.calls.filter((call) => call === 'AssignIpv6Addresses').length,
    1,
    'of the primary ENI',
  );
  const error = await on.pool.acquire(podOwner('one more')).catch((one) => one as PodwayError);
  assert.equal((error as PodwayError).code, 'ADDRESS_LIMIT');
});

test('with IPv6 as the primary family its address comes first, also after a restart', async () => {
  await using on = node('dual');
  await on.start();
  on.pool.setPolicy({ ...on.pool.policy, primaryFamily: 'ipv6' });
  const [lease] = await acquireAll(on, 1);
  assert.deepEqual(familiesOf(lease!), [6, 4]);
  await on.restart();
  assert.deepEqual(on.pool.find(podOwner('p0'))?.ips, lease!.ips);
  assert.ok(on.pool.release(podOwner('p0')));
});

test('with IPv6 alone one /80 is enough for a node, and no pod waits for EC2 after the first', async () => {
  await using on = node('ipv6');
  await on.start();
  await on.clock.advance(1_000);
  on.cloud.calls.length = 0;
  for (let i = 0; i < 100; i++) assert.ok(on.pool.tryAcquire(podOwner(`p${i}`)), `pod ${i}`);
  await on.clock.advance(1_000);
  assert.deepEqual(on.cloud.calls, []);
  assert.equal(on.cloud.enis.size, 1);
  const [primary] = [...on.cloud.enis.values()];
  assert.deepEqual(
    [primary!.addresses.length, primary!.ipv6Prefixes.length],
    [1, 1],
    'no IPv4 address beside its own',
  );
  assert.deepEqual(new Set(on.pool.held().flatMap(({ ips }) => ips.map(familyOf))), new Set([6]));
  const { totals, totals6, family, limits } = on.pool.snapshot();
  assert.deepEqual([totals.held, totals6.held, family, limits.pods], [0, 100, 'IPv6', 110]);
});

test('with egress4 a pod has an address of the node beside, which is nobody’s of the VPC', async () => {
  await using on = node('ipv6', { settings: { egress4: 'node', cooldownMs: 1_000 } });
  await on.start();
  const [a, b] = await acquireAll(on, 2);
  assert.deepEqual(
    [a!, b!].map(({ ips }) => formatIp(ips[1]!)),
    ['169.254.172.1', '169.254.172.2'],
  );
  await on.pool.reconcileNow();
  await on.clock.advance(40_000);
  await on.pool.reconcileNow();
  assert.deepEqual(on.news, [], 'EC2 knows nothing of them');
  assert.deepEqual(on.pool.snapshot().astray, []);
  on.pool.release(a!.owner);
  const [c] = await acquireAll(on, 1, 2);
  assert.equal(formatIp(c!.ips[1]!), '169.254.172.3', 'the first one cools');
  await on.restart();
  assert.deepEqual(on.pool.find(b!.owner)?.ips, b!.ips);
});

test('an IPv6 address comes once, whatever is released, killed or lost', async () => {
  await using on = node('ipv6', { settings: { cooldownMs: 1_000 } });
  await on.start();
  await on.clock.advance(1_000);
  const seen = new Set<unknown>();
  const round = async (name: string) => {
    const lease = await on.pool.acquire(podOwner(name));
    assert.ok(!seen.has(lease.ips[0]), `${formatIp(lease.ips[0]!)} came before`);
    seen.add(lease.ips[0]);
    on.pool.release(lease.owner);
  };
  for (let i = 0; i < 600; i++) {
    await round(`p${i}`);
    if (i % 100 === 99) await on.clock.advance(3_000);
  }
  assert.ok(on.pool.state.uses.size < 512, `${on.pool.state.uses.size} uses are kept`);
  await on.restart();
  await on.clock.advance(1_000);
  await round('after a restart');
  on.clock.setBack(3_600_000);
  await round('after the clock went back');
  await round('and again');
});

test('pods that run keep their address when the node gets both families; new ones have both', async () => {
  await using on = new TestNode();
  on.cloud.addIpv6();
  await on.start();
  const before = await on.pool.acquire(podOwner('before'));
  on.pool.setPolicy({ ...on.pool.policy, families: 'dual' });
  const [after] = await acquireAll(on, 1);
  assert.deepEqual(familiesOf(before), [4]);
  assert.deepEqual(familiesOf(after!), [4, 6]);
  assert.deepEqual(on.pool.find(before.owner), before);
  on.pool.setPolicy({ ...on.pool.policy, families: 'ipv4' });
  assert.deepEqual(familiesOf((await acquireAll(on, 1, 1))[0]!), [4]);
  assert.equal(on.pool.release(after!.owner)?.ips.length, 2);
});

test('a subnet without IPv6 is the cause, by name, until it has some', async () => {
  await using on = new TestNode({ settings: { families: 'dual' } });
  await on.start();
  const refused = on.pool.acquire(podOwner('p')).catch((error: unknown) => error);
  await on.clock.advance(60_000);
  const error = (await refused) as PodwayError;
  assert.ok(error instanceof PodwayError);
  assert.equal(error.code, 'NO_SUBNET');
  assert.match(error.message, /subnet-0a has no IPv6 CIDR, and with families dual/);
  on.cloud.addIpv6();
  const waiting = on.pool.acquire(podOwner('q'));
  await on.clock.advance(20_000);
  assert.deepEqual(familiesOf(await waiting), [4, 6]);
});

test('a /80 that EC2 took from under pods is asked for again by name', async () => {
  await using on = node('ipv6');
  await on.start();
  const [lease] = await acquireAll(on, 1);
  const [primary] = [...on.cloud.enis.values()];
  const [cidr] = primary!.ipv6Prefixes;
  on.cloud.takeAway(primary!.id, cidr!.ip, true);
  await on.pool.reconcileNow();
  await on.clock.advance(5_000);
  assert.deepEqual(on.cloud.enis.get(primary!.id)!.ipv6Prefixes, [cidr]);
  assert.deepEqual(on.pool.find(lease!.owner)?.ips, lease!.ips);
  const [next] = await acquireAll(on, 1, 1);
  assert.ok(cidrContains(cidr!, next!.ips[0]!));
});
