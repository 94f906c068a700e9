import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CloudError } from '../cloud/port.ts';
import { silentLog } from '../ipam/core.ts';
import { podOwner, TestNode } from '../ipam/testkit.ts';
import { EniGroups } from './eni-groups.ts';

const { signal } = new AbortController();
const groupsOf = (node: TestNode): string[] =>
  [...node.cloud.enis.values()].map(({ groupIds }) => groupIds.join());

async function nodeWithTwoEnis(): Promise<TestNode> {
  const node = new TestNode();
  await node.start();
  const pods = Array.from({ length: 10 }, (_, i) => node.pool.acquire(podOwner(`p${i}`)));
  await node.clock.advance(5_000);
  await Promise.all(pods);
  assert.equal(node.cloud.enis.size, 2);
  return node;
}

test('secondary ENIs get the groups, in one call each; the primary one keeps its own', async () => {
  await using node = await nodeWithTwoEnis();
  const groups = new EniGroups(node.pool, silentLog, node.clock);
  const before = node.cloud.calls.length;
  await groups.change(['sg-1', 'sg-2'], signal);
  await groups.change(['sg-2', 'sg-1'], signal);
  assert.deepEqual(groupsOf(node), ['sg-0nodes', 'sg-1,sg-2']);
  assert.equal(node.cloud.calls.length, before + 1);
});

test('an ENI that EC2 refuses to change is left alone for a minute', async () => {
  await using node = await nodeWithTwoEnis();
  let tries = 0;
  const refusing = {
    state: node.pool.state,
    cloud: {
      ...node.pool.cloud,
      setSecurityGroups: async () => {
        tries++;
        throw new CloudError('ModifyNetworkInterfaceAttribute', 'InvalidGroup.NotFound', 'no such group');
      },
    },
  };
  const groups = new EniGroups(refusing, silentLog, node.clock);
  await groups.change(['sg-9'], signal);
  await groups.change(['sg-9'], signal);
  assert.equal(tries, 1);
  await node.clock.advance(61_000);
  await groups.change(['sg-9'], signal);
  assert.equal(tries, 2);
});
