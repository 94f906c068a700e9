// Security groups per pod, the cluster's side, on a lab: a pod that a policy selects is told of a branch that EC2 has with the
// policy's groups, nobody forges that, a killed controller makes no second one, and the branch leaves its trunk with its pod.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, before, test } from 'node:test';
import {
  AuthorizeSecurityGroupIngressCommand,
  CreateSecurityGroupCommand,
  DeleteNetworkInterfaceCommand,
  DescribeNetworkInterfacesCommand,
  DescribeSecurityGroupsCommand,
  DescribeTrunkInterfaceAssociationsCommand,
  DetachNetworkInterfaceCommand,
  DisassociateTrunkInterfaceCommand,
  type EC2Client,
} from '@aws-sdk/client-ec2';
import { fastClock } from '../../src/base/testing.ts';
import type { GroupsView } from '../../src/cli/sg-view.ts';
import { WEBHOOK_NAME, secrets as webhookSecrets } from '../../src/controller/branch/webhooks.ts';
import { clear } from '../../src/controller/clear.ts';
import {
  cniNodes,
  decodePodEnis,
  events,
  type KubeClient,
  nodes,
  POD_ENI,
  POD_ENI_CAUSE,
  pods,
  resource,
  securityGroupPolicies,
} from '../../src/kube/index.ts';
import { controllerPaths } from '../../src/lab/cluster/controller.ts';
import { labPaths } from '../../src/lab/daemon/paths.ts';
import { eventually } from '../support/wait.ts';
import { asksWebhooks } from '../support/webhooks.ts';
import { skip } from './command.ts';
import { Lab } from './lab.ts';

const lab = new Lab('branch', ['--nodes', '1', '--instance-type', 'm5.large', '--set', 'controller=process']);
let api: KubeClient;
let ec2: EC2Client;
let group: string;

