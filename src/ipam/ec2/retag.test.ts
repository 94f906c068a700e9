import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CloudError, type EniDescription } from '../../cloud/port.ts';
import { podOwner, TestNode } from '../testkit.ts';
import { TAG_CLUSTER, TAG_INSTANCE } from './tags.ts';

const MINUTE = 60_000;

/** A node with a second ENI, and that ENI. */
async function withEni(): Promise<[TestNode, EniDescription]> {
  const node = new TestNode({ settings: { warm: 0 } });
  node.tags = { [TAG_CLUSTER]: 'blue', team: 'web' };
  await node.start();
  const pods = Array.from({ length: 12 }, (_, i) => node.pool.acquire(podOwner(`p${i}`)));
  await node.clock.advance(2 * MINUTE);
  await Promise.all(pods);
  const eni = [...node.cloud.enis.values()].find((one) => one.attachment?.deviceIndex === 1)!;
  return [node, eni];
}
const tries = (node: TestNode) => node.cloud.calls.filter((call) => call === 'CreateTags').length;

test('tags that somebody removed from an ENI of the pool come back, and the operator’s stay as they are', async () => {
  const [node, eni] = await withEni();
  await using _ = node;
  const before = { ...eni.tags };
  assert.equal(tries(node), 0);
  eni.tags = { [TAG_CLUSTER]: 'green' };
  await node.pool.reconcileNow();
  const { team: _team, ...ours } = before;
  assert.deepEqual(Object.keys(eni.tags).sort(), Object.keys(ours).sort());
  assert.equal(eni.tags[TAG_INSTANCE], before[TAG_INSTANCE]);
  assert.equal(eni.tags[TAG_CLUSTER], 'green', 'what is there is somebody’s decision');
  await node.pool.reconcileNow();
  assert.equal(tries(node), 1);
  assert.equal(node.pool.held().length, 12);
});

test('a role that may not tag is asked once an hour, and nothing else fails', async () => {
  const [node, eni] = await withEni();
  await using _ = node;
  eni.tags = {};
  node.cloud.before = (action) => {
    if (action === 'CreateTags') throw new CloudError(action, 'UnauthorizedOperation', 'denied');
  };
  await node.clock.advance(30 * MINUTE);
  assert.equal(tries(node), 1);
  await node.clock.advance(60 * MINUTE);
  assert.equal(tries(node), 2);
  assert.equal(node.pool.isReachable, true);
  assert.equal(node.pool.held().length, 12);
});

test('an ENI that its operator keeps away gets no tags', async () => {
  const [node, eni] = await withEni();
  await using _ = node;
  eni.tags = { 'node.k8s.amazonaws.com/no_manage': 'true' };
  await node.pool.reconcileNow();
  assert.equal(tries(node), 0);
});
