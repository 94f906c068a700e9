// What happens to real nodes, with agents from the chart: static pods before the agent, containerd, kubelet and the agent
// killed, an API server that is away, a sandbox whose DEL never came, a reboot. After each the pods that were not meant are
// as they were, new ones start, and all views agree. The tests need each other's pods. `npm run test:kubernetes-lab`.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  type EC2Client,
  RebootInstancesCommand,
  StartInstancesCommand,
  StopInstancesCommand,
} from '@aws-sdk/client-ec2';
import type { IpamNode, PodView } from '../../src/lab/daemon/protocol.ts';
import { findBinaries } from '../../src/lab/kubernetes/binaries.ts';
import { executeOk } from '../e2e/command.ts';
import { Cluster, NAMESPACE } from '../scenarios/cluster.ts';
import { PORT, podOf, server } from '../scenarios/objects.ts';
import { Asker } from '../support/asker.ts';
import { ec2ClientOf } from '../support/ec2.ts';
import { full } from '../support/storm.ts';
import { Streams } from '../support/streams.ts';
import { eventually } from '../support/wait.ts';
import { ChartLab, missing, RELEASE_NAMESPACE, STEP_MS } from './chart-lab.ts';

const skip = process.env['PODWAY_KUBERNETES']
  ? missing()
  : 'takes a quarter of an hour (npm run test:kubernetes-lab)';
const bound = { skip, timeout: 3 * STEP_MS };
/** An attachment without a sandbox is ended when it is five minutes old and two looks a minute apart lack it. */
const NO_SANDBOX_MS = 720_000;
/** As an upgrade of it takes; else what the agents' own timers take (settings of their pools are seconds below). */
const API_AWAY_MS = full ? 300_000 : 60_000;
const BACK_MS = 180_000;
const [ONE, TWO] = ['node-1', 'node-2'] as const;

const lab = new ChartLab(`e2e-broken-${process.pid}`);
const streams = new Streams();
let cluster: Cluster;
let near: Asker;
/** Those that live through all but the reboot, as they were made. */
let kept: PodView[];
/** A pod whose DEL will never come. */
let lost: PodView;

before(async () => {
  if (skip) return;
  await lab.up();
  cluster = new Cluster({
    lab: lab.name,
    kubectl: findBinaries({}).programs.kubectl,
    kubeconfig: lab.env['KUBECONFIG']!,
  });
  await lab.kubectl('create', 'namespace', NAMESPACE);
}, bound);
after(async () => {
  if (skip) return;
  streams.close();
  near?.close();
  cluster?.close();
  await lab.down();
});

let isBroken = false;
/** After one that failed there is nothing to be seen by the next. */
const step = (name: string, run: () => Promise<void>) =>
  test(name, bound, async (t) => {
    if (isBroken) return t.skip('a step before it failed');
    isBroken = true;
    await run();
    isBroken = false;
  });

const views = async (): Promise<PodView[]> =>
  (await cluster.status()).pods.filter(({ namespace }) => namespace === NAMESPACE);
const identity = ({ name, node, ips, netnsPath }: PodView) => [name, node, ips, netnsPath];
const pidOf = (node: string, program: string): number =>
  (JSON.parse(readFileSync(lab.paths(node).processPid(program), 'utf8')) as { pid: number }).pid;

/** The process is another one, and the node is Ready by what it tells. */
async function killed(node: string, program: string): Promise<void> {
  const pid = pidOf(node, program);
  process.kill(pid, 'SIGKILL');
  await eventually(`${program} runs again`, () => pidOf(node, program) !== pid);
}

/** A new pod on the node starts and answers; the others are as they were, their connections too. */
async function goesOn(name: string, node: string = ONE): Promise<void> {
  await cluster.apply(podOf(name, node, server()));
  await cluster.ready(name);
  const [pod] = await cluster.pods(`app=${name}`);
  const from = kept.find((each) => each.name === 'kept-2')!;
  assert.deepEqual(await cluster.ask(from.name, { host: pod!.ip, port: PORT }), [`${name} ${from.ips[0]}`]);
  await streams.alive();
  await cluster.kubectl('delete', 'pod', name, '--wait');
  await unchanged();
}

async function unchanged(): Promise<void> {
  const names = kept.map(({ name }) => name);
  const now = (await views()).filter(({ name }) => names.includes(name));
  assert.deepEqual(now.map(identity).sort(), kept.map(identity).sort());
  const restarts = await cluster.kubectl(
    ...['get', 'pods', ...names, '-o', 'jsonpath={.items[*].status.containerStatuses[0].restartCount}'],
  );
  assert.deepEqual(new Set(restarts.trim().split(' ')), new Set(['0']));
  await cluster.agreed();
}

