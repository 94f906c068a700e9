// What the API adds to workloads, refuses of them, and warns of.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { namespaces, type Pod, pods, resource } from '../../../kube/index.ts';
import { type Deployment, deployments, type Job, jobs } from '../workloads.ts';
import { aPod, configMaps, type Harness, startApi } from './testing.ts';

const container = (name: string, more: object = {}) => ({ name, image: 'nginx', ...more });

const workload = (containers: object[], more: object = {}) => ({
  metadata: { name: 'w' },
  spec: {
    selector: { matchLabels: { app: 'w' } },
    template: { metadata: { labels: { app: 'w' } }, spec: { containers, ...more } },
  },
});

const warningsOf = (headers: Record<string, string | string[] | undefined>): string[] =>
  [headers['warning'] ?? []]
    .flat()
    .flatMap((text) => text.split(/, (?=299 - )/))
    .map((text) => text.replace(/^299 - "|"$/g, '').replaceAll('\\"', '"'));

const post = (h: Harness, path: string, body: object) => h.raw('POST', path, { body: JSON.stringify(body) });

const DEPLOYMENTS = '/apis/apps/v1/namespaces/default/deployments';
const JOBS = '/apis/batch/v1/namespaces/default/jobs';
const PODS = '/api/v1/namespaces/default/pods';

const job = (spec: object) => ({ metadata: { name: 'w' }, spec: { template: { spec } } });

const told: [string, string, object, string[]][] = [
  [
    'an image without a command',
    DEPLOYMENTS,
    workload([container('a')]),
    [
      'spec.template.spec.containers[0].image "nginx" is not pulled here: the lab\'s built-in server on TCP and UDP 8080 runs',
    ],
  ],
  [
    'a command',
    DEPLOYMENTS,
    workload([container('a', { command: ['sleep', '9'] })]),
    [
      'spec.template.spec.containers[0].image "nginx" is not pulled here: the command "sleep 9" runs in the machine\'s own file system',
    ],
  ],
  [
    'options for an entrypoint that is not here',
    PODS,
    { metadata: { name: 'w' }, spec: { containers: [container('a', { args: ['-g', 'x'] })] } },
    [
      'spec.containers[0].image "nginx" is not pulled here: the lab\'s built-in server on TCP and UDP 8080 runs',
    ],
  ],
  [
    'fields that nothing reads',
    PODS,
    {
      metadata: { name: 'w' },
      spec: {
        containers: [{ name: 'a', image: 'podway.lab/pod-server:1', livenessProbe: {}, volumeMounts: [] }],
      },
    },
    ['spec.containers[0]: volumeMounts, livenessProbe have no effect here'],
  ],
  [
    'fields of a pod and its container that nothing reads',
    '/api/v1/namespaces/default/pods',
    {
      metadata: { name: 'w' },
      spec: {
        activeDeadlineSeconds: 5,
        securityContext: { runAsUser: 1000 },
        hostPID: false,
        schedulerName: 'other',
        affinity: {
          podAntiAffinity: { requiredDuringSchedulingIgnoredDuringExecution: [] },
          nodeAffinity: { requiredDuringSchedulingIgnoredDuringExecution: { nodeSelectorTerms: [] } },
        },
        containers: [
          {
            name: 'a',
            image: 'podway.lab/pod-server:1',
            resources: { requests: { cpu: '1000' } },
            ports: [{ containerPort: 80, hostPort: 80 }],
          },
        ],
      },
    },
    [
      'spec.containers[0]: resources has no effect here',
      'spec: securityContext, activeDeadlineSeconds, affinity.podAntiAffinity have no effect here',
      'spec.schedulerName "other" does not run here: the pod waits until somebody binds it',
    ],
  ],
  [
    'what is honoured, and what the API server fills in',
    '/api/v1/namespaces/default/pods',
    {
      metadata: { name: 'w' },
      spec: {
        hostNetwork: true,
        tolerations: [{ operator: 'Exists' }],
        nodeSelector: { zone: 'a' },
        containers: [{ name: 'a', image: 'podway.lab/pod-server:1', ports: [{ containerPort: 80 }] }],
      },
    },
    [],
  ],
  [
    'a Job that would never end',
    JOBS,
    job({ restartPolicy: 'Never', containers: [container('a')] }),
    [
      'spec.template.spec.containers[0].image "nginx" is not pulled here: the lab\'s built-in server on TCP and UDP 8080 runs, which never ends: a Job needs a command to complete',
    ],
  ],
  [
    'a kind that nobody runs',
    '/apis/apps/v1/namespaces/default/statefulsets',
    workload([container('a')]),
    ['StatefulSet is stored; nobody runs it here and it makes no pods: take a Deployment'],
  ],
  [
    'a kind that nobody enforces',
    '/apis/networking.k8s.io/v1/namespaces/default/ingresses',
    { metadata: { name: 'w' } },
    ['Ingress is stored; nobody serves it here'],
  ],
  ['a kind that works', '/api/v1/namespaces/default/configmaps', { metadata: { name: 'w' } }, []],
];

