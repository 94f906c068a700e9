// The controllers on the API, with the requests that kubectl sends, by the stock JavaScript client.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  AppsV1Api,
  BatchV1Api,
  KubeConfig,
  PatchStrategy,
  setHeaderOptions,
  type V1DaemonSet,
  type V1Deployment,
  type V1Job,
} from '@kubernetes/client-node';
import type { KubeObject, Pod } from '../../../kube/index.ts';
import { events, nodes, pods } from '../../../kube/index.ts';
import { ApiError } from '../api/index.ts';
import { until } from '../api/testing.ts';
import {
  controllerRevisions,
  type Deployment,
  daemonSets,
  deployments,
  type Job,
  jobs,
  replicaSets,
} from '../workloads.ts';
import { ABSENT_NODE, type Cluster, startCluster } from './testing.ts';

const namespace = 'default';

function clients({ h }: Cluster): { apps: AppsV1Api; batch: BatchV1Api } {
  const config = new KubeConfig();
  config.loadFromFile(h.kubeconfigPath);
  return { apps: config.makeApiClient(AppsV1Api), batch: config.makeApiClient(BatchV1Api) };
}

const template = (name: string, image: string, more: object = {}) => ({
  metadata: { labels: { app: name } },
  spec: { containers: [{ name: 'main', image }], ...more },
});

const deployment = (name: string, replicas: number, image = 'web:1'): V1Deployment => ({
  metadata: { name },
  spec: { replicas, selector: { matchLabels: { app: name } }, template: template(name, image) },
});

const daemonSet = (name: string, image = 'agent:1'): V1DaemonSet => ({
  metadata: { name },
  spec: { selector: { matchLabels: { app: name } }, template: template(name, image) },
});

const job = (name: string, spec: Partial<V1Job['spec']> = {}): V1Job => ({
  metadata: { name },
  spec: {
    template: {
      spec: { restartPolicy: 'Never', containers: [{ name: 'main', image: 'x', command: ['work'] }] },
    },
    ...spec,
  } as V1Job['spec'] & object,
});

/** What `kubectl rollout status deployment` waits for (kubectl/pkg/polymorphichelpers). */
async function rolledOut(apps: AppsV1Api, name: string): Promise<void> {
  await until(`rollout of ${name}`, async () => {
    const { metadata, spec, status = {} } = await apps.readNamespacedDeployment({ name, namespace });
    if ((status.observedGeneration ?? 0) < metadata!.generation!) return false;
    const late = status.conditions?.find((each) => each.reason === 'ProgressDeadlineExceeded');
    assert.equal(late, undefined);
    const updated = status.updatedReplicas ?? 0;
    return (
      updated >= spec!.replicas! &&
      (status.replicas ?? 0) <= updated &&
      (status.availableReplicas ?? 0) >= updated
    );
  });
}

/** And for a DaemonSet. */
async function daemonsRolledOut(apps: AppsV1Api, name: string): Promise<void> {
  await until(`rollout of ${name}`, async () => {
    const { metadata, spec, status } = await apps.readNamespacedDaemonSet({ name, namespace });
    assert.equal(spec!.updateStrategy!.type, 'RollingUpdate');
    if ((status?.observedGeneration ?? 0) < metadata!.generation!) return false;
    const wanted = status!.desiredNumberScheduled;
    return (status!.updatedNumberScheduled ?? 0) >= wanted && (status!.numberAvailable ?? 0) >= wanted;
  });
}

const strategic = setHeaderOptions('Content-Type', PatchStrategy.StrategicMergePatch);
const imagesOf = (alive: Pod[]): string[] => [...new Set(alive.map((pod) => pod.spec.containers[0]!.image!))];

