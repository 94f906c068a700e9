import assert from 'node:assert/strict';
import { test } from 'node:test';
import { PodwayError } from '../base/errors.ts';
import { formatIp } from '../base/ip.ts';
import { CloudError } from '../cloud/port.ts';
import type { GivenLease, Lease } from './state.ts';
import { podOwner, settle, TestNode } from './testkit.ts';

const codeOf = async (promise: Promise<unknown>): Promise<string> =>
  promise.then(
    () => 'ok',
    (error) => (error instanceof PodwayError ? error.code : String(error)),
  );

async function acquireAll(node: TestNode, count: number, from = 0): Promise<GivenLease[]> {
  const all = Array.from({ length: count }, (_, i) => node.pool.acquire(podOwner(`p${from + i}`)));
  await node.clock.advance(5_000);
  return Promise.all(all);
}

test('a new node fills its warm target on the primary ENI, and then is quiet', async () => {
  await using node = new TestNode();
  await node.start();
  await node.clock.advance(1_000);
  assert.deepEqual(node.pool.counts().free, 4);
  await node.clock.advance(30_000);
  assert.equal(node.cloud.calls.filter((call) => call === 'DescribeInstanceTypes').length, 1);
  node.cloud.calls.length = 0;
  await node.clock.advance(20_000);
  assert.deepEqual(node.cloud.calls, []);
});

test('m5.large gives 27 addresses; the 28th pod is told the limit and the holders', async () => {
  await using node = new TestNode();
  await node.start();
  const leases = await acquireAll(node, 27);
  assert.equal(new Set(leases.flatMap((lease) => lease.ips)).size, 27);
  assert.equal(node.cloud.enis.size, 3);
  const error = await node.pool.acquire(podOwner('p27')).catch((e) => e as PodwayError);
  assert.ok(error instanceof PodwayError);
  assert.equal(error.code, 'ADDRESS_LIMIT');
  assert.match(error.message, /27 pod addresses \(3 ENIs of 9\) and 27 are held/);
  assert.match(error.message, /default\/p0/);
  assert.equal(error.details.limit, 27);
  for (const eni of node.cloud.enis.values()) {
    assert.equal(eni.attachment?.deleteOnTermination, true);
  }
});

test('after all pods are gone the ENIs are back at the warm target within 3 minutes', async () => {
  await using node = new TestNode();
  await node.start();
  const leases = await acquireAll(node, 27);
  for (const lease of leases) node.pool.release(lease.owner);
  await node.clock.advance(180_000);
  assert.equal(node.cloud.enis.size, 1);
  const [primary] = [...node.cloud.enis.values()];
  assert.equal(primary!.addresses.length - 1, 4);
  assert.deepEqual(node.pool.counts().free, 4);
  const snapshot = node.pool.snapshot();
  assert.deepEqual(snapshot.totals, { held: 0, free: 4, cooling: 0, quarantined: 0, foreign: 0 });
});

test('an address is given again only after its cooldown, the one released longest ago first', async () => {
  await using node = new TestNode({ settings: { warm: 0 } });
  await node.start();
  const leases = await acquireAll(node, 27);
  const order: Lease[] = [];
  for (const i of [5, 20, 11]) {
    order.push(node.pool.release(leases[i]!.owner)!);
    await node.clock.advance(1_000);
  }
  const waiting = ['a', 'b', 'c'].map((name) => node.pool.acquire(podOwner(name)));
  const late = node.pool.acquire(podOwner('d'));
  const refused = await late.catch((error: unknown) => error as PodwayError);
  assert.ok(refused instanceof PodwayError);
  assert.equal(refused.code, 'ADDRESS_LIMIT');
  assert.match(refused.message, /and 24 are held, 3 cool for pods that wait already: /);
  assert.equal(refused.details.has, 27);
  assert.equal(node.pool.trouble()?.code, 'ADDRESS_LIMIT');
  const got: number[] = [];
  waiting.forEach(
    (one, i) =>
      void one.then(
        () => got.push(i),
        () => {},
      ),
  );
  await node.clock.advance(26_000);
  assert.deepEqual(got, []);
  await node.clock.advance(4_000);
  assert.deepEqual(got, [0, 1, 2]);
  const again = await Promise.all(waiting);
  assert.deepEqual(
    again.map((lease) => lease.ips),
    order.map((lease) => lease.ips),
  );
});

