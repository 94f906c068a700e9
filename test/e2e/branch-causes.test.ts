// Whatever keeps a pod from its security groups, made to happen on one lab with its controller: the pod's ADD, its
// Event, metric and explanation name the same cause. And each way in which the four views of a branch come to disagree,
// made by hand in EC2, the kernel and the API, as `ipam check` names it. The node repairs nothing here, so that what is
// done stays.
import assert from 'node:assert/strict';
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import * as sdk from '@aws-sdk/client-ec2';
import { type Cause, causes, eventReason } from '../../src/base/causes.ts';
import { formatIp } from '../../src/base/ip.ts';
import type { Way } from '../../src/cli/trace-ways.ts';
import type { Explanation } from '../../src/ipam/views/explain.ts';
import { openNetns } from '../../src/kernel/netns.ts';
import { NfNetlink } from '../../src/kernel/nfnetlink.ts';
import {
  cniNodes,
  decodePodEnis,
  events,
  type KubeClient,
  type KubeEvent,
  type KubeObject,
  nodes,
  POD_ENI,
  pods,
  resource,
  securityGroupPolicies,
} from '../../src/kube/index.ts';
import { controllerPaths } from '../../src/lab/cluster/controller.ts';
import { labPaths } from '../../src/lab/daemon/paths.ts';
import type { IpamCheck, IpamNode } from '../../src/lab/daemon/protocol.ts';
import { CUT } from '../../src/policy/render.ts';
import { Streams } from '../support/streams.ts';
import { eventually } from '../support/wait.ts';
import { execute, skip as needsRoot, ok, ROOT } from './command.ts';
import { Lab } from './lab.ts';

/** Each cause waits for controller, agent and runtime: minutes on a busy machine. */
const skip = process.env['PODWAY_SOAK'] ? needsRoot : 'PODWAY_SOAK=1 has the time for it';

/** Three branches, the fewest of all types; and a type without a trunk. */
const SHAPE = readFileSync(join(ROOT, 'examples/default.yaml'), 'utf8')
  .replace('name: node-1, type: m5.large', 'name: node-1, type: m7i-flex.large')
  .replace('name: node-2, type: m5.large', 'name: node-2, type: t3.small');
const file = `/tmp/podway-branch-causes-${process.pid}.yaml`;
const lab = new Lab('bcause', [
  ...['-f', file, '--set', 'cooldown=0s', '--set', 'repair=report', '--set', 'controller=process'],
]);
/** The controller, the agent and the runtime each wait between two tries. */
const BOUND_MS = 60_000;
const hooks = (plural: string, kind: string) =>
  resource<KubeObject>('admissionregistration.k8s.io/v1', plural, kind, 'Cluster');
const mutating = hooks('mutatingwebhookconfigurations', 'MutatingWebhookConfiguration');
const validating = hooks('validatingwebhookconfigurations', 'ValidatingWebhookConfiguration');

let api: KubeClient;
let ec2: sdk.EC2Client;
let vpcId: string;
let netns: string;
let group: string;
let streams: Streams | undefined;

before(async () => {
  if (skip) return;
  writeFileSync(file, SHAPE);
  await lab.up();
  const status = await lab.status();
  vpcId = status.vpcs[0]!.id;
  netns = status.nodes.find(({ name }) => name === 'node-1')!.netns;
  ({ api, ec2 } = await lab.clients());
  group = await makeGroup('web', vpcId);
});
after(async () => {
  if (skip) return;
  streams?.close();
  rmSync(file, { force: true });
  await lab.down();
});

const makeGroup = async (GroupName: string, VpcId: string) =>
  (await ec2.send(new sdk.CreateSecurityGroupCommand({ GroupName, Description: GroupName, VpcId }))).GroupId!;
const policy = (app: string, groupIds: string[]) =>
  api.create(securityGroupPolicies, {
    metadata: { name: app, namespace: 'default' },
    spec: { podSelector: { matchLabels: { app } }, securityGroups: { groupIds } },
  });
const run = (name: string, app: string, node = 'node-1') =>
  api.create(pods, {
    metadata: { name, namespace: 'default', labels: { app } },
    spec: { nodeName: node, containers: [{ name: 'c', image: 'pod-server' }] },
  });
const end = (name: string) => api.delete(pods, name, 'default', { gracePeriodSeconds: 0 });
const running = (name: string) =>
  eventually(
    `${name} runs`,
    async () => (await api.get(pods, name, 'default')).status?.phase === 'Running',
    BOUND_MS,
  );
