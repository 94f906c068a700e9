import assert from 'node:assert/strict';
import { statSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { isConflict, isNotFound, namespaces, nodes, type Pod, pods } from '../../../kube/index.ts';
import { aPod, startApi } from './testing.ts';

test('namespaces, nodes and pods: create, get, list, update with conflict, delete', async () => {
  await using h = await startApi();
  const { client } = h;
  const node = await client.create(nodes, {
    metadata: { name: 'node-1' },
    status: { capacity: { pods: '29' } },
  });
  assert.equal(node.status?.capacity?.['pods'], '29');

  const made = await client.create(pods, aPod('a') as Pod);
  assert.equal(made.status?.phase, 'Pending');
  assert.equal(made.spec.restartPolicy, 'Always');
  assert.match(made.metadata.uid ?? '', /^[0-9a-f-]{36}$/);

  const changed = await client.update(pods, {
    ...made,
    metadata: { ...made.metadata, labels: { app: 'web' } },
  });
  assert.ok(Number(changed.metadata.resourceVersion) > Number(made.metadata.resourceVersion));
  await assert.rejects(
    client.update(pods, { ...made, metadata: { ...made.metadata, labels: { app: 'db' } } }),
    isConflict,
  );

  const list = await client.list(pods, { namespace: 'default', labelSelector: 'app in (web)' });
  assert.deepEqual(
    list.items.map((p) => p.metadata.name),
    ['a'],
  );
  assert.equal((await client.list(pods, { labelSelector: 'app!=web' })).items.length, 0);

  await client.delete(pods, 'a', 'default');
  await assert.rejects(client.get(pods, 'a', 'default'), isNotFound);
  await assert.rejects(
    client.create(pods, { ...aPod('b'), metadata: { name: 'b', namespace: 'nowhere' } } as Pod),
    isNotFound,
  );
});

test('status is its own subresource, and a scheduled pod goes with grace', async () => {
  await using h = await startApi();
  const { client } = h;
  await client.create(pods, aPod('a', { spec: { nodeName: 'node-1' } }) as Pod);
  const ignored = await client.patch(pods, 'a', 'default', { status: { podIP: '10.0.0.9' } });
  assert.equal(ignored.status?.podIP, undefined);
  const status = { phase: 'Running' as const, podIP: '10.0.0.9' };
  const running = await client.patch(pods, 'a', 'default', { status }, { subresource: 'status' });
  assert.equal(running.status?.podIP, '10.0.0.9');

  await client.delete(pods, 'a', 'default');
  const ending = await client.get(pods, 'a', 'default');
  assert.equal(ending.metadata.deletionGracePeriodSeconds, 30);
  assert.ok(ending.metadata.deletionTimestamp);
  await client.delete(pods, 'a', 'default', { gracePeriodSeconds: 0 });
  await assert.rejects(client.get(pods, 'a', 'default'), isNotFound);
});

test('what was answered is there after a restart, and versions go on growing', async () => {
  await using h = await startApi();
  h.api.store.create(pods, aPod('a') as Pod);
  const { metadata } = h.api.store.create(pods, aPod('gone') as Pod);
  h.api.store.delete(pods, 'gone', 'default');
  const version = Number(h.api.store.resourceVersion);
  assert.ok(version > Number(metadata.resourceVersion));
  await h.restart();
  assert.equal(Number(h.api.store.resourceVersion), version);
  assert.deepEqual(
    h.api.store.list(pods).map((p) => p.metadata.name),
    ['a'],
  );
  assert.ok(h.api.store.find(namespaces, 'kube-system'));
});

test("nobody unknown gets anything, and the keys are the owner's alone", async () => {
  await using h = await startApi();
  for (const path of ['/api/v1/pods', '/version', '/healthz', '/openapi/v3', '/nothing']) {
    assert.equal((await h.raw('GET', path, { headers: { authorization: 'Bearer wrong' } })).code, 401, path);
    assert.equal((await h.raw('GET', path, { headers: { authorization: '' } })).code, 401, path);
  }
  assert.equal(statSync(join(h.dir, 'kube-pki.json')).mode & 0o777, 0o600);
});
