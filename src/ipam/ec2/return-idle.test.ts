import assert from 'node:assert/strict';
import { test } from 'node:test';
import { PodwayError } from '../../base/errors.ts';
import { formatIp, type Ip, parseIp } from '../../base/ip.ts';
import { podOwner, TestNode } from '../testkit.ts';

const refusal = (work: () => void): PodwayError => {
  try {
    work();
  } catch (error) {
    assert.ok(error instanceof PodwayError, String(error));
    return error;
  }
  throw new Error('it was not refused');
};
const shown = (node: TestNode) => node.pool.snapshot().enis.flatMap((eni) => eni.addresses);
const idle = (node: TestNode): Ip[] =>
  shown(node)
    .filter((one) => one.state === 'free')
    .map((one) => parseIp(one.ip));
const inEc2 = (node: TestNode): string[] =>
  [...node.cloud.enis.values()].flatMap((eni) => eni.addresses.map((one) => formatIp(one.ip)));

test('idle addresses named by an operator are back in EC2, whatever the goal says', async () => {
  await using node = new TestNode({ settings: { warm: 4 } });
  await node.start();
  await node.clock.advance(1_000);
  const two = idle(node).slice(0, 2);
  node.cloud.calls.length = 0;
  node.pool.returnIdle(two);
  assert.equal(node.pool.counts().free, 2, 'from now on they are not given out');
  await node.clock.advance(1_000);
  // The goal stands, so the pool asks for as many again.
  assert.deepEqual(node.cloud.calls, ['UnassignPrivateIpAddresses', 'AssignPrivateIpAddresses']);
  assert.equal(node.pool.counts().free, 4);
  assert.equal(inEc2(node).length, 5);
});

test('held, cooling, primary, foreign and unknown addresses are refused by name, and nothing is returned', async () => {
  await using node = new TestNode({ settings: { warm: 4 } });
  await node.start();
  const [held, cooling] = await Promise.all(['a', 'b'].map((name) => node.pool.acquire(podOwner(name))));
  await node.clock.advance(1_000);
  node.pool.release(cooling!.owner);
  const [primary] = [...node.cloud.enis.values()];
  const [free] = idle(node);
  const before = inEc2(node).sort();
  const asked = [free!, held!.ips[0]!, cooling!.ips[0]!, primary!.addresses[0]!.ip, parseIp('192.0.2.1')];
  const error = refusal(() => node.pool.returnIdle(asked));
  assert.equal(error.code, 'NOT_IDLE');
  for (const part of [
    /^nothing is returned: /,
    new RegExp(`${formatIp(held!.ips[0]!)} is held by default/a`),
    new RegExp(`${formatIp(cooling!.ips[0]!)} cools until 2023-`),
    /is the primary address of eni-/,
    /192\.0\.2\.1 is none of this node's/,
  ])
    assert.match(error.message, part);
  assert.deepEqual([error.details.has, error.details.limit], [4, 5]);
  await node.clock.advance(1_000);
  assert.deepEqual(inEc2(node).sort(), before);
  assert.equal(node.pool.counts().free, idle(node).length);
});

test('an address with a public one and one that is on its way back already are refused', async () => {
  await using node = new TestNode({ settings: { warm: 2 } });
  const [primary] = [...node.cloud.enis.keys()];
  const [pinned] = node.cloud.putOn(primary!, 1, { public: true });
  await node.start();
  await node.clock.advance(1_000);
  assert.match(refusal(() => node.pool.returnIdle([pinned!])).message, /has a public address|put on/);
  const [one] = idle(node).filter((ip) => ip !== pinned);
  node.pool.returnIdle([one!]);
  assert.match(refusal(() => node.pool.returnIdle([one!])).message, /is on its way back already/);
});

test('a kill after the order leaves no address that is neither given nor returned', async () => {
  await using node = new TestNode({ settings: { warm: 4 } });
  await node.start();
  await node.clock.advance(1_000);
  const [one] = idle(node);
  node.pool.returnIdle([one!]);
  node.abandon();
  node.cloud.calls.length = 0;
  node.settings = { ...node.settings, warm: 2 };
  await node.start();
  await node.clock.advance(1_000);
  assert.ok(node.cloud.calls.includes('UnassignPrivateIpAddresses'));
  assert.ok(!inEc2(node).includes(formatIp(one!)));
  assert.equal(node.pool.counts().free, 3);
});
