import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Ipv4 } from '../../base/ip.ts';
import type { Datapath } from '../../datapath/datapath.ts';
import { podOwner, TestNode } from '../../ipam/testkit.ts';
import { parseAgentConfig } from '../config.ts';
import { journalAndCloud } from './cloud.ts';

const look = (node: TestNode) =>
  journalAndCloud({
    pool: node.pool,
    cloud: node.cloud,
    config: parseAgentConfig({ nodeName: 'n', runDir: node.dir }),
    datapath: {} as Datapath,
  });

test('check and show say one thing about one address', async () => {
  await using node = new TestNode();
  await node.start();
  const lease = await node.pool.acquire(podOwner('a'));
  await node.clock.advance(1_000);
  assert.deepEqual(await look(node), []);
  const other = node.cloud.giveToAnother(lease.eni.id, lease.ips[0] as Ipv4);
  const [before] = await look(node);
  assert.deepEqual(
    [before!.object, before!.journal, before!.cloud],
    ['10.0.0.5', `held by container-of-a on ${lease.eni.id}`, 'not assigned'],
  );
  await node.pool.reconcileNow();
  await node.clock.advance(1_000);
  const after = await look(node);
  assert.equal(after.length, 1, 'one line for one address');
  const shown = node.pool.snapshot().enis[0]!.addresses.find((one) => one.containerId)!;
  assert.equal(shown.state, 'quarantined');
  assert.equal(
    after[0]!.journal,
    `quarantined by container-of-a on ${lease.eni.id}: EC2 has given it to ${other}`,
  );
  // Somebody else's is no difference once it is known as such.
  node.cloud.putOn(lease.eni.id);
  assert.equal((await look(node)).length, 2);
  await node.pool.reconcileNow();
  assert.equal((await look(node)).length, 1);
});
