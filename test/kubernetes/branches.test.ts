// Security groups per pod on a real Kubernetes: kube-apiserver asks the webhooks, kube-scheduler and kubelet count
// branches, pods of one node differ by their groups alone, the controller is killed between each of its steps, and
// kubelet starts again while pods with branches run. How long things took is told, not judged. `npm run
// test:kubernetes-lab`.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, type TestContext, test } from 'node:test';
import {
  DescribeNetworkInterfacesCommand,
  DescribeTrunkInterfaceAssociationsCommand,
  type EC2Client,
} from '@aws-sdk/client-ec2';
import { decodePodEnis, type KubeClient, nodes, POD_ENI, pods } from '../../src/kube/index.ts';
import { BUILT_IN_IMAGE } from '../../src/lab/cluster/command.ts';
import { controllerPaths } from '../../src/lab/cluster/controller.ts';
import { labPaths } from '../../src/lab/daemon/paths.ts';
import { realNodePaths } from '../../src/lab/kubernetes/layout.ts';
import { skip as notRoot, PROBE } from '../e2e/command.ts';
import { Lab } from '../e2e/lab.ts';
import { missingKubernetes } from '../support/kubernetes.ts';
import { eventually } from '../support/wait.ts';
import { asksWebhooks } from '../support/webhooks.ts';

const skip =
  notRoot ||
  (process.env['PODWAY_KUBERNETES'] ? false : 'takes two minutes (npm run test:kubernetes-lab)') ||
  missingKubernetes();
const bound = { skip, timeout: 240_000 };
const BACK_MS = 120_000;
const NODE = 'node-1';
/** Branches of an m5.large. */
const LIMIT = 9;

const lab = new Lab('kbranch', [
  ...['-f', join(import.meta.dirname, '../../examples/security-groups.yaml'), '--kubernetes'],
  ...['--set', 'controller=process', '--set', 'ec2Latency=realistic'],
]);
let api: KubeClient;
let ec2: EC2Client;

before(async () => {
  if (skip) return;
  await lab.up();
  ({ api, ec2 } = await lab.clients());
}, bound);
after(async () => {
  if (!skip) await lab.down();
});

const make = (name: string, app: string, more: object = {}) =>
  api.create(pods, {
    metadata: { name, namespace: 'default', labels: { app } },
    spec: {
      containers: [{ name: 'c', image: BUILT_IN_IMAGE, imagePullPolicy: 'IfNotPresent', ...more } as never],
      terminationGracePeriodSeconds: 0,
    },
  });
/** One that a policy selects: while the webhook is away it is made without its branch, and made again. */
const makeSelected = (name: string, app: string) =>
  eventually(
    `the webhook is asked for ${name}`,
    async () => {
      const made = await make(name, app);
      if (made.spec.containers[0]!.resources?.limits?.[POD_ENI] === '1') return true;
      await remove(name);
      await eventually('it is gone', async () => (await podOf(name).catch(() => null)) === null, BACK_MS);
      return false;
    },
    BACK_MS,
  );
const podOf = (name: string) => api.get(pods, name, 'default');
const isRunning = (name: string, boundMs = BACK_MS) =>
  eventually(`${name} runs`, async () => (await podOf(name)).status?.phase === 'Running', boundMs);
const branchOf = async (name: string) => {
  const text = (await podOf(name)).metadata.annotations?.[POD_ENI];
  return text === undefined ? null : decodePodEnis(text)[0]!;
};
const remove = async (...names: string[]) => {
  for (const name of names) await api.delete(pods, name, 'default', { gracePeriodSeconds: 0 });
};
const associations = async () =>
  (await ec2.send(new DescribeTrunkInterfaceAssociationsCommand({}))).InterfaceAssociations ?? [];
const branchEnis = async () =>
  (
    await ec2.send(
      new DescribeNetworkInterfacesCommand({
        Filters: [{ Name: 'tag:podway.io/purpose', Values: ['branch'] }],
      }),
    )
  ).NetworkInterfaces ?? [];
const offered = async () => (await api.get(nodes, NODE, undefined)).status?.allocatable?.[POD_ENI];
const pidIn = (file: string): number => (JSON.parse(readFileSync(file, 'utf8')) as { pid: number }).pid;
const killController = () =>
  process.kill(pidIn(controllerPaths(labPaths(lab.name).controller).pid), 'SIGKILL');

async function timed(t: TestContext, what: string, done: Promise<unknown>): Promise<void> {
  const began = performance.now();
  await done;
  t.diagnostic(`${what}: ${((performance.now() - began) / 1000).toFixed(1)} s`);
}

