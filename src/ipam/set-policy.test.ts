import assert from 'node:assert/strict';
import { test } from 'node:test';
import { PodwayError } from '../base/errors.ts';
import { podOwner, TestNode } from './testkit.ts';

test('a policy that is set takes effect at once, and what is held stays', async () => {
  await using node = new TestNode();
  await node.start();
  const lease = await node.pool.acquire(podOwner('p'));
  node.pool.setPolicy({ ...node.pool.policy, targets: { kind: 'warm', free: 7 } });
  await node.clock.advance(5_000);
  assert.equal(node.pool.counts().free, 7);
  node.pool.setPolicy({ ...node.pool.policy, targets: { kind: 'warm', free: 1 }, idleReleaseMs: 0 });
  await node.clock.advance(5_000);
  assert.deepEqual([node.pool.counts().free, node.pool.counts().held], [1, 1]);
  assert.deepEqual(node.pool.held(), [lease]);
  assert.deepEqual(node.pool.snapshot().warm, { target: 1, cooldownSeconds: 30 });
});

test('a shorter cooldown ends what cools longer, a longer one holds for later releases', async () => {
  await using node = new TestNode();
  await node.start();
  const [first, second] = [await node.pool.acquire(podOwner('a')), await node.pool.acquire(podOwner('b'))];
  node.pool.release(first.owner);
  node.pool.setPolicy(node.pool.policy, 5_000);
  await node.clock.advance(5_000);
  assert.equal(node.pool.counts().cooling, 0);
  node.pool.setPolicy(node.pool.policy, 90_000);
  node.pool.release(second.owner);
  await node.clock.advance(60_000);
  assert.equal(node.pool.counts().cooling, 1);
});

test('a policy without new ENIs fills those that are attached, then names its cause', async () => {
  await using node = new TestNode();
  await node.start();
  const message = 'the ENIConfig us-west-2a does not exist';
  const noNewEni = { cause: 'ENI_CONFIG_INVALID', message, object: 'us-west-2a' } as const;
  node.pool.setPolicy({ ...node.pool.policy, noNewEni });
  const all = Array.from({ length: 9 }, (_, i) => node.pool.acquire(podOwner(`p${i}`)));
  await node.clock.advance(5_000);
  assert.equal(new Set((await Promise.all(all)).flatMap((lease) => lease.ips)).size, 9);
  const refused = node.pool.acquire(podOwner('p9')).catch((error: unknown) => error);
  await node.clock.advance(60_000);
  const error = await refused;
  assert.ok(error instanceof PodwayError);
  assert.deepEqual(
    [error.code, error.message, error.details.object],
    ['ENI_CONFIG_INVALID', message, 'us-west-2a'],
  );
  assert.equal(node.cloud.enis.size, 1);
  node.pool.setPolicy({ ...node.pool.policy, noNewEni: null });
  await node.clock.advance(5_000);
  assert.equal(node.cloud.enis.size, 2);
});