before(async () => {
  if (skip) return;
  await lab.up();
  ({ api, ec2 } = await lab.clients());
  const VpcId = (await lab.status()).vpcs[0]!.id;
  const asked = { GroupName: 'web', Description: 'web', VpcId };
  group = (await ec2.send(new CreateSecurityGroupCommand(asked))).GroupId!;
});
after(async () => {
  if (!skip) await lab.down();
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

const signalController = (signal: 'SIGKILL' | 'SIGSTOP') => {
  const { pid } = JSON.parse(readFileSync(controllerPaths(labPaths(lab.name).controller).pid, 'utf8'));
  process.kill(pid, signal);
};
const killController = () => signalController('SIGKILL');
const leases = resource('coordination.k8s.io/v1', 'leases', 'Lease', 'Namespaced');

test('before there is a policy nothing is made; with one each node takes branches', { skip }, async () => {
  assert.equal((await api.list(nodes)).items[0]!.status!.capacity![POD_ENI], undefined);
  assert.equal(await asksWebhooks(api), false);
  await policy('web', 'web', [group]);
  await eventually('the node says how many', async () => {
    const { capacity, allocatable } = (await api.list(nodes)).items[0]!.status!;
    return capacity![POD_ENI] === '9' && allocatable![POD_ENI] === '9';
  });
  await eventually('the API asks the webhooks', () => asksWebhooks(api));
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
  assert.deepEqual([view.wantedGroupIds, view.mode, view.cause], [[group], 'strict', null]);
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
  for (const name of ['web-2', 'web-3', 'web-4']) await run(name, 'web');
  killController();
  const vlans = new Set<number>();
  for (const name of ['web-1', 'web-2', 'web-3', 'web-4']) vlans.add((await branchOf(name)).vlanId);
  assert.equal(vlans.size, 4);
  assert.equal((await associations()).length, 4);
});

/** Of web-1 to a pod beside it, by the VPC. */
const asks = async () =>
  (await lab.askFrom('web-1', 'tcp', (await api.get(pods, 'plain-1', 'default')).status!.podIP!, '8080'))
    .answer;
const isTold = async (about: string, reason: string) =>
  (await api.list(events, { namespace: 'default' })).items.some(
    ({ involvedObject, reason: is }) => involvedObject.name === about && is === reason,
  );
const takeOff = async (eniId: string) => {
  const found = (await associations()).find(({ BranchInterfaceId }) => BranchInterfaceId === eniId);
  await ec2.send(new DisassociateTrunkInterfaceCommand({ AssociationId: found!.AssociationId! }));
};

test('a branch that is taken off its trunk is put back under its VLAN id, and told', { skip }, async () => {
  const { SecurityGroups } = await ec2.send(
    new DescribeSecurityGroupsCommand({ Filters: [{ Name: 'group-name', Values: ['nodes'] }] }),
  );
  const fromWeb = [{ IpProtocol: '-1', UserIdGroupPairs: [{ GroupId: group }] }];
  await ec2.send(
    new AuthorizeSecurityGroupIngressCommand({
      GroupId: SecurityGroups![0]!.GroupId!,
      IpPermissions: fromWeb,
    }),
  );
  await eventually('packets go by the branch', async () => (await asks()) !== undefined);
  const told = await branchOf('web-1');
  await takeOff(told.eniId);
  const again = await eventually(
    'it is back',
    async () => (await associations()).find(({ BranchInterfaceId }) => BranchInterfaceId === told.eniId),
    60_000,
  );
  assert.equal(again.VlanId, told.vlanId);
  await eventually('an Event names the pod', () => isTold('web-1', 'BranchLost'));
  await eventually('packets go again', async () => (await asks()) !== undefined);
});

test('a branch that is deleted is made anew with the address of the pod, which goes on', {
  skip: skip || (process.env['PODWAY_SOAK'] ? false : 'takes twenty seconds (npm run test:soak)'),
}, async () => {
  const was = await branchOf('web-1');
  await takeOff(was.eniId);
  await ec2.send(new DeleteNetworkInterfaceCommand({ NetworkInterfaceId: was.eniId }));
  const is = await eventually(
    'the pod is told of another',
    async () => {
      const now = await branchOf('web-1');
      return now.eniId !== was.eniId && now;
    },
    60_000,
  );
  assert.deepEqual([is.ip, is.vlanId], [was.ip, was.vlanId]);
  await eventually('packets go again', async () => (await asks()) !== undefined);
});

test('in place of a trunk that is deleted comes another, and its branches go there', {
  skip: skip || (process.env['PODWAY_SOAK'] ? false : 'takes twenty seconds (npm run test:soak)'),
}, async () => {
  const was = await branchOf('web-1');
  const trunkOf = async () =>
    (await associations()).find(({ BranchInterfaceId }) => BranchInterfaceId === was.eniId)?.TrunkInterfaceId;
  const trunk = (await trunkOf())!;
  const { AttachmentId } = (await described(trunk)).Attachment!;
  await ec2.send(new DetachNetworkInterfaceCommand({ AttachmentId: AttachmentId!, Force: true }));
  await eventually('it is deleted', () =>
    ec2.send(new DeleteNetworkInterfaceCommand({ NetworkInterfaceId: trunk })).catch(() => undefined),
  );
  await eventually('the branch is on another', async () => {
    const now = await trunkOf();
    return now !== undefined && now !== trunk;
  });
  await eventually('packets go again', async () => (await asks()) !== undefined);
  assert.equal((await branchOf('web-1')).vlanId, was.vlanId);
  await lab.agreed();
});

test('the branch leaves the trunk with its pod', { skip }, async () => {
  const told = await branchOf('web-2');
  await api.delete(pods, 'web-2', 'default', { gracePeriodSeconds: 0 });
  await eventually('it is off', async () =>
    (await associations()).every(({ BranchInterfaceId }) => BranchInterfaceId !== told.eniId),
  );
  assert.equal((await described(told.eniId)).Status, 'available', 'its address rests');
});

test('where EKS’s controller is seen nothing is made, and the API asks no webhook', { skip }, async () => {
  await api.create(leases, { metadata: { name: 'cp-vpc-resource-controller', namespace: 'kube-system' } });
  killController();
  await eventually('the API asks nobody', async () => !(await asksWebhooks(api)));
  await run('on-eks', 'web');
  assert.deepEqual((await api.get(pods, 'on-eks', 'default')).spec.containers[0]!.resources, {});
  // As EKS's webhook would have it, whose controller gives it a branch.
  const made = await api.create(pods, {
    metadata: { name: 'eks-web', namespace: 'default', labels: { app: 'web' } },
    spec: { containers: [{ name: 'c', image: 'pod-server', resources: { limits: { [POD_ENI]: '1' } } }] },
  });
  const before = (await associations()).length;
  await eventually('it has a node', async () => (await api.get(pods, 'eks-web', 'default')).spec.nodeName);
  const [mark] = (await api.list(cniNodes)).items;
  await api.delete(cniNodes, mark!.metadata.name!, undefined);
  await eventually('the leader leads again, and says why it does nothing', async () =>
    /"sign":"Lease kube-system\/cp-vpc-resource-controller".*auto is off/.test(
      readFileSync(controllerPaths(labPaths(lab.name).controller).log, 'utf8'),
    ),
  );
  assert.deepEqual(
    [(await associations()).length, (await api.list(cniNodes)).items.length],
    [before, 0],
    'neither branch nor CNINode is made',
  );
  assert.equal((await annotations(made.metadata.name!))[POD_ENI], undefined);
});

test('at the end nothing of branches is left on Nodes, nor the webhooks’ Secret', { skip }, async () => {
  // Ended as far as the API can see.
  signalController('SIGSTOP');
  await api.delete(leases, 'cp-vpc-resource-controller', 'kube-system');
  const secrets = async () => (await api.list(webhookSecrets, { namespace: 'kube-system' })).items;
  const names = async () => (await secrets()).map(({ metadata }) => metadata.name);
  assert.ok((await names()).includes(WEBHOOK_NAME));
  const before = (await api.list(nodes)).items[0]!.status!;
  assert.equal(before.capacity![POD_ENI], '9');
  const clock = fastClock(100);
  const done = await clear({ client: api, namespace: 'kube-system', lease: 'podway-controller', clock });
  assert.deepEqual([done.capacities, done.secrets, done.quiet], [1, 1, true]);
  const after = (await api.list(nodes)).items[0]!.status!;
  assert.deepEqual([after.capacity![POD_ENI], after.allocatable![POD_ENI]], [undefined, undefined]);
  assert.equal(after.capacity!['cpu'], before.capacity!['cpu'], 'nothing else is touched');
  assert.ok(!(await names()).includes(WEBHOOK_NAME));
});