test('whoever makes an object is told what runs instead, and what nobody runs', async () => {
  await using h = await startApi();
  for (const [what, path, body, expected] of told) {
    const { code, headers, text } = await post(h, path, body);
    assert.equal(code, 201, `${what}: ${text}`);
    assert.deepEqual(warningsOf(headers), expected, what);
    await h.raw('DELETE', `${path}/w?propagationPolicy=Background`);
  }
});

test('an update warns when it changes what is wished for, and only then', async () => {
  await using h = await startApi();
  await post(h, DEPLOYMENTS, workload([container('a')]));
  const patch = (body: object, path = '') =>
    h.raw('PATCH', `${DEPLOYMENTS}/w${path}`, {
      body: JSON.stringify(body),
      headers: { 'content-type': 'application/merge-patch+json' },
    });
  assert.equal(warningsOf((await patch({ spec: { replicas: 3 } })).headers).length, 1);
  assert.equal(warningsOf((await patch({ metadata: { labels: { a: 'b' } } })).headers).length, 0);
  assert.equal(warningsOf((await patch({ status: { replicas: 3 } }, '/status')).headers).length, 0);
});

const one = [container('a')];
const refused: [string, string, object, RegExp][] = [
  [
    'a second container',
    PODS,
    { metadata: { name: 'w' }, spec: { containers: [container('a'), container('sidecar')] } },
    /spec\.containers\[1\]: Forbidden: container "sidecar" cannot run here/,
  ],
  [
    'a second container in a template',
    DEPLOYMENTS,
    workload([container('a'), container('proxy')]),
    /spec\.template\.spec\.containers\[1\]: Forbidden: container "proxy"/,
  ],
  [
    'an init container',
    DEPLOYMENTS,
    workload(one, { initContainers: [container('prepare')] }),
    /spec\.template\.spec\.initContainers\[0\]: Forbidden: init container "prepare"/,
  ],
  [
    'NUL in a command',
    PODS,
    { metadata: { name: 'w' }, spec: { containers: [container('a', { command: ['a\0b'] })] } },
    /spec\.containers\[0\]\.command\[0\]: Invalid value: "a\\u0000b": must not contain NUL/,
  ],
  [
    'NUL in the environment',
    PODS,
    {
      metadata: { name: 'w' },
      spec: { containers: [container('a', { env: [{ name: 'A', value: 'x\0' }] })] },
    },
    /env\[0\]\.value: .*must not contain NUL/,
  ],
  [
    'a selector that its template does not have',
    DEPLOYMENTS,
    { ...workload(one), spec: { ...workload(one).spec, selector: { matchLabels: { app: 'other' } } } },
    /`selector` does not match template `labels`/,
  ],
  [
    'an annotation of a template that no pod could have',
    DEPLOYMENTS,
    {
      ...workload(one),
      spec: {
        ...workload(one).spec,
        template: {
          metadata: { labels: { app: 'w' }, annotations: { 'not a key': 'x' } },
          spec: { containers: one },
        },
      },
    },
    /spec\.template\.metadata\.annotations: Invalid value: "not a key"/,
  ],
  [
    'no selector',
    DEPLOYMENTS,
    { metadata: { name: 'w' }, spec: { template: { spec: { containers: one } } } },
    /spec\.selector: Required value/,
  ],
  [
    'a Deployment whose pods end',
    DEPLOYMENTS,
    workload(one, { restartPolicy: 'Never' }),
    /Unsupported value: "Never": supported values: "Always"/,
  ],
  [
    'a Job whose pods never end',
    JOBS,
    job({ containers: one }),
    /Unsupported value: "Always": supported values: "Never", "OnFailure"/,
  ],
  [
    'a rollout that could not begin',
    DEPLOYMENTS,
    {
      ...workload(one),
      spec: {
        ...workload(one).spec,
        strategy: { rollingUpdate: { maxSurge: 0, maxUnavailable: '0%' } },
      },
    },
    /may not be 0 when `maxSurge` is 0/,
  ],
];

test('workloads that cannot work are refused, with the field', async () => {
  await using h = await startApi();
  for (const [what, path, body, words] of refused) {
    const { code, json } = await post(h, path, body);
    assert.equal(code, 422, what);
    assert.match(json.message, words, what);
  }
});

