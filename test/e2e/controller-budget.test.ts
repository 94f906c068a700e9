// Nodes that fill at the same time ask for more EC2 calls than the account has: the controller grants each a part, all pods
// start, and when the rush is over nobody is bounded any more.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { AppsV1Api, CoreV1Api, CustomObjectsApi } from '@kubernetes/client-node';
import { eventually } from '../support/wait.ts';
import { skip } from './command.ts';
import { Lab } from './lab.ts';

const CHANGES = 2;
const lab = new Lab('budget', [
  ...['--nodes', '4', '--instance-type', 't3.medium', '--set', 'cooldown=0s', '--set', 'idleRelease=1h'],
  ...['--set', 'controller=process', '--set', `env=PODWAY_EC2_CHANGES=${CHANGES};PODWAY_EC2_READS=8`],
]);
let custom: CustomObjectsApi;
let core: CoreV1Api;
let apps: AppsV1Api;

before(async () => {
  if (skip) return;
  await lab.up();
  const kube = await lab.kube();
  custom = kube.makeApiClient(CustomObjectsApi);
  core = kube.makeApiClient(CoreV1Api);
  apps = kube.makeApiClient(AppsV1Api);
});
after(async () => {
  if (!skip) await lab.down();
});

type Ec2 = { asked?: { changes: number } | null; granted?: { changes: number; seconds: number } | null };
const said = async (): Promise<Ec2[]> => {
  const of = { group: 'podway.dev', version: 'v1alpha1', plural: 'podwaynodes' };
  const { items } = (await custom.listClusterCustomObject(of)) as { items: { status?: { ec2?: Ec2 } }[] };
  return items.map(({ status }) => status?.ec2 ?? {});
};

test('nodes that fill together share what the account has, and all their pods start', {
  skip,
  timeout: 240_000,
}, async () => {
  await lab.ok('lab', 'throttle', '--action', 'AssignPrivateIpAddresses', '--rate', '0.5', '--burst', '2');
  await lab.ok('lab', 'throttle', '--action', 'CreateNetworkInterface', '--rate', '0.5', '--burst', '2');
  const labels = { app: 'rush' };
  const template = {
    metadata: { labels },
    spec: { containers: [{ name: 'c', image: 'podway/pod-server' }] },
  };
  const replicas = 44;
  const spec = { replicas, selector: { matchLabels: labels }, template };
  await apps.createNamespacedDeployment({ namespace: 'default', body: { metadata: { name: 'rush' }, spec } });
  const granted = await eventually('the controller grants parts', async () => {
    const parts = (await said()).flatMap((one) => (one.granted ? [one.granted.changes] : []));
    return parts.length >= 2 && parts.reduce((sum, part) => sum + part, 0) <= CHANGES + 0.01 && parts;
  });
  assert.ok(granted.every((part) => part > 0));
  await eventually(
    'all pods run',
    async () => {
      const { items } = await core.listNamespacedPod({ namespace: 'default' });
      return items.filter(({ status }) => status?.phase === 'Running').length === replicas;
    },
    60_000,
  );
  await eventually(
    'nobody asks, and nobody is bounded',
    async () => (await said()).every(({ asked, granted: part }) => !asked && !part),
    60_000,
  );
});
