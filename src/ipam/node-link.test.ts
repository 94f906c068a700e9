// What the node cannot use, the pool does not give: ENIs without a link, addresses that are on a link of the node.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { PodwayError } from '../base/errors.ts';
import { formatIp, type Ip } from '../base/ip.ts';
import type { EniId } from '../cloud/port.ts';
import type { GivenLease } from './state.ts';
import { podOwner, TestNode } from './testkit.ts';

async function acquire(node: TestNode, count: number, from = 0): Promise<GivenLease[]> {
  const all = Array.from({ length: count }, (_, i) => node.pool.acquire(podOwner(`p${from + i}`)));
  await node.clock.advance(5_000);
  return Promise.all(all);
}
const note = (node: TestNode, linkless: EniId[], onLinks: [Ip, string][] = []) =>
  node.pool.noteNode({ linkless: new Set(linkless), onLinks: new Map(onLinks) });

test('an ENI without a link gives no address and costs no other ENI its own', async () => {
  await using node = new TestNode({ settings: { warm: 0, idleReleaseMs: 600_000 } });
  await node.start();
  const leases = await acquire(node, 18);
  const second = leases.find((lease) => lease.eni.deviceIndex === 1)!.eni.id;
  const freed = leases.filter((lease) => lease.eni.id === second).slice(0, 5);
  for (const lease of freed) node.pool.release(lease.owner);
  note(node, [second]);
  await node.clock.advance(31_000);
  assert.equal(node.pool.counts().free, 0);
  const more = await acquire(node, 9, 100);
  assert.ok(more.every((lease) => lease.eni.id !== second));
  const refusing = node.pool.acquire(podOwner('one-too-many')).catch((error) => error as PodwayError);
  await node.clock.advance(31_000);
  const refused = await refusing;
  assert.equal((refused as PodwayError).code, 'ENI_WITHOUT_LINK');
  assert.match((refused as PodwayError).message, new RegExp(`${second} \\(device 1\\): its 9 addresses`));
  assert.equal(node.pool.held().length, 22, 'held ones stay held');

  note(node, []);
  assert.equal((await acquire(node, 1, 200))[0]!.eni.id, second);
});

test('an address that is on a link of the node is not given out, and is shown', async () => {
  await using node = new TestNode({ settings: { warm: 3 } });
  await node.start();
  await node.clock.advance(1_000);
  const [first] = node.pool.snapshot().enis[0]!.addresses.filter((address) => address.state === 'free');
  const [eni] = node.pool.enis();
  const ip = eni!.blocks.find((block) => formatIp(block.ip) === first!.ip)!.ip;
  note(node, [], [[ip, 'eth0']]);
  assert.equal(node.pool.counts().quarantined, 1);
  const shown = () => node.pool.snapshot().enis[0]!.addresses.find((address) => address.ip === first!.ip);
  assert.deepEqual([shown()?.state, shown()?.reason], ['quarantined', 'it is on eth0 of the node']);
  const leases = await acquire(node, 8);
  assert.ok(leases.every((lease) => !lease.ips.includes(ip)));
  note(node, []);
  assert.equal(shown()?.state, 'free');
});

test('a node whose free addresses are all on its links says so', async () => {
  await using node = new TestNode({ settings: { warm: 0, idleReleaseMs: 600_000 } });
  await node.start();
  const leases = await acquire(node, 27);
  const freed = leases.slice(0, 2);
  for (const lease of freed) node.pool.release(lease.owner);
  await node.clock.advance(31_000);
  note(
    node,
    [],
    freed.map((lease) => [lease.ips[0]!, 'eth0']),
  );
  const refusing = node.pool.acquire(podOwner('late')).catch((error) => error as PodwayError);
  await node.clock.advance(31_000);
  const refused = (await refusing) as PodwayError;
  assert.equal(refused.code, 'ADDRESS_ON_LINK');
  assert.match(refused.message, /2 free addresses are on links of the node.* on eth0/);
});
