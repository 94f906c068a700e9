import assert from 'node:assert/strict';
import { test } from 'node:test';
import { formatIp, type Ipv4 } from '../../base/ip.ts';
import { CloudError } from '../../cloud/port.ts';
import type { GivenLease } from '../state.ts';
import { metadataOf, podOwner, TestNode } from '../testkit.ts';

const MINUTE = 60_000;

/** A node whose pods have 12 addresses, on two ENIs; its last change is long past. */
async function busyNode(): Promise<{ node: TestNode; leases: GivenLease[] } & AsyncDisposable> {
  const node = new TestNode({ settings: { warm: 2 } });
  node.metadata = metadataOf(node.cloud);
  await node.start();
  const waiting = Array.from({ length: 12 }, (_, i) => node.pool.acquire(podOwner(`p${i}`)));
  await node.clock.advance(10_000);
  const leases = await Promise.all(waiting);
  await node.clock.advance(5 * MINUTE);
  return { node, leases, [Symbol.asyncDispose]: () => node[Symbol.asyncDispose]() };
}

const onSecond = (leases: GivenLease[]): GivenLease => leases.find((lease) => lease.eni.deviceIndex === 1)!;
const hasAll = (node: TestNode, leases: GivenLease[]): boolean =>
  leases.every((lease) =>
    node.cloud.enis.get(lease.eni.id)?.addresses.some((one) => one.ip === lease.ips[0]),
  );
const viewOf = (node: TestNode, lease: GivenLease) => {
  const { enis, astray } = node.pool.snapshot();
  return [...enis.flatMap((eni) => eni.addresses), ...astray].filter(
    (one) => one.ip === formatIp(lease.ips[0]!),
  );
};
const told = (node: TestNode): string[] =>
  node.news.map((one) => `${one.kind} ${one.lease.owner.pod?.name} ${one.text}`);

test('held addresses that somebody unassigned are assigned again, with a hint within 35 s', async () => {
  await using busy = await busyNode();
  const { node, leases } = busy;
  for (const lease of [leases[0]!, leases[1]!, onSecond(leases)])
    node.cloud.takeAway(lease.eni.id, lease.ips[0] as Ipv4, true);
  assert.equal(hasAll(node, leases), false);
  await node.clock.advance(36_000);
  assert.equal(hasAll(node, leases), true);
  assert.equal(node.pool.counts().held, 12);
  assert.deepEqual(told(node), []);
  assert.ok(viewOf(node, leases[0]!).every((one) => one.state === 'held' && !one.missing));
});

test('an address that another interface has by now is quarantined and told once; the others come back', async () => {
  await using busy = await busyNode();
  const { node, leases } = busy;
  const [gone, back] = [leases[0]!, leases[1]!];
  const other = node.cloud.giveToAnother(gone.eni.id, gone.ips[0] as Ipv4);
  node.cloud.takeAway(back.eni.id, back.ips[0] as Ipv4, true);
  await node.clock.advance(4 * MINUTE);
  assert.deepEqual(told(node), [`taken p0 EC2 has given it to ${other}`]);
  assert.equal(hasAll(node, [back]), true);
  const view = viewOf(node, gone);
  assert.equal(view.length, 1);
  assert.equal(view[0]!.state, 'quarantined');
  assert.equal(view[0]!.reason, `EC2 has given it to ${other}`);
  assert.equal(view[0]!.pod, 'default/p0');
  assert.deepEqual([node.pool.counts().held, node.pool.counts().quarantined], [11, 1]);
  assert.ok(node.pool.find(gone.owner), 'the hold is the pod’s until its DEL');
  await node.cloud.deleteNetworkInterface(other);
  await node.clock.advance(7 * MINUTE);
  assert.equal(hasAll(node, leases), true);
  assert.deepEqual(told(node).slice(1), ['restored p0 EC2 routes it here again']);
  assert.equal(viewOf(node, gone)[0]!.state, 'held');
});

test('an address that came to another ENI of the node is had back from there', async () => {
  await using busy = await busyNode();
  const { node, leases } = busy;
  const lease = onSecond(leases);
  for (const one of leases.slice(0, 2)) node.pool.release(one.owner);
  const first = leases[0]!;
  node.cloud.takeAway(first.eni.id, first.ips[0] as Ipv4, true);
  node.cloud.moveTo(first.eni.id, lease.eni.id, lease.ips[0] as Ipv4);
  await node.clock.advance(3 * MINUTE);
  assert.equal(hasAll(node, [lease]), true);
  assert.deepEqual(told(node), []);
  assert.equal(viewOf(node, lease).length, 1);
});

test('an address that somebody puts back is the pod’s again at the next describe', async () => {
  await using busy = await busyNode();
  const { node, leases } = busy;
  const gone = leases[0]!;
  const other = node.cloud.giveToAnother(gone.eni.id, gone.ips[0] as Ipv4);
  await node.clock.advance(2 * MINUTE);
  assert.equal(viewOf(node, gone)[0]!.state, 'quarantined');
  node.cloud.moveTo(gone.eni.id, other, gone.ips[0] as Ipv4);
  await node.clock.advance(36_000);
  assert.equal(viewOf(node, gone)[0]!.state, 'held');
  assert.deepEqual(
    node.news.map((one) => one.kind),
    ['taken', 'restored'],
  );
});