test('a Deployment of 5 rolls out, over and back, and keeps its bounds all the way', async () => {
  await using cluster = await startCluster(['node-1', 'node-2']);
  const { apps } = clients(cluster);
  const body = deployment('web', 5);
  await apps.createNamespacedDeployment({ namespace, body });
  await rolledOut(apps, 'web');
  assert.equal(cluster.alive().length, 5);

  // A new image: maxSurge 25 % of 5 is 2 more, maxUnavailable 1 fewer.
  const image = { spec: { template: { spec: { containers: [{ name: 'main', image: 'web:2' }] } } } };
  await apps.patchNamespacedDeployment({ name: 'web', namespace, body: image }, strategic);
  await rolledOut(apps, 'web');
  assert.deepEqual(imagesOf(cluster.alive()), ['web:2']);
  const { most, fewestReady } = cluster.extremes(5);
  assert.ok(most <= 7, `${most} pods at once`);
  assert.ok(fewestReady >= 4, `only ${fewestReady} ready pods`);

  // `kubectl rollout undo`: the template of the set with the revision before, without its hash.
  const { items } = await apps.listNamespacedReplicaSet({ namespace, labelSelector: 'app=web' });
  const revision = (set: (typeof items)[number]) =>
    set.metadata!.annotations!['deployment.kubernetes.io/revision'];
  assert.deepEqual(items.map(revision).sort(), ['1', '2']);
  const first = items.find((set) => revision(set) === '1')!;
  assert.equal(
    first.metadata!.labels!['pod-template-hash'],
    first.spec!.selector.matchLabels!['pod-template-hash'],
  );
  const { 'pod-template-hash': _, ...labels } = first.spec!.template!.metadata!.labels!;
  const value = { ...first.spec!.template, metadata: { ...first.spec!.template!.metadata, labels } };
  await apps.patchNamespacedDeployment(
    { name: 'web', namespace, body: [{ op: 'replace', path: '/spec/template', value }] },
    setHeaderOptions('Content-Type', PatchStrategy.JsonPatch),
  );
  await rolledOut(apps, 'web');
  assert.deepEqual(imagesOf(cluster.alive()), ['web:1']);
  const after = await apps.readNamespacedDeployment({ name: 'web', namespace });
  assert.equal(after.metadata!.annotations!['deployment.kubernetes.io/revision'], '3');
  const conditions = Object.fromEntries(after.status!.conditions!.map((each) => [each.type, each.reason]));
  assert.deepEqual(conditions, {
    Available: 'MinimumReplicasAvailable',
    Progressing: 'NewReplicaSetAvailable',
  });
});

test('a Deployment is scaled up and down, and replaces a pod that ends', async () => {
  await using cluster = await startCluster(['node-1']);
  const { apps } = clients(cluster);
  await apps.createNamespacedDeployment({ namespace, body: deployment('web', 2) });
  await rolledOut(apps, 'web');
  for (const replicas of [6, 1]) {
    await apps.patchNamespacedDeploymentScale(
      { name: 'web', namespace, body: { spec: { replicas } } },
      setHeaderOptions('Content-Type', PatchStrategy.MergePatch),
    );
    await rolledOut(apps, 'web');
    assert.equal(cluster.alive().length, replicas);
  }
  const [pod] = cluster.alive();
  cluster.store.updateStatus(pods, { ...pod!, status: { ...pod!.status, phase: 'Failed' } });
  await until('another pod', () => cluster.alive().length === 1);
  await rolledOut(apps, 'web');
  assert.equal(cluster.store.list(pods).length, 2);
});

test('Recreate has no two templates at once, and a paused Deployment waits', async () => {
  await using cluster = await startCluster(['node-1']);
  const { store } = cluster;
  const { apps } = clients(cluster);
  const body = deployment('web', 3);
  body.spec!.strategy = { type: 'Recreate' };
  await apps.createNamespacedDeployment({ namespace, body });
  await rolledOut(apps, 'web');
  let mixed = false;
  const watch = store.watch(pods, () => {
    mixed ||= imagesOf(store.list(pods) as Pod[]).length > 1;
  });
  const change = (image: string, paused: boolean) =>
    store.patch(
      deployments,
      'web',
      namespace,
      { spec: { paused, template: { spec: { containers: [{ name: 'main', image }] } } } },
      { type: 'strategic' },
    );
  change('web:2', false);
  await rolledOut(apps, 'web');
  watch.close();
  assert.deepEqual([mixed, imagesOf(cluster.alive())], [false, ['web:2']]);
  change('web:3', true);
  await until('the pause', () =>
    store
      .get(deployments, 'web', namespace)
      .status!.conditions!.some((each) => each.reason === 'DeploymentPaused'),
  );
  assert.deepEqual(imagesOf(cluster.alive()), ['web:2']);
  change('web:3', false);
  await rolledOut(apps, 'web');
  assert.deepEqual(imagesOf(cluster.alive()), ['web:3']);
});

