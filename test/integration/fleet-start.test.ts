// Fifty nodes that start together and want all their pods at once, under the request limits that AWS publishes for one
// account: every pod gets an address of its own, no call is made in vain but those that EC2 throttled, nobody is starved.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Fleet } from '../support/fleet.ts';

const NODES = 50;
/** An m5.large's secondary addresses, on three ENIs. */
const PODS_EACH = 27;
/** Calls of one node that EC2 answered: two describes of all, one of the subnet, a describe each for two ENIs, twelve changes. */
const CALLS_EACH = 24;
/** Four times what EC2 lets through at once, of AttachNetworkInterface. */
const AT_ONCE = 200;
const ADMIN = { kind: 'admin', arn: 'arn:aws:iam::1:user/admin', userId: 'admin' } as const;

test('fifty nodes start at once under the limits of one account', { timeout: 180_000 }, async () => {
  await using fleet = await Fleet.make({
    nodes: NODES,
    instanceType: 'm5.large',
    speed: 4,
    vpc: { ec2Latency: 'realistic', ec2Throttle: 'aws' },
  });
  const addresses = await Promise.all(
    fleet.nodes.map(async (node, n) => {
      await node.start();
      return Promise.all(Array.from({ length: PODS_EACH }, (_, i) => node.addPod(`n${n}-p${i}`)));
    }),
  );
  assert.equal(new Set(addresses.flat()).size, NODES * PODS_EACH, 'every pod has an address of its own');
  const { ec2, pools, loose } = fleet.books();
  assert.deepEqual(pools, ec2);
  assert.deepEqual(loose, []);

  const { calls, totals } = fleet.vpc.faults.report();
  // What a node needs: two ENIs made and attached, its three filled, each once.
  for (const action of [
    'CreateNetworkInterface',
    'AttachNetworkInterface',
    'ModifyNetworkInterfaceAttribute',
  ])
    assert.equal(totals[action]!['ok'], 2 * NODES, action);
  assert.ok(totals['AssignPrivateIpAddresses']!['ok']! <= 4 * NODES, JSON.stringify(totals));
  const others = calls.filter(({ result }) => result !== 'ok' && result !== 'RequestLimitExceeded');
  assert.deepEqual(others, [], 'nothing else fails');
  for (const node of fleet.nodes) {
    const mine = calls.filter(({ caller }) => caller === node.pool.identity.instanceId);
    const answered = mine.filter(({ result }) => result === 'ok').length;
    assert.ok(answered <= CALLS_EACH, `${answered} calls of ${mine.length} were answered`);
  }
  // On a busy machine the starts are spread over so long that EC2 throttles none: more at once than a bucket ever holds.
  fleet.vpc.settings.ec2Latency = 'none';
  const asked = Array.from({ length: AT_ONCE }, () =>
    fleet.vpc.actByName('AttachNetworkInterface', {}, ADMIN).catch((error) => error.code),
  );
  assert.ok((await Promise.all(asked)).includes('RequestLimitExceeded'), 'the buckets are at work');
});
