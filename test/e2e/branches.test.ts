// Security groups per pod, the cluster's side, on a lab: a pod that a policy selects is told of a branch that EC2 has with the
// policy's groups, nobody forges that, a killed controller makes no second one, and the branch leaves its trunk with its pod.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, before, test } from 'node:test';
import {
  CreateSecurityGroupCommand,
  DescribeNetworkInterfacesCommand,
  DescribeTrunkInterfaceAssociationsCommand,
  DisassociateTrunkInterfaceCommand,
  type EC2Client,
} from '@aws-sdk/client-ec2';
import type { GroupsView } from '../../src/cli/sg-view.ts';
import {
  decodePodEnis,
  events,
  KubeClient,
  nodes,
  POD_ENI,
  POD_ENI_CAUSE,
  pods,
  readKubeConfig,
  securityGroupPolicies,
} from '../../src/kube/index.ts';
import { controllerPaths } from '../../src/lab/cluster/controller.ts';
import { labPaths } from '../../src/lab/daemon/paths.ts';
import { eventually } from '../support/wait.ts';
import { skip } from './command.ts';
import { Lab } from './lab.ts';

const lab = new Lab('branch', ['--nodes', '1', '--instance-type', 'm5.large', '--set', 'controller=process']);
let api: KubeClient;
let ec2: EC2Client;
let group: string;

before(async () => {
  if (skip) return;
  await lab.up();
  api = new KubeClient(await readKubeConfig(await lab.kubeconfig()));
  ec2 = await lab.ec2();
  const VpcId = (await lab.status()).vpcs[0]!.id;
  const asked = { GroupName: 'web', Description: 'web', VpcId };
  group = (await ec2.send(new CreateSecurityGroupCommand(asked))).GroupId!;
});
after(async () => {
  if (skip) return;
  api?.close();
  ec2?.destroy();
  await lab.down();
});

const policy = (name: string, app: string, groupIds: string[]) =>
  api.create(securityGroupPolicies, {
    metadata: { name, namespace: 'default' },
    spec: { podSelector: { matchLabels: { app } }, securityGroups: { groupIds } },
  });
const run = (name: string, app: string) =>
  api.create(pods, {
    metadata: { name, namespace: 'default', labels: { app } },
    spec: { containers: [{ name: 'c', image: 'pod-server' }] },
  });
const annotations = async (name: string) => (await api.get(pods, name, 'default')).metadata.annotations ?? {};
const branchOf = (name: string) =>
  eventually(`${name} is told of its branch`, async () => {
    const text = (await annotations(name))[POD_ENI];
    return text !== undefined && decodePodEnis(text)[0]!;
  });
const described = async (id: string) =>
  (await ec2.send(new DescribeNetworkInterfacesCommand({ NetworkInterfaceIds: [id] })))
    .NetworkInterfaces![0]!;
const associations = async () =>
  (await ec2.send(new DescribeTrunkInterfaceAssociationsCommand({}))).InterfaceAssociations!;
const hasWebhooks = async () =>
  (
    (await api
      .getPath('/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/podway-webhook')
      .catch(() => ({}))) as { webhooks?: unknown[] }
  ).webhooks?.length === 1;

test('before there is a policy nothing is made; with one each node takes branches', { skip }, async () => {
  assert.equal((await api.list(nodes)).items[0]!.status!.capacity![POD_ENI], undefined);
  assert.equal(await hasWebhooks(), false);
  await policy('web', 'web', [group]);
  await eventually('the node says how many', async () => {
    const { capacity, allocatable } = (await api.list(nodes)).items[0]!.status!;
    return capacity![POD_ENI] === '9' && allocatable![POD_ENI] === '9';
  });
  await eventually('the API asks the webhooks', hasWebhooks);
});