test('a pod that would wait longer than its bound for a cooling address is told COOLDOWN', async () => {
  await using node = new TestNode({ settings: { waitMs: 5_000 } });
  await node.start();
  const leases = await acquireAll(node, 27);
  node.pool.release(leases[3]!.owner);
  const waiting = codeOf(node.pool.acquire(podOwner('late')));
  await node.clock.advance(6_000);
  assert.equal(await waiting, 'COOLDOWN');
});

test('with cooldown 0 an address comes back as soon as its traces are gone', async () => {
  let cleaned = 0;
  await using node = new TestNode({ settings: { cooldownMs: 0, beforeReuse: () => void cleaned++ } });
  await node.start();
  const leases = await acquireAll(node, 27);
  node.pool.release(leases[0]!.owner);
  const next = node.pool.acquire(podOwner('next'));
  await settle();
  assert.deepEqual((await next).ips, leases[0]!.ips);
  assert.equal(cleaned, 1);
});

test('an address whose traces cannot be removed is not given again', async () => {
  let broken = true;
  await using node = new TestNode({
    settings: {
      beforeReuse: () => {
        if (broken) throw new Error('no conntrack');
      },
    },
  });
  await node.start();
  const leases = await acquireAll(node, 27);
  node.pool.release(leases[0]!.owner);
  await node.clock.advance(40_000);
  assert.equal(node.pool.counts().free, 0);
  broken = false;
  await node.clock.advance(2_000);
  assert.equal(node.pool.counts().free, 1);
});

test('a full subnet is that pods cause; freed, it reaches the first who waits within 2 s', async () => {
  await using node = new TestNode({ settings: { warm: 1, lastingWaitMs: 5_000 } });
  node.cloud.occupy('subnet-0a', 2);
  await node.start();
  await node.clock.advance(1_000);
  const [first, second] = await acquireAll(node, 2);
  assert.ok(first && second);
  const refused = node.pool.acquire(podOwner('third')).catch((e) => e as PodwayError);
  await node.clock.advance(8_000);
  const error = await refused;
  assert.ok(error instanceof PodwayError);
  assert.equal(error.code, 'SUBNET_EXHAUSTED');
  assert.equal(error.details.object, 'subnet-0a');
  const fourth = node.pool.acquire(podOwner('fourth'));
  await node.clock.advance(500);
  node.cloud.vacate('subnet-0a');
  let got = false;
  void fourth.then(
    () => {
      got = true;
    },
    () => {},
  );
  await node.clock.advance(2_000);
  assert.ok(got);
});

test('others ENIs take slots: ENI_LIMIT names them', async () => {
  await using node = new TestNode();
  node.cloud.addInstanceEni({ deviceIndex: 1, description: 'of a database' });
  node.cloud.addInstanceEni({ deviceIndex: 2 });
  await node.start();
  await acquireAll(node, 9);
  const error = await node.pool.acquire(podOwner('tenth')).catch((e) => e as PodwayError);
  assert.ok(error instanceof PodwayError);
  assert.equal(error.code, 'ENI_LIMIT');
  assert.match(error.message, /of a database/);
  assert.equal(node.cloud.enis.size, 3);
});

test('EC2 away: the journal serves; what it cannot serve waits and is told the cause', async () => {
  await using node = new TestNode({ settings: { waitMs: 12_000 } });
  await node.start();
  const [kept] = await acquireAll(node, 1);
  await node.clock.advance(1_000);
  node.cloud.before = (action) => {
    throw new CloudError(action, 'Network', 'connection refused');
  };
  await node.restart();
  assert.deepEqual(
    node.pool.held().map((lease) => lease.ips),
    [kept!.ips],
  );
  for (const i of [1, 2, 3, 4]) assert.equal((await node.pool.acquire(podOwner(`q${i}`))).ips.length, 1);
  const fifth = codeOf(node.pool.acquire(podOwner('q5')));
  await node.clock.advance(13_000);
  assert.equal(await fifth, 'CLOUD_UNREACHABLE');
  const sixth = node.pool.acquire(podOwner('q6'));
  node.cloud.before = () => {};
  let got = false;
  void sixth.then(
    () => {
      got = true;
    },
    () => {},
  );
  await node.clock.advance(10_000);
  assert.ok(got);
});

