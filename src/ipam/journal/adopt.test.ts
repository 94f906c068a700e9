// What becomes of a node's holders when its journal is lost in each of the ways that there are.
import assert from 'node:assert/strict';
import { readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { test } from 'node:test';
import { formatIp, type Ip, parseIp } from '../../base/ip.ts';
import { encodeRecord } from '../../base/journal.ts';
import { CloudError } from '../../cloud/port.ts';
import type { GivenLease, Lease } from '../state.ts';
import { podOwner, TestNode, testLink } from '../testkit.ts';

const COOLDOWN = 30_000;

/** A node with three pods that run. */
async function withPods(
  settings: TestNode['settings'] | object = {},
): Promise<{ node: TestNode; leases: GivenLease[] }> {
  const node = new TestNode({ settings: { warm: 2, cooldownMs: COOLDOWN, ...settings } });
  await node.start();
  const all = ['a', 'b', 'c'].map((name) => node.pool.acquire(podOwner(name)));
  await node.clock.advance(5_000);
  const leases = await Promise.all(all);
  node.stand();
  return { node, leases };
}
const text = (leases: readonly Lease[]): string[] =>
  leases.map(({ owner, ips }) => `${owner.pod?.name ?? owner.link} ${ips.map(formatIp).join()}`).sort();

/** Changes one byte of the n-th line (from 0). */
function alter(path: string, line: number): void {
  const lines = readFileSync(path, 'utf8').split('\n');
  lines[line] = lines[line]!.replace(/.$/, '#');
  writeFileSync(path, lines.join('\n'));
}

const damages: Record<string, (node: TestNode) => void> = {
  missing: (node) => rmSync(node.path),
  empty: (node) => truncateSync(node.path, 0),
  'cut within its last line': (node) => truncateSync(node.path, readFileSync(node.path).length - 7),
  'cut after its first line': (node) => truncateSync(node.path, readFileSync(node.path).indexOf(0x0a) + 1),
  'the header altered': (node) => alter(node.path, 0),
  'the last record altered': (node) =>
    alter(node.path, readFileSync(node.path, 'utf8').split('\n').length - 2),
  'random bytes': (node) => writeFileSync(node.path, Buffer.from('\u0000\u0001\u00ff\n\n{"k":"hold"}\nxx')),
  'an unknown version': (node) =>
    writeFileSync(node.path, encodeRecord({ journal: 99 }) + encodeRecord({ k: 'hold' })),
  'another boot': (node) => {
    node.origin = { boot: 'two', netns: '1' };
  },
  'another network namespace': (node) => {
    node.origin = { boot: 'one', netns: '2' };
  },
};

for (const [what, damage] of Object.entries(damages)) {
  test(`journal ${what}: who stands in the kernel holds, nobody else gets the address`, async () => {
    const { node, leases } = await withPods();
    await using _ = node;
    const before = text(leases);
    const known = [...node.cloud.enis.values()].flatMap((eni) => eni.addresses.map((one): Ip => one.ip));
    node.abandon();
    damage(node);
    await node.start();
    await node.clock.advance(1_000);
    assert.deepEqual(text(node.pool.held()), before);
    // What nobody holds was released a moment ago, for all that is known: until it has cooled only new ones are given.
    const early = await node.pool.acquire(podOwner('early'));
    assert.ok(!known.includes(early.ips[0]!), formatIp(early.ips[0]!));
    await node.clock.advance(COOLDOWN + 5_000);
    const later = ['p', 'q', 'r', 's'].flatMap((name) => node.pool.tryAcquire(podOwner(name)) ?? []);
    const given = [early, ...later];
    const owned = leases.flatMap((lease) => lease.ips);
    assert.ok(given.every(({ ips }) => !owned.includes(ips[0]!)));
    assert.ok(
      later.some(({ ips }) => known.includes(ips[0]!)),
      'then they are given again',
    );
    // And the journal is whole again: the next start knows all without the kernel.
    await node.stop();
    node.kernel = { links: [], any: true };
    await node.start();
    assert.equal(node.pool.adoption, null);
    assert.deepEqual(text(node.pool.held()), [...before, ...text(given)].sort());
  });
}

test('a first start, and a whole journal, wait for nothing', async () => {
  await using fresh = new TestNode({ settings: { warm: 2 } });
  await fresh.start();
  await fresh.clock.advance(1_000);
  assert.ok(fresh.pool.tryAcquire(podOwner('first')));
  fresh.stand();
  await fresh.restart();
  assert.equal(fresh.pool.adoption, null);
  assert.ok(fresh.pool.tryAcquire(podOwner('second')));
});

test('a journal of the version before, without a first line, is taken over as it is', async () => {
  const { node, leases } = await withPods();
  await using _ = node;
  await node.stop();
  const lines = readFileSync(node.path, 'utf8').trimEnd().split('\n').slice(1);
  writeFileSync(node.path, lines.map((line) => encodeRecord(JSON.parse(line.slice(9)))).join(''));
  await node.start();
  assert.equal(node.journal.replay.found, 'earlier');
  assert.equal(node.pool.adoption, null);
  assert.deepEqual(text(node.pool.held()), text(leases));
  assert.ok(node.pool.tryAcquire(podOwner('at-once')));
  await node.restart();
  assert.equal(node.journal.replay.found, 'whole');
});

test('a link that says nothing holds its address; what DEL, CHECK or GC name gives it its name', async () => {
  const { node, leases } = await withPods();
  await using _ = node;
  await node.stop();
  rmSync(node.path);
  node.kernel = { ...node.kernel, links: node.kernel.links.map((link) => ({ ...link, owner: null })) };
  await node.start();
  const [first] = leases;
  assert.equal(node.pool.find(first!.owner), null);
  assert.equal(node.pool.held().find(({ owner }) => owner.link === testLink(first!.owner))?.at, 0);
  assert.equal(node.pool.name(first!.owner, 'another-link'), null);
  assert.deepEqual(node.pool.name(first!.owner, testLink(first!.owner))?.ips, first!.ips);
  assert.deepEqual(node.pool.find(first!.owner)?.ips, first!.ips);
  // The name is in the journal.
  await node.restart();
  assert.deepEqual(node.pool.release(first!.owner)?.ips, first!.ips);
  const rest = node.pool.held();
  assert.equal(rest.length, 2);
  for (const { owner } of rest) assert.ok(node.pool.release(owner));
  node.stand();
  await node.restart();
  assert.deepEqual(node.pool.held(), []);
});

test('found holders are older than every DEL and GC, those that the journal knows keep their time', async () => {
  const { node, leases } = await withPods();
  await using _ = node;
  const d = { ...leases[0]!, owner: podOwner('d'), ips: [parseIp('10.0.0.200')] };
  node.stand([...leases, d]);
  await node.restart();
  assert.equal(node.pool.adoption?.loss, 'incomplete');
  assert.deepEqual(text(node.pool.adoption!.adopted), text([d]));
  assert.deepEqual(
    [...leases, d].map(({ owner }) => node.pool.find(owner)?.at),
    [...leases.map(({ at }) => at), 0],
  );
});

test('of two links with one address the routed one holds; the other is told and has none', async () => {
  const { node, leases } = await withPods();
  await using _ = node;
  await node.stop();
  rmSync(node.path);
  const stray = { link: 'stray', owner: podOwner('stray'), ips: leases[0]!.ips, doubt: 1 };
  node.kernel = { any: true, links: [stray, ...node.kernel.links] };
  await node.start();
  assert.deepEqual(text(node.pool.held()), text(leases));
  assert.deepEqual(
    node.pool.adoption!.bare.map(({ link }) => link),
    ['stray'],
  );
});

test('a link wins over a record; a record without a link stays when its address is nobody’s', async () => {
  const { node, leases } = await withPods();
  await using _ = node;
  await node.stop();
  // The release of `a` and the hold of `z` are lost: the link says that `z` has the address.
  const z = podOwner('z');
  node.kernel = {
    any: true,
    links: [{ link: testLink(z), owner: z, ips: leases[0]!.ips, doubt: 0 }],
  };
  await node.start();
  assert.deepEqual(node.pool.find(z)?.ips, leases[0]!.ips);
  assert.equal(node.pool.find(leases[0]!.owner), null);
  assert.deepEqual(text(node.pool.adoption!.replaced), text([leases[0]!]));
  assert.deepEqual(node.pool.find(leases[1]!.owner)?.ips, leases[1]!.ips);
});

test('an address that only an unreadable record names is quarantined', async () => {
  const { node, leases } = await withPods();
  await using _ = node;
  await node.stop();
  alter(
    node.path,
    readFileSync(node.path, 'utf8')
      .split('\n')
      .findIndex((line) => line.includes('container-of-c')),
  );
  node.stand(leases.slice(0, 2));
  await node.start();
  assert.deepEqual(node.pool.quarantined(), leases[2]!.ips);
  await node.clock.advance(600_000);
  assert.deepEqual(node.pool.quarantined(), leases[2]!.ips, 'the pool ends none by itself');
  await node.restart();
  assert.deepEqual(node.pool.quarantined(), leases[2]!.ips);
});

test('with EC2 away the holders live without their ENI, over a kill too, and nobody is given anything', async () => {
  const cleaned: string[] = [];
  const { node, leases } = await withPods({ beforeReuse: (ip: never) => void cleaned.push(formatIp(ip)) });
  await using _ = node;
  await node.stop();
  rmSync(node.path);
  node.cloud.before = () => {
    throw new CloudError('DescribeNetworkInterfaces', 'RequestTimeout', 'no answer');
  };
  for (let start = 0; start < 2; start++) {
    await node.start();
    assert.deepEqual(text(node.pool.held()), text(leases));
    assert.ok(node.pool.unsure);
    assert.deepEqual(
      node.pool.held().map((lease) => lease.eni),
      [null, null, null],
    );
    await node.clock.advance(COOLDOWN * 3);
    assert.equal(node.pool.tryAcquire(podOwner('now')), null);
    await node.stop();
  }
  node.cloud.before = () => {};
  await node.start();
  await node.clock.advance(5_000);
  assert.equal(node.pool.unsure, false);
  assert.deepEqual(
    node.pool.held().map((lease) => lease.eni?.id),
    leases.map((lease) => lease.eni.id),
  );
  const free = node.pool.tryAcquire(podOwner('now'))!;
  assert.ok(cleaned.includes(formatIp(free.ips[0]!)), 'its traces were removed first');
});

/** Makes each write of the node's next journal fail as a full disk does while `full.now` is set. */
function fullDisk(node: TestNode): { now: boolean } {
  const full = { now: false };
  node.onBoundary = (name) => {
    if (full.now && (name === 'journal:mid-write' || name === 'journal:compact:before-rename'))
      throw Object.assign(new Error('write'), { code: 'ENOSPC', errno: -28 });
  };
  return full;
}

test('a disk that takes no write: ADD says so, DEL works, and its address waits for the record', async () => {
  await using node = new TestNode({ settings: { warm: 3, cooldownMs: COOLDOWN } });
  const full = fullDisk(node);
  await node.start();
  await node.clock.advance(2_000);
  const lease = node.pool.tryAcquire(podOwner('a'))!;
  const other = node.pool.tryAcquire(podOwner('other'))!;
  full.now = true;
  assert.throws(() => node.pool.tryAcquire(podOwner('b')), {
    code: 'RUN_DIR_UNWRITABLE',
    message: `${node.path} cannot be written: ENOSPC (no space left on device)`,
  });
  assert.equal(node.pool.unwritable?.code, 'RUN_DIR_UNWRITABLE');
  assert.deepEqual(node.pool.release(lease.owner)?.ips, lease.ips);
  assert.equal(node.pool.find(lease.owner), null);
  assert.equal(node.pool.release(lease.owner), null);
  const use = () => node.pool.state.uses.get(lease.ips[0]!);
  assert.equal(use()?.kind, 'quarantined');
  assert.deepEqual(node.pool.quarantined(), [], 'no quarantine that anybody may end');
  // A describe that cannot be written down is no failure of EC2.
  node.cloud.takeAway(lease.eni.id, other.ips[0] as never);
  await node.clock.advance(400_000);
  full.now = false;
  await node.clock.advance(60_000);
  assert.equal(node.pool.unwritable, null);
  assert.deepEqual(
    node.logged.filter((line) => /journal|EC2 answers/.test(line)),
    [`${node.path} cannot be written: ENOSPC (no space left on device)`, 'the journal can be written again'],
  );
  assert.equal(use()?.kind ?? 'free', 'cooling');
  await node.restart();
  assert.equal(node.pool.find(lease.owner), null);
  assert.deepEqual(
    node.pool.held().map(({ owner }) => owner.pod?.name),
    ['other'],
  );
});

test('a release that waits for the disk is written before the next hold of its attachment', async () => {
  await using node = new TestNode({ settings: { warm: 3, cooldownMs: 0 } });
  const full = fullDisk(node);
  await node.start();
  await node.clock.advance(2_000);
  const lease = node.pool.tryAcquire(podOwner('a'))!;
  full.now = true;
  node.pool.release(lease.owner);
  full.now = false;
  const again = node.pool.tryAcquire(podOwner('a'))!;
  assert.notDeepEqual(again.ips, lease.ips);
  await node.restart();
  assert.deepEqual(node.pool.find(lease.owner)?.ips, again.ips);
});

test('a start on a full disk holds what stands, and repairs the journal when it can', async () => {
  const { node, leases } = await withPods();
  await using _ = node;
  await node.stop();
  truncateSync(node.path, readFileSync(node.path).length - 7);
  const full = fullDisk(node);
  full.now = true;
  await node.start();
  assert.deepEqual(text(node.pool.held()), text(leases));
  assert.equal(node.pool.unwritable?.code, 'RUN_DIR_UNWRITABLE');
  full.now = false;
  await node.clock.advance(COOLDOWN * 3);
  assert.equal(node.pool.unwritable, null);
  const more = node.pool.tryAcquire(podOwner('more'))!;
  await node.restart();
  assert.deepEqual(text(node.pool.held()), text([...leases, more]));
});
