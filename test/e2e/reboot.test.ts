// A node under load is rebooted, stopped and started, and rebooted while the lab itself is killed: it comes back as a
// machine does, with nothing of before; its pods run again, no two share an address, traffic passes, all views agree.
import assert from 'node:assert/strict';
import { readdirSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, afterEach, before, type TestContext, test } from 'node:test';
import {
  type EC2Client,
  RebootInstancesCommand,
  StartInstancesCommand,
  StopInstancesCommand,
} from '@aws-sdk/client-ec2';
import { openNetns } from '../../src/kernel/netns.ts';
import type { NodeView, PodView } from '../../src/lab/daemon/protocol.ts';
import { Churn } from '../support/churn.ts';
import { heldTwice, TestLab } from '../support/lab.ts';
import { Streams } from '../support/streams.ts';
import { eventually, seeded } from '../support/wait.ts';
import { execute, executeOk, PROBE, skip } from './command.ts';
import { Lab } from './lab.ts';

const NODE = 'node-2';
/** Pods that stay: on the node that boots, and on the other. */
const KEPT = 8;
const OTHERS = 2;

const user = new Lab('boot');
const lab = new TestLab(user.name, { set: ['cooldown=0s', 'idleRelease=1s'] });
const streams = new Streams();
let ec2: EC2Client;
let churn: Churn;

before(async () => {
  if (skip) return;
  await lab.up();
  ec2 = await user.ec2();
  await Promise.all([
    ...Array.from({ length: KEPT }, (_, index) => lab.run(`kept-${index}`, NODE)),
    ...Array.from({ length: OTHERS }, (_, index) => lab.run(`other-${index}`, 'node-1')),
  ]);
  const pods = await lab.pods();
  const other = pods.filter((pod) => pod.name.startsWith('other-'));
  await streams.open(other[0]!.netnsPath, [`${other[1]!.ips[0]}:8080`, '203.0.113.10:8080']);
});
afterEach((t) => {
  if (!skip && !(t as TestContext).passed) console.error(lab.lastWords());
});
after(async () => {
  churn?.abandon();
  streams.close();
  ec2?.destroy();
  if (!skip) await lab.down();
});

const node = async (): Promise<NodeView> => (await lab.status()).nodes.find((each) => each.name === NODE)!;
const kept = async (): Promise<PodView[]> => (await lab.pods()).filter((pod) => pod.name.startsWith('kept-'));

/** Addresses that the API gives to two pods at once, in one answer. */
function sharedBy(pods: PodView[]): string[] {
  const all = pods.flatMap((pod) => pod.ips);
  return all.filter((ip, index) => all.indexOf(ip) !== index);
}

/** Asks again and again until the pods that stay run, each in a sandbox that it had not before. */
async function runAgain(before: PodView[]): Promise<PodView[]> {
  return eventually(
    `the pods of ${NODE} run again`,
    async () => {
      const pods = await lab.pods();
      assert.deepEqual(sharedBy(pods), [], 'two pods have one address');
      const now = pods.filter((pod) => pod.name.startsWith('kept-'));
      const old = new Set(before.map((pod) => pod.netns));
      return now.length === KEPT && now.every((pod) => pod.phase === 'Running' && !old.has(pod.netns)) && now;
    },
    60_000,
  );
}

async function assertTraffic(pods: PodView[]): Promise<void> {
  const [other] = (await lab.pods()).filter((pod) => pod.name.startsWith('other-'));
  for (const pod of pods) {
    for (const [from, to] of [
      [other!, pod],
      [pod, other!],
    ] as const) {
      const command = ['nsenter', `--net=${from.netnsPath}`, '--', PROBE, 'tcp', to.ips[0]!, '8080'];
      const { stdout } = await execute(command);
      assert.match(stdout, new RegExp(`${to.name} ${from.ips[0]}`), `${from.name} to ${to.name}`);
    }
  }
}