test('what a Deployment owns goes with it, before it, or stays: by the policy of the delete', async () => {
  await using cluster = await startCluster(['node-1']);
  const { store } = cluster;
  const { apps } = clients(cluster);
  const make = async () => {
    await apps.createNamespacedDeployment({ namespace, body: deployment('web', 2) });
    await rolledOut(apps, 'web');
  };
  await make();
  store.delete(deployments, 'web', namespace, { propagationPolicy: 'Background' });
  assert.equal(store.find(deployments, 'web', namespace), null);
  await until('no pods', () => store.list(pods).length === 0 && store.list(replicaSets).length === 0);

  await make();
  const { gone } = store.delete(deployments, 'web', namespace, { propagationPolicy: 'Foreground' });
  assert.equal(gone, false);
  assert.deepEqual(store.get(deployments, 'web', namespace).metadata.finalizers, ['foregroundDeletion']);
  assert.equal(store.list(pods).length, 2);
  await until('no Deployment', () => store.find(deployments, 'web', namespace) === null);
  assert.deepEqual([store.list(pods).length, store.list(replicaSets).length], [0, 0]);

  await make();
  store.delete(deployments, 'web', namespace, { propagationPolicy: 'Orphan' });
  const [set] = store.list(replicaSets);
  assert.equal(set!.metadata.ownerReferences, undefined);
  assert.equal(cluster.alive().length, 2);
  // A new Deployment with that selector takes the set and its pods as they are.
  const names = cluster.alive().map((pod) => pod.metadata.name);
  await make();
  assert.equal(store.list(replicaSets)[0]!.metadata.ownerReferences![0]!.kind, 'Deployment');
  assert.deepEqual(
    cluster.alive().map((pod) => pod.metadata.name),
    names,
  );
});

test('a DaemonSet has a pod on every node, follows nodes and taints, rolls over and back', async () => {
  await using cluster = await startCluster(['node-1', 'node-2', 'node-3']);
  const { store } = cluster;
  const { apps } = clients(cluster);
  await apps.createNamespacedDaemonSet({ namespace, body: daemonSet('agent') });
  await daemonsRolledOut(apps, 'agent');
  const places = () =>
    cluster
      .alive()
      .map((pod) => pod.spec.nodeName)
      .sort();
  assert.deepEqual(places(), ['node-1', 'node-2', 'node-3']);

  store.create(nodes, { metadata: { name: 'node-4' } });
  await daemonsRolledOut(apps, 'agent');
  assert.equal(places().length, 4);
  store.patch(nodes, 'node-4', '', { spec: { taints: [{ key: 'gpu', effect: 'NoExecute' }] } });
  await until('the pod to leave', () => places().length === 3);

  const image = { spec: { template: { spec: { containers: [{ name: 'main', image: 'agent:2' }] } } } };
  await apps.patchNamespacedDaemonSet({ name: 'agent', namespace, body: image }, strategic);
  await daemonsRolledOut(apps, 'agent');
  assert.deepEqual(imagesOf(cluster.alive()), ['agent:2']);
  assert.ok(cluster.extremes(4).fewestReady >= 2);

  // `kubectl rollout undo`: the data of the revision before is the patch.
  const revisions = [...store.list(controllerRevisions)].sort((a, b) => a.revision - b.revision);
  assert.deepEqual(
    revisions.map((each) => each.revision),
    [1, 2],
  );
  store.patch(daemonSets, 'agent', namespace, revisions[0]!.data, { type: 'strategic' });
  await daemonsRolledOut(apps, 'agent');
  assert.deepEqual(imagesOf(cluster.alive()), ['agent:1']);
  await until('the revision', () => store.list(controllerRevisions).some((each) => each.revision === 3));
});

