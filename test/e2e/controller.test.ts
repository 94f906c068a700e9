// The cluster's controller on the embedded cluster: a node without addresses gets no pod until one is free again, taints
// that are wrong go when a killed controller is back, and the ENIs that a gone node has left are swept, no other.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, before, test } from 'node:test';
import {
  DescribeNetworkInterfacesCommand,
  type EC2Client,
  ModifyNetworkInterfaceAttributeCommand,
  TerminateInstancesCommand,
} from '@aws-sdk/client-ec2';
import { CoreV1Api, CustomObjectsApi, type V1Taint } from '@kubernetes/client-node';
import { controllerPaths } from '../../src/lab/cluster/controller.ts';
import { labPaths } from '../../src/lab/daemon/paths.ts';
import { eventually } from '../support/wait.ts';
import { skip } from './command.ts';
import { Lab } from './lab.ts';

const NO_ADDRESS = 'podway.dev/no-address';
const NOT_READY = 'podway.dev/agent-not-ready';

const lab = new Lab('ctrl', [
  // Two ENIs of one pod address each.
  ...['--nodes', '2', '--instance-type', 't3.micro'],
  ...['--set', 'cooldown=0s', '--set', 'idleRelease=1h', '--set', 'warm=2'],
  ...['--set', 'controller=process', '--set', 'env=PODWAY_SWEEP_GAP=1s'],
]);
let api: CoreV1Api;
let custom: CustomObjectsApi;
let ec2: EC2Client;

before(async () => {
  if (skip) return;
  await lab.up();
  const kube = await lab.kube();
  api = kube.makeApiClient(CoreV1Api);
  custom = kube.makeApiClient(CustomObjectsApi);
  ec2 = await lab.ec2();
});
after(async () => {
  if (skip) return;
  ec2?.destroy();
  await lab.down();
});

const taintsOf = async (name: string): Promise<string[]> =>
  ((await api.readNode({ name })).spec?.taints ?? []).map(({ key }) => key);
const condition = async (name: string) =>
  (await api.readNode({ name })).status?.conditions?.find(
    ({ type }) => (type as string) === 'PodwayAddressesAvailable',
  );
const podOf = async (name: string) => api.readNamespacedPod({ name, namespace: 'default' });
const phase = async (name: string) => (await podOf(name)).status?.phase;

async function taint(name: string, key: string): Promise<void> {
  const taints: V1Taint[] = (await api.readNode({ name })).spec?.taints ?? [];
  const body = [{ op: 'add', path: '/spec/taints', value: [...taints, { key, effect: 'NoSchedule' }] }];
  await api.patchNode({ name, body });
}

type Own = { metadata: { name: string }; spec: { instanceId: string; enis: { id: string; type: string }[] } };
const owns = async (): Promise<Own[]> => {
  const of = { group: 'podway.dev', version: 'v1alpha1', plural: 'podwaynodes' };
  return ((await custom.listClusterCustomObject(of)) as { items: Own[] }).items;
};
const own = async (node: string) => (await owns()).find(({ metadata }) => metadata.name === node);
const enisIn = async (): Promise<string[]> => {
  const { NetworkInterfaces = [] } = await ec2.send(new DescribeNetworkInterfacesCommand({}));
  return NetworkInterfaces.map((one) => one.NetworkInterfaceId!);
};
const controllerPid = (): number =>
  (JSON.parse(readFileSync(controllerPaths(labPaths(lab.name).controller).pid, 'utf8')) as { pid: number })
    .pid;

