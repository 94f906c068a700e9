// A busy account: what EC2 throttles waits by itself, and a node that starts asks EC2 no more than it must.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CloudError } from '../cloud/port.ts';
import { metadataOf, podOwner, settle, TestNode } from './testkit.ts';

const throttle = (action: string) => {
  throw new CloudError(action, 'RequestLimitExceeded', 'Request limit exceeded.', true);
};
const count = (node: TestNode, action: string) => node.cloud.calls.filter((one) => one === action).length;
const pods = (node: TestNode, many: number) =>
  Promise.all(Array.from({ length: many }, (_, i) => node.pool.acquire(podOwner(`p${i}`))));

test('a throttled attach is tried again without a describe before it, and waits alone', async () => {
  await using node = new TestNode({ settings: { warm: 0, waitMs: 60_000 } });
  await node.start();
  let refusals = 3;
  node.cloud.before = (action) => {
    if (action === 'AttachNetworkInterface' && refusals-- > 0) throttle(action);
  };
  const describes = count(node, 'DescribeNetworkInterfaces');
  const all = pods(node, 10);
  await node.clock.advance(100);
  assert.equal(node.pool.counts().held, 9, 'the primary ENI serves meanwhile');
  await node.clock.advance(30_000);
  await all;
  assert.equal(count(node, 'AttachNetworkInterface'), 4);
  assert.equal(count(node, 'CreateNetworkInterface'), 1);
  assert.equal(count(node, 'DescribeNetworkInterfaces') - describes, 1);
});

test('an attach whose success EC2 did not tell before it throttled is found', async () => {
  await using node = new TestNode({ settings: { warm: 0, waitMs: 60_000 } });
  await node.start();
  let refusals = 2;
  node.cloud.before = (action) => {
    if (action === 'ModifyNetworkInterfaceAttribute' && refusals-- > 0) throttle(action);
  };
  const all = pods(node, 10);
  await node.clock.advance(30_000);
  assert.equal(new Set((await all).flatMap((lease) => lease.ips)).size, 10);
  assert.equal(count(node, 'CreateNetworkInterface'), 1);
  assert.equal(node.cloud.enis.size, 2);
});

test('throttled describes leave other actions alone, and an attach only waits longer', async () => {
  await using node = new TestNode({ settings: { warm: 0, waitMs: 60_000 } });
  await node.start();
  let refusals = 3;
  node.cloud.before = (action) => {
    if (action === 'DescribeNetworkInterfaces' && refusals-- > 0) throttle(action);
  };
  void node.pool.reconcileNow();
  await settle();
  const all = pods(node, 10);
  await node.clock.advance(20_000);
  assert.equal((await all).length, 10);
  assert.equal(count(node, 'CreateNetworkInterface'), 1);
  assert.equal(count(node, 'AttachNetworkInterface'), 1);
  assert.equal(count(node, 'ModifyNetworkInterfaceAttribute'), 1);
});

/** Describes that one attach takes which EC2 ends after `takes` ms, as the metadata service tells it or not. */
async function describesOf(takes: number, hints: boolean): Promise<number> {
  await using node = new TestNode({ settings: { warm: 0, waitMs: 60_000 } });
  let attachedAt = Number.POSITIVE_INFINITY;
  const isAttached = () => node.clock.now() >= attachedAt;
  const real = metadataOf(node.cloud);
  node.metadata = {
    get: async (path) => (isAttached() && hints ? real.get(path) : ''),
  };
  await node.start();
  const setStatus = (status: 'attaching' | 'attached') => {
    for (const { attachment } of node.cloud.enis.values())
      if (attachment && attachment.deviceIndex > 0) attachment.status = status;
  };
  node.cloud.after = (action) => {
    if (action !== 'AttachNetworkInterface') return;
    attachedAt = node.clock.now() + takes;
    setStatus('attaching');
  };
  node.cloud.before = () => {
    if (isAttached()) setStatus('attached');
  };
  const before = count(node, 'DescribeNetworkInterfaces');
  const all = pods(node, 10);
  await node.clock.advance(takes + 20_000);
  assert.equal((await all).length, 10);
  return count(node, 'DescribeNetworkInterfaces') - before;
}

test('an attach is described when the metadata service has told of it, else now and then', async () => {
  assert.ok((await describesOf(3_000, true)) <= 2);
  assert.ok((await describesOf(3_000, false)) <= 3, 'a few anyway');
  assert.ok((await describesOf(10_000, false)) <= 5);
});