test('a DaemonSet with maxSurge has the new pod of a node before the old one goes', async () => {
  await using cluster = await startCluster(['node-1', 'node-2', 'node-3']);
  const { apps } = clients(cluster);
  const body = daemonSet('agent');
  body.spec!.updateStrategy = { rollingUpdate: { maxSurge: 1, maxUnavailable: 0 } };
  await apps.createNamespacedDaemonSet({ namespace, body });
  await daemonsRolledOut(apps, 'agent');
  const image = { spec: { template: { spec: { containers: [{ name: 'main', image: 'agent:2' }] } } } };
  await apps.patchNamespacedDaemonSet({ name: 'agent', namespace, body: image }, strategic);
  await daemonsRolledOut(apps, 'agent');
  await until('the old pods to go', () => imagesOf(cluster.alive()).length === 1);
  assert.deepEqual(cluster.extremes(3), { most: 4, fewestReady: 3 });
});

test('a Job completes: completions, parallelism, and a finished pod counts once it is deleted too', async () => {
  await using cluster = await startCluster(['node-1'], () => 0);
  const { store } = cluster;
  const { batch } = clients(cluster);
  let most = 0;
  store.watch(pods, () => {
    most = Math.max(most, cluster.alive().length);
  });
  await batch.createNamespacedJob({ namespace, body: job('sum', { completions: 6, parallelism: 2 }) });
  await until('one to be counted', () => (store.get(jobs, 'sum', namespace).status?.succeeded ?? 0) > 0);
  for (const pod of store.list(pods))
    if (pod.status?.phase === 'Succeeded') store.delete(pods, pod.metadata.name!, namespace);
  await until('completion', () => store.get(jobs, 'sum', namespace).status?.completionTime !== undefined);
  const { status } = store.get(jobs, 'sum', namespace);
  assert.ok(status!.conditions!.some(({ type, status: yes }) => type === 'Complete' && yes === 'True'));
  assert.ok(most <= 2, `${most} pods at once`);
  await until('the count', () => store.get(jobs, 'sum', namespace).status?.succeeded === 6);
  await until('no finalizers', () => store.list(pods).every((pod) => !pod.metadata.finalizers?.length));

  store.delete(jobs, 'sum', namespace, { propagationPolicy: 'Background' });
  await until('no pods', () => store.list(pods).length === 0);
});

test('an Indexed Job gives each pod its index once', async () => {
  await using cluster = await startCluster(['node-1'], () => 0);
  const { store } = cluster;
  const { batch } = clients(cluster);
  const spec = { completions: 4, parallelism: 2, completionMode: 'Indexed' };
  await batch.createNamespacedJob({ namespace, body: job('parts', spec) });
  await until('completion', () => store.get(jobs, 'parts', namespace).status?.completedIndexes === '0-3');
  const indexes = store
    .list(pods)
    .map((pod) => pod.spec.containers[0]!.env?.find(({ name }) => name === 'JOB_COMPLETION_INDEX')?.value);
  assert.deepEqual(indexes.sort(), ['0', '1', '2', '3']);
});

test('a Job fails past its backoff limit or deadline, and goes after its time to live', async () => {
  await using cluster = await startCluster(['node-1'], (pod) =>
    pod.metadata.name!.startsWith('slow') ? undefined : 1,
  );
  const { store } = cluster;
  const { batch } = clients(cluster);
  const failed = (name: string, reason: string) =>
    until(
      `${name} to fail`,
      () =>
        store
          .get(jobs, name, namespace)
          .status?.conditions?.some((each) => each.type === 'Failed' && each.reason === reason) === true,
    );
  await batch.createNamespacedJob({ namespace, body: job('bad', { backoffLimit: 1 }) });
  await batch.createNamespacedJob({
    namespace,
    body: job('slow', { activeDeadlineSeconds: 1, ttlSecondsAfterFinished: 1 }),
  });
  await failed('bad', 'BackoffLimitExceeded');
  await until('the count', () => store.get(jobs, 'bad', namespace).status?.failed === 2);
  await failed('slow', 'DeadlineExceeded');
  await until('the end', () => store.find(jobs, 'slow', namespace) === null);
  await until('no pods of slow', () =>
    store.list(pods).every((pod) => !pod.metadata.name!.startsWith('slow')),
  );
});