test('an address that EC2 will not assign again is told with the reason', async () => {
  await using busy = await busyNode();
  const { node, leases } = busy;
  const gone = leases[0]!;
  node.cloud.before = (action) => {
    if (action === 'AssignPrivateIpAddresses')
      throw new CloudError(action, 'UnauthorizedOperation', 'not allowed');
  };
  node.cloud.takeAway(gone.eni.id, gone.ips[0] as Ipv4, true);
  await node.clock.advance(2 * MINUTE);
  assert.equal(told(node).length, 1);
  assert.match(told(node)[0]!, /^taken p0 EC2 does not assign it again: .*UnauthorizedOperation/);
  node.cloud.before = () => {};
  await node.clock.advance(7 * MINUTE);
  assert.equal(hasAll(node, [gone]), true);
  assert.equal(told(node).at(-1), 'restored p0 EC2 routes it here again');
});

test('the address of a pod that ends while another has it is nobody’s here', async () => {
  await using busy = await busyNode();
  const { node, leases } = busy;
  const [gone] = leases as [GivenLease];
  node.cloud.giveToAnother(gone.eni.id, gone.ips[0] as Ipv4);
  await node.clock.advance(2 * MINUTE);
  node.pool.release(gone.owner);
  await node.clock.advance(10 * MINUTE);
  assert.deepEqual(viewOf(node, gone), []);
  assert.equal(node.pool.counts().quarantined, 0);
});

test('a detached ENI whose addresses pods hold is attached where it was', async () => {
  await using busy = await busyNode();
  const { node, leases } = busy;
  const { eni } = onSecond(leases);
  await node.cloud.detachNetworkInterface(node.cloud.enis.get(eni.id)!.attachment!.id);
  await node.clock.advance(36_000);
  const there = node.cloud.enis.get(eni.id)!.attachment!;
  assert.deepEqual([there.deviceIndex, there.deleteOnTermination], [eni.deviceIndex, true]);
  assert.equal(node.pool.held().length, 12);
  assert.ok(
    node.pool.enis().some((one) => one.id === eni.id),
    'the node’s network has it again',
  );
  assert.deepEqual(node.pool.snapshot().astray, []);
});

test('detached while the agent was away, it is attached by the next one', async () => {
  await using busy = await busyNode();
  const { node, leases } = busy;
  const { eni } = onSecond(leases);
  await node.stop();
  await node.cloud.detachNetworkInterface(node.cloud.enis.get(eni.id)!.attachment!.id);
  await node.start();
  await node.clock.advance(5_000);
  assert.equal(node.cloud.enis.get(eni.id)!.attachment?.deviceIndex, eni.deviceIndex);
  assert.equal(node.cloud.calls.filter((call) => call === 'DeleteNetworkInterface').length, 0);
});

test('an ENI that another instance has is told, and comes back when it is free', async () => {
  await using busy = await busyNode();
  const { node, leases } = busy;
  const lease = onSecond(leases);
  const eni = node.cloud.enis.get(lease.eni.id)!;
  const { attachment } = eni;
  eni.attachment = { ...attachment!, id: 'eni-attach-other', instanceId: 'i-other' };
  await node.clock.advance(3 * MINUTE);
  assert.ok(told(node).includes(`taken ${lease.owner.pod!.name} ${eni.id} is attached to i-other`));
  assert.equal(new Set(told(node)).size, told(node).length, 'told once each');
  assert.equal(viewOf(node, lease)[0]!.state, 'quarantined');
  eni.attachment = null;
  await node.clock.advance(2 * MINUTE);
  assert.equal(node.cloud.enis.get(eni.id)!.attachment?.instanceId, node.cloud.instanceId);
  assert.equal(viewOf(node, lease)[0]!.state, 'held');
});

test('an ENI that was deleted is told; its pods’ holds end with their DEL, and nothing hangs', async () => {
  await using busy = await busyNode();
  const { node, leases } = busy;
  const lost = leases.filter((lease) => lease.eni.deviceIndex === 1);
  const id = lost[0]!.eni.id;
  node.cloud.takeAway(id);
  await node.clock.advance(2 * MINUTE);
  assert.deepEqual(
    told(node).sort(),
    lost.map((one) => `taken ${one.owner.pod!.name} ${id} was deleted`).sort(),
  );
  assert.ok(viewOf(node, lost[0]!).every((one) => one.state === 'quarantined'));
  await node.restart();
  await node.clock.advance(2 * MINUTE);
  assert.equal(node.pool.held().length, 12);
  assert.ok(viewOf(node, lost[0]!).every((one) => one.state === 'quarantined'));
  for (const lease of lost) node.pool.release(lease.owner);
  await node.clock.advance(5 * MINUTE);
  assert.deepEqual(node.pool.snapshot().astray, []);
  assert.equal(node.pool.counts().free, 2);
});

test('an ENI that cannot be attached is tried again with pauses, and costs few calls', async () => {
  await using busy = await busyNode();
  const { node, leases } = busy;
  const { eni } = onSecond(leases);
  node.cloud.before = (action) => {
    if (action === 'AttachNetworkInterface')
      throw new CloudError(action, 'InvalidParameterValue', `device ${eni.deviceIndex} is in use`);
  };
  await node.cloud.detachNetworkInterface(node.cloud.enis.get(eni.id)!.attachment!.id);
  node.cloud.calls.length = 0;
  await node.clock.advance(10 * MINUTE);
  const tries = node.cloud.calls.filter((call) => call === 'AttachNetworkInterface').length;
  // As many for the ENI that the pool would have instead, to keep its warm target.
  assert.ok(tries >= 16 && tries <= 50, `${tries} tries`);
  assert.ok(node.cloud.calls.length <= 300, `${node.cloud.calls.length} calls`);
  node.cloud.before = () => {};
  await node.clock.advance(2 * MINUTE);
  assert.ok(node.cloud.enis.get(eni.id)!.attachment);
});
