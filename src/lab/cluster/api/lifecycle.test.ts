import assert from 'node:assert/strict';
import { test } from 'node:test';
import { events, isNotFound, namespaces, type Pod, pods, resource } from '../../../kube/index.ts';
import { MAX_EVENTS } from './lifecycle.ts';
import { aPod, configMaps, startApi, until } from './testing.ts';

const serviceAccounts = resource('v1', 'serviceaccounts', 'ServiceAccount', 'Namespaced');

test('a namespace begins with its service account, and ends when its last pod has gone', async () => {
  await using h = await startApi();
  const { store } = h.api;
  store.create(namespaces, { metadata: { name: 'team' } });
  assert.ok(store.find(serviceAccounts, 'default', 'team'));
  store.create(pods, {
    ...aPod('a', { spec: { nodeName: 'n' } }),
    metadata: { name: 'a', namespace: 'team' },
  } as Pod);
  store.create(configMaps, { metadata: { name: 'c', namespace: 'team' } });
  await h.client.delete(namespaces, 'team');
  const ending = store.get(namespaces, 'team');
  assert.equal(ending.status?.phase, 'Terminating');
  assert.equal(store.find(configMaps, 'c', 'team'), null);
  assert.ok(store.get(pods, 'a', 'team').metadata.deletionTimestamp);
  const late = await h.raw('POST', '/api/v1/namespaces/team/configmaps', {
    body: '{"metadata":{"name":"late"}}',
  });
  assert.deepEqual([late.code, late.json.reason], [403, 'Forbidden']);
  store.delete(pods, 'a', 'team', { gracePeriodSeconds: 0 });
  assert.equal(store.find(namespaces, 'team'), null);
});

test('finalizers hold an object, take no newcomers, and the last one lets it go', async () => {
  await using h = await startApi();
  const { store } = h.api;
  store.create(configMaps, {
    metadata: { name: 'c', namespace: 'default', finalizers: ['example.com/a', 'example.com/b'] },
  });
  const { gone } = store.delete(configMaps, 'c', 'default');
  assert.equal(gone, false);
  const put = (finalizers: string[]) => store.patch(configMaps, 'c', 'default', { metadata: { finalizers } });
  assert.throws(() => put(['example.com/a', 'example.com/new']), { reason: 'Invalid' });
  put(['example.com/b']);
  assert.ok(store.find(configMaps, 'c', 'default'));
  put([]);
  assert.equal(store.find(configMaps, 'c', 'default'), null);
});

test('dependents go with their owner, or stay without it when orphaned', async () => {
  await using h = await startApi();
  const { store } = h.api;
  const family = (owner: string) => {
    const { metadata } = store.create(configMaps, { metadata: { name: owner, namespace: 'default' } });
    const ownerReferences = [{ apiVersion: 'v1', kind: 'ConfigMap', name: owner, uid: metadata.uid! }];
    store.create(configMaps, { metadata: { name: `${owner}-child`, namespace: 'default', ownerReferences } });
  };
  family('a');
  family('b');
  family('c');
  store.delete(configMaps, 'a', 'default', { propagationPolicy: 'Foreground' });
  assert.equal(store.find(configMaps, 'a-child', 'default'), null);
  store.delete(configMaps, 'b', 'default', { propagationPolicy: 'Orphan' });
  assert.equal(store.get(configMaps, 'b-child', 'default').metadata.ownerReferences, undefined);
  await h.restart();
  h.api.store.delete(configMaps, 'c', 'default');
  assert.equal(h.api.store.find(configMaps, 'c-child', 'default'), null);
});

test('a pod is bound once; a second node is refused', async () => {
  await using h = await startApi();
  const { client } = h;
  await client.create(pods, aPod('a') as Pod);
  const target = { kind: 'Node', name: 'node-1' };
  await client.post(pods, 'a', 'default', 'binding', {
    apiVersion: 'v1',
    kind: 'Binding',
    metadata: { name: 'a' },
    target,
  });
  const bound = await client.get(pods, 'a', 'default');
  assert.equal(bound.spec.nodeName, 'node-1');
  assert.equal(bound.status?.conditions?.[0]?.type, 'PodScheduled');
  await assert.rejects(client.post(pods, 'a', 'default', 'binding', { target: { name: 'node-2' } }), {
    code: 409,
  });
  await client.post(pods, 'a', 'default', 'eviction', { deleteOptions: { gracePeriodSeconds: 0 } });
  await assert.rejects(client.get(pods, 'a', 'default'), isNotFound);
});

test('preconditions, generated names and a grace that only gets shorter', async () => {
  await using h = await startApi();
  const { store } = h.api;
  const made = store.create(
    pods,
    { ...aPod('x', { spec: { nodeName: 'n' } }), metadata: { generateName: 'web-' } } as Pod,
    'default',
  );
  const name = made.metadata.name!;
  assert.match(name, /^web-[a-z0-9]{5}$/);
  assert.throws(() => store.delete(pods, name, 'default', { preconditions: { uid: 'other' } }), {
    code: 409,
  });
  store.delete(pods, name, 'default', { gracePeriodSeconds: 10 });
  store.delete(pods, name, 'default', { gracePeriodSeconds: 60 });
  assert.equal(store.get(pods, name, 'default').metadata.deletionGracePeriodSeconds, 10);
  store.delete(pods, name, 'default', { gracePeriodSeconds: 2 });
  assert.equal(store.get(pods, name, 'default').metadata.deletionGracePeriodSeconds, 2);
});

test('Events are bounded in number and age', async () => {
  let now = Date.now();
  await using h = await startApi({ now: () => now });
  const { store } = h.api;
  const event = (name: string) =>
    store.create(events, {
      metadata: { name, namespace: 'default' },
      involvedObject: { kind: 'Pod', name: 'a' },
      lastTimestamp: `${new Date(now).toISOString().slice(0, 19)}Z`,
    });
  for (let i = 0; i < MAX_EVENTS + 10; i++) event(`e-${i}`);
  assert.equal(store.list(events).length, MAX_EVENTS);
  assert.equal(store.find(events, 'e-9', 'default'), null);
  now += 2 * 3600_000;
  event('late');
  assert.deepEqual(
    store.list(events).map((e) => e.metadata.name),
    ['late'],
  );
});

test('a listener in the process may write, and sees every change once', async () => {
  await using h = await startApi();
  const { store } = h.api;
  const seen: string[] = [];
  store.watch(pods, ({ type, object }) => {
    seen.push(`${type} ${object.metadata.name}`);
    if (type === 'ADDED') store.bindPod(object.metadata.name!, 'default', 'node-1');
  });
  store.create(pods, aPod('a') as Pod);
  store.create(pods, aPod('b') as Pod);
  await until('all changes', () => seen.length === 6);
  assert.deepEqual([...seen].sort(), [
    'ADDED a',
    'ADDED b',
    'MODIFIED a',
    'MODIFIED a',
    'MODIFIED b',
    'MODIFIED b',
  ]);
  assert.throws(() => {
    (store.get(pods, 'a', 'default') as Pod).spec.nodeName = 'other';
  }, TypeError);
});