const branchOf = async (name: string) => {
  const text = (await api.get(pods, name, 'default')).metadata.annotations?.[POD_ENI];
  return text === undefined ? undefined : decodePodEnis(text)[0]!;
};
const eventOf = (name: string, isIt: (event: KubeEvent) => boolean, namespace: string | null = 'default') =>
  eventually(
    `the Event of ${name}`,
    async () =>
      (await api.list(events, namespace === null ? {} : { namespace })).items.find(
        (event) => event.involvedObject.name === name && isIt(event),
      ),
    BOUND_MS,
  );
const inNode = async (...command: string[]) => {
  const ran = await execute(['ip', 'netns', 'exec', netns, ...command]);
  assert.equal(ran.code, 0, ran.stderr);
  return ran.stdout;
};
const metrics = () => lab.ok('lab', 'exec', 'node-1', '--', 'curl', '-s', 'http://127.0.0.1:9464/metrics');
/** The kinds of difference that `ipam check` names now. */
async function kinds(): Promise<string[]> {
  const ran = await lab.podway('ipam', 'check', '-o', 'json');
  return (JSON.parse(ran.stdout) as IpamCheck).differences.map(({ kind }) => kind);
}
const check = (kind: string) =>
  eventually(`ipam check says ${kind}`, async () => (await kinds()).includes(kind), BOUND_MS);

/** The cause in the ADD's Event, the explanation and the metric. */
async function told(pod: string, cause: Cause, words: RegExp): Promise<void> {
  const event = await eventOf(pod, ({ reason }) => reason === eventReason(cause));
  assert.match(event.message!, new RegExp(`^${cause}: `));
  assert.match(event.message!, words);
  assert.ok(event.message!.includes(causes[cause].next.slice(0, 40)), event.message!);
  const explained = await lab.json<Explanation>('ipam', 'explain', pod);
  assert.equal(explained.cause?.code, cause, JSON.stringify(explained));
  assert.match(
    await metrics(),
    new RegExp(`podway_cni_requests_total\\{verb="ADD",result="${cause}"\\} \\d`),
  );
  assert.match(await ok('explain', cause), new RegExp(cause));
}

test('TRUNK_DENIED: where EC2 refuses, each policy says so, and no trunk is made', { skip }, async () => {
  await lab.ok(
    'lab',
    'fault',
    'add',
    '--action',
    'AssociateTrunkInterface',
    '--error',
    'UnauthorizedOperation',
  );
  await policy('web', [group]);
  const event = await eventOf('web', ({ reason }) => reason === 'TrunkDenied');
  assert.match(event.message!, /^TRUNK_DENIED: /);
  assert.equal((await api.list(nodes)).items[0]!.status!.capacity![POD_ENI], undefined);
  await lab.ok('lab', 'fault', 'clear');
  // It asks again after five minutes; another controller asks at once.
  const { pid } = JSON.parse(readFileSync(controllerPaths(labPaths(lab.name).controller).pid, 'utf8'));
  process.kill(pid, 'SIGKILL');
});

test('TRUNK_UNSUPPORTED: the Node says so; the other keeps a slot, asks for a trunk and knows it at once', {
  skip,
}, async () => {
  const event = await eventOf('node-2', ({ message }) => /^TRUNK_UNSUPPORTED: /.test(message ?? ''), null);
  assert.match(event.message!, /t3\.small/);
  const [two] = await lab.json<IpamNode[]>('ipam', 'show', '--node', 'node-2');
  assert.equal(two!.trunk, undefined, 'no slot is kept where no trunk can be');
  assert.match(two!.notes!.join(), /t3\.small takes no trunk/);
  await eventually(
    'the agent knows its trunk',
    async () => {
      const { trunk } = await lab.ipam('node-1');
      return trunk?.id && trunk.limit === 3;
    },
    BOUND_MS,
  );
  assert.equal((await api.list(cniNodes)).items.length, 2);
});

test('groups that are not to be had: each pod’s ADD answers the cause in EC2’s words', { skip }, async () => {
  const other = await ec2.send(new sdk.CreateVpcCommand({ CidrBlock: '10.9.0.0/16' }));
  const foreign = await makeGroup('foreign', other.Vpc!.VpcId!);
  const many = [group];
  for (let n = 0; n < 5; n++) many.push(await makeGroup(`more-${n}`, vpcId));
  await policy('absent', ['sg-00000000000000bad']);
  await policy('foreign', [foreign]);
  await policy('many', many);
  for (const app of ['absent', 'foreign', 'many']) await run(`${app}-1`, app);
  await told('absent-1', 'GROUP_NOT_FOUND', /sg-00000000000000bad/);
  await told('foreign-1', 'GROUP_OTHER_VPC', new RegExp(foreign));
  await told('many-1', 'GROUP_LIMIT', /SecurityGroupsPerInterfaceLimitExceeded|security groups/i);
  for (const app of ['absent', 'foreign', 'many']) await end(`${app}-1`);
});

