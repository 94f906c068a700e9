import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CloudError } from '../../cloud/port.ts';
import { podOwner, TestNode } from '../testkit.ts';

async function fill(node: TestNode, count: number): Promise<number> {
  const all = Array.from({ length: count }, (_, i) => node.pool.acquire(podOwner(`p${i}`)).catch(() => null));
  await node.clock.advance(120_000);
  return (await Promise.all(all)).filter((lease) => lease !== null).length;
}

test('what EC2 says of the type beats the table', async () => {
  await using node = new TestNode({ cloud: { enis: 2, ipv4PerEni: 6 } });
  await node.start();
  await node.clock.advance(40_000);
  assert.ok(node.logged.includes('EC2 describes the type otherwise than the table'));
  const { limits } = node.pool.snapshot();
  assert.deepEqual([limits.enis, limits.ipv4PerEni], [2, 6]);
  assert.equal(await fill(node, 12), 10);
  assert.equal(node.cloud.calls.filter((call) => call === 'DescribeInstanceTypes').length, 1);
});

test('without the description, refusals lower the limits', async () => {
  const denied = (action: string) => {
    if (action === 'DescribeInstanceTypes') throw new CloudError(action, 'UnauthorizedOperation', 'denied');
  };
  await using node = new TestNode({
    cloud: { enis: 2, ipv4PerEni: 6, before: denied },
    settings: { warm: 0, waitMs: 100_000 },
  });
  await node.start();
  assert.equal(await fill(node, 10), 10);
  const { limits } = node.pool.snapshot();
  assert.deepEqual([limits.enis, limits.ipv4PerEni], [3, 6]);
  const eleventh = node.pool.acquire(podOwner('late')).catch((error: unknown) => error);
  await node.clock.advance(120_000);
  assert.match(String(await eleventh), /takes 10 pod addresses/);
  assert.equal(node.pool.snapshot().limits.enis, 2);
  assert.equal(node.cloud.enis.size, 2, 'what could not be attached is deleted');
});

test('limits that EC2 confirms are not told', async () => {
  await using node = new TestNode();
  await node.start();
  await node.clock.advance(40_000);
  assert.equal(
    node.logged.some((text) => /describes the type|refuses/.test(text)),
    false,
  );
});
