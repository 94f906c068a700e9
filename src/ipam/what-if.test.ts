// Named cases of what may go wrong between a node and EC2 while it works. Random ones are in pool.property.test.ts, kills
// at each boundary in intent.test.ts, EC2's absence in reach.test.ts, unowned ENIs in orphans.test.ts.
import assert from 'node:assert/strict';
import { rmSync } from 'node:fs';
import { test } from 'node:test';
import { formatIp } from '../base/ip.ts';
import { CloudError, type EniId } from '../cloud/port.ts';
import type { FakeCloud } from '../cloud/testing.ts';
import type { GivenLease } from './state.ts';
import { podOwner, settle, TestNode } from './testkit.ts';

const MINUTE = 60_000;

async function started(warm = 0, tweak: (cloud: FakeCloud) => void = () => {}): Promise<TestNode> {
  const node = new TestNode({ settings: { warm, cooldownMs: 1_000, idleReleaseMs: 5_000 } });
  tweak(node.cloud);
  await node.start();
  return node;
}
async function acquire(node: TestNode, from: number, count: number): Promise<GivenLease[]> {
  const all = Array.from({ length: count }, (_, i) => node.pool.acquire(podOwner(`p${from + i}`)));
  await node.clock.advance(5_000);
  return Promise.all(all);
}
const outcome = (wait: Promise<GivenLease>) => {
  const seen: { lease?: GivenLease; error?: { code: string; message: string } } = {};
  wait.then(
    (lease) => Object.assign(seen, { lease }),
    (error: { code: string; message: string }) => Object.assign(seen, { error }),
  );
  return seen;
};
const enis = (node: TestNode) => [...node.cloud.enis.values()];
const clean = (node: TestNode) => {
  const { state } = node.pool;
  assert.deepEqual(
    [...state.enis.keys()].sort(),
    enis(node)
      .map((eni) => eni.id)
      .sort(),
  );
  assert.equal(state.creations.size, 0);
};

test('EC2 makes an ENI after the agent died and its journal went: it is found later, and deleted', async () => {
  await using node = await started();
  await acquire(node, 0, 9);
  const late = Promise.withResolvers<void>();
  node.cloud.before = (action) => (action === 'CreateNetworkInterface' ? late.promise : undefined);
  node.pool.acquire(podOwner('late')).catch(() => {});
  await node.clock.advance(500);
  const leases = node.pool.held();
  node.abandon();
  node.cloud.before = () => {};
  rmSync(node.path);
  node.stand(leases);
  await node.start();
  await node.clock.advance(MINUTE);
  assert.equal(node.cloud.enis.size, 1, 'EC2 has not made it yet');
  late.resolve();
  await settle();
  assert.equal(node.cloud.enis.size, 2);
  await node.clock.advance(60 * MINUTE);
  assert.equal(node.cloud.enis.size, 1);
  clean(node);
});

test('EC2 makes an ENI after the agent died, whose journal is there: the repeated create finds it', async () => {
  await using node = await started();
  await acquire(node, 0, 9);
  const late = Promise.withResolvers<void>();
  node.cloud.before = (action) => (action === 'CreateNetworkInterface' ? late.promise : undefined);
  node.pool.acquire(podOwner('late')).catch(() => {});
  await node.clock.advance(500);
  node.abandon();
  await settle();
  node.cloud.before = () => {};
  late.resolve();
  await settle();
  await node.start();
  await node.clock.advance(5_000);
  assert.equal(node.cloud.enis.size, 2, 'one was made, not two');
  assert.equal(node.pool.state.enis.size, 2);
});