test('defaults are those of apps/v1 and batch/v1; a selector and a Job stay as they are', async () => {
  await using h = await startApi();
  const { store } = h.api;
  const made = store.create(deployments, workload(one) as unknown as Deployment);
  assert.deepEqual(
    [made.spec.replicas, made.spec.revisionHistoryLimit, made.spec.progressDeadlineSeconds],
    [1, 10, 600],
  );
  assert.deepEqual(made.spec.strategy, {
    type: 'RollingUpdate',
    rollingUpdate: { maxUnavailable: '25%', maxSurge: '25%' },
  });
  assert.equal(made.spec.template.spec.restartPolicy, 'Always');
  assert.throws(
    () => store.patch(deployments, 'w', 'default', { spec: { selector: { matchLabels: { more: 'x' } } } }),
    /spec\.selector: Invalid value: .*field is immutable/,
  );
  const body = job({ restartPolicy: 'Never', containers: one }) as unknown as Job;
  const { metadata, spec } = store.create(jobs, body);
  assert.deepEqual([spec.completions, spec.parallelism, spec.backoffLimit], [1, 1, 6]);
  assert.deepEqual(spec.selector, { matchLabels: { 'batch.kubernetes.io/controller-uid': metadata.uid } });
  assert.equal(spec.template.metadata!.labels!['batch.kubernetes.io/job-name'], 'w');
  assert.throws(() => store.patch(jobs, 'w', 'default', { spec: { completions: 2 } }), /field is immutable/);
});

test('a Job that is deleted without a policy leaves its pods, and says so', async () => {
  await using h = await startApi();
  const { store } = h.api;
  const { metadata } = store.create(jobs, job({ restartPolicy: 'Never', containers: one }) as unknown as Job);
  const owner = { apiVersion: 'batch/v1', kind: 'Job', name: 'w', uid: metadata.uid! };
  store.create(pods, aPod('p', { metadata: { ownerReferences: [owner] } }) as Pod);
  const { headers } = await h.raw('DELETE', `${JOBS}/w`);
  assert.match(warningsOf(headers)[0] ?? '', /child pods are preserved by default/);
  assert.equal(store.get(pods, 'p', 'default').metadata.ownerReferences, undefined);
});

test('namespaces that the cluster needs stay', async () => {
  await using h = await startApi();
  for (const name of ['default', 'kube-system', 'kube-public']) {
    const { code, json } = await h.raw('DELETE', `/api/v1/namespaces/${name}`);
    assert.equal(code, 403);
    assert.equal(json.message, `namespaces "${name}" is forbidden: this namespace may not be deleted`);
    assert.equal(h.api.store.get(namespaces, name).status?.phase, 'Active');
  }
});

test('an owner that waits goes after the last dependent that blocks it; one without an owner goes at once', async () => {
  await using h = await startApi();
  const { store } = h.api;
  const secrets = resource('v1', 'secrets', 'Secret', 'Namespaced');
  const { metadata } = store.create(configMaps, { metadata: { name: 'owner', namespace: 'default' } });
  const reference = {
    apiVersion: 'v1',
    kind: 'ConfigMap',
    name: 'owner',
    uid: metadata.uid!,
    blockOwnerDeletion: true,
  };
  store.create(secrets, {
    metadata: {
      name: 'slow',
      namespace: 'default',
      ownerReferences: [reference],
      finalizers: ['example.com/wait'],
    },
  });
  store.create(secrets, {
    metadata: { name: 'quick', namespace: 'default', ownerReferences: [reference] },
  });
  store.delete(configMaps, 'owner', 'default', { propagationPolicy: 'Foreground' });
  assert.equal(store.find(secrets, 'quick', 'default'), null);
  assert.ok(store.get(secrets, 'slow', 'default').metadata.deletionTimestamp);
  assert.ok(store.get(configMaps, 'owner', 'default').metadata.deletionTimestamp);
  store.patch(secrets, 'slow', 'default', { metadata: { finalizers: [] } });
  assert.equal(store.find(configMaps, 'owner', 'default'), null);

  store.create(secrets, {
    metadata: { name: 'late', namespace: 'default', ownerReferences: [reference] },
  });
  assert.equal(store.find(secrets, 'late', 'default'), null);

  const again = store.create(configMaps, { metadata: { name: 'owner', namespace: 'default' } });
  const held = { ...reference, uid: again.metadata.uid! };
  const meta = {
    name: 'held',
    namespace: 'default',
    ownerReferences: [held],
    finalizers: ['example.com/wait'],
  };
  store.create(secrets, { metadata: meta });
  store.delete(configMaps, 'owner', 'default', { propagationPolicy: 'Foreground' });
  assert.ok(store.find(configMaps, 'owner', 'default'));
  store.patch(secrets, 'held', 'default', { metadata: { ownerReferences: [] } });
  assert.equal(store.find(configMaps, 'owner', 'default'), null, 'what changed hands holds nobody');

  // An object of the cluster cannot say where its owner is, and stays.
  const role = { metadata: { name: 'r', ownerReferences: [reference] } };
  const roles = resource('rbac.authorization.k8s.io/v1', 'clusterroles', 'ClusterRole', 'Cluster');
  store.create(roles, role);
  assert.ok(store.find(roles, 'r'));
});