const asks = async (name: string): Promise<string | undefined> => {
  const ran = await lab.podway(
    'pod',
    'exec',
    name,
    '--',
    'timeout',
    '2',
    PROBE,
    'tcp',
    'db.podway.test',
    '5432',
  );
  return ran.code === 0 ? (JSON.parse(ran.stdout) as { answer?: string }).answer : undefined;
};

test('two pods of one node: one reaches db, the other does not, by their groups alone', bound, async () => {
  await eventually(
    'the node says how many it takes',
    async () => (await offered()) === String(LIMIT),
    BACK_MS,
  );
  await eventually('the API asks the webhooks', () => asksWebhooks(api));
  for (const app of ['shop', 'guest']) await makeSelected(app, app);
  for (const app of ['shop', 'guest']) await isRunning(app);
  await eventually('shop reaches db', async () => (await asks('shop')) !== undefined);
  assert.equal(await asks('guest'), undefined);
});

test('nobody else writes the annotation', bound, async () => {
  const forged = { metadata: { annotations: { [POD_ENI]: '[]' } } };
  await assert.rejects(api.patch(pods, 'shop', 'default', forged), /may not change the annotation/);
});

test('scheduler and kubelet count branches: one too many waits for a place', bound, async (t) => {
  // One pod that asks for all that is left has one branch.
  const left = String(LIMIT - 2);
  const resources = { limits: { [POD_ENI]: left }, requests: { [POD_ENI]: left } };
  await make('hog', 'hog', { resources });
  await isRunning('hog');
  await makeSelected('shop-2', 'shop');
  await eventually('it waits for a node', async () =>
    (await podOf('shop-2')).status?.conditions?.some(
      ({ type, status, message = '' }) =>
        type === 'PodScheduled' && status === 'False' && message.includes(`Insufficient ${POD_ENI}`),
    ),
  );
  await remove('hog');
  await timed(t, 'from the end of one pod to the start of the next', isRunning('shop-2'));
});

test('the controller killed between each of its steps: one branch, one VLAN id', bound, async () => {
  const has = {
    asked: async (name: string) => (await podOf(name)).spec.nodeName !== undefined,
    made: async (name: string) => (await enisOf(name)).length > 0,
    associated: async (name: string) => (await enisOf(name)).some(({ Status }) => Status === 'in-use'),
  };
  const enisOf = async (name: string) =>
    (await branchEnis()).filter(({ TagSet = [] }) =>
      TagSet.some(({ Key, Value }) => Key === 'podway.io/pod' && Value === `default/${name}`),
    );
  for (const [step, isThere] of Object.entries(has)) {
    const name = `at-${step}`;
    await makeSelected(name, 'guest');
    await eventually(`${name} has come so far`, () => isThere(name));
    killController();
    await isRunning(name);
    assert.equal((await enisOf(name)).length, 1, `${name} has one interface`);
  }
  const live = ['shop', 'guest', 'shop-2', 'at-asked', 'at-made', 'at-associated'];
  const told = await Promise.all(live.map(async (name) => (await branchOf(name))!));
  assert.equal(new Set(told.map(({ vlanId }) => vlanId)).size, live.length);
  await eventually(
    'EC2 has those and no others',
    async () => (await associations()).length === live.length,
    BACK_MS,
  );
  await remove('at-asked', 'at-made', 'at-associated', 'shop-2');
});

test('kubelet that starts again keeps pods with branches, and the node its places', bound, async (t) => {
  const before = await Promise.all(['shop', 'guest'].map(podOf));
  const uids = before.map(({ metadata }) => metadata.uid);
  for (let turn = 1; turn <= 3; turn++) {
    const file = realNodePaths(labPaths(lab.name), NODE).processPid('kubelet');
    const pid = pidIn(file);
    process.kill(pid, 'SIGKILL');
    await eventually('kubelet is another', () => pidIn(file) !== pid);
    const name = `after-${turn}`;
    await makeSelected(name, 'guest');
    await timed(t, 'from its start to a new pod with a branch', isRunning(name));
    assert.equal(await offered(), String(LIMIT));
    const now = await Promise.all(['shop', 'guest'].map(podOf));
    assert.deepEqual(
      now.map(({ metadata, status }) => [metadata.uid, status?.phase, status?.reason]),
      uids.map((uid) => [uid, 'Running', undefined]),
    );
    assert.ok(now.every(({ status }) => status?.containerStatuses?.[0]?.restartCount === 0));
    await remove(name);
  }
  await eventually('shop reaches db', async () => (await asks('shop')) !== undefined);
  assert.equal(await asks('guest'), undefined);
});