test('a create repeated with other tags is refused for its token; what the first made is deleted', async () => {
  await using node = await started();
  await acquire(node, 0, 9);
  node.cloud.after = (action) => {
    if (action === 'CreateNetworkInterface') throw new CloudError(action, 'Network', 'cut', true);
  };
  const waits = outcome(node.pool.acquire(podOwner('late')));
  await node.clock.advance(200);
  assert.equal(node.cloud.enis.size, 2);
  assert.equal(waits.lease, undefined);
  node.tags = { team: 'new' };
  node.cloud.after = () => {};
  await node.restart();
  const again = outcome(node.pool.acquire(podOwner('again')));
  await node.clock.advance(MINUTE);
  assert.ok(again.lease, String(again.error));
  await node.clock.advance(5 * MINUTE);
  assert.equal(node.cloud.enis.size, 2);
  clean(node);
});

test('an ENI that somebody deletes by hand, with pods and without, costs nothing but its own addresses', async () => {
  await using node = await started();
  const leases = await acquire(node, 0, 11);
  const second = enis(node).find((eni) => eni.attachment?.deviceIndex === 1)!.id;
  node.cloud.takeAway(second);
  await node.clock.advance(MINUTE);
  const onFirst = leases.filter((lease) => lease.eni.id !== second);
  assert.ok(onFirst.every((lease) => node.pool.find(lease.owner)));
  const next = outcome(node.pool.acquire(podOwner('next')));
  await node.clock.advance(MINUTE);
  assert.ok(next.lease && next.lease.eni.id !== second, String(next.error));
  for (const lease of leases) node.pool.release(lease.owner);
  node.pool.release(next.lease.owner);
  await node.clock.advance(10 * MINUTE);
  clean(node);
  assert.equal(node.cloud.enis.size, 1);
});

test('an ENI that somebody deletes between its creation and its attachment is made again', async () => {
  await using node = await started();
  await acquire(node, 0, 9);
  let made = 0;
  node.cloud.after = (action) => {
    if (action !== 'CreateNetworkInterface' || made++ > 0) return;
    node.cloud.takeAway(enis(node).at(-1)!.id);
  };
  const waits = outcome(node.pool.acquire(podOwner('late')));
  await node.clock.advance(2 * MINUTE);
  const next = waits.lease ? waits : outcome(node.pool.acquire(podOwner('later')));
  await node.clock.advance(MINUTE);
  assert.ok(next.lease, String(next.error));
  assert.equal(made, 2);
  await node.clock.advance(3 * MINUTE);
  clean(node);
});

test('others take the instance’s last slot while an ENI is attached: it is deleted, and the cause names theirs', async () => {
  await using node = await started();
  await acquire(node, 0, 18);
  const theirs: EniId[] = [];
  node.cloud.before = (action) => {
    if (action === 'AttachNetworkInterface' && theirs.length === 0)
      theirs.push(node.cloud.addInstanceEni({ deviceIndex: 2, description: 'a file system' }).id);
  };
  const waits = outcome(node.pool.acquire(podOwner('late')));
  await node.clock.advance(MINUTE);
  assert.equal(waits.error?.code, 'ENI_LIMIT');
  assert.match(waits.error.message, new RegExp(theirs[0]!));
  await node.clock.advance(3 * MINUTE);
  assert.equal(node.cloud.enis.size, 3, 'the one that could not be attached is gone');
  assert.deepEqual(
    node.pool.state.foreign.map((eni) => eni.id),
    theirs,
  );
});

test('an ENI that hangs in `detaching` stops nothing else, is not given up, and counts as a slot', async () => {
  let hangs = true;
  await using node = await started(0, (cloud) => {
    const detach = cloud.detachNetworkInterface.bind(cloud);
    cloud.detachNetworkInterface = async (id) => {
      if (!hangs) return detach(id);
      cloud.calls.push('DetachNetworkInterface');
      [...cloud.enis.values()].find((one) => one.attachment?.id === id)!.attachment!.status = 'detaching';
    };
  });
  const leases = await acquire(node, 0, 18);
  const second = enis(node).find((eni) => eni.attachment?.deviceIndex === 1)!;
  for (const lease of leases.filter((one) => one.eni.id === second.id)) node.pool.release(lease.owner);
  await node.clock.advance(10 * MINUTE);
  assert.equal(second.attachment?.status, 'detaching');
  assert.equal(node.pool.state.pauses.get('cloud'), undefined, 'EC2 is there');
  assert.deepEqual(node.reached, [null]);
  const next = await acquire(node, 100, 9);
  assert.ok(next.every((lease) => lease.eni.id !== second.id));
  const over = outcome(node.pool.acquire(podOwner('over')));
  await node.clock.advance(MINUTE);
  assert.equal(over.lease, undefined, 'its slot is taken');
  const calls = node.cloud.calls.length;
  await node.clock.advance(10 * MINUTE);
  assert.ok(node.cloud.calls.length - calls < 900, `${node.cloud.calls.length - calls} calls in ten minutes`);
  hangs = false;
  second.attachment = null;
  second.status = 'available';
  await node.clock.advance(5 * MINUTE);
  assert.ok(!node.cloud.enis.has(second.id));
  clean(node);
});

