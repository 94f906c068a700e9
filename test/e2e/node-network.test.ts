// Where a node's pool policy comes from, live: a NodeNetwork before the environment before the settings, each as a whole,
// changed without a restart; a refused one keeps the last good policy and says so; two are told of; and the agent knows
// its policy again after a restart.
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { CreateSecurityGroupCommand, DescribeNetworkInterfacesCommand } from '@aws-sdk/client-ec2';
import { ApiextensionsV1Api, CoreV1Api, CustomObjectsApi } from '@kubernetes/client-node';
import { labPaths } from '../../src/lab/daemon/paths.ts';
import type { IpamNode } from '../../src/lab/daemon/protocol.ts';
import { eventually } from '../support/wait.ts';
import { ROOT, skip } from './command.ts';
import { downAll, Lab } from './lab.ts';

const env = 'env=WARM_IP_TARGET=2;MINIMUM_IP_TARGET=4;WARM_IPS=9;ENABLE_MULTI_NIC=true';
const lab = new Lab('nn', ['--nodes', '1', '--set', 'idleRelease=1s', '--set', env]);
const kind = { group: 'podway.dev', version: 'v1alpha1', plural: 'nodenetworks' };
let objects: CustomObjectsApi;
let core: CoreV1Api;

before(async () => {
  if (skip) return;
  await lab.up();
  objects = (await lab.kube()).makeApiClient(CustomObjectsApi);
  core = (await lab.kube()).makeApiClient(CoreV1Api);
});
after(async () => {
  if (!skip) await downAll([lab]);
});

type Network = {
  metadata: { name: string; resourceVersion?: string };
  spec: object;
  status?: { conditions?: { type: string; status: string; message: string }[] };
};
const body = (name: string, spec: object) => ({
  apiVersion: 'podway.dev/v1alpha1',
  kind: 'NodeNetwork',
  metadata: { name },
  spec,
});
const create = (name: string, spec: object) =>
  objects.createClusterCustomObject({ ...kind, body: body(name, spec) });
const get = async (name: string): Promise<Network> =>
  (await objects.getClusterCustomObject({ ...kind, name })) as Network;
/** Again when the agent has written its status between the two. */
const replace = (name: string, spec: object) =>
  eventually(`${name} is replaced`, async () => {
    const known = await get(name);
    await objects.replaceClusterCustomObject({ ...kind, name, body: { ...known, spec } });
    return true;
  });
const shown = (): Promise<IpamNode> => lab.ipam('node-1');
const follows = (what: string, look: (node: IpamNode) => boolean) =>
  eventually(what, async () => {
    const node = await shown();
    return look(node) ? node : undefined;
  });
const free = (node: IpamNode): number => node.totals.free;
async function eventsOf(reason: string): Promise<string[]> {
  const { items } = await core.listEventForAllNamespaces();
  return items.filter((event) => event.reason === reason).map((event) => event.message ?? '');
}

test("the AWS VPC CNI's variables count, those without effect are named", { skip }, async () => {
  const node = await follows('the pool has the four of MINIMUM_IP_TARGET', (one) => free(one) === 4);
  assert.deepEqual(node.source, { kind: 'environment', variables: ['MINIMUM_IP_TARGET', 'WARM_IP_TARGET'] });
  const log = await lab.ok('lab', 'logs', 'node-1');
  assert.match(log, /without effect: ENABLE_MULTI_NIC.*unknown: WARM_IPS/);
});

test('a NodeNetwork takes their place at once, and its change too', { skip }, async () => {
  const pod = await lab.run('stays');
  await create('general', { bounds: { maxAddresses: 20 }, cooldown: '5s' });
  const node = await follows('the pool follows the NodeNetwork', (one) => one.source?.kind === 'NodeNetwork');
  assert.deepEqual(node.warm, { target: 1, cooldownSeconds: 5 });
  assert.deepEqual(node.notes, [
    'without effect beside the NodeNetwork general: MINIMUM_IP_TARGET, WARM_IP_TARGET',
  ]);
  await follows('as many are free as a new node keeps', (one) => free(one) >= 3);
  await replace('general', { capacity: { maxPods: 3 }, cooldown: '7s' });
  await follows('the changed one counts', (one) => one.limits.pods === 3 && one.warm.cooldownSeconds === 7);
  assert.deepEqual(
    (await lab.pods()).map(({ ips }) => ips),
    [pod.ips],
  );
  await eventually('the NodeNetwork says that it is accepted', async () =>
    (await get('general')).status?.conditions?.some(
      ({ type, status }) => type === 'Accepted' && status === 'True',
    ),
  );
});

