import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CloudError } from '../../cloud/port.ts';
import { podOwner, TestNode } from '../testkit.ts';
import type { Explanation } from './explain.ts';

const explain = (node: TestNode, pod?: string, secondsOf: (action: string) => number | undefined = () => 2) =>
  node.pool.explain({ source: 'settings', notes: [], secondsOf }, pod);

async function fill(node: TestNode, count: number): Promise<void> {
  const all = Array.from({ length: count }, (_, i) => node.pool.acquire(podOwner(`p${i}`)));
  await node.clock.advance(5_000);
  await Promise.all(all);
}

test('a node at rest says its numbers, its source, and that it rests', async () => {
  await using node = new TestNode();
  await node.start();
  await fill(node, 2);
  const told = await explain(node);
  const { inputs } = told;
  assert.deepEqual([told.subject, told.node, told.source], ['node-1', 'node-1', 'settings']);
  assert.match(told.decision, /^rests: the goal is 4 free, 4 are free$/);
  assert.deepEqual(
    [inputs.held, inputs.free, inputs.cooling, inputs.waiting, inputs.goal, inputs.warm, inputs.forecast],
    [2, 4, 0, 0, 4, 4, null],
  );
  assert.deepEqual(inputs.limits, { enis: 3, ipv4PerEni: 10, addresses: 27, pods: 29 });
  const [subnet] = inputs.subnets;
  assert.deepEqual(
    [subnet?.id, subnet?.cidr, subnet?.enis, subnet?.free],
    ['subnet-0a', '10.0.0.0/19', 1, 8186],
  );
  assert.ok(inputs.callsLeft.reads > 0 && inputs.callsLeft.changes > 0);
  assert.deepEqual([told.actions, told.cause], [[], undefined]);
  assert.ok(Date.parse(told.nextLook!) > node.clock.now(), 'the next describe');
  JSON.stringify(told);
});

test('addresses beyond the goal are said to rest, then to be returned', async () => {
  await using node = new TestNode({ settings: { warm: 1, cooldownMs: 0 } });
  await node.start();
  await fill(node, 5);
  for (let i = 0; i < 5; i++) node.pool.release(podOwner(`p${i}`));
  await node.clock.advance(1_000);
  assert.match((await explain(node)).decision, /rests: .* 5 beyond the goal are returned after 60 s of rest/);
});

test('a pod with an address is told it, and since when', async () => {
  await using node = new TestNode();
  await node.start();
  await fill(node, 1);
  const told = await explain(node, 'default/p0');
  assert.equal(told.addresses?.length, 1);
  assert.match(told.addresses[0]!.eni!, /^eni-/);
  assert.match(told.decision, /^default\/p0 has 10\.0\./);
  assert.equal(told.position, undefined);
});

const short = (told: Explanation) => [told.cause?.code, told.position, told.inLine, told.expectedSeconds];

test('pods in line are told their place, and when the next address has cooled', async () => {
  await using node = new TestNode({ settings: { warm: 0 } });
  await node.start();
  await fill(node, 27);
  node.pool.release(podOwner('p1'));
  await node.clock.advance(10_000);
  node.pool.release(podOwner('p2'));
  const waiting = ['a', 'b'].map((name) => node.pool.acquire(podOwner(name)).catch(() => {}));
  await node.clock.advance(1_000);
  assert.deepEqual(short(await explain(node, 'default/a')), ['COOLDOWN', 1, true, 19]);
  assert.deepEqual(short(await explain(node, 'default/b')), ['COOLDOWN', 2, true, 29]);
  assert.match(
    (await explain(node)).decision,
    /^cannot grow now: 2 pods wait, and the goal is 2 free, 0 are free: COOLDOWN$/,
  );
  // One that was refused at once stands in no line until its runtime tries again.
  assert.deepEqual(short(await explain(node, 'default/c')), ['ADDRESS_LIMIT', 3, false, undefined]);
  await node.clock.advance(30_000);
  await Promise.all(waiting);
});

