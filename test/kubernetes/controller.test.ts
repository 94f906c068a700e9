// The controller on a real Kubernetes: kubelets that register with the startup taint, kube-scheduler that keeps pods away from
// nodes without addresses, EC2 that goes away and comes back, a node that joins meanwhile. How long things took is told,
// not judged. `npm run test:kubernetes-lab`.
import assert from 'node:assert/strict';
import { after, before, type TestContext, test } from 'node:test';
import { StartInstancesCommand, StopInstancesCommand } from '@aws-sdk/client-ec2';
import { CoreV1Api, type V1Node } from '@kubernetes/client-node';
import { IN_LAB } from '../../src/lab/daemon/endpoints.ts';
import { executeOk, skip as notRoot } from '../e2e/command.ts';
import { Lab } from '../e2e/lab.ts';
import { missingKubernetes } from '../support/kubernetes.ts';
import { eventually } from '../support/wait.ts';

const skip =
  notRoot ||
  (process.env['PODWAY_KUBERNETES'] ? false : 'takes two minutes (npm run test:kubernetes-lab)') ||
  missingKubernetes();
const bound = { skip, timeout: 300_000 };
const NO_ADDRESS = 'podway.dev/no-address';
const NODES = ['node-1', 'node-2'] as const;

const lab = new Lab('kctrl', [
  // Two ENIs of one pod address each; all settings are the defaults, as is what an address rests.
  ...['--kubernetes', '--nodes', '2', '--instance-type', 't3.micro', '--set', 'controller=process'],
]);
let api: CoreV1Api;
let isAway = false;

before(async () => {
  if (skip) return;
  await lab.up();
  api = (await lab.kube()).makeApiClient(CoreV1Api);
}, bound);
after(async () => {
  if (skip) return;
  if (isAway) await beginEc2();
  await lab.down();
});

const router = (): string => `podway_${lab.name}_vpc`;
async function endEc2(): Promise<void> {
  const chain = 'chain input { type filter hook input priority -300; policy accept;';
  const rule = `ip daddr ${IN_LAB.ec2Address} tcp dport 80 drop;`;
  await executeOk(['ip', 'netns', 'exec', router(), 'nft', `table inet away {\n${chain}\n${rule}\n}\n}`]);
  isAway = true;
}
async function beginEc2(): Promise<void> {
  await executeOk(['ip', 'netns', 'exec', router(), 'nft', 'delete table inet away']);
  isAway = false;
}

const node = (name: string): Promise<V1Node> => api.readNode({ name });
const conditionOf = (of: V1Node, type: string) =>
  of.status?.conditions?.find((one) => (one.type as string) === type);
const hasTaint = (of: V1Node, key: string) => of.spec?.taints?.some((one) => one.key === key) === true;
const podOf = (name: string) => api.readNamespacedPod({ name, namespace: 'default' });
const runs = async (name: string) => (await podOf(name)).status?.phase === 'Running';
const waitsForNode = async (name: string) => {
  const { spec, status } = await podOf(name);
  return (
    spec?.nodeName === undefined &&
    status?.conditions?.some(({ type, status: is }) => type === 'PodScheduled' && is === 'False')
  );
};
const eventOf = async (name: string, reason: string) =>
  (await api.listNamespacedEvent({ namespace: 'default' })).items.some(
    (one) => one.involvedObject.name === name && one.reason === reason,
  );
const isOut = (name: string) =>
  eventually(
    `${name} says that it has no address`,
    async () => hasTaint(await node(name), NO_ADDRESS),
    60_000,
  );
const isOpen = (name: string) =>
  eventually(`${name} has an address again`, async () => !hasTaint(await node(name), NO_ADDRESS), 60_000);

async function timed(t: TestContext, what: string, done: Promise<unknown>): Promise<void> {
  const began = performance.now();
  await done;
  t.diagnostic(`${what}: ${((performance.now() - began) / 1000).toFixed(1)} s`);
}