test('a refused NodeNetwork keeps the last good one, and says why', { skip }, async () => {
  // The API runs no CEL rules: what its schema lets through, the agent refuses.
  await replace('general', { capacity: { minIdle: 9, maxPods: 4 } });
  const why = 'spec.capacity.minIdle is 9, greater than maxPods 4';
  const condition = await eventually('the NodeNetwork says why it is refused', async () =>
    (await get('general')).status?.conditions?.find(
      ({ type, status }) => type === 'Accepted' && status === 'False',
    ),
  );
  assert.equal(condition.message, why);
  const node = await shown();
  assert.deepEqual([node.limits.pods, node.warm.cooldownSeconds], [3, 7]);
  assert.match(node.notes!.join(), new RegExp(`general is refused, its last good version counts: ${why}`));
  await eventually('an Event tells it', async () =>
    (await eventsOf('NodeNetworkRefused')).some((text) => text.includes(why)),
  );
  await assert.rejects(create('wrong', { addressing: 'ipv9' }), /addressing/);
});

test('the agent knows the last good one after a kill', { skip }, async () => {
  const { pid } = JSON.parse(readFileSync(labPaths(lab.name).node('node-1').agentPid, 'utf8')) as {
    pid: number;
  };
  process.kill(pid, 'SIGKILL');
  const node = await follows('the pool follows the last good one', (one) => one.limits.pods === 3);
  assert.equal(node.source?.kind, 'NodeNetwork');
});

test('of two that select the node the older counts, and both are named; without any the variables count', {
  skip,
}, async () => {
  await create('another', { cooldown: '9s' });
  await eventually('both are named', async () =>
    (await shown()).notes!.some((note) => /general and another select this node: general counts/.test(note)),
  );
  await eventually('an Event tells it', async () => (await eventsOf('NodeNetworkConflict')).length > 0);
  await objects.deleteClusterCustomObject({ ...kind, name: 'general' });
  await follows('the younger one counts', (one) => one.warm.cooldownSeconds === 9);
  await replace('another', { nodeSelector: { matchLabels: { pool: 'none' } }, cooldown: '9s' });
  await follows('the variables count', (one) => one.source?.kind === 'environment');
  const patch = [{ op: 'add', path: '/metadata/labels/pool', value: 'none' }];
  await core.patchNode({ name: 'node-1', body: patch });
  await follows('a label of the node selects it', (one) => one.source?.kind === 'NodeNetwork');
  await objects.deleteClusterCustomObject({ ...kind, name: 'another' });
  await follows('the variables count', (one) => one.source?.kind === 'environment');
});

test('the definitions that deploy/ ships are those of the lab', { skip }, async () => {
  const api = (await lab.kube()).makeApiClient(ApiextensionsV1Api);
  const { items } = await api.listCustomResourceDefinition();
  const names = items.map(({ metadata }) => metadata!.name!).sort();
  const folder = join(ROOT, 'deploy/crds');
  const shipped = readdirSync(folder).map(
    (file) => /^metadata:\n {2}name: (\S+)$/m.exec(readFileSync(join(folder, file), 'utf8'))?.[1],
  );
  assert.deepEqual(names, shipped.sort());
});

test('groups by tag, also for ENIs that exist; the primary ENI keeps its own', { skip }, async () => {
  const ec2 = await lab.ec2();
  try {
    const VpcId = (await lab.status()).vpcs[0]!.id;
    const Tags = [{ Key: 'for', Value: 'pods' }];
    const { GroupId } = await ec2.send(
      new CreateSecurityGroupCommand({
        ...{ VpcId, GroupName: 'for-pods', Description: 'for pods' },
        TagSpecifications: [{ ResourceType: 'security-group', Tags }],
      }),
    );
    for (let i = 0; i < 9; i++) await lab.ok('pod', 'run', `g-${i}`, '--no-wait');
    const { enis } = await follows('a second ENI is there', (node) => node.enis.length === 2);
    const securityGroups = { tags: { for: 'pods' }, existingENIs: 'change' };
    await create('grouped', { securityGroups, subnets: { tags: { Name: 'subnet-a' } } });
    await eventually('the second ENI has the group', async () => {
      const { NetworkInterfaces } = await ec2.send(
        new DescribeNetworkInterfacesCommand({ NetworkInterfaceIds: enis.map(({ id }) => id) }),
      );
      const groups = new Map(
        NetworkInterfaces!.map((eni) => [eni.NetworkInterfaceId, eni.Groups!.map((group) => group.GroupId)]),
      );
      const [primary, second] = enis.map(({ id }) => groups.get(id)!);
      return second!.join() === GroupId && !primary!.includes(GroupId);
    });
  } finally {
    ec2.destroy();
  }
});