test('a pod that waits for a call of EC2 is told how long such a call takes', async () => {
  const gate = Promise.withResolvers<void>();
  await using node = new TestNode({
    cloud: { before: (action) => (action === 'AssignPrivateIpAddresses' ? gate.promise : undefined) },
    settings: { warm: 0 },
  });
  await node.start();
  const waiting = node.pool.acquire(podOwner('a'));
  await node.clock.advance(100);
  assert.deepEqual(short(await explain(node, 'default/a')), ['POOL_GROWING', 1, true, 2]);
  assert.deepEqual((await explain(node)).inputs.incoming, 1);
  gate.resolve();
  await node.clock.advance(100);
  await waiting;
});

test('a full subnet is named with its pause, and the plan says what it would do', async () => {
  let failing = true;
  await using node = new TestNode({
    cloud: {
      before: (action) => {
        if (failing && /^Assign|^Create/.test(action))
          throw new CloudError(action, 'InsufficientFreeAddressesInSubnet', 'none is free');
      },
    },
    settings: { warm: 3 },
  });
  await node.start();
  await node.clock.advance(1_000);
  const told = await explain(node);
  assert.equal(told.inputs.subnets[0]!.paused?.cause, 'SUBNET_EXHAUSTED');
  assert.match(told.decision, /^cannot grow now: the goal is 3 free, 0 are free: SUBNET_EXHAUSTED$/);
  assert.equal(told.cause?.details.object, 'subnet-0a');
  assert.equal(short(await explain(node, 'default/new'))[0], 'SUBNET_EXHAUSTED');
  failing = false;
  await node.clock.advance(121_000);
  assert.equal((await explain(node)).cause, undefined);
});

test('what the plan does is told in words', async () => {
  await using node = new TestNode({ settings: { warm: 0 } });
  await node.start();
  await node.clock.advance(1_000);
  node.pool.setPolicy({ ...node.pool.policy, targets: { kind: 'warm', free: 12 } });
  const told = await explain(node);
  assert.match(told.decision, /^grows: the goal is 12 free, 0 are free/);
  assert.match(told.actions[0]!, /^assign 9 addresses to eni-/);
  assert.match(told.actions[1]!, /^create an ENI with \d addresses in subnet-0a, for device 1$/);
});

test('before EC2 has answered, the node says what it waits for', async () => {
  const gate = Promise.withResolvers<void>();
  await using node = new TestNode({ cloud: { before: () => gate.promise } });
  node.open();
  const told = await explain(node);
  assert.match(told.decision, /^waits for EC2/);
  assert.equal(told.cause?.code, 'AGENT_STARTING');
  gate.resolve();
});

test('a subnet without whole /28s is told as such, and prefixes count sixteen addresses', async () => {
  let isFragmented = false;
  await using node = new TestNode({
    cloud: {
      before: (action) => {
        if (isFragmented && action === 'AssignPrivateIpAddresses')
          throw new CloudError(action, 'InsufficientCidrBlocks', 'no /28');
      },
    },
    settings: { warm: 2 },
  });
  await node.start();
  await node.clock.advance(1_000);
  isFragmented = true;
  node.pool.setPolicy({ ...node.pool.policy, addressing: 'prefix' });
  await node.clock.advance(2_000);
  const { inputs } = await explain(node);
  assert.equal(inputs.limits.addresses, 432);
  assert.equal(inputs.subnets[0]!.noPrefixes?.cause, 'SUBNET_FRAGMENTED');
});

test('the AWS VPC CNI’s targets: the goal is what they ask for now', async () => {
  await using node = new TestNode({ settings: { warm: 0 } });
  await node.start();
  await node.clock.advance(1_000);
  const targets = { kind: 'incumbent' as const, warmEnis: 1, warmPrefixes: 0, warmIps: 3, minimumIps: 5 };
  node.pool.setPolicy({ ...node.pool.policy, targets });
  assert.match((await explain(node)).decision, /^grows: the goal is 5 free, 0 are free/);
  await node.clock.advance(1_000);
  assert.match((await explain(node)).decision, /^rests: the goal is 5 free, 5 are free$/);
});
