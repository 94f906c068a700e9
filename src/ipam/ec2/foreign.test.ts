import assert from 'node:assert/strict';
import { appendFileSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { formatIp, type Ip, type Ipv4 } from '../../base/ip.ts';
import { CloudError, type EniId } from '../../cloud/port.ts';
import { podOwner, TestNode } from '../testkit.ts';

const MINUTE = 60_000;
const primaryOf = (node: TestNode): EniId => node.identity.primary.eniId;
const foreignOf = (node: TestNode): string[] =>
  node.pool
    .snapshot()
    .enis.flatMap((eni) => eni.addresses)
    .filter((one) => one.state === 'foreign')
    .map((one) => one.ip)
    .sort();
const texts = (ips: readonly Ip[]) => ips.map(formatIp).sort();

/** Takes all addresses that the node gives, and gives them back. */
async function drain(node: TestNode): Promise<Set<Ip>> {
  const leases = await Promise.all(
    Array.from({ length: 40 }, (_, i) => node.pool.acquire(podOwner(`d${i}`)).catch(() => null)).concat(
      node.clock.advance(10_000).then(() => null) as never,
    ),
  );
  const found = leases.filter((lease) => lease !== null);
  for (const lease of found) node.pool.release(lease.owner);
  return new Set(found.flatMap((lease) => lease.ips));
}

test('at first start addresses are adopted unless the node uses them or an Elastic IP is theirs', async () => {
  await using node = new TestNode({ settings: { warm: 0, idleReleaseMs: 10 * MINUTE } });
  const [plain, used] = node.cloud.putOn(primaryOf(node), 2) as [Ipv4, Ipv4];
  const [elastic] = node.cloud.putOn(primaryOf(node), 1, { public: true }) as [Ipv4];
  node.settings.addressesOnLinks = () => new Set([used]);
  await node.start();
  assert.deepEqual(foreignOf(node), texts([used, elastic]));
  assert.deepEqual(node.pool.counts().foreign, 2);
  assert.deepEqual((await node.pool.acquire(podOwner('a'))).ips, [plain]);
});

test('a later address is somebody else’s: shown, never given out, never returned, its ENI never detached', async () => {
  await using node = new TestNode();
  await node.start();
  await drain(node);
  const second = [...node.cloud.enis.values()].find((eni) => eni.attachment?.deviceIndex === 1)!;
  const theirs = [...node.cloud.putOn(primaryOf(node)), ...node.cloud.putOn(second.id)];
  await node.pool.reconcileNow();
  assert.deepEqual(foreignOf(node), texts(theirs));
  const told = node.pool.enis().flatMap((eni) => eni.blocks.map((block) => block.ip));
  assert.ok(
    theirs.every((ip) => !told.includes(ip)),
    'the node’s network leaves them alone',
  );
  await node.clock.advance(30 * MINUTE);
  await node.restart();
  await node.clock.advance(30 * MINUTE);
  assert.deepEqual(foreignOf(node), texts(theirs));
  assert.equal(node.cloud.enis.size, 2, 'one ENI is idle, one carries what others use');
  assert.equal(node.pool.counts().free, 4);
  const given = await drain(node);
  assert.equal(given.size, 25);
  assert.ok(theirs.every((ip) => !given.has(ip)));
});

test('after an assign whose answer is lost, as many new addresses are ours as it asked for', async () => {
  await using node = new TestNode({ settings: { warm: 3 } });
  await node.start();
  await node.clock.advance(5 * MINUTE);
  let lose = true;
  node.cloud.after = (action) => {
    if (action !== 'AssignPrivateIpAddresses' || !lose) return;
    lose = false;
    throw new CloudError(action, 'Timeout', 'no answer', true);
  };
  await node.pool.acquire(podOwner('a'));
  await node.clock.advance(200);
  assert.equal(lose, false);
  const theirs = node.cloud.putOn(primaryOf(node));
  await node.clock.advance(3 * MINUTE);
  assert.deepEqual(foreignOf(node), texts(theirs));
  assert.equal(node.pool.counts().free, 3);
  const [late] = node.cloud.putOn(primaryOf(node)) as [Ipv4];
  await node.pool.reconcileNow();
  assert.ok(foreignOf(node).includes(formatIp(late)), 'what was awaited has come');
});

test('an assign that EC2 refused brings nothing: what is new then is somebody else’s', async () => {
  await using node = new TestNode({ settings: { warm: 3 } });
  await node.start();
  await node.clock.advance(5 * MINUTE);
  node.cloud.before = (action) => {
    if (action === 'AssignPrivateIpAddresses') throw new CloudError(action, 'UnauthorizedOperation', 'no');
  };
  await node.pool.acquire(podOwner('a'));
  await node.clock.advance(1_000);
  const theirs = node.cloud.putOn(primaryOf(node));
  await node.clock.advance(3 * MINUTE);
  assert.deepEqual(foreignOf(node), texts(theirs));
});

test('after a damaged journal the rule of a first start holds: what it lost is ours again', async () => {
  await using node = new TestNode({ settings: { warm: 4, idleReleaseMs: 60 * MINUTE } });
  await node.start();
  await node.clock.advance(MINUTE);
  const [elastic] = node.cloud.putOn(primaryOf(node), 1, { public: true }) as [Ipv4];
  await node.stop();
  const file = join(node.dir, 'journal');
  const lines = readFileSync(file, 'utf8').split('\n');
  // The first record of the ENI stays, from before its addresses came.
  const first = lines.findIndex((line) => line.includes('"k":"eni"'));
  writeFileSync(file, `${lines.slice(0, first + 1).join('\n')}\n`);
  appendFileSync(file, '00000000 {"k":"eni"}\n');
  await node.start();
  await node.clock.advance(2 * MINUTE);
  assert.deepEqual(foreignOf(node), texts([elastic]));
  assert.equal(node.pool.counts().free, 4);
});
