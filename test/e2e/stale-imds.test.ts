// The metadata service says what is not so, while an agent restarts under live pods: addresses and an ENI that it lacks, an
// ENI that is deleted, nothing at all, errors. Pods keep their addresses, their streams go on, and new pods start.
import assert from 'node:assert/strict';
import { after, afterEach, before, type TestContext, test } from 'node:test';
import type { FaultEffect } from '../../src/lab/vpc/faults/index.ts';
import { heldTwice, TestLab } from '../support/lab.ts';
import { Streams } from '../support/streams.ts';
import { eventually } from '../support/wait.ts';
import { skip } from './command.ts';

const NODE = 'node-1';
const lab = new TestLab(`e2e-imds-${process.pid}`, {
  nodes: 2,
  set: ['cooldown=0s', 'idleRelease=1s', 'warm=1'],
});
const streams = new Streams();
/** Secondary addresses of one ENI of an m5.large: one pod more needs a second ENI. */
const ONE_ENI = 9;

const hour: FaultEffect = { kind: 'stale', ms: 3_600_000 };
const imds = (path: string, effect: FaultEffect) =>
  lab.control.call('POST', '/v1/faults', { action: `imds:${path}`, effect, rate: 1, seed: 1, node: NODE });
const clear = () => lab.control.call('POST', '/v1/faults/clear', {});
const node = async () => (await lab.show()).find((each) => each.node === NODE)!;
const heldOn = async () =>
  (await node()).enis.flatMap((eni) =>
    eni.addresses.filter((each) => each.state === 'held').map((each) => `${each.ip} ${each.pod}`),
  );
const enis = async () => (await node()).enis.length;
const met = async () =>
  (await lab.control.call<{ seen: number }[]>('GET', '/v1/faults')).reduce((sum, each) => sum + each.seen, 0);

/** Kills the agent; returns when the next one serves, and has described its ENIs where it has keys for that. */
async function restart(hasKeys = true): Promise<void> {
  const held = (await heldOn()).sort();
  const before = lab.agentOf(NODE)?.pid;
  const since = Date.now();
  lab.killAgent(NODE);
  await eventually('the next agent', () => {
    const pid = lab.agentOf(NODE)?.pid;
    return pid !== undefined && pid !== before;
  });
  await eventually('it serves', async () => (await heldOn()).length > 0);
  await eventually('it has described its ENIs', async () => {
    if (!hasKeys) return true;
    const { calls } = await lab.control.call<{ calls: { at: string; action: string; caller: string }[] }>(
      'GET',
      `/v1/calls?sinceMs=${Date.now() - since}`,
    );
    return calls.some((call) => call.caller === NODE && call.action === 'DescribeNetworkInterfaces');
  });
  assert.deepEqual((await heldOn()).sort(), held, 'every pod has its address still');
  await streams.alive();
}

/** A new pod gets an address that nobody has, is reachable, and goes again. */
async function another(name: string): Promise<void> {
  const pod = await lab.run(name, NODE);
  assert.equal(pod.phase, 'Running', JSON.stringify(pod.message));
  assert.deepEqual(heldTwice(await lab.show()), []);
  await lab.remove([name]);
}

before(async () => {
  if (skip) return;
  await lab.up();
  const [near, far] = await Promise.all([lab.run('near', NODE), lab.run('far', 'node-2')]);
  await streams.open(near.netnsPath, [`${far.ips[0]}:8080`, '203.0.113.10:8080']);
});
afterEach(async (t) => {
  if (skip) return;
  await clear();
  if (!(t as TestContext).passed) console.error(lab.lastWords());
});
after(async () => {
  streams.close();
  if (!skip) await lab.down();
});

test('metadata that lacks addresses and an ENI of live pods', { skip }, async () => {
  await imds('network/*', hour);
  const names = Array.from({ length: ONE_ENI }, (_, i) => `late-${i}`);
  const pods = await Promise.all(names.map((name) => lab.run(name, NODE)));
  assert.equal(await enis(), 2);
  const last = pods.find((pod) => pod.name === names.at(-1))!;
  await streams.open(last.netnsPath, ['203.0.113.10:8080']);
  await restart();
  assert.ok((await met()) > 0, 'the agent asked the metadata service');
  await another('more-1');
  await lab.agreed();
  await clear();
  await restart();
  await lab.agreed();
});

test('metadata that lists an ENI which is deleted', { skip }, async () => {
  // The pod whose stream goes on keeps the second ENI unless it sits on the first: both ENIs are kept by it or freed.
  const before = await enis();
  await imds('network/*', hour);
  await lab.remove(Array.from({ length: ONE_ENI - 1 }, (_, i) => `late-${i}`));
  await restart();
  assert.ok((await enis()) <= before);
  await another('more-2');
  await lab.agreed();
});

for (const [what, effect] of [
  ['is empty', { kind: 'empty' }],
  ['fails', { kind: 'error', code: '500' }],
  ['is not there', { kind: 'error', code: '404' }],
  ['does not answer', { kind: 'drop-answer' }],
] as const satisfies [string, FaultEffect][]) {
  test(`metadata of the interfaces ${what}`, { skip }, async () => {
    await imds('network/*', effect);
    await restart();
    await another(`more-${effect.kind}`);
    await lab.agreed();
  });
  test(`all metadata ${what}`, { skip }, async () => {
    await imds('*', effect);
    await restart(false);
    await clear();
    await lab.agreed();
    await another(`all-${effect.kind}`);
  });
}
