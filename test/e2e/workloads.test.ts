// Ordinary manifests on the lab's own Kubernetes, with real pods: a Deployment of 5, a DaemonSet and a Job to the end of
// their rollouts, by what `kubectl rollout status` and `kubectl wait` ask for; and what nodes and pods leave behind.
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { after, before, test } from 'node:test';
import { AppsV1Api, BatchV1Api, CoreV1Api, type V1PodSpec } from '@kubernetes/client-node';
import { eventually } from '../support/wait.ts';
import { execute, skip, told } from './command.ts';
import { Lab } from './lab.ts';

const lab = new Lab('work');
const namespace = 'default';
let apps: AppsV1Api;
let batch: BatchV1Api;
let core: CoreV1Api;

before(async () => {
  if (skip) return;
  await lab.up();
  const config = await lab.kube();
  apps = config.makeApiClient(AppsV1Api);
  batch = config.makeApiClient(BatchV1Api);
  core = config.makeApiClient(CoreV1Api);
});
after(async () => {
  if (!skip) await lab.down();
});

const workload = (name: string, spec: V1PodSpec) => ({
  selector: { matchLabels: { app: name } },
  template: { metadata: { labels: { app: name } }, spec },
});

const podsOf = async (app: string) =>
  (await core.listNamespacedPod({ namespace, labelSelector: `app=${app}` })).items;

test('a Deployment of 5, a DaemonSet and a Job come to their end', { skip }, async () => {
  const main = { name: 'main', image: 'nginx:1' };
  await apps.createNamespacedDeployment({
    namespace,
    body: { metadata: { name: 'web' }, spec: { replicas: 5, ...workload('web', { containers: [main] }) } },
  });
  await apps.createNamespacedDaemonSet({
    namespace,
    body: {
      metadata: { name: 'agent' },
      spec: workload('agent', { containers: [{ ...main, command: ['sleep', '600'] }] }),
    },
  });
  await batch.createNamespacedJob({
    namespace,
    body: {
      metadata: { name: 'sum' },
      spec: {
        completions: 3,
        parallelism: 2,
        template: {
          spec: { restartPolicy: 'Never', containers: [{ ...main, command: ['sh', '-c', 'echo done'] }] },
        },
      },
    },
  });
  const web = await eventually('the Deployment rolls out', async () => {
    const { metadata, status } = await apps.readNamespacedDeployment({ name: 'web', namespace });
    return status?.observedGeneration === metadata!.generation && status?.availableReplicas === 5 && status;
  });
  assert.deepEqual([web.updatedReplicas, web.replicas], [5, 5]);
  await eventually('the DaemonSet rolls out', async () => {
    const { status } = await apps.readNamespacedDaemonSet({ name: 'agent', namespace });
    return status?.desiredNumberScheduled === 2 && status.numberAvailable === 2;
  });
  await eventually('the Job completes', async () => {
    const { status } = await batch.readNamespacedJob({ name: 'sum', namespace });
    return status?.conditions?.some((each) => each.type === 'Complete') && status.succeeded === 3;
  });
  const agents = await podsOf('agent');
  assert.deepEqual(agents.map((pod) => pod.spec!.nodeName).sort(), ['node-1', 'node-2']);
  const ips = [...(await podsOf('web')), ...agents].map((pod) => pod.status!.podIP);
  assert.equal(new Set(ips).size, 7);
  await lab.agreed();
  await apps.deleteNamespacedDeployment({ name: 'web', namespace, propagationPolicy: 'Foreground' });
  await eventually('the Deployment goes after its pods', async () => {
    const left = await podsOf('web');
    const { items } = await apps.listNamespacedDeployment({ namespace });
    assert.ok(left.length === 0 || items.length > 0, 'the Deployment went before its pods');
    return items.length === 0;
  });
});

