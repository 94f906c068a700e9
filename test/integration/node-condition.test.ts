// The agent's condition on its Node against the embedded Kubernetes API.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CLOUD_REACHABLE, cloudCondition, NodeConditions } from '../../src/agent/node-condition.ts';
import * as kube from '../../src/kube/index.ts';
import { startApi } from '../../src/lab/cluster/api/testing.ts';

const NOON = Date.UTC(2030, 0, 1, 12);
const away = { since: NOON, reason: 'NoConnection', message: 'connect ECONNREFUSED' } as const;
const silent = { debug() {}, info() {}, warn() {}, error() {} };

async function harness() {
  const h = await startApi();
  const stop = new AbortController();
  const t = { tries: 0, failing: 0, patches: 0, now: NOON + 60_000 };
  const connect = async () => {
    t.tries++;
    if (t.failing-- > 0) throw new Error('away');
    const client = new kube.KubeClient(await kube.readKubeConfig(h.kubeconfigPath));
    const patch = client.patch.bind(client);
    client.patch = ((...args: Parameters<typeof patch>) => {
      t.patches++;
      return patch(...args);
    }) as typeof client.patch;
    return { kube, client };
  };
  const clock = { now: () => t.now, sleep: () => new Promise<void>((resolve) => setImmediate(resolve)) };
  const open = () => new NodeConditions('node-1', connect, silent, stop.signal, clock);
  const conditions = async () =>
    (await h.client.get(kube.nodes, 'node-1')).status?.conditions?.find(
      (one) => one.type === CLOUD_REACHABLE,
    );
  const register = () =>
    h.api.store.create(kube.nodes, {
      apiVersion: 'v1',
      kind: 'Node',
      metadata: { name: 'node-1' },
      status: { conditions: [{ type: 'Ready', status: 'True' }] },
    } as kube.Node);
  return { h, t, stop, open, conditions, register, [Symbol.asyncDispose]: () => h[Symbol.asyncDispose]() };
}

test('the node says whether EC2 can be reached, beside what others say, and is patched on change only', async () => {
  await using it = await harness();
  it.register();
  const agent = it.open();
  agent.say(cloudCondition(null, NOON));
  await agent.flush();
  assert.equal((await it.conditions())?.status, 'True');
  agent.say(cloudCondition(away, it.t.now));
  await agent.flush();
  const seen = await it.conditions();
  assert.deepEqual(
    [seen?.status, seen?.reason, seen?.lastTransitionTime],
    ['False', 'NoConnection', '2030-01-01T12:00:00Z'],
  );
  assert.match(seen?.message ?? '', /ECONNREFUSED.*while the node has free addresses/);
  assert.equal(it.t.patches, 2);
  // The next agent finds EC2 away too: nothing new.
  const next = it.open();
  next.say(cloudCondition({ ...away, since: NOON + 30_000, message: 'other words' }, it.t.now));
  await next.flush();
  assert.equal(it.t.patches, 2);
  next.say(cloudCondition(null, it.t.now));
  await next.flush();
  assert.equal((await it.conditions())?.lastTransitionTime, '2030-01-01T12:01:00Z');
  const { status } = await it.h.client.get(kube.nodes, 'node-1');
  assert.deepEqual(status?.conditions?.map((one) => `${one.type} ${one.status}`).sort(), [
    `${CLOUD_REACHABLE} True`,
    'Ready True',
  ]);
});

test('an API that is away hears the newest word when it is back, and a Node that is not there yet when it comes', async () => {
  await using it = await harness();
  it.t.failing = 7;
  const agent = it.open();
  agent.say(cloudCondition(away, it.t.now));
  agent.say(cloudCondition(null, it.t.now));
  setTimeout(() => it.register(), 50);
  await agent.flush();
  assert.ok(it.t.tries > 8, 'the Node was asked for again');
  assert.deepEqual([(await it.conditions())?.status, it.t.patches], ['True', 1]);
});

test('a stopping agent asks no more', async () => {
  await using it = await harness();
  it.t.failing = Number.POSITIVE_INFINITY;
  const agent = it.open();
  agent.say(cloudCondition(away, it.t.now));
  setTimeout(() => it.stop.abort(), 20);
  await agent.flush();
});
