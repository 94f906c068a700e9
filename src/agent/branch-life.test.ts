// What the agent makes of SecurityGroupPolicies and of its CNINode, on the embedded API: the slot for a trunk, the
// feature by which the node asks for one, and pods that were made while the webhook was away.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { pino } from 'pino';
import type { MissingGroups } from '../base/branch-words.ts';
import { PodwayError } from '../base/errors.ts';
import { type CniNode, cniNodes, pods, resource, securityGroupPolicies } from '../kube/index.ts';
import type { KubeObject } from '../kube/types.ts';
import { startApi } from '../lab/cluster/api/testing.ts';
import { installDefinitions } from '../lab/cluster/definitions.ts';
import { keepBranchLife } from './branch-life.ts';
import { BranchPods } from './branch-pods.ts';
import type { Parts } from './parts.ts';
import type { Serving } from './start.ts';
import type { Telling } from './tell.ts';

const log = pino({ level: 'silent' });
const NODE = 'n-1';
const FEATURE = { name: 'SecurityGroupsForPods', value: '' };
const OTHER = { name: 'CustomNetworking', value: 'x' };

async function until(what: string, isSo: () => boolean | Promise<boolean>): Promise<void> {
  for (let look = 0; look < 600; look++) {
    if (await isSo()) return;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  assert.fail(`${what}: not within 30 s`);
}

/** The agent's parts that count here; `slot.free`: the node has room for a trunk. */
async function start(missingGroups: MissingGroups = 'refuse') {
  const api = await startApi();
  installDefinitions(api.api.store);
  const { client } = api;
  const kube = await import('../kube/index.ts');
  const told: Telling[] = [];
  const answers: string[] = [];
  const wants: boolean[] = [];
  const slot = { free: true };
  const branches = new BranchPods();
  const over = new AbortController();
  const lack = new PodwayError('ENI_LIMIT', 'it has 3 of 3', { object: 'i-0' });
  const parts = {
    api: { isConfigured: true, nodeName: NODE, connect: async () => ({ client, kube }) },
    config: { nodeName: NODE, settings: { missingGroups } },
    metrics: { groupsNotInjected: { inc: ({ answer }: { answer: string }) => answers.push(answer) } },
    tell: (one: Telling) => void told.push(one),
    log,
  } as unknown as Parts;
  const pool = {
    get awaitsTrunk() {
      return wants.at(-1) ?? false;
    },
    trunkLack: () => (slot.free ? null : lack),
  };
  const configuration = { noteWantsTrunk: (wanted: boolean) => void wants.push(wanted) };
  const kept = keepBranchLife(parts, { pool, configuration, branches } as unknown as Serving, over.signal);
  return {
    ...{ client, told, answers, wants, slot, branches },
    async [Symbol.asyncDispose]() {
      over.abort(new Error('over'));
      await kept;
      await api[Symbol.asyncDispose]();
    },
  };
}
type World = Awaited<ReturnType<typeof start>>;

const policy = (client: World['client'], name: string, spec: object, namespace = 'default') =>
  client.create(securityGroupPolicies, {
    metadata: { name, namespace },
    spec: { securityGroups: { groupIds: [`sg-${name}`] }, ...spec },
  });
const web = { podSelector: { matchLabels: { app: 'web' } } };
const pod = (client: World['client'], name: string, labels: Record<string, string>, account = 'default') =>
  client.create(pods, {
    metadata: { name, namespace: 'default', labels },
    spec: { serviceAccountName: account, containers: [{ name: 'c', image: 'pod-server' }] },
  });
const cniNode = (features: CniNode['spec'] = {}): CniNode => ({ metadata: { name: NODE }, spec: features });
const featuresOf = async (client: World['client']) => (await client.get(cniNodes, NODE)).spec?.features ?? [];

test('a policy makes the node keep a slot and ask for a trunk, beside features of others; without a slot it says so', async () => {
  await using world = await start();
  const { client, wants, slot, told } = world;
  await client.create(cniNodes, cniNode({ features: [OTHER] }));
  await until('the slot is not needed', () => wants.at(-1) === false);
  assert.deepEqual(await featuresOf(client), [OTHER]);
  slot.free = false;
  await policy(client, 'web', web);
  await until('a slot is wanted', () => wants.at(-1) === true);
  await until('the lack is told', () =>
    told.some(({ kind, text }) => kind === 'trunk' && /^ENI_LIMIT: /.test(text)),
  );
  assert.deepEqual(await featuresOf(client), [OTHER]);
  slot.free = true;
  await until('the node asks', async () => (await featuresOf(client)).length === 2);
  assert.deepEqual(await featuresOf(client), [OTHER, FEATURE]);
  // Somebody takes it away: the trunk is still awaited.
  await client.patch(cniNodes, NODE, undefined, { spec: { features: [OTHER] } });
  await until('it asks again', async () => (await featuresOf(client)).length === 2);
  // The feature alone is reason enough.
  await client.delete(securityGroupPolicies, 'web', 'default');
  await new Promise((resolve) => setTimeout(resolve, 200));
  assert.equal(wants.at(-1), true);
  await client.delete(cniNodes, NODE, undefined);
  await until('nobody wants one', () => wants.at(-1) === false);
});

test('a CNINode of Podway’s controller is a word for a slot, policies or not', async () => {
  await using world = await start();
  const { client, wants } = world;
  const labels = { 'app.kubernetes.io/managed-by': 'podway' };
  await client.create(cniNodes, { ...cniNode(), metadata: { name: NODE, labels } });
  await client.create(cniNodes, { ...cniNode(), metadata: { name: 'n-2' } });
  await until('the node asks', async () => (await featuresOf(client)).length === 1);
  assert.equal(wants.at(-1), true);
  assert.equal((await client.get(cniNodes, 'n-2')).spec?.features, undefined);
});

test('a pod that an older policy selects and that asks for nothing is refused, or told where that is allowed', async () => {
  for (const answer of ['refuse', 'allow'] as const) {
    await using world = await start(answer);
    const { client, branches, answers, told } = world;
    const { signal } = new AbortController();
    const accounts = resource<KubeObject>('v1', 'serviceaccounts', 'ServiceAccount', 'Namespaced');
    await pod(client, 'before', { app: 'web' });
    // The API's times are whole seconds.
    await new Promise((resolve) => setTimeout(resolve, 1_100));
    await policy(client, 'web', web);
    await policy(client, 'by-account', { serviceAccountSelector: { matchLabels: { team: 'a' } } });
    await policy(client, 'broken', { podSelector: {}, securityGroups: { groupIds: [] } }).catch(
      () => undefined,
    );
    await client.create(accounts, { metadata: { name: 'a', namespace: 'default', labels: { team: 'a' } } });
    await new Promise((resolve) => setTimeout(resolve, 1_100));
    for (const [name, app, account] of [
      ['web', 'web', 'default'],
      ['other', 'other', 'default'],
      ['account', 'other', 'a'],
    ] as const)
      await pod(client, name, { app }, account);
    await pod(client, 'ran', { app: 'web' });
    await client.patch(pods, 'ran', 'default', { status: { podIP: '10.0.0.9' } }, { subresource: 'status' });
    const names = ['before', 'web', 'other', 'account', 'ran', 'gone'];
    branches.note(
      new Map(['kube/x', ...names.map((name) => `default/${name}`)].map((name) => [name, 'plain' as const])),
    );
    await until(
      'the policies are known',
      () => branches.concerns('default', 'web') && !branches.concerns('kube', 'x'),
    );
    const found = await Promise.all(
      names.map((name) =>
        branches.of(`default/${name}`, signal).then(
          () => 'starts',
          (error: PodwayError) => `${error.code} ${/groups (\S+),/.exec(error.message)?.[1]}`,
        ),
      ),
    );
    const missing = ['GROUPS_NOT_INJECTED sg-web', 'GROUPS_NOT_INJECTED sg-by-account'];
    const [first, second] = answer === 'refuse' ? missing : ['starts', 'starts'];
    assert.deepEqual(found, ['starts', first, 'starts', second, 'starts', 'starts']);
    assert.deepEqual(answers, answer === 'refuse' ? ['refused', 'refused'] : ['allowed', 'allowed']);
    const telling = told.filter(({ kind }) => kind === 'groups').map(({ pod: one }) => one!.name);
    assert.deepEqual(telling.sort(), answer === 'refuse' ? [] : ['account', 'web']);
  }
});
