// The stock JavaScript client against this API: what a user's own controller would do.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  CoreV1Api,
  KubeConfig,
  makeInformer,
  PatchStrategy,
  setHeaderOptions,
  Watch,
} from '@kubernetes/client-node';
import type { Pod } from '../../../kube/index.ts';
import { pods } from '../../../kube/index.ts';
import { aPod, startApi, until } from './testing.ts';

test('@kubernetes/client-node: typed calls, patches and informers work unchanged', async () => {
  await using h = await startApi();
  const config = new KubeConfig();
  config.loadFromFile(h.kubeconfigPath);
  const core = config.makeApiClient(CoreV1Api);
  await core.createNamespace({ body: { metadata: { name: 'team' } } });
  const made = await core.createNamespacedPod({
    namespace: 'team',
    body: {
      metadata: { name: 'a', labels: { app: 'web' } },
      spec: { containers: [{ name: 'main', image: 'x' }] },
    },
  });
  assert.equal(made.status?.phase, 'Pending');
  assert.ok(made.metadata?.creationTimestamp instanceof Date);
  const patched = await core.patchNamespacedPod(
    { namespace: 'team', name: 'a', body: { metadata: { labels: { app: 'db' } } } },
    setHeaderOptions('Content-Type', PatchStrategy.StrategicMergePatch),
  );
  assert.equal(patched.metadata?.labels?.['app'], 'db');
  const list = await core.listPodForAllNamespaces({ labelSelector: 'app=db', limit: 1 });
  assert.equal(list.items.length, 1);
  await assert.rejects(core.readNamespacedPod({ namespace: 'team', name: 'nope' }), { code: 404 });

  const seen: string[] = [];
  const informer = makeInformer(config, '/api/v1/namespaces/default/pods', () =>
    core.listNamespacedPod({ namespace: 'default' }),
  );
  for (const event of ['add', 'update', 'delete'] as const)
    informer.on(event, (pod) => void seen.push(`${event} ${pod.metadata?.name}`));
  informer.on('error', (error: unknown) => void seen.push(`error ${String(error)}`));
  await informer.start();
  try {
    h.api.store.create(pods, aPod('b') as Pod);
    await until('the pod', () => seen.length === 1);
    h.api.store.bindPod('b', 'default', 'node-1');
    h.api.store.delete(pods, 'b', 'default', { gracePeriodSeconds: 0 });
    await until('all events', () => seen.length === 4);
    assert.deepEqual(seen, ['add b', 'update b', 'update b', 'delete b']);
  } finally {
    await informer.stop();
  }

  // A version that is out of the window is refused as a 410 event, which the informer answers with a new list.
  const first = await new Promise<{ type: string; code: number }>((resolve, reject) => {
    void new Watch(config).watch(
      '/api/v1/pods',
      { resourceVersion: '1' },
      (type, object) => resolve({ type, code: object.code }),
      (error) => reject(error ?? new Error('no event')),
    );
  });
  assert.ok(first.type === 'ADDED' || first.code === 410);
});
