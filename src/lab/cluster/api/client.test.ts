// src/kube against the API: what its head comments promise. Here, since only the lab has an API to ask.
import assert from 'node:assert/strict';
import { createServer } from 'node:net';
import { test } from 'node:test';
import { EventRecorder, events, KubeClient, type KubeError, type Pod, pods } from '../../../kube/index.ts';
import { aPod, startApi } from './testing.ts';

test('the recorder counts repeats in one Event and keeps to its budget per object', async () => {
  await using h = await startApi();
  let now = Date.now();
  const recorder = new EventRecorder(h.client, { component: 'podway-agent', host: 'node-1', now: () => now });
  const pod = h.api.store.create(pods, aPod('a') as Pod) as Pod;
  for (let i = 0; i < 3; i++) {
    recorder.record(pod, 'Warning', 'ADDRESS_LIMIT', 'the node holds 27 of 27 addresses');
    await recorder.flush();
    now += 6000;
  }
  const [event, ...others] = h.api.store.list(events);
  assert.equal(others.length, 0);
  assert.deepEqual(
    [event?.count, event?.reason, event?.involvedObject.uid, event?.source?.host],
    [3, 'ADDRESS_LIMIT', pod.metadata.uid, 'node-1'],
  );
  for (let i = 0; i < 100; i++) recorder.record(pod, 'Warning', 'OTHER', `message ${i}`);
  await recorder.flush();
  assert.equal(h.api.store.list(events).length, 1 + 22);
  assert.equal(recorder.dropped, 78);
  // Another object has a budget of its own.
  recorder.record({ kind: 'Node', name: 'node-1' }, 'Normal', 'Started', 'up');
  await recorder.flush();
  assert.equal(h.api.store.list(events, { fieldSelector: 'involvedObject.kind=Node' }).length, 1);
});

test('a recorder whose API is away drops and reports, and its caller never knows', async () => {
  const client = new KubeClient({ server: 'https://127.0.0.1:1', token: 'x' });
  const errors: unknown[] = [];
  const recorder = new EventRecorder(client, { component: 'x', onError: (e) => errors.push(e) });
  recorder.record({ kind: 'Node', name: 'n' }, 'Normal', 'A', 'b');
  await recorder.flush();
  assert.deepEqual([recorder.dropped, errors.length], [1, 1]);
  client.close();
});

test('an abort ends requests and watches with its reason', async () => {
  // A server that takes connections and never answers.
  const silent = createServer(() => {}).listen(0, '127.0.0.1');
  await new Promise((resolve) => silent.once('listening', resolve));
  const { port } = silent.address() as { port: number };
  const client = new KubeClient({ server: `https://127.0.0.1:${port}`, token: 'x' });
  const reason = new Error('enough');
  const stop = new AbortController();
  const list = client.list(pods, {}, stop.signal);
  const watch = client.watch(pods, {}, stop.signal).next();
  setImmediate(() => stop.abort(reason));
  await assert.rejects(list, reason);
  await assert.rejects(watch, reason);
  client.close();
  silent.close();
});

test('a refusal is a KubeError with the code, reason and words of the API', async () => {
  await using h = await startApi();
  await assert.rejects(
    h.client.get(pods, 'nope', 'default'),
    (e: KubeError) => e.code === 404 && e.reason === 'NotFound' && /pods "nope" not found/.test(e.message),
  );
  const stranger = new KubeClient({ server: h.server, ca: h.api.tls.ca, token: 'wrong' });
  await assert.rejects(stranger.list(pods), (e: KubeError) => e.code === 401);
  const suspicious = new KubeClient({ server: h.server, token: 'wrong' });
  await assert.rejects(
    suspicious.list(pods),
    (e: KubeError) => e.code === 0 && /certificate/.test(e.message),
  );
  stranger.close();
  suspicious.close();
});