test('kubelets register with the startup taint, and the controller takes it off', bound, async () => {
  for (const name of NODES)
    await eventually(
      'it is gone',
      async () => !hasTaint(await node(name), 'podway.dev/agent-not-ready'),
      60_000,
    );
});

test('nodes without addresses get no pod; a freed address starts the one that waits', bound, async (t) => {
  // CoreDNS has one of the four.
  await eventually(
    'CoreDNS runs',
    async () => {
      const { items } = await api.listNamespacedPod({ namespace: 'kube-system' });
      return items.every(({ status }) => status?.podIP !== undefined);
    },
    60_000,
  );
  for (const name of ['p1', 'p2', 'p3']) await lab.run(name);
  for (const name of NODES) await isOut(name);
  await lab.podway('pod', 'run', 'p4', '--no-wait');
  await eventually('the pod waits for a node', () => waitsForNode('p4'));
  await lab.delete('p1');
  await timed(
    t,
    'from the end of one pod, whose address rests 30 s, to the start of the next',
    eventually('p4 runs', () => runs('p4'), 90_000),
  );
});

test('EC2 away: the nodes stay Ready and say so; what is full gets no pod; on its return all is as before', {
  ...bound,
  timeout: 900_000,
}, async (t) => {
  await lab.delete('p2');
  await eventually(
    'an address is free',
    async () => (await Promise.all(NODES.map(node))).some((one) => !hasTaint(one, NO_ADDRESS)),
    90_000,
  );
  await endEc2();
  const bothSay = (status: 'True' | 'False', boundMs: number) =>
    eventually(
      'they say so',
      async () => {
        const all = await Promise.all(NODES.map(node));
        return all.every((one) => conditionOf(one, 'PodwayCloudReachable')?.status === status);
      },
      boundMs,
    );
  await timed(
    t,
    'until both nodes say that EC2 is away',
    // A full node needs nothing of EC2, and asks it every five minutes and up to half as long again.
    bothSay('False', 520_000),
  );
  for (const name of NODES) {
    assert.equal(conditionOf(await node(name), 'Ready')?.status, 'True');
    assert.ok(await eventOf(name, 'CloudUnreachable'), 'an Event says so');
  }
  await lab.run('while-away');
  for (const name of NODES) await isOut(name);
  await lab.podway('pod', 'run', 'later', '--no-wait');
  await eventually('the next pod waits for a node', () => waitsForNode('later'));
  for (const name of NODES) assert.equal(conditionOf(await node(name), 'Ready')?.status, 'True');
  await beginEc2();
  await timed(t, 'until both nodes say that EC2 is back', bothSay('True', 60_000));
  await lab.delete('while-away');
  await eventually('the pod that waited runs', () => runs('later'), 90_000);
});

test(
  'a node that joins while EC2 is away says so and gets no pod, and takes some when it is back',
  bound,
  async (t) => {
    const gone = (await lab.pods()).filter((pod) => pod.node === 'node-2' && pod.namespace === 'default');
    for (const { name } of gone) await lab.delete(name);
    const ec2 = await lab.ec2();
    const InstanceIds = [(await node('node-2')).spec!.providerID!.split('/').at(-1)!];
    await ec2.send(new StopInstancesCommand({ InstanceIds }));
    await eventually(
      'it is off',
      async () => conditionOf(await node('node-2'), 'Ready')?.status !== 'True',
      90_000,
    );
    await endEc2();
    await ec2.send(new StartInstancesCommand({ InstanceIds }));
    ec2.destroy();
    await eventually(
      'the agent that has just started says so',
      async () => {
        const one = await node('node-2');
        return (
          hasTaint(one, NO_ADDRESS) &&
          conditionOf(one, 'PodwayAddressesAvailable')?.reason === 'CloudUnreachable'
        );
      },
      120_000,
    );
    await beginEc2();
    await timed(t, 'from the return of EC2 until the node takes pods', isOpen('node-2'));
    await lab.run('joined');
  },
);
