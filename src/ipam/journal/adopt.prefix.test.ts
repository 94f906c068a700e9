// Prefixes over a lost journal, a kill, and what others do to them in EC2.
import assert from 'node:assert/strict';
import { rmSync } from 'node:fs';
import { test } from 'node:test';
import { cidrContains, type Ipv4 } from '../../base/ip.ts';
import { podOwner, TestNode } from '../testkit.ts';

async function started(warm = 1): Promise<TestNode> {
  const node = new TestNode({ settings: { warm, addressing: 'prefix', waitMs: 60_000 } });
  await node.start();
  await node.clock.advance(1_000);
  return node;
}

async function acquire(node: TestNode, ...names: string[]) {
  const all = names.map((name) => node.pool.acquire(podOwner(name)));
  await node.clock.advance(2_000);
  return Promise.all(all);
}

test('a lost journal: pods keep their addresses of the prefix, the others cool first', async () => {
  await using node = await started();
  const leases = await acquire(node, 'a', 'b', 'c');
  node.stand();
  await node.stop();
  rmSync(node.path);
  await node.start();
  await node.clock.advance(1_000);
  const { held, cooling, foreign } = node.pool.counts();
  assert.deepEqual([held, cooling, foreign], [3, 13, 0]);
  assert.deepEqual(
    node.pool.held().map(({ ips }) => ips[0]),
    leases.map(({ ips }) => ips[0]),
  );
  assert.ok(node.pool.held().every(({ eni }) => eni?.id === leases[0]!.eni.id));
  await node.clock.advance(40_000);
  const [next] = await acquire(node, 'd');
  assert.ok(!leases.some(({ ips }) => ips[0] === next!.ips[0]));
  const blocks = [...node.pool.state.enis.values()].flatMap((eni) => [...eni.blocks.values()]);
  assert.ok(blocks.every(({ cidr }) => cidr.length === 28));
});

test('a prefix that is taken and had back whole costs no pod its address', async () => {
  await using node = await started();
  const [lease] = await acquire(node, 'a');
  const eni = node.cloud.enis.get(lease!.eni.id)!;
  const prefix = eni.ipv4Prefixes[0]!;
  node.cloud.takeAway(eni.id, prefix.ip as Ipv4, true);
  const looked = node.pool.reconcileNow();
  await node.clock.advance(3_000);
  await looked;
  assert.deepEqual(eni.ipv4Prefixes, [prefix]);
  assert.equal(node.pool.state.taken.size, 0);
  assert.ok(node.logged.some((text) => text.startsWith('assigned a prefix again')));
});

test('a prefix that somebody else has a part of: its held addresses are had back singly, the stolen one is told', async () => {
  await using node = await started();
  const leases = await acquire(node, 'a', 'b', 'c');
  const eni = node.cloud.enis.get(leases[0]!.eni.id)!;
  const prefix = eni.ipv4Prefixes.find((one) => cidrContains(one, leases[0]!.ips[0]!))!;
  node.cloud.takeAway(eni.id, prefix.ip as Ipv4, true);
  node.cloud.spoil('subnet-0a', leases[1]!.ips[0] as Ipv4);
  const looked = node.pool.reconcileNow();
  await node.clock.advance(5_000);
  await looked;
  const singles = eni.addresses.map(({ ip }) => ip);
  assert.ok(singles.includes(leases[0]!.ips[0] as Ipv4) && singles.includes(leases[2]!.ips[0] as Ipv4));
  assert.deepEqual([...node.pool.state.taken.keys()], leases[1]!.ips);
  assert.deepEqual(
    node.news
      .filter(({ kind }) => kind === 'taken')
      .map(({ ip }) => ip)
      .at(-1),
    leases[1]!.ips[0],
  );
  node.cloud.unspoil();
  await node.clock.advance(6 * 60_000);
  assert.equal(node.pool.state.taken.size, 0);
  assert.equal(node.pool.held().length, 3);
});

test('a description that lags behind a prefix takes nothing away', async () => {
  await using node = await started();
  const [lease] = await acquire(node, 'a');
  node.cloud.describeLag = (truth) => truth.map((eni) => ({ ...eni, ipv4Prefixes: [] }));
  for (let i = 0; i < 4; i++) {
    const looked = node.pool.reconcileNow();
    await node.clock.advance(35_000);
    await looked;
  }
  node.cloud.describeLag = undefined;
  const looked = node.pool.reconcileNow();
  await node.clock.advance(35_000);
  await looked;
  assert.equal(node.pool.held()[0]!.ips[0], lease!.ips[0]);
  assert.equal(node.pool.state.taken.size, 0);
  const eni = node.cloud.enis.get(lease!.eni.id)!;
  assert.ok(eni.ipv4Prefixes.some((one) => cidrContains(one, lease!.ips[0]!)));
  assert.equal(node.pool.counts().foreign, 0);
});
