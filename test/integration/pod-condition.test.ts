// The agent's condition on pods against the embedded Kubernetes API.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ADDRESS_ASSIGNED, PodConditions } from '../../src/agent/pod-condition.ts';
import * as kube from '../../src/kube/index.ts';
import { aPod, startApi } from '../../src/lab/cluster/api/testing.ts';

const taken = { assigned: false, reason: 'AddressTaken', message: '10.0.0.5: EC2 has given it to eni-1' };
const back = { assigned: true, reason: 'AddressAssigned', message: '10.0.0.5: EC2 routes it here again' };
const silent = { debug() {}, info() {}, warn() {}, error() {} };

async function harness() {
  const h = await startApi();
  const said: string[] = [];
  const conditions = new PodConditions(
    async () => ({ kube, client: new kube.KubeClient(await kube.readKubeConfig(h.kubeconfigPath)) }),
    { ...silent, warn: (_fields: object, text: string) => void said.push(text) },
    { now: Date.now, sleep: async () => {} },
  );
  const pod = h.api.store.create(kube.pods, aPod('a') as kube.Pod) as kube.Pod;
  const seen = async () => {
    const found = await h.client.get(kube.pods, 'a', 'default');
    return found.status?.conditions?.map(({ type, status, reason }) => `${type} ${status} ${reason ?? ''}`);
  };
  const owner = { namespace: 'default', name: 'a', uid: pod.metadata.uid! };
  return { h, conditions, owner, seen, said, [Symbol.asyncDispose]: () => h[Symbol.asyncDispose]() };
}

test('a pod whose address was taken says so beside what others say, and says when it is back', async () => {
  await using t = await harness();
  const ready = { type: 'Ready', status: 'True' };
  const status = { status: { phase: 'Running', conditions: [ready] } };
  await t.h.client.patch(kube.pods, 'a', 'default', status, { type: 'strategic', subresource: 'status' });
  t.conditions.say(t.owner, taken);
  await t.conditions.flush();
  assert.deepEqual((await t.seen())?.sort(), ['Ready True ', `${ADDRESS_ASSIGNED} False AddressTaken`]);
  t.conditions.say(t.owner, taken);
  t.conditions.say(t.owner, back);
  await t.conditions.flush();
  assert.deepEqual((await t.seen())?.sort(), ['Ready True ', `${ADDRESS_ASSIGNED} True AddressAssigned`]);
});

test('a pod that is gone, or another one of its name, is left alone', async () => {
  await using t = await harness();
  t.conditions.say({ namespace: 'default', name: 'never' }, taken);
  t.conditions.say({ ...t.owner, uid: 'another' }, taken);
  await t.conditions.flush();
  assert.equal(await t.seen(), undefined);
  assert.deepEqual(t.said, []);
});

test('an API that is away is tried a few times and told', async () => {
  const said: string[] = [];
  let tries = 0;
  const conditions = new PodConditions(
    async () => {
      tries++;
      throw new Error('away');
    },
    { ...silent, warn: (_fields: object, text: string) => void said.push(text) },
    { now: Date.now, sleep: async () => {} },
  );
  conditions.say({ namespace: 'default', name: 'a' }, taken);
  await conditions.flush();
  assert.equal(tries, 5);
  assert.deepEqual(said, ['conditions of pods were not sent']);
});