step('a static pod that waits for a network starts when the agent comes', async () => {
  cluster.staticPod(ONE, 'early', podOf('early', undefined, server()));
  // Kubelet tells the API of it when it starts it.
  const log = lab.paths(ONE).processLog('kubelet');
  await eventually('kubelet waits with it', () =>
    /network is not ready.*pod="scenarios\/early-node-1"/.test(readFileSync(log, 'utf8')),
  );
  await lab.install([
    'host.criSocket=/run/containerd/containerd.sock',
    'settings.warm=4,settings.cooldown=1s',
  ]);
  await lab.nodesReady();
  await cluster.ready('early-node-1');
});

step('pods with connections run on both nodes', async () => {
  await cluster.apply(
    podOf('lost', ONE, server()),
    podOf('kept-1', ONE, server()),
    podOf('kept-1b', ONE, server()),
    podOf('kept-2', TWO, server()),
  );
  await cluster.ready('lost', 'kept-1', 'kept-1b', 'kept-2');
  const pods = await views();
  lost = pods.find(({ name }) => name === 'lost')!;
  kept = pods.filter(({ name }) => /^(kept|early)-/.test(name));
  assert.equal(kept.length, 4);
  const of = (name: string) => kept.find((each) => each.name === name)!;
  near = new Asker(of('kept-1').netnsPath);
  await streams.open(of('kept-1').netnsPath, [
    `${of('kept-1b').ips[0]}:${PORT}`,
    `${of('kept-2').ips[0]}:${PORT}`,
  ]);
  await goesOn('first');
});

step('containerd is killed', async () => {
  await killed(ONE, 'containerd');
  await goesOn('after-containerd');
});

step('kubelet is killed', async () => {
  await killed(ONE, 'kubelet');
  await goesOn('after-kubelet');
});

step('the agent is killed, as by a lack of memory', async () => {
  const fields = 'jsonpath={.items[0].status.containerStatuses[0]';
  const agent = ['-l', 'app.kubernetes.io/component=agent', '--field-selector', `spec.nodeName=${ONE}`];
  const told = (field: string) =>
    lab.kubectl(...RELEASE_NAMESPACE, 'get', 'pods', ...agent, '-o', `${fields}.${field}}`);
  const id = (await told('containerID')).replace('containerd://', '');
  const tasks = await ctr(ONE, 'tasks', 'ls');
  const pid = new RegExp(`^${id} +(\\d+) `, 'm').exec(tasks)?.[1];
  assert.ok(pid, tasks);
  process.kill(Number(pid), 'SIGKILL');
  await eventually('kubelet starts it again', async () => (await told('restartCount')) === '1', BACK_MS);
  await goesOn('after-agent');
});

step('the API server is away: a pod whose address is in the pool starts', async () => {
  const table = ['inet', 'away'];
  const nft = (...args: string[]) => cluster.on('control-plane', 'nft', ...args);
  await nft('add', 'table', ...table);
  await nft('add', 'chain', ...table, 'in', '{ type filter hook input priority 0; }');
  await nft('add', 'rule', ...table, 'in', 'tcp', 'dport', '6443', 'reject', 'with', 'tcp', 'reset');
  const began = performance.now();
  try {
    // Nobody is told of it but kubelet: it is a static one.
    for (const name of ['away-1', 'away-2']) {
      cluster.staticPod(ONE, name, podOf(name, undefined, server()));
      const ip = await eventually(`${name} has an address`, () => heldBy(`${name}-${ONE}`), BACK_MS);
      await eventually('it answers', async () => {
        const [answer] = await near.ask([{ host: ip, port: PORT }]);
        return answer?.startsWith(`${name}-${ONE} `);
      });
      await streams.alive();
      if (name === 'away-1') await sleep(Math.max(0, API_AWAY_MS - (performance.now() - began)));
    }
  } finally {
    await nft('delete', 'table', ...table);
  }
  for (const name of ['away-1', 'away-2']) {
    await eventually(
      `${name} is shown by the API`,
      async () => (await cluster.pods(`app=${name}`)).length === 1,
      BACK_MS,
    );
    cluster.staticPod(ONE, name, null);
    await eventually(
      `${name} is gone`,
      async () => (await cluster.pods(`app=${name}`)).length === 0,
      BACK_MS,
    );
  }
  await goesOn('after-api');
});