test('what the node’s network was told at a start is given out before the loop and EC2 have said anything', async () => {
  await using node = new TestNode();
  await node.start();
  await node.clock.advance(1_000);
  await node.stop();
  const pool = node.open();
  assert.equal(pool.tryAcquire(podOwner('early')), null);
  pool.noteTold(pool.enis());
  assert.equal(pool.tryAcquire(podOwner('told'))?.ips.length, 1);
  const [primary] = pool.enis();
  const unsure = { ...primary!, blocks: [] };
  node.abandon();
  const again = node.open();
  again.noteTold([unsure]);
  assert.equal(again.tryAcquire(podOwner('more')), null, 'an address that was not told is given to nobody');
});

test('a second ADD of a held attachment changes nothing; release is idempotent', async () => {
  await using node = new TestNode();
  await node.start();
  const [lease] = await acquireAll(node, 1);
  assert.throws(() => node.pool.tryAcquire(lease!.owner), { code: 'ATTACHMENT_EXISTS' });
  assert.equal(await codeOf(node.pool.acquire(lease!.owner)), 'ATTACHMENT_EXISTS');
  assert.ok(node.pool.release(lease!.owner));
  assert.equal(node.pool.release(lease!.owner), null);
});

test('an ENI is given out only after the node network has taken it, and named no more before it goes', async () => {
  await using node = new TestNode({ settings: { warm: 0 } });
  const told: string[][] = [];
  let block: Promise<void> | undefined;
  node.listener = async (enis) => {
    await block;
    told.push(enis.map((eni) => eni.id));
  };
  await node.start();
  await acquireAll(node, 9);
  let open = () => {};
  block = new Promise((resolve) => {
    open = resolve;
  });
  const tenth = node.pool.acquire(podOwner('tenth'));
  let got = false;
  void tenth.then(
    () => {
      got = true;
    },
    () => {},
  );
  await node.clock.advance(3_000);
  assert.equal(got, false);
  open();
  block = undefined;
  await node.clock.advance(1_000);
  const lease = await tenth;
  assert.ok(told.at(-1)!.includes(lease.eni.id));
});

test('a free address that EC2 takes away is given to nobody', async () => {
  await using node = new TestNode();
  await node.start();
  const [lease] = await acquireAll(node, 1);
  const free = node.pool.snapshot().enis[0]!.addresses.find((one) => one.state === 'free')!;
  const ip = [...node.cloud.enis.values()][0]!.addresses.find((one) => formatIp(one.ip) === free.ip)!.ip;
  node.cloud.takeAway(lease!.eni.id, ip);
  await node.pool.reconcileNow();
  const marked = node.pool.snapshot().enis[0]!.addresses.filter((one) => one.missing);
  assert.deepEqual(
    marked.map((one) => one.ip),
    [free.ip],
  );
  await node.clock.advance(70_000);
  assert.ok(!node.pool.snapshot().enis[0]!.addresses.some((one) => one.ip === free.ip));
  assert.equal(node.pool.counts().free, 4);
});

test('a quarantined address is given to nobody, over a restart too, until it is let go', async () => {
  await using node = new TestNode({ settings: { warm: 1 } });
  await node.start();
  await node.clock.advance(1_000);
  const [block] = node.pool.enis()[0]!.blocks;
  assert.ok(node.pool.quarantine(block!.ip, 'another sandbox answers'));
  await node.restart();
  const [lease] = await acquireAll(node, 1);
  assert.notEqual(lease!.ips[0], block!.ip);
  assert.equal(node.pool.quarantine(lease!.ips[0]!, 'no'), false);
  assert.deepEqual(node.pool.quarantined(), [block!.ip]);
  assert.ok(node.pool.endQuarantine(block!.ip));
  assert.equal(node.pool.endQuarantine(block!.ip), false);
  const use = node.pool.state.uses.get(block!.ip);
  assert.equal(use?.kind === 'cooling' && use.until - node.clock.now(), 30_000);
});

