import assert from 'node:assert/strict';
import { test } from 'node:test';
import { formatIp } from '../../base/ip.ts';
import { CloudError } from '../../cloud/port.ts';
import { podOwner, settle, TestNode } from '../testkit.ts';
import type { Away } from './reach.ts';

const MINUTE = 60_000;
const refused = (action: string): never => {
  throw new CloudError(action, 'Network', 'connect ECONNREFUSED');
};
const silent = () => new Promise<never>(() => {});

/** A node whose address pool is full and at rest. */
async function rested(waitMs = 30_000): Promise<TestNode> {
  const node = new TestNode({ settings: { waitMs } });
  await node.start();
  await node.clock.advance(2 * MINUTE);
  return node;
}
/** Begins and results of calls, by the clock. */
function timed(node: TestNode, end: (action: string) => unknown): { at: number; action: string }[] {
  const calls: { at: number; action: string }[] = [];
  node.cloud.before = (action) => {
    calls.push({ at: node.clock.now(), action });
    return end(action);
  };
  return calls;
}
const lastTold = (node: TestNode): Away | null | undefined => node.reached.at(-1);
const outcome = (wait: Promise<{ ips: readonly unknown[] }>) => {
  const seen: { got?: unknown; code?: string } = {};
  wait.then(
    (lease) => Object.assign(seen, { got: lease.ips[0] }),
    (error: CloudError) => Object.assign(seen, { code: error.code }),
  );
  return seen;
};

test('an hour without EC2: pods start while addresses last, one probe every 8 to 10 s, served again within 10 s', async () => {
  for (const [name, end] of [
    ['refused', refused],
    ['silent', silent],
    ['5xx', (action: string) => Promise.reject(new CloudError(action, 'InternalError', 'down', true))],
  ] as const) {
    await using node = await rested(60 * MINUTE);
    assert.deepEqual(node.reached, [null], name);
    const calls = timed(node, end);
    for (const i of [1, 2, 3, 4])
      assert.equal((await node.pool.acquire(podOwner(`p${i}`))).ips.length, 1, name);
    const fifth = outcome(node.pool.acquire(podOwner('p5')));
    // A call without an answer ends by its own bound, which the fake lacks.
    if (name === 'silent') {
      await node.clock.advance(10_000);
      timed(node, refused);
      await node.restart();
      timed(node, silent);
    }
    await node.clock.advance(MINUTE);
    const away = lastTold(node)!;
    assert.equal(away.reason, name === '5xx' ? 'ServerError' : 'NoConnection');
    const told = node.reached.length;
    calls.length = 0;
    const probes = name === 'silent' ? timed(node, silent) : calls;
    await node.clock.advance(58 * MINUTE);
    assert.deepEqual([...new Set(probes.map((call) => call.action))], ['DescribeNetworkInterfaces'], name);
    const gaps = probes.slice(1).map((call, i) => call.at - probes[i]!.at);
    assert.ok(Math.min(...gaps) >= 8_000 && Math.max(...gaps) <= 9_000, `${name}: ${gaps}`);
    assert.equal(node.reached.length, told, `${name}: told once`);
    assert.equal(node.pool.snapshot().cloud.away?.since, away.since);
    node.cloud.before = () => {};
    await node.clock.advance(10_000);
    assert.equal(node.reached.at(-1), null, name);
    if (name !== 'silent') assert.ok(fifth.got, `${name}: ${fifth.code}`);
  }
});

test('a pod that needs a new ENI is served within 10 s of the return', async () => {
  await using node = await rested();
  for (let i = 0; i < 9; i++) await node.pool.acquire(podOwner(`p${i}`)).catch(() => {});
  await node.clock.advance(1_000);
  // Whatever was begun ends in the middle.
  node.cloud.before = (action) => (action === 'AttachNetworkInterface' ? refused(action) : undefined);
  const more = Array.from({ length: 9 }, (_, i) => outcome(node.pool.acquire(podOwner(`q${i}`))));
  await node.clock.advance(200);
  node.cloud.before = refused;
  await node.clock.advance(20_000);
  assert.ok(node.reached.at(-1));
  node.cloud.before = () => {};
  await node.clock.advance(10_000);
  assert.deepEqual(
    more.map((one) => one.code),
    more.map(() => undefined),
  );
  assert.equal(more.filter((one) => one.got).length, 9);
});

test('throttling and refusals are answers', async () => {
  await using node = await rested();
  for (const code of ['RequestLimitExceeded', 'UnauthorizedOperation', 'InvalidParameterValue']) {
    node.cloud.before = (action) => {
      throw new CloudError(action, code, 'no');
    };
    await node.pool.reconcileNow();
    await node.clock.advance(2 * MINUTE);
  }
  assert.deepEqual(node.reached, [null]);
});

test('one action that fails by 5xx is not EC2 away: the probe says so, and the pause grows', async () => {
  await using node = await rested();
  const calls = timed(node, (action) => {
    if (action === 'AssignPrivateIpAddresses') throw new CloudError(action, 'InternalError', 'down', true);
  });
  await node.pool.acquire(podOwner('a'));
  await node.clock.advance(2 * MINUTE);
  assert.deepEqual(node.reached, [null]);
  const tries = calls.filter((call) => call.action === 'AssignPrivateIpAddresses').length;
  assert.ok(tries >= 2 && tries <= 20, `${tries} tries`);
});

test('a call that began before EC2 answered another says nothing by its failure', async () => {
  await using node = await rested();
  let fail: (error: Error) => void = () => {};
  node.cloud.before = (action) =>
    action === 'AssignPrivateIpAddresses'
      ? new Promise((_, reject) => {
          fail = reject;
        })
      : undefined;
  await node.pool.acquire(podOwner('a'));
  await node.clock.advance(1_000);
  await node.pool.reconcileNow();
  node.cloud.calls.length = 0;
  fail(new CloudError('AssignPrivateIpAddresses', 'Timeout', 'late', true));
  await settle();
  await node.clock.advance(400);
  assert.deepEqual(node.reached, [null]);
});

test('started without EC2 a node serves from its journal, says that EC2 is away, and looks at its return', async () => {
  await using node = await rested();
  const lease = await node.pool.acquire(podOwner('a'));
  node.cloud.before = refused;
  node.reached.length = 0;
  await node.restart();
  await node.clock.advance(2_000);
  assert.equal(node.reached.at(-1)?.reason, 'NoConnection');
  assert.equal((await node.pool.acquire(podOwner('b'))).ips.length, 1);
  // Somebody changes the node meanwhile.
  node.cloud.takeAway(lease.eni.id, lease.ips[0] as never, true);
  node.cloud.before = () => {};
  await node.clock.advance(10_500);
  assert.equal(node.reached.at(-1), null);
  const shown = node.pool.snapshot().enis.flatMap((eni) => eni.addresses);
  assert.equal(shown.find((one) => one.ip === formatIp(lease.ips[0]!))?.state, 'held');
  const [primary] = [...node.cloud.enis.values()];
  assert.ok(
    primary!.addresses.some((one) => one.ip === lease.ips[0]),
    'had back',
  );
});