test('kubectl apply, rollout status, restart, undo, scale, wait and create token', { skip }, async (t) => {
  const version = await execute(['kubectl', 'version', '--client']).catch(() => undefined);
  if (version?.code !== 0) return t.skip('kubectl is not installed');
  const { KUBECONFIG } = await lab.env();
  const kubectl = async (...args: string[]): Promise<string> => {
    const ran = await execute(['kubectl', ...args], { KUBECONFIG: KUBECONFIG! });
    assert.equal(ran.code, 0, told(['kubectl', ...args], ran));
    return ran.stdout + ran.stderr;
  };
  const made = await kubectl('create', 'deployment', 'site', '--image=nginx:1', '--replicas=5');
  assert.match(made, /deployment\.apps\/site created/);
  assert.match(made, /Warning: .*"nginx:1" is not pulled here: the lab's built-in server/);
  const status = () => kubectl('rollout', 'status', 'deployment/site', '--timeout=60s');
  assert.match(await status(), /successfully rolled out/);
  await kubectl('set', 'image', 'deployment/site', 'nginx=nginx:2');
  assert.match(await status(), /successfully rolled out/);
  await kubectl('rollout', 'restart', 'deployment/site');
  assert.match(await status(), /successfully rolled out/);
  assert.match(await kubectl('rollout', 'history', 'deployment/site'), /^1 [\s\S]*^2 [\s\S]*^3 /m);
  await kubectl('rollout', 'undo', 'deployment/site', '--to-revision=1');
  assert.match(await status(), /successfully rolled out/);
  await kubectl('scale', 'deployment/site', '--replicas=2');
  assert.match(await status(), /successfully rolled out/);
  const images = await kubectl(
    'get',
    'pods',
    '-l',
    'app=site',
    '-o',
    'jsonpath={..spec.containers[0].image}',
  );
  assert.match(images, /^nginx:1 nginx:1( nginx:1)*$/);
  await kubectl('delete', 'deployment', 'site', '--cascade=foreground', '--timeout=60s');

  assert.match(
    await kubectl('rollout', 'status', 'daemonset/agent', '--timeout=60s'),
    /successfully rolled out/,
  );
  await kubectl('rollout', 'restart', 'daemonset/agent');
  assert.match(
    await kubectl('rollout', 'status', 'daemonset/agent', '--timeout=60s'),
    /successfully rolled out/,
  );

  await kubectl('create', 'job', 'once', '--image=busybox', '--', 'true');
  assert.match(
    await kubectl('wait', '--for=condition=complete', 'job/once', '--timeout=60s'),
    /condition met/,
  );
  assert.match(await kubectl('create', 'token', 'default'), /^eyJ/);
});

test('a deleted Node of a running instance comes back, Ready, and its pods stay', { skip }, async () => {
  const { uid } = (await core.readNode({ name: 'node-1' })).metadata!;
  const before = await lab.run('stays', '--node', 'node-1');
  await core.deleteNode({ name: 'node-1' });
  await eventually('the Node is Ready again', async () => {
    const { items } = await core.listNode();
    const node = items.find((each) => each.metadata!.name === 'node-1');
    return (
      node !== undefined &&
      node.metadata!.uid !== uid &&
      node.status?.conditions?.some((each) => each.type === 'Ready' && each.status === 'True')
    );
  });
  const [pod] = (await lab.pods()).filter((each) => each.name === 'stays');
  assert.deepEqual([pod?.phase, pod?.ips], ['Running', before.ips]);
});

/** Processes that sleep for just that long. */
const sleeping = (seconds: string): number[] =>
  readdirSync('/proc')
    .filter((entry) => /^[0-9]+$/.test(entry))
    .filter((entry) => {
      try {
        return readFileSync(`/proc/${entry}/cmdline`, 'utf8') === `sleep\0${seconds}\0`;
      } catch {
        return false;
      }
    })
    .map(Number);

test('what a pod’s process leaves running ends with it, on the host network too', { skip }, async () => {
  for (const hostNetwork of [false, true]) {
    // No other process sleeps for just that long.
    const seconds = `${90_000 + (process.pid % 10_000)}.${hostNetwork ? 1 : 2}`;
    const command = ['sh', '-c', `setsid sleep ${seconds} & exit 0`];
    const name = `leaves-${hostNetwork}`;
    const spec = { nodeName: 'node-1', hostNetwork, containers: [{ name: 'main', image: 'any', command }] };
    const body = { metadata: { name }, spec };
    await core.createNamespacedPod({ namespace, body });
    // It is started again and again, and never more than one of what it leaves is there.
    await eventually('the pod has restarted twice', async () => {
      assert.ok(sleeping(seconds).length <= 1, `${sleeping(seconds).length} are left`);
      const { status } = await core.readNamespacedPod({ name, namespace });
      return (status?.containerStatuses?.[0]?.restartCount ?? 0) >= 2;
    });
    await lab.delete(name);
    // A process that got its signal may not have ended yet.
    await eventually('nothing is left', () => sleeping(seconds).length === 0);
  }
});