test('those who wait are served in order, and one that gives up leaves the line', async () => {
  await using node = new TestNode({ settings: { warm: 0 } });
  await node.start();
  const leases = await acquireAll(node, 27);
  for (const lease of leases.slice(0, 3)) node.pool.release(lease.owner);
  const order: string[] = [];
  const abort = new AbortController();
  const wait = (name: string, signal?: AbortSignal) =>
    node.pool.acquire(podOwner(name), signal).then(
      () => order.push(name),
      () => order.push(`${name} gave up`),
    );
  const all = [wait('a'), wait('b', abort.signal), wait('c')];
  await node.clock.advance(1_000);
  abort.abort(new Error('enough'));
  all.push(wait('d'));
  await node.clock.advance(31_000);
  await Promise.all(all);
  assert.deepEqual(order, ['b gave up', 'a', 'c', 'd']);
});

test('a journal that cannot be written fails the ADD and is tried again; nothing spins', async () => {
  await using node = new TestNode({ settings: { warm: 2 } });
  let broken = false;
  let tries = 0;
  node.onBoundary = () => {
    if (!broken) return;
    tries++;
    throw new Error('no space left on device');
  };
  await node.start();
  await node.clock.advance(1_000);
  broken = true;
  await assert.rejects(node.pool.acquire(podOwner('a')), /no space left/);
  await node.clock.advance(20_000);
  assert.ok(tries < 60, `${tries} tries`);
  broken = false;
  assert.ok(node.pool.tryAcquire(podOwner('a')));
});

test('an address that becomes free in the middle of a turn goes to the pod that waits, whose wait does not end for it', async () => {
  for (let call = 0; call < 40; call++) {
    await using node = new TestNode({ settings: { warm: 0, cooldownMs: 10_000 } });
    await node.start();
    const all = Array.from({ length: 27 }, (_, i) => node.pool.acquire(podOwner(`p${i}`)));
    await node.clock.advance(5_000);
    await Promise.all(all);
    node.pool.release(podOwner('p3'));
    await node.clock.advance(9_000);
    const late = node.pool.acquire(podOwner('late'));
    late.catch(() => {});
    await node.clock.advance(999);
    const now = node.clock.now.bind(node.clock);
    let calls = 0;
    node.clock.now = () => (calls++ < call ? now() : now() + 1);
    node.pool.kick();
    await node.clock.advance(2_000);
    await assert.doesNotReject(late, `the clock moved at its look ${call}`);
  }
});

test('at the limit a pod waits while a quarantine may end, and is refused at once when none may', async () => {
  await using node = new TestNode({ settings: { warm: 0 } });
  await node.start();
  const leases = await acquireAll(node, 27);
  node.pool.release(leases[0]!.owner);
  const [ip] = leases[0]!.ips;
  await node.clock.advance(31_000);
  assert.ok(node.pool.quarantine(ip!, 'the API says that a pod has it'));
  const waits = node.pool.acquire(podOwner('waits'));
  const beyond = node.pool.acquire(podOwner('beyond'));
  await assert.rejects(Promise.all([beyond, node.clock.advance(1_000)]), { code: 'ADDRESS_LIMIT' });
  assert.ok(node.pool.endQuarantine(ip!));
  await node.clock.advance(31_000);
  assert.deepEqual((await waits).ips, [ip]);
});

test('a pool that is to end before it has started ends, and asks EC2 for nothing', {
  timeout: 60_000,
}, async () => {
  await using node = new TestNode();
  node.open();
  await node.pool.start(AbortSignal.abort(new Error('another agent takes over')));
  await node.pool.stopped();
  assert.deepEqual(node.cloud.calls, []);
});
