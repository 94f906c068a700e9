// Which leases take a branch that the API tells, and that the next agent finds it in the journal.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseIp } from '../base/ip.ts';
import type { Mac } from '../base/mac.ts';
import { podOwner, TestNode } from '../ipam/testkit.ts';
import { takeBranch } from './told-branches.ts';

const ip = parseIp('10.0.9.33');
const ref = {
  id: 'eni-7',
  mac: '02:00:00:00:00:07' as Mac,
  vlan: 7,
  subnetCidr: '10.0.9.0/24',
  associationId: 'a-7',
};

test('a branch that was made anew under the pod’s addresses is taken, with the pod’s mode; nothing else is', async () => {
  await using node = new TestNode();
  await node.start();
  const { pool } = node;
  pool.holdBranch(podOwner('a'), { ...ref, mode: 'standard' }, [ip]);
  const plain = await pool.acquire(podOwner('b'));
  const now = () => pool.find(podOwner('a'))!.branch!;
  assert.equal(takeBranch(pool, 'default/a', { ref, ips: [ip] }), false, 'as it is');
  const anew = { ...ref, id: 'eni-8', mac: '02:00:00:00:00:08' as Mac, associationId: 'a-8' };
  assert.equal(takeBranch(pool, 'default/x', { ref: anew, ips: [ip] }), false, 'another pod');
  assert.equal(takeBranch(pool, 'default/b', { ref: anew, ips: [...plain.ips] }), false, 'a pod of the pool');
  const other = parseIp('10.0.9.34');
  assert.equal(takeBranch(pool, 'default/a', { ref: anew, ips: [other] }), false, 'another address');
  assert.equal(takeBranch(pool, 'default/a', { ref: { ...anew, mode: 'strict' }, ips: [ip] }), true);
  assert.deepEqual(now(), { ...anew, mode: 'standard' });
  assert.equal(takeBranch(pool, 'default/a', { ref: anew, ips: [ip] }), false, 'once');
  node.stand();
  await node.restart();
  assert.equal(node.pool.find(podOwner('a'))?.branch?.id, 'eni-8');
});