test('a suspended Job has no pods until it is resumed', async () => {
  await using cluster = await startCluster(['node-1']);
  const { store } = cluster;
  const { batch } = clients(cluster);
  await batch.createNamespacedJob({ namespace, body: job('later', { suspend: true }) });
  await until(
    'the condition',
    () =>
      store.get(jobs, 'later', namespace).status?.conditions?.some((each) => each.type === 'Suspended') ===
      true,
  );
  assert.equal(store.list(pods).length, 0);
  store.patch(jobs, 'later', namespace, { spec: { suspend: false } });
  await until('a pod', () => cluster.alive().length === 1);
  store.patch(jobs, 'later', namespace, { spec: { suspend: true } });
  await until('no pod', () => store.list(pods).length === 0);
  assert.equal(store.get(jobs, 'later', namespace).status?.failed ?? 0, 0);
});

test('at rest nothing is written, also while a rollout waits for pods that never run', async () => {
  await using cluster = await startCluster(['node-1']);
  const { store } = cluster;
  const { apps, batch } = clients(cluster);
  await apps.createNamespacedDeployment({ namespace, body: deployment('web', 3) });
  await apps.createNamespacedDaemonSet({ namespace, body: daemonSet('agent') });
  await batch.createNamespacedJob({ namespace, body: job('endless') });
  await rolledOut(apps, 'web');
  await daemonsRolledOut(apps, 'agent');
  const waiting = deployment('stuck', 2);
  waiting.spec!.template.spec!.nodeName = ABSENT_NODE;
  await apps.createNamespacedDeployment({ namespace, body: waiting });
  let last = '';
  let calm = 0;
  await until('calm', () => {
    calm = store.resourceVersion === last ? calm + 1 : 0;
    last = store.resourceVersion;
    return calm > 20;
  });
});

test('pods that the API refuses are told as an Event and a condition, and tried again', async () => {
  let tries = 0;
  // It names the pod that would have been, another each time.
  const refusal = ({ metadata }: KubeObject) =>
    new ApiError(403, 'Forbidden', `pods "${metadata.generateName}${10_000 + tries++}" is forbidden: quota`);
  let full = true;
  await using cluster = await startCluster(
    ['node-1'],
    () => undefined,
    (object) => (full && object.kind === 'Pod' ? refusal(object) : undefined),
  );
  const { store } = cluster;
  const { apps } = clients(cluster);
  await apps.createNamespacedDeployment({ namespace, body: deployment('web', 1) });
  const failing = () =>
    store
      .get(deployments, 'web', namespace)
      .status?.conditions?.find((each) => each.type === 'ReplicaFailure');
  await until('the condition', () => failing()?.status === 'True');
  assert.match(failing()!.message!, /^pods "web-[a-z0-9]{10}-" is forbidden: quota$/);
  const told = store.list(events).filter((each) => each.reason === 'FailedCreate');
  assert.deepEqual(
    told.map((each) => [each.involvedObject.kind, each.type, each.count]),
    [['ReplicaSet', 'Warning', 1]],
  );
  full = false;
  await rolledOut(apps, 'web');
  await until('no failure', () => failing() === undefined);
  assert.ok(tries < 10, `${tries} tries`);
});

test('what is stopped anywhere in its work goes on: a rollout ends, a Job counts each pod once', async () => {
  await using cluster = await startCluster(['node-1', 'node-2'], () => 0);
  cluster.store.create(deployments, deployment('web', 6) as unknown as Deployment, namespace);
  cluster.store.create(jobs, job('sum', { completions: 20, parallelism: 2 }) as unknown as Job, namespace);
  const done = () => cluster.store.get(jobs, 'sum', namespace).status?.completionTime !== undefined;
  // Each stop comes another number of turns of the event loop after the start.
  for (let stop = 0; !done() && stop < 40; stop++) {
    for (let turn = 0; turn <= stop % 7; turn++) await new Promise((resolve) => setImmediate(resolve));
    await cluster.restart();
  }
  await until('completion', done);
  await until('the count', () => cluster.store.get(jobs, 'sum', namespace).status?.succeeded === 20);
  const made = cluster.store.list(pods).filter((pod) => pod.metadata.name!.startsWith('sum-'));
  assert.equal(made.length, 20);
  await rolledOut(clients(cluster).apps, 'web');
  assert.equal(cluster.alive().length, 6);
});
