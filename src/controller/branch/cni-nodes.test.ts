// CNINodes on the embedded API: one for each Node, its features untouched, ours alone healed; and what tells EKS's
// controller.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { pino } from 'pino';
import {
  type CniNode,
  cniNodes,
  type KubeObject,
  nodes,
  type Resource,
  resource,
  SECURITY_GROUPS_FOR_PODS,
} from '../../kube/index.ts';
import { startApi } from '../../lab/cluster/api/testing.ts';
import { installDefinitions } from '../../lab/cluster/definitions.ts';
import { ClusterView } from '../view.ts';
import { CniNodes } from './cni-nodes.ts';
import { signOfEks } from './eks.ts';

const log = pino({ level: 'silent' });

async function until(what: string, isSo: () => Promise<boolean>): Promise<void> {
  for (let look = 0; look < 600; look++) {
    if (await isSo()) return;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  assert.fail(`${what}: not within 30 s`);
}

test('each Node has one, whose features are its node’s; a feature is told once', async () => {
  await using api = await startApi();
  installDefinitions(api.api.store);
  const { client } = api;
  const found = () => client.list(cniNodes).then(({ items }) => items);
  const make = (name: string, providerID?: string) =>
    client.create(nodes, {
      metadata: { name, labels: { 'kubernetes.io/os': 'linux' } },
      ...(providerID ? { spec: { providerID } } : {}),
    });
  const { metadata } = await make('n-1', 'aws:///us-west-2a/i-01');
  await make('n-2');
  const theirs: CniNode = { metadata: { name: 'n-3' }, spec: { tags: { by: 'hand' } } };
  await client.create(cniNodes, theirs);
  await make('n-3', 'aws:///us-west-2a/i-03');

  const view = new ClusterView();
  const asked: string[] = [];
  const parts = { client, view, isLeading: () => true, onAsked: (name: string) => asked.push(name), log };
  const over = new AbortController();
  const kept = Promise.all([view.follow(client, log, over.signal), new CniNodes(parts).keep(over.signal)]);
  try {
    await until('n-1 has one', async () => (await found()).length === 2);
    const [one, three] = await found();
    assert.equal(one!.metadata.labels!['kubernetes.io/os'], 'linux');
    assert.equal(one!.metadata.ownerReferences![0]!.uid, metadata.uid);
    assert.equal(one!.spec!.tags!['node.k8s.amazonaws.com/instance_id'], 'i-01');
    assert.deepEqual([one!.metadata.finalizers, three!.spec], [undefined, theirs.spec]);

    const features = [{ name: SECURITY_GROUPS_FOR_PODS, value: '' }];
    await client.patch(cniNodes, 'n-1', undefined, { spec: { features } });
    await until('the feature is told', async () => asked.length === 1);
    // Somebody changes what is ours, and takes another away.
    await client.patch(cniNodes, 'n-1', undefined, {
      spec: { tags: { 'node.k8s.amazonaws.com/instance_id': 'i-0f' } },
    });
    await client.delete(cniNodes, 'n-3', undefined);
    await until('both are as they were', async () => {
      const [first, third] = await found();
      const instances = [first, third].map((n) => n?.spec?.tags?.['node.k8s.amazonaws.com/instance_id']);
      return instances.join() === 'i-01,i-03';
    });
    assert.deepEqual((await found())[0]!.spec!.features, features);
    assert.deepEqual(asked, ['n-1']);
    await client.delete(nodes, 'n-1', undefined);
    await until('it goes with its Node', async () => (await found()).length === 1);
  } finally {
    over.abort(new Error('over'));
    await kept;
  }
});

test('EKS’s controller is seen by any of its objects', async () => {
  await using api = await startApi();
  const { client } = api;
  const { signal } = new AbortController();
  assert.equal(await signOfEks(client, signal), null, 'also without the definition of CNINode');
  installDefinitions(api.api.store);
  assert.equal(await signOfEks(client, signal), null);
  const of = (apiVersion: string, plural: string, kind: string, scope: 'Namespaced' | 'Cluster') =>
    resource(apiVersion, plural, kind, scope);
  const name = 'cp-vpc-resource-controller';
  const namespace = 'kube-system';
  const lease = of('coordination.k8s.io/v1', 'leases', 'Lease', 'Namespaced');
  const config = of('v1', 'configmaps', 'ConfigMap', 'Namespaced');
  const hooks = of(
    'admissionregistration.k8s.io/v1',
    'mutatingwebhookconfigurations',
    'MutatingWebhookConfiguration',
    'Cluster',
  );
  const signs: [Resource<KubeObject>, KubeObject, RegExp][] = [
    [lease, { metadata: { name, namespace } }, /^Lease/],
    [config, { metadata: { name, namespace } }, /^ConfigMap/],
    [hooks, { metadata: { name: 'vpc-resource-mutating-webhook' } }, /^MutatingWebhookConfiguration/],
    [
      cniNodes,
      { metadata: { name: 'n', finalizers: ['networking.k8s.aws/resource-cleanup'] } },
      /^CNINode n$/,
    ],
  ];
  for (const [kind, object, sign] of signs) {
    await client.create(kind, object);
    assert.match((await signOfEks(client, signal)) ?? '', sign);
    await client.delete(kind, object.metadata.name!, object.metadata.namespace);
    if (object.metadata.finalizers)
      await client.patch(cniNodes, 'n', undefined, { metadata: { finalizers: null } });
    assert.equal(await signOfEks(client, signal), null);
  }
});