test('an ENI that hangs in `attaching` is given up, and another one serves', async () => {
  let hung: EniId | undefined;
  await using node = await started(0, (cloud) => {
    const attach = cloud.attachNetworkInterface.bind(cloud);
    cloud.attachNetworkInterface = async (request) => {
      const id = await attach(request);
      hung ??= request.eniId;
      if (request.eniId === hung) cloud.enis.get(hung)!.attachment!.status = 'attaching';
      return id;
    };
  });
  await acquire(node, 0, 9);
  outcome(node.pool.acquire(podOwner('late')));
  await node.clock.advance(5 * MINUTE);
  const next = outcome(node.pool.acquire(podOwner('later')));
  await node.clock.advance(2 * MINUTE);
  assert.ok(next.lease, String(next.error));
  assert.notEqual(next.lease.eni.id, hung);
  assert.ok(!node.cloud.enis.has(hung!));
  assert.deepEqual(node.reached, [null], 'EC2 is there');
});

test('a describe that lists an ENI twice, once as it was before, takes nothing away', async () => {
  await using node = await started(2);
  const leases = await acquire(node, 0, 11);
  const before = structuredClone(enis(node));
  await acquire(node, 20, 3);
  for (const order of ['stale first', 'stale last'] as const) {
    node.cloud.describeLag = (truth) =>
      order === 'stale first'
        ? [...structuredClone(before), ...truth]
        : [...truth, ...structuredClone(before)];
    await node.pool.reconcileNow();
    await node.clock.advance(10_000);
    assert.equal(node.pool.state.enis.size, 2, order);
    for (const lease of leases) assert.ok(node.pool.owns(lease.ips[0]!), order);
  }
  node.cloud.describeLag = undefined;
  await node.pool.reconcileNow();
  await node.clock.advance(2 * MINUTE);
  for (const eni of node.pool.state.enis.values()) {
    const truth = node.cloud.enis.get(eni.id)!.addresses.filter((one) => !one.primary);
    assert.deepEqual(
      [...eni.blocks.keys()].map(formatIp).sort(),
      truth.map((one) => formatIp(one.ip)).sort(),
    );
  }
  assert.deepEqual(node.news, [], 'no pod was told of anything');
});

test('tags of a clock that was wrong neither hasten a deletion nor prevent it; cooling survives a clock set back', async () => {
  await using node = await started();
  const [lease] = await acquire(node, 0, 1);
  node.pool.release(lease!.owner);
  const other = new TestNode({ settings: { warm: 0, cooldownMs: 30_000 } });
  await using _other = other;
  await other.start();
  const [held] = await acquire(other, 0, 1);
  other.pool.release(held!.owner);
  const until = other.clock.now() + 30_000;
  other.clock.setBack(60 * MINUTE);
  await other.restart();
  assert.ok(until - other.clock.now() > 30_000);
  // Not an hour and half a minute: a cooldown is never longer than the setting.
  await other.clock.advance(31_000);
  const again = outcome(other.pool.acquire(podOwner('again')));
  await other.clock.advance(3_000);
  assert.ok(again.lease, String(again.error));
});