step('a sandbox whose DEL never came: its address is free again', async () => {
  const kubelet = pidOf(ONE, 'kubelet');
  process.kill(kubelet, 'SIGSTOP');
  try {
    await cluster.kubectl('delete', 'pod', 'lost', '--force', '--grace-period=0');
    const own = `labels."io.kubernetes.pod.name"==lost`;
    const ids = (await ctr(ONE, 'containers', 'ls', '-q', own)).trim().split('\n');
    assert.equal(ids.length, 2, 'the sandbox and its container');
    for (const id of ids) await ctr(ONE, 'tasks', 'rm', '-f', id);
    for (const id of ids) await ctr(ONE, 'containers', 'rm', id);
    for (const id of ids) await ctr(ONE, 'sandboxes', 'rm', '-f', id).catch(() => {});
    await killed(ONE, 'containerd');
  } finally {
    process.kill(kubelet, 'SIGCONT');
  }
  const links = () => cluster.on(ONE, 'ip', '-o', 'link');
  assert.equal(await heldBy('lost'), lost.ips[0]);
  assert.match(await links(), / scenarios\/lost /);
  await eventually('nobody holds its address', async () => !(await heldBy('lost')), NO_SANDBOX_MS);
  assert.doesNotMatch(await links(), / scenarios\/lost /);
  await goesOn('after-lost');
});

const boots: [string, (ec2: EC2Client, InstanceIds: string[]) => Promise<void>][] = [
  [
    'is rebooted',
    async (ec2, InstanceIds) => {
      await ec2.send(new RebootInstancesCommand({ InstanceIds }));
    },
  ],
  [
    'is stopped and started',
    async (ec2, InstanceIds) => {
      await ec2.send(new StopInstancesCommand({ InstanceIds }));
      await eventually('it is stopped', async () => {
        const { nodes } = await cluster.status();
        return nodes.find(({ name }) => name === TWO)!.state === 'stopped';
      });
      await ec2.send(new StartInstancesCommand({ InstanceIds }));
    },
  ],
];
for (const [what, boot] of boots)
  step(`a node ${what}: all its sandboxes are gone at once`, async () => {
    streams.close();
    await cluster.apply(...['a', 'b', 'c'].map((name) => podOf(`boot-${name}`, TWO, server())));
    await cluster.ready('boot-a', 'boot-b', 'boot-c');
    const names = ['kept-2', 'boot-a', 'boot-b', 'boot-c'];
    const was = (await views()).filter(({ name }) => names.includes(name));
    const env = lab.env;
    const ec2 = ec2ClientOf(env);
    try {
      const { nodes } = await cluster.status();
      await boot(ec2, [nodes.find(({ name }) => name === TWO)!.instanceId]);
    } finally {
      ec2.destroy();
    }
    const old = new Set(was.map(({ netnsPath }) => netnsPath));
    const now = await eventually(
      'its pods run again in other sandboxes',
      async () => {
        const pods = (await views()).filter(({ name }) => names.includes(name));
        return (
          pods.length === names.length &&
          pods.every(
            ({ phase, ips, netnsPath }) =>
              phase === 'Running' && ips.length === 1 && netnsPath !== '' && !old.has(netnsPath),
          ) &&
          pods
        );
      },
      BACK_MS,
    );
    await lab.nodesReady();
    await cluster.ready(...names);
    assert.equal(new Set((await views()).flatMap(({ ips }) => ips)).size, (await views()).length);
    const from = kept.find(({ name }) => name === 'kept-1')!;
    const answers = await near.ask(now.map(({ ips }) => ({ host: ips[0]!, port: PORT })));
    assert.deepEqual(
      answers,
      now.map(({ name }) => `${name} ${from.ips[0]}`),
    );
    await cluster.agreed();
    await cluster.kubectl('delete', 'pod', 'boot-a', 'boot-b', 'boot-c', '--wait');
    await cluster.agreed();
  });

async function heldBy(pod: string): Promise<string | undefined> {
  const [shown] = JSON.parse(await cluster.podway('ipam', 'show', '--node', ONE, '-o', 'json')) as IpamNode[];
  return shown!.enis
    .flatMap(({ addresses }) => addresses)
    .find((each) => each.state === 'held' && each.pod === `${NAMESPACE}/${pod}`)?.ip;
}

function ctr(node: string, ...args: string[]): Promise<string> {
  const address = lab.paths(node).containerdSocket;
  return executeOk([findBinaries({}).programs.ctr, '--address', address, '-n', 'k8s.io', ...args]);
}