test('a node without addresses gets no pod; when one is freed, the pod that waits starts', {
  skip,
}, async () => {
  for (const name of ['p1', 'p2', 'p3', 'p4']) await lab.run(name);
  for (const node of ['node-1', 'node-2']) {
    await eventually('the node says so', async () => (await taintsOf(node)).includes(NO_ADDRESS));
    const said = await eventually('in a condition too', () => condition(node));
    assert.equal(said.status, 'False');
    assert.match(said.message ?? '', /2 addresses are held, none is free/);
  }
  await lab.podway('pod', 'run', 'p5', '--no-wait');
  const waiting = await eventually('the pod is told why it waits', async () => {
    const { spec, status } = await podOf('p5');
    const scheduled = status?.conditions?.find(({ type }) => type === 'PodScheduled');
    return scheduled?.status === 'False' && { node: spec?.nodeName, message: scheduled.message };
  });
  assert.equal(waiting.node, undefined);
  assert.match(waiting.message ?? '', /untolerated taint/);
  const { items } = await api.listNamespacedEvent({ namespace: 'default' });
  assert.ok(
    items.some(({ reason, involvedObject }) => reason === 'NoAddress' && involvedObject.name === 'node-1'),
  );

  await lab.delete('p1');
  await eventually('the pod starts', async () => (await phase('p5')) === 'Running');
  await lab.delete('p2', 'p3', 'p4', 'p5');
  for (const node of ['node-1', 'node-2']) {
    await eventually('the taint goes', async () => (await taintsOf(node)).length === 0);
    await eventually('the condition says so', async () => (await condition(node))?.status === 'True');
  }
});

test('the startup taint goes when the agent is ready, also from a Node that registers anew', {
  skip,
}, async () => {
  await taint('node-1', NOT_READY);
  await eventually('it is taken off', async () => (await taintsOf('node-1')).length === 0);
  const { uid } = (await api.readNode({ name: 'node-1' })).metadata!;
  await api.deleteNode({ name: 'node-1' });
  await eventually('the node registers anew', async () => {
    const node = await api.readNode({ name: 'node-1' });
    return node.metadata?.uid !== uid;
  });
  await taint('node-1', NOT_READY);
  await eventually('it is taken off again', async () => (await taintsOf('node-1')).length === 0);
});

test('a taint that became wrong while no controller ran goes when it is back', { skip }, async () => {
  const pid = controllerPid();
  process.kill(pid, 'SIGSTOP');
  await taint('node-2', NO_ADDRESS);
  // Nobody leads: pods start all the same, on the other node.
  await lab.run('alone');
  assert.equal((await podOf('alone')).spec?.nodeName, 'node-1');
  assert.deepEqual(await taintsOf('node-2'), [NO_ADDRESS]);
  process.kill(pid, 'SIGKILL');
  await eventually('the next one takes it off', async () => (await taintsOf('node-2')).length === 0);
  assert.notEqual(controllerPid(), pid);
  await lab.delete('alone');
});

test('the ENIs that a gone node has left are swept, and no other', { skip, timeout: 240_000 }, async () => {
  const gone = await eventually('node-2 has two ENIs', async () => {
    const found = await own('node-2');
    return found && found.spec.enis.length === 2 && found;
  });
  const others = (await enisIn()).filter((id) => gone.spec.enis.every((eni) => eni.id !== id));
  const { id } = gone.spec.enis.find(({ type }) => type === 'secondary')!;
  const { NetworkInterfaces } = await ec2.send(
    new DescribeNetworkInterfacesCommand({ NetworkInterfaceIds: [id] }),
  );
  const AttachmentId = NetworkInterfaces![0]!.Attachment!.AttachmentId;
  await ec2.send(
    new ModifyNetworkInterfaceAttributeCommand({
      NetworkInterfaceId: id,
      Attachment: { AttachmentId, DeleteOnTermination: false },
    }),
  );
  await ec2.send(new TerminateInstancesCommand({ InstanceIds: [gone.spec.instanceId] }));
  await eventually(
    'the ENI stays behind',
    async () => !(await own('node-2')) || (await enisIn()).includes(id),
  );
  process.kill(controllerPid(), 'SIGKILL');
  await eventually('it is swept', async () => !(await enisIn()).includes(id));
  await eventually('the PodwayNode has served', async () => (await own('node-2')) === undefined);
  assert.deepEqual((await enisIn()).sort(), others.sort());

  await lab.up();
  const back = await eventually('the node is back', () => own('node-2'));
  assert.notEqual(back.spec.instanceId, gone.spec.instanceId);
  await lab.run('again');
  await lab.agreed();
});