test('a pod that the policy selects gets a branch with its groups, another gets none', { skip }, async () => {
  await run('web-1', 'web');
  await run('plain-1', 'plain');
  const told = await branchOf('web-1');
  const seen = await described(told.eniId);
  assert.deepEqual([seen.InterfaceType, seen.Status, seen.MacAddress], ['branch', 'in-use', told.mac]);
  assert.deepEqual(
    seen.Groups!.map(({ GroupId }) => GroupId),
    [group],
  );
  const [association] = await associations();
  assert.deepEqual(
    [association!.AssociationId, association!.BranchInterfaceId, association!.VlanId],
    [told.associationId, told.eniId, told.vlanId],
  );
  assert.equal((await described(association!.TrunkInterfaceId!)).InterfaceType, 'trunk');
  const view = await lab.json<GroupsView>('sg', 'show', 'web-1');
  assert.deepEqual([view.gates.map(({ ok }) => ok), view.groupIds], [[true, true, true, true], [group]]);
  assert.equal(view.interface!.eniId, told.eniId);
  const plain = await api.get(pods, 'plain-1', 'default');
  assert.deepEqual(
    [plain.metadata.annotations?.[POD_ENI], plain.spec.containers[0]!.resources],
    [undefined, {}],
  );
});

test('nobody but the controller writes the annotation', { skip }, async () => {
  const forged = { metadata: { annotations: { [POD_ENI]: '[]' } } };
  await assert.rejects(api.patch(pods, 'web-1', 'default', forged), /may not change the annotation/);
  await assert.rejects(
    api.create(pods, {
      metadata: { name: 'forged', namespace: 'default', annotations: { [POD_ENI]: '[]' } },
      spec: { containers: [{ name: 'c', image: 'pod-server' }] },
    }),
    /a new pod has no interface yet/,
  );
});

test('a group that there is not is told on the pod, and by an Event', { skip }, async () => {
  await policy('bad', 'bad', ['sg-00000000000000bad']);
  await run('bad-1', 'bad');
  const cause = await eventually('it is told', async () => (await annotations('bad-1'))[POD_ENI_CAUSE]);
  assert.match(cause, /^GROUP_NOT_FOUND: .*sg-00000000000000bad/);
  await eventually('also by an Event', async () =>
    (await api.list(events, { namespace: 'default' })).items.some(
      ({ involvedObject, reason }) => involvedObject.name === 'bad-1' && reason === 'BranchAllocationFailed',
    ),
  );
  await api.delete(pods, 'bad-1', 'default', { gracePeriodSeconds: 0 });
});

test('a controller that is killed while pods come gives each one branch', { skip }, async () => {
  const { pid } = JSON.parse(readFileSync(controllerPaths(labPaths(lab.name).controller).pid, 'utf8'));
  for (const name of ['web-2', 'web-3', 'web-4']) await run(name, 'web');
  process.kill(pid, 'SIGKILL');
  const vlans = new Set<number>();
  for (const name of ['web-1', 'web-2', 'web-3', 'web-4']) vlans.add((await branchOf(name)).vlanId);
  assert.equal(vlans.size, 4);
  assert.equal((await associations()).length, 4);
});

test('a branch that is taken off its trunk is put back under its VLAN id, and told', { skip }, async () => {
  const told = await branchOf('web-1');
  const of = async () =>
    (await associations()).find(({ BranchInterfaceId }) => BranchInterfaceId === told.eniId);
  await ec2.send(new DisassociateTrunkInterfaceCommand({ AssociationId: (await of())!.AssociationId! }));
  const again = await eventually('it is back', of, 40_000);
  assert.equal(again.VlanId, told.vlanId);
  await eventually('an Event names the pod', async () =>
    (await api.list(events, { namespace: 'default' })).items.some(
      ({ involvedObject, reason }) => involvedObject.name === 'web-1' && reason === 'BranchLost',
    ),
  );
});

test('the branch leaves the trunk with its pod', { skip }, async () => {
  const told = await branchOf('web-2');
  await api.delete(pods, 'web-2', 'default', { gracePeriodSeconds: 0 });
  await eventually('it is off', async () =>
    (await associations()).every(({ BranchInterfaceId }) => BranchInterfaceId !== told.eniId),
  );
  assert.equal((await described(told.eniId)).Status, 'available', 'its address rests');
});
