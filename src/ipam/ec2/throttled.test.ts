// An account that throttles: EC2 takes one change in some seconds. Pods that wait come before the warm pool and clean-up,
// refused calls back off, and in the end all is done.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CloudError } from '../../cloud/port.ts';
import { podOwner, TestNode } from '../testkit.ts';

const MINUTE = 60_000;

type Call = { at: number; action: string; ok: boolean };

/** EC2 takes `burst` changes at once and then one in `everyMs`; describes are free. */
function throttle(node: TestNode, burst: number, everyMs: number): Call[] {
  const calls: Call[] = [];
  let tokens = burst;
  let filled = node.clock.now();
  node.cloud.before = (action) => {
    if (action.startsWith('Describe')) return;
    const at = node.clock.now();
    tokens = Math.min(burst, tokens + (at - filled) / everyMs);
    filled = at;
    const ok = tokens >= 1;
    calls.push({ at, action, ok });
    if (!ok) throw new CloudError(action, 'RequestLimitExceeded', 'Request limit exceeded.');
    tokens -= 1;
  };
  return calls;
}
const took = (calls: readonly Call[]) => calls.filter((call) => call.ok).map((call) => call.action);

test('a pod that comes while the pool cleans up under throttling is served before the cleaning goes on', async () => {
  await using node = new TestNode({
    settings: { warm: 0, cooldownMs: 1_000, idleReleaseMs: 5_000, waitMs: MINUTE },
  });
  await node.start();
  const pods = Array.from({ length: 20 }, (_, i) => node.pool.acquire(podOwner(`p${i}`)));
  await node.clock.advance(10_000);
  const leases = await Promise.all(pods);
  // Idle addresses on all ENIs: two can leave.
  for (const lease of leases.slice(2)) node.pool.release(lease.owner);
  const calls = throttle(node, 1, 4_000);
  for (let i = 0; i < 60 && took(calls).length === 0; i++) await node.clock.advance(1_000);
  assert.ok(took(calls).length > 0, 'it has begun to clean up');
  const begun = calls.length;
  const wanted = Array.from({ length: 12 }, (_, i) => node.pool.acquire(podOwner(`q${i}`)));
  await node.clock.advance(MINUTE);
  assert.equal((await Promise.all(wanted)).length, 12);
  const firstClean = calls.slice(begun).find((call) => call.ok && /Detach|Delete|Unassign/.test(call.action));
  const lastServed = calls
    .slice(begun)
    .findLast((call) => call.ok && /Assign|Create|Attach/.test(call.action));
  if (firstClean && lastServed) assert.ok(lastServed.at <= firstClean.at, 'clean-up came before a pod');
});

test('throttled for ten minutes, a node backs off: few calls, and the first pods in line are served first', async () => {
  await using node = new TestNode({ settings: { warm: 4, cooldownMs: 1_000, waitMs: 20 * MINUTE } });
  await node.start();
  await node.clock.advance(MINUTE);
  const calls = throttle(node, 0.5, MINUTE);
  const order: number[] = [];
  for (let i = 0; i < 8; i++)
    node.pool.acquire(podOwner(`p${i}`)).then(
      () => order.push(i),
      () => {},
    );
  await node.clock.advance(10 * MINUTE);
  const refused = calls.filter((call) => !call.ok);
  assert.ok(refused.length >= 3 && refused.length <= 200, `${refused.length} refused calls in ten minutes`);
  assert.deepEqual(order.slice(0, 4), [0, 1, 2, 3], 'free addresses need no call');
  node.cloud.before = () => {};
  await node.clock.advance(MINUTE);
  assert.deepEqual(order, [0, 1, 2, 3, 4, 5, 6, 7]);
  assert.deepEqual(node.reached, [null], 'throttling is not absence');
});

test('ENIs come one after the other, and after a throttled one both its next try and the next ENI rest', async () => {
  await using node = new TestNode({ settings: { warm: 0, waitMs: 5 * MINUTE } });
  await node.start();
  await node.clock.advance(MINUTE);
  const calls: Call[] = [];
  let refusals = 1;
  node.cloud.before = (action) => {
    if (!/Create|Attach/.test(action)) return;
    const ok = action !== 'AttachNetworkInterface' || refusals-- <= 0;
    calls.push({ at: node.clock.now(), action, ok });
    if (!ok) throw new CloudError(action, 'RequestLimitExceeded', 'Request limit exceeded.');
  };
  const pods = Array.from({ length: 20 }, (_, i) => node.pool.acquire(podOwner(`p${i}`)));
  await node.clock.advance(2 * MINUTE);
  assert.equal((await Promise.all(pods)).length, 20);
  assert.deepEqual(
    calls.map(({ action, ok }) => `${action} ${ok}`),
    [
      'CreateNetworkInterface true',
      'AttachNetworkInterface false',
      'AttachNetworkInterface true',
      'CreateNetworkInterface true',
      'AttachNetworkInterface true',
    ],
  );
  assert.ok(calls[2]!.at - calls[1]!.at >= 3_000);
  assert.ok(calls[3]!.at - calls[2]!.at >= 3_000);
});