test('BRANCH_ASSOCIATION_FAILED while EC2 refuses, BRANCH_LIMIT on a full trunk; both pass', {
  skip,
}, async () => {
  await lab.ok('lab', 'fault', 'add', '--action', 'AssociateTrunkInterface', '--error', 'IncorrectState');
  await run('web-1', 'web');
  await told('web-1', 'BRANCH_ASSOCIATION_FAILED', /IncorrectState/);
  await lab.ok('lab', 'fault', 'clear');
  await running('web-1');
  for (const name of ['web-2', 'web-3']) await run(name, 'web');
  for (const name of ['web-2', 'web-3']) await running(name);
  await run('web-4', 'web');
  await told('web-4', 'BRANCH_LIMIT', /3 of 3 branches/);
  const explained = await lab.json<Explanation>('ipam', 'explain', 'node-1');
  assert.deepEqual([explained.inputs.trunk!.branches, explained.inputs.trunk!.limit], [3, 3]);
  const trunk = (await lab.ipam('node-1')).enis.find((eni) => eni.trunk)!;
  assert.deepEqual(trunk.branches!.map((one) => one.pod).sort(), [
    'default/web-1',
    'default/web-2',
    'default/web-3',
  ]);
  await end('web-3');
  await running('web-4');
});

test('a flow between two branch pods of a node is tracked in both their zones; its way is told, and policy cuts both', {
  skip,
}, async () => {
  await ec2.send(
    new sdk.AuthorizeSecurityGroupIngressCommand({
      GroupId: group,
      IpPermissions: [
        { IpProtocol: 'tcp', FromPort: 8080, ToPort: 8080, UserIdGroupPairs: [{ GroupId: group }] },
      ],
    }),
  );
  const [one, two] = [(await branchOf('web-1'))!, (await branchOf('web-2'))!];
  const { netnsPath } = (await lab.pods()).find(({ name }) => name === 'web-1')!;
  const target = formatIp(two.ip!);
  using node = openNetns((await lab.status()).nodes.find(({ name }) => name === 'node-1')!.netnsPath);
  using netfilter = NfNetlink.open(node);
  streams = new Streams();
  await streams.open(netnsPath!, [`${target}:8080`]);
  const tracked = () =>
    netfilter
      .conntrack({ ip: two.ip! })
      .filter(({ orig }) => orig.src === one.ip && orig.dport === 8080)
      .sort((a, b) => a.zone - b.zone);
  const entries = tracked();
  assert.deepEqual(
    entries.map(({ zone }) => zone),
    [one.vlanId, two.vlanId].sort((a, b) => a - b),
  );
  // The server sees the client's own port: nobody translated it on either way.
  const [port] = entries.map(({ orig }) => orig.sport);
  for (const { orig, reply } of entries)
    assert.deepEqual([orig.sport, reply.dport, reply.dst], [port, port, one.ip]);
  const { ways } = await lab.json<{ ways: Way[] }>('policy', 'trace', 'web-1', 'web-2:8080');
  assert.deepEqual(
    ways.map((way) => [way.direction, way.interface?.eniId, way.zone]),
    [
      ['egress', one.eniId, one.vlanId],
      ['ingress', two.eniId, two.vlanId],
    ],
  );
  const closed = { podSelector: { matchLabels: { app: 'web' } }, policyTypes: ['Ingress'] };
  const policies = resource<KubeObject>(
    'networking.k8s.io/v1',
    'networkpolicies',
    'NetworkPolicy',
    'Namespaced',
  );
  await api.create(policies, {
    metadata: { name: 'closed', namespace: 'default' },
    spec: closed,
  } as KubeObject);
  const cut = () => tracked().map(({ mark }) => (mark & CUT) !== 0);
  await eventually('it is cut in both zones', () => cut().length === 2 && cut().every(Boolean));
  await api.delete(policies, 'closed', 'default');
  await eventually(
    'it goes on',
    () =>
      streams!.alive().then(
        () => true,
        () => false,
      ),
    BOUND_MS,
  );
  streams.close();
});

