import assert from 'node:assert/strict';
import type { IncomingMessage } from 'node:http';
import { request } from 'node:https';
import { test } from 'node:test';
import {
  type KubeError,
  nodes,
  type Pod,
  pods,
  type Resource,
  type WatchEvent,
} from '../../../kube/index.ts';
import { WATCH_WINDOW } from './storage.ts';
import { aPod, startApi, until } from './testing.ts';

type Seen = { type: string; name: string | undefined; marked: boolean; version: number };

async function collect(
  watch: AsyncGenerator<WatchEvent<Pod>>,
  enough: (seen: Seen[]) => boolean,
): Promise<Seen[]> {
  const seen: Seen[] = [];
  for await (const event of watch) {
    const { metadata } = event.object as Pod;
    seen.push({
      type: event.type,
      name: metadata.name,
      marked: metadata.annotations?.['k8s.io/initial-events-end'] === 'true',
      version: Number(metadata.resourceVersion),
    });
    if (enough(seen)) break;
  }
  return seen;
}

test('sendInitialEvents: the state, the marked bookmark, then changes', async () => {
  await using h = await startApi();
  for (const name of ['b', 'a']) h.api.store.create(pods, aPod(name) as Pod);
  const version = Number(h.api.store.resourceVersion);
  const watch = h.client.watch(pods, { sendInitialEvents: true }, AbortSignal.timeout(30_000));
  const seen = await collect(watch, (all) => {
    if (all.length === 3) h.api.store.create(pods, aPod('c') as Pod);
    return all.length === 4;
  });
  assert.deepEqual(
    seen.map((s) => [s.type, s.name]),
    [
      ['ADDED', 'a'],
      ['ADDED', 'b'],
      ['BOOKMARK', undefined],
      ['ADDED', 'c'],
    ],
  );
  assert.ok(seen[2]!.marked);
  assert.equal(seen[2]!.version, version);
});

test('a watch from a version gets what came after it, each change once and in order', async () => {
  await using h = await startApi();
  const { store } = h.api;
  const from = store.resourceVersion;
  store.create(pods, aPod('a') as Pod);
  store.patch(pods, 'a', 'default', { metadata: { labels: { x: '1' } } });
  store.delete(pods, 'a', 'default');
  const watch = h.client.watch(pods, { resourceVersion: from }, AbortSignal.timeout(30_000));
  const seen = await collect(watch, (all) => all.length === 3);
  assert.deepEqual(
    seen.map((s) => s.type),
    ['ADDED', 'MODIFIED', 'DELETED'],
  );
  assert.deepEqual(
    seen.map((s) => s.version),
    [...seen.map((s) => s.version)].sort((a, b) => a - b),
  );
});

test('an object that leaves the selection is DELETED, one that enters it ADDED', async () => {
  await using h = await startApi();
  const { store } = h.api;
  store.create(pods, aPod('a', { metadata: { labels: { app: 'web' } } }) as Pod);
  const from = store.resourceVersion;
  const label = (app: string) => store.patch(pods, 'a', 'default', { metadata: { labels: { app } } });
  label('db');
  label('web');
  store.patch(pods, 'a', 'default', { metadata: { annotations: { seen: 'yes' } } });
  const watch = h.client.watch(
    pods,
    { resourceVersion: from, labelSelector: 'app=web' },
    AbortSignal.timeout(30_000),
  );
  const seen = await collect(watch, (all) => all.length === 3);
  assert.deepEqual(
    seen.map((s) => s.type),
    ['DELETED', 'ADDED', 'MODIFIED'],
  );
  assert.equal(seen[0]!.version, Number(from) + 1);
});

test('field selectors choose the pods of a node, and refuse fields that are not offered', async () => {
  await using h = await startApi();
  h.api.store.create(pods, aPod('here', { spec: { nodeName: 'node-1' } }) as Pod);
  h.api.store.create(pods, aPod('there', { spec: { nodeName: 'node-2' } }) as Pod);
  const { items } = await h.client.list(pods, {
    fieldSelector: 'spec.nodeName=node-1,status.phase!=Running',
  });
  assert.deepEqual(
    items.map((p) => p.metadata.name),
    ['here'],
  );
  await assert.rejects(
    h.client.list(pods, { fieldSelector: 'spec.image=x' }),
    (e: KubeError) => e.code === 400,
  );
});

test('a version before the window is 410, one from the future 504', async () => {
  await using h = await startApi();
  const { store } = h.api;
  const old = store.resourceVersion;
  store.create(nodes, { metadata: { name: 'n' } });
  for (let i = 0; i < WATCH_WINDOW + 1; i++)
    store.patch(nodes, 'n', '', { metadata: { labels: { i: String(i) } } });
  const first = async (resourceVersion: string, kind: Resource = nodes) => {
    for await (const event of h.client.watch(kind, { resourceVersion }, AbortSignal.timeout(30_000)))
      return event.type;
    return null;
  };
  await assert.rejects(first(old), (e: KubeError) => e.code === 410 && e.reason === 'Expired');
  await assert.rejects(first('999999999'), (e: KubeError) => e.code === 504);
  // Pods had few changes: theirs are all still there.
  store.create(pods, aPod('a') as Pod);
  assert.equal(await first(old, pods), 'ADDED');
});

test('bookmarks tell the newest version, and a watch ends after its time', async () => {
  await using h = await startApi();
  const started = performance.now();
  const watch = h.client.watch(
    pods,
    { resourceVersion: h.api.store.resourceVersion, timeoutSeconds: 1 },
    AbortSignal.timeout(30_000),
  );
  const seen = await collect(watch, () => false);
  assert.ok(performance.now() - started >= 900);
  assert.deepEqual(
    seen.map((s) => s.type),
    ['BOOKMARK'],
  );
});

test('a watcher that does not read is dropped', async () => {
  await using h = await startApi();
  const { store } = h.api;
  const big = 'x'.repeat(200_000);
  store.create(pods, aPod('a') as Pod);
  const token = /"token": "([^"]+)"/.exec(h.api.kubeconfig({ server: h.server, user: 'admin' }))![1];
  const answer = await new Promise<IncomingMessage>((resolve, reject) => {
    const options = {
      rejectUnauthorized: false,
      agent: false,
      headers: { authorization: `Bearer ${token}` },
    };
    request(`${h.server}/api/v1/pods?watch=1`, options, resolve).on('error', reject).end();
  });
  answer.pause();
  // 60 MB: more than the sockets' buffers and MAX_WATCH_BUFFER hold together.
  for (let i = 0; i < 300; i++) {
    store.patch(pods, 'a', 'default', { metadata: { annotations: { big: `${big}${i}` } } });
    await new Promise(setImmediate);
  }
  let over = false;
  let bytes = 0;
  answer.on('close', () => (over = true)).on('error', () => (over = true));
  answer.on('data', (chunk: Buffer) => (bytes += chunk.length));
  answer.resume();
  await until('the end of the stream', () => over);
  assert.ok(bytes < 300 * big.length, `${bytes} bytes came`);
});