/** What a boot must not bring back: a rule, a table, a process, a file of /run. */
async function leaveMarks({ netns, agentSocket }: NodeView): Promise<void> {
  await executeOk(['ip', '-n', netns, 'rule', 'add', 'priority', '77', 'table', '77']);
  await executeOk(['ip', 'netns', 'exec', netns, 'nft', 'add', 'table', 'inet', 'stray']);
  await executeOk(['ip', 'netns', 'exec', netns, 'sh', '-c', 'setsid sleep 999 >/dev/null 2>&1 &']);
  writeFileSync(join(agentSocket, '..', 'stray'), '');
}

async function assertFresh({ netns, agentSocket }: NodeView): Promise<void> {
  const [rules, tables, processes] = await Promise.all([
    executeOk(['ip', '-n', netns, 'rule']),
    executeOk(['ip', 'netns', 'exec', netns, 'nft', 'list', 'tables']),
    executeOk([
      'sh',
      '-c',
      `for p in $(ip netns pids ${netns}); do tr '\\0' ' ' </proc/$p/cmdline; echo; done`,
    ]),
  ]);
  assert.doesNotMatch(rules, /^77:/m);
  assert.doesNotMatch(tables, /stray/);
  assert.doesNotMatch(processes, /sleep 999/);
  assert.equal(readdirSync(join(agentSocket, '..')).includes('stray'), false);
}

/** Boots the node while pods come and go on both, and sees that all is well after it. */
async function throughBoot(boot: (instanceId: string) => Promise<void>, seed: number): Promise<void> {
  const [was, before] = [await node(), await kept()];
  // Held open, its number is not given to another namespace.
  using old = openNetns(was.netnsPath);
  const agent = lab.agentOf(NODE)?.pid;
  await leaveMarks(was);
  churn = new Churn({
    lab,
    nodes: ['node-1', NODE],
    workers: 3,
    each: 3,
    random: seeded(seed),
    tolerant: true,
  });
  await eventually('pods come and go', () => churn.made > 6);
  await boot(was.instanceId);
  const pods = await runAgain(before);
  const begun = churn.made;
  await eventually('pods come and go again', () => churn.made > begun + 6, 60_000);
  await churn.stop();
  const now = await eventually('the node is ready', async () => {
    const found = await node();
    return found.ready && found;
  });
  assert.deepEqual([now.instanceId, now.ips], [was.instanceId, was.ips]);
  assert.notEqual(statSync(now.netnsPath, { bigint: true }).ino, old.inode);
  assert.notEqual(lab.agentOf(NODE)?.pid, agent);
  await assertFresh(now);
  await assertTraffic(pods);
  assert.deepEqual(heldTwice(await lab.agreed()), []);
  await streams.alive();
  const cached = readdirSync(lab.paths.node(NODE).cniCacheDir, { recursive: true, withFileTypes: true });
  assert.equal(cached.filter((each) => each.isFile()).length, KEPT, 'results of sandboxes that are gone');
}

test('a node is rebooted under load', { skip }, () =>
  throughBoot(async (instanceId) => {
    await ec2.send(new RebootInstancesCommand({ InstanceIds: [instanceId] }));
  }, 1),
);

test('a node is stopped and started under load', { skip }, () =>
  throughBoot(async (instanceId) => {
    await ec2.send(new StopInstancesCommand({ InstanceIds: [instanceId] }));
    await eventually('its pods wait for it', async () => {
      const pods = await kept();
      return pods.every((pod) => pod.phase === 'Pending' && pod.message?.code === 'NODE_STOPPED');
    });
    assert.equal((await node()).ready, false);
    await ec2.send(new StartInstancesCommand({ InstanceIds: [instanceId] }));
  }, 2),
);

test('the lab is killed in the middle of a reboot', { skip }, () =>
  throughBoot(async (instanceId) => {
    const asked = ec2.send(new RebootInstancesCommand({ InstanceIds: [instanceId] })).catch(() => {});
    const { netnsPath } = await node();
    const inode = statSync(netnsPath).ino;
    // As soon as anything of it shows: the agent ended, or the namespace went.
    const agent = lab.agentOf(NODE)?.pid;
    await eventually('the reboot has begun', () => {
      const now = statSync(netnsPath, { throwIfNoEntry: false })?.ino;
      return now !== inode || lab.agentOf(NODE)?.pid !== agent;
    });
    lab.killDaemon();
    await asked;
    await lab.up();
  }, 3),
);