test('GROUPS_NOT_INJECTED: a pod that was made while the webhook was away does not start', {
  skip,
}, async () => {
  const { webhooks } = (await api.get(mutating, 'podway-webhook')) as KubeObject & { webhooks?: unknown[] };
  assert.ok(webhooks);
  await api.delete(mutating, 'podway-webhook', undefined);
  await run('late', 'web');
  await told(
    'late',
    'GROUPS_NOT_INJECTED',
    new RegExp(`the SecurityGroupPolicy web gives default/late the groups ${group}`),
  );
  assert.match(await metrics(), /podway_groups_not_injected_total\{answer="refused"\} \d/);
  // A pod of no policy starts meanwhile.
  await run('plain', 'plain');
  await running('plain');
  for (const name of ['late', 'plain']) await end(name);
  await lab.agreed(BOUND_MS);
});

test('each disagreement of the four views has its name in ipam check', { skip }, async () => {
  const { eniId, vlanId } = (await branchOf('web-1'))!;
  const trunk = (await lab.ipam('node-1')).enis.find((eni) => eni.trunk)!;
  const standIn = `pwv${vlanId}`;
  // The kernel.
  await inNode('ip', 'link', 'set', standIn, 'down');
  await check('branch-kernel');
  await inNode('ip', 'link', 'set', standIn, 'up');
  await lab.agreed(BOUND_MS);
  await inNode(
    'ip',
    'link',
    'add',
    'pwv99',
    'group',
    String(0x5020),
    'type',
    'veth',
    'peer',
    'name',
    'pwv99x',
  );
  await check('branch-stray');
  await inNode('ip', 'link', 'del', 'pwv99');
  await inNode('ip', 'link', 'set', trunk.ifname!, 'address', '02:00:00:00:0b:ad');
  await check('trunk');
  await inNode('ip', 'link', 'set', trunk.ifname!, 'address', trunk.mac);
  await lab.agreed(BOUND_MS);
  // EC2: an interface of no pod on the trunk, as tagged as one of ours.
  const tags = { 'podway.io/trunk': trunk.id, 'podway.io/vlan': '4000', 'podway.io/purpose': 'by hand' };
  const { NetworkInterface } = await ec2.send(
    new sdk.CreateNetworkInterfaceCommand({
      SubnetId: trunk.subnetId,
      TagSpecifications: [
        {
          ResourceType: 'network-interface',
          Tags: Object.entries(tags).map(([Key, Value]) => ({ Key, Value })),
        },
      ],
    }),
  );
  await end('web-4');
  const loose = await eventually(
    'it is on the trunk',
    () =>
      ec2
        .send(
          new sdk.AssociateTrunkInterfaceCommand({
            BranchInterfaceId: NetworkInterface!.NetworkInterfaceId,
            TrunkInterfaceId: trunk.id,
            VlanId: 4000,
          }),
        )
        .catch(() => undefined),
    BOUND_MS,
  );
  await check('branch-loose');
  await ec2.send(
    new sdk.DisassociateTrunkInterfaceCommand({ AssociationId: loose.InterfaceAssociation!.AssociationId }),
  );
  await lab.agreed(BOUND_MS);
  // The API: an annotation of another branch, which the webhook would refuse.
  const text = (await api.get(pods, 'web-1', 'default')).metadata.annotations![POD_ENI]!;
  const other = (await api.get(pods, 'web-2', 'default')).metadata.annotations![POD_ENI]!;
  const annotate = (value: string) =>
    eventually(
      'the annotation is changed',
      async () => {
        await api.delete(validating, 'podway-webhook', undefined).catch(() => undefined);
        await api.patch(pods, 'web-1', 'default', { metadata: { annotations: { [POD_ENI]: value } } });
        return true;
      },
      BOUND_MS,
    );
  await annotate(other);
  await check('branch-api');
  await annotate(text);
  await lab.agreed(BOUND_MS);
  assert.equal((await branchOf('web-1'))!.eniId, eniId);
});

test('BRANCH_LOST: an interface that somebody deletes is told with its pod’s name', { skip }, async () => {
  const { eniId } = (await branchOf('web-2'))!;
  const { InterfaceAssociations } = await ec2.send(new sdk.DescribeTrunkInterfaceAssociationsCommand({}));
  const { AssociationId } = InterfaceAssociations!.find((one) => one.BranchInterfaceId === eniId)!;
  await ec2.send(new sdk.DisassociateTrunkInterfaceCommand({ AssociationId }));
  await ec2.send(new sdk.DeleteNetworkInterfaceCommand({ NetworkInterfaceId: eniId }));
  await check('branch-cloud');
  const event = await eventOf('web-2', ({ message }) => /BRANCH_LOST|is gone/.test(message ?? ''));
  assert.match(event.message!, new RegExp(eniId));
});
