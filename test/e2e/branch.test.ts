// Pods with branch ENIs of their own on a node with an agent: the annotation is written by hand here, as whoever controls
// branches writes it. Who reaches `db` is decided by security groups alone; everything survives the agent and the lab.
import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import * as sdk from '@aws-sdk/client-ec2';
import { CoreV1Api, CustomObjectsApi, NetworkingV1Api } from '@kubernetes/client-node';
import { labPaths } from '../../src/lab/daemon/paths.ts';
import type { IpamNode } from '../../src/lab/daemon/protocol.ts';
import { eventually } from '../support/wait.ts';
import { execute, PROBE, skip } from './command.ts';
import { Lab, QUICK } from './lab.ts';

const POD_ENI = 'vpc.amazonaws.com/pod-eni';
const NODE = 'node-1';
const hasPortmap = ['/opt/cni/bin', '/usr/lib/cni'].some((dir) => existsSync(join(dir, 'portmap')));
const lab = new Lab('branch', [
  ...[...QUICK, '--nodes', '1', '--demo'],
  ...(hasPortmap ? ['--set', 'cniChain=portmap'] : []),
]);
let ec2: sdk.EC2Client;
let core: CoreV1Api;
let shape: {
  subnetId: string;
  subnetCidr: string;
  vpcId: string;
  group: string;
  trunk: string;
  dbIp: string;
};

const ask = <T>(command: unknown): Promise<T> =>
  ec2.send(command as sdk.DescribeVpcsCommand) as unknown as Promise<T>;
const agentPid = (): number =>
  (JSON.parse(readFileSync(labPaths(lab.name).node(NODE).agentPid, 'utf8')) as { pid: number }).pid;
const trunkOf = (shown: IpamNode) => shown.enis.find((eni) => eni.trunk);

async function restartAgent(): Promise<void> {
  const pid = agentPid();
  process.kill(pid, 'SIGKILL');
  await eventually(
    'another agent serves',
    async () => agentPid() !== pid && (await lab.ipam(NODE)) !== undefined,
  );
}

before(async () => {
  if (skip) return;
  await lab.up();
  ec2 = await lab.ec2();
  core = (await lab.kube()).makeApiClient(CoreV1Api);
  const { nodes, instances } = await lab.status();
  const { Reservations } = await ask<sdk.DescribeInstancesResult>(
    new sdk.DescribeInstancesCommand({ InstanceIds: [nodes[0]!.instanceId] }),
  );
  const own = Reservations![0]!.Instances![0]!;
  const { Subnets } = await ask<sdk.DescribeSubnetsResult>(
    new sdk.DescribeSubnetsCommand({ SubnetIds: [own.SubnetId!] }),
  );
  const group = own.SecurityGroups![0]!.GroupId!;
  const { NetworkInterface } = await ask<sdk.CreateNetworkInterfaceResult>(
    new sdk.CreateNetworkInterfaceCommand({
      SubnetId: own.SubnetId,
      InterfaceType: 'trunk',
      Groups: [group],
    }),
  );
  const trunk = NetworkInterface!.NetworkInterfaceId!;
  await ask(
    new sdk.AttachNetworkInterfaceCommand({
      NetworkInterfaceId: trunk,
      InstanceId: own.InstanceId,
      DeviceIndex: 2,
    }),
  );
  shape = {
    subnetId: own.SubnetId!,
    subnetCidr: Subnets![0]!.CidrBlock!,
    vpcId: own.VpcId!,
    group,
    trunk,
    dbIp: instances.find((each) => each.name === 'db')!.ips[0]!,
  };
  // The next agent describes the trunk at its start; the present one would at its next look.
  await restartAgent();
  await eventually('the agent knows the trunk', async () => trunkOf(await lab.ipam(NODE)) !== undefined);
});
after(async () => {
  ec2?.destroy();
  if (!skip) await lab.down();
});

async function group(GroupName: string): Promise<string> {
  const made = await ask<sdk.CreateSecurityGroupResult>(
    new sdk.CreateSecurityGroupCommand({ GroupName, Description: GroupName, VpcId: shape.vpcId }),
  );
  return made.GroupId!;
}

const letIn = (GroupId: string, from: string) =>
  ask(
    new sdk.AuthorizeSecurityGroupIngressCommand({
      GroupId,
      IpPermissions: [
        { IpProtocol: 'tcp', FromPort: 8080, ToPort: 8080, UserIdGroupPairs: [{ GroupId: from }] },
      ],
    }),
  );

/** A branch on the trunk, as the annotation tells it. */
async function branch(
  vlanId: number,
  groupId: string,
): Promise<{ eniId: string; privateIp: string; text: string }> {
  const { NetworkInterface } = await ask<sdk.CreateNetworkInterfaceResult>(
    new sdk.CreateNetworkInterfaceCommand({ SubnetId: shape.subnetId, Groups: [groupId] }),
  );
  const { NetworkInterfaceId: eniId, MacAddress: ifAddress, PrivateIpAddress: privateIp } = NetworkInterface!;
  const { InterfaceAssociation } = await ask<sdk.AssociateTrunkInterfaceResult>(
    new sdk.AssociateTrunkInterfaceCommand({
      BranchInterfaceId: eniId,
      TrunkInterfaceId: shape.trunk,
      VlanId: vlanId,
    }),
  );
  const associationID = InterfaceAssociation!.AssociationId;
  const { subnetCidr } = shape;
  const text = JSON.stringify([{ eniId, ifAddress, privateIp, vlanId, subnetCidr, associationID }]);
  return { eniId: eniId!, privateIp: privateIp!, text };
}

const pod = (name: string, annotation?: string) =>
  core.createNamespacedPod({
    namespace: 'default',
    body: {
      metadata: { name, ...(annotation === undefined ? {} : { annotations: { [POD_ENI]: annotation } }) },
      spec: {
        nodeName: NODE,
        containers: [
          {
            name: 'main',
            image: 'any',
            resources: { limits: { [POD_ENI]: '1' }, requests: { [POD_ENI]: '1' } },
          },
        ],
      },
    },
  });
const running = (name: string) =>
  eventually(`${name} runs`, async () => {
    const found = await core.readNamespacedPod({ name, namespace: 'default' });
    return found.status?.phase === 'Running' && found.status.podIP;
  });
/** How long an answer may take (s), on a busy machine; and how long none has to come. */
const PATIENCE = '30';
const SILENCE = '1';
const objects = async (): Promise<string> => {
  const { netns } = (await lab.status()).nodes[0]!;
  const look = 'ip -o link; ip rule; ip -4 route show table all; nft list ruleset';
  return (await execute(['ip', 'netns', 'exec', netns, 'sh', '-c', look])).stdout;
};

test('a pod’s security groups decide whether it reaches db', { skip }, async () => {
  const [allowed, denied] = [await group('allowed'), await group('denied')];
  await letIn(shape.group, allowed);
  const [one, two] = [await branch(11, allowed), await branch(12, denied)];
  await pod('one', one.text);
  // ADD waits for the annotation: the pod is there first.
  await pod('two');
  assert.equal(await running('one'), one.privateIp);
  await core.patchNamespacedPod({
    name: 'two',
    namespace: 'default',
    body: [{ op: 'add', path: '/metadata/annotations', value: { [POD_ENI]: two.text } }],
  });
  assert.equal(await running('two'), two.privateIp);

  const askFrom = async (name: string, to: string, within: string) => {
    const ran = await lab.podway('pod', 'exec', name, '--', 'timeout', within, PROBE, 'tcp', to, '8080');
    return ran.code === 0 ? (JSON.parse(ran.stdout) as { answer?: string }).answer : undefined;
  };
  const answered = (name: string, to: string) => askFrom(name, to, PATIENCE);
  const isSilent = async (name: string, to: string) => (await askFrom(name, to, SILENCE)) === undefined;
  assert.equal(await answered('one', shape.dbIp), `db ${one.privateIp}`);
  assert.ok(await isSilent('two', shape.dbIp));
  // What the node begins needs no rule; what another pod begins does.
  const fromNode = `two ${(await lab.status()).nodes[0]!.ips[0]}`;
  assert.equal((await lab.ask(NODE, 'tcp', two.privateIp, '8080')).answer, fromNode);
  assert.ok(await isSilent('one', two.privateIp));
  await letIn(denied, allowed);
  assert.equal(await answered('one', two.privateIp), `two ${one.privateIp}`);

  // A NetworkPolicy counts as for every pod, whatever the groups allow; the node's own questions pass.
  const networking = (await lab.kube()).makeApiClient(NetworkingV1Api);
  await networking.createNamespacedNetworkPolicy({
    namespace: 'default',
    body: { metadata: { name: 'closed' }, spec: { podSelector: {}, policyTypes: ['Ingress'] } },
  });
  await eventually('the policy is in force', () => isSilent('one', two.privateIp));
  assert.equal((await lab.ask(NODE, 'tcp', two.privateIp, '8080')).answer, fromNode);
  assert.equal(await answered('one', shape.dbIp), `db ${one.privateIp}`);
  await networking.deleteNamespacedNetworkPolicy({ name: 'closed', namespace: 'default' });
  await eventually('the policy is gone', async () => !(await isSilent('one', two.privateIp)));

  const trunk = trunkOf(await lab.ipam(NODE))!;
  assert.deepEqual(
    trunk.branches!.map(({ id, vlanId, ips, pod: name }) => [id, vlanId, ips, name]),
    [
      [one.eniId, 11, [one.privateIp], 'default/one'],
      [two.eniId, 12, [two.privateIp], 'default/two'],
    ],
  );
  await lab.agreed();

  // Another agent takes the pods over as they are, also when the node was changed meanwhile.
  const { netns } = (await lab.status()).nodes[0]!;
  await restartAgent();
  assert.equal(await answered('one', shape.dbIp), `db ${one.privateIp}`);
  await execute(['ip', 'netns', 'exec', netns, 'ip', 'link', 'del', 'pwv11']);
  await eventually(
    'the stand-in is made again',
    async () => (await answered('one', shape.dbIp)) === `db ${one.privateIp}`,
  );
  await execute(['ip', 'netns', 'exec', netns, 'nft', 'delete', 'table', 'inet', 'podway-branch']);
  await eventually('the table is made again', async () => /table inet podway-branch/.test(await objects()));

  // The rule is taken back, and the running pod with it.
  const { SecurityGroupRules } = await ask<sdk.DescribeSecurityGroupRulesResult>(
    new sdk.DescribeSecurityGroupRulesCommand({ Filters: [{ Name: 'group-id', Values: [shape.group] }] }),
  );
  const rule = SecurityGroupRules!.find((each) => each.ReferencedGroupInfo?.GroupId === allowed)!;
  await ask(
    new sdk.RevokeSecurityGroupIngressCommand({
      GroupId: shape.group,
      SecurityGroupRuleIds: [rule.SecurityGroupRuleId!],
    }),
  );
  await eventually('the rule is gone', () => isSilent('one', shape.dbIp));

  await lab.delete('one', 'two');
  await eventually('nothing of branches is left', async () => {
    const left = await objects();
    assert.doesNotMatch(left, /pwv|podway-branch|goto \d/);
    assert.match(left, /^0:\tfrom all lookup local/m);
    return true;
  });
  await lab.agreed();
});

test('modes, addresses of the node, and host ports that the pod’s groups judge', { skip }, async (t) => {
  if (!hasPortmap) t.diagnostic('without host ports: portmap is not installed');
  const open = await group('open');
  await letIn(open, shape.group);
  const [strict, standard] = [await branch(21, open), await branch(22, open)];
  const wish = { requests: { [POD_ENI]: '1' }, limits: { [POD_ENI]: '1' } };
  const make = (name: string, text: string, mode: string, hostPort: number) =>
    core.createNamespacedPod({
      namespace: 'default',
      body: {
        metadata: { name, annotations: { [POD_ENI]: text, 'podway.dev/security-groups': mode } },
        spec: {
          nodeName: NODE,
          containers: [
            {
              name: 'main',
              image: 'any',
              resources: wish,
              ...(hasPortmap ? { ports: [{ containerPort: 8080, hostPort }] } : {}),
            },
          ],
        },
      },
    });
  await make('strict', strict.text, 'strict', 9101);
  await make('standard', standard.text, 'standard', 9102);
  await running('strict');
  await running('standard');
  await restartAgent();
  const { netns, ips } = (await lab.status()).nodes[0]!;
  const rules = async () => (await execute(['ip', 'netns', 'exec', netns, 'ip', 'rule'])).stdout;
  assert.match(
    await rules(),
    /^10:\t.*lookup 24597\b/m,
    'a strict pod’s link comes before the node’s addresses',
  );
  assert.match(await rules(), /^1026:\t.*lookup 24598\b/m, 'a standard one’s after them');

  // 9464: the agent's metrics, on every address of the node.
  const reaches = async (name: string, ip: string) =>
    (await lab.podway('pod', 'exec', name, '--', 'timeout', SILENCE, 'bash', '-c', `</dev/tcp/${ip}/9464`))
      .code === 0;
  await execute(['ip', '-n', netns, 'addr', 'add', '10.100.0.10/32', 'dev', 'eth0']);
  await eventually('a standard pod reaches it on the node', () => reaches('standard', '10.100.0.10'));
  assert.equal(await reaches('strict', '10.100.0.10'), false);
  const objects = (await lab.kube()).makeApiClient(CustomObjectsApi);
  const at = { group: 'podway.dev', version: 'v1alpha1', plural: 'nodenetworks' };
  const spec = { nodeLocalAddresses: ['10.100.0.10'], cooldown: '1s' };
  await objects.createClusterCustomObject({
    ...at,
    body: { apiVersion: 'podway.dev/v1alpha1', kind: 'NodeNetwork', metadata: { name: 'dns' }, spec },
  });
  await eventually('the listed address is reached on the node', () => reaches('strict', '10.100.0.10'));
  await objects.deleteClusterCustomObject({ ...at, name: 'dns' });
  await eventually('and no longer', async () => !(await reaches('strict', '10.100.0.10')));

  if (hasPortmap)
    for (const [name, port] of [
      ['strict', '9101'],
      ['standard', '9102'],
    ] as const) {
      const answer = () =>
        lab.podway('lab', 'exec', 'db', '--', 'timeout', SILENCE, PROBE, 'tcp', ips[0]!, port);
      // The first that arrives is dropped: nobody has asked EC2 for the rules yet.
      const told = await eventually(`db reaches ${name}`, async () => {
        const ran = await answer();
        return ran.code === 0 && (JSON.parse(ran.stdout) as { answer?: string }).answer;
      });
      assert.equal(told, `${name} ${shape.dbIp}`);
    }
  if (hasPortmap) {
    // A NetworkPolicy closes host ports too, but for the node's own questions.
    const networking = (await lab.kube()).makeApiClient(NetworkingV1Api);
    await networking.createNamespacedNetworkPolicy({
      namespace: 'default',
      body: { metadata: { name: 'closed' }, spec: { podSelector: {}, policyTypes: ['Ingress'] } },
    });
    const answers = async (where: string, port: string) =>
      (await lab.podway('lab', 'exec', where, '--', 'timeout', SILENCE, PROBE, 'tcp', ips[0]!, port)).code ===
      0;
    for (const [name, port] of [
      ['strict', '9101'],
      ['standard', '9102'],
    ] as const) {
      await eventually(`db no longer reaches ${name}`, async () => !(await answers('db', port)));
      assert.equal((await lab.ask(NODE, 'tcp', ips[0]!, port)).answer, `${name} ${ips[0]}`);
    }
    await networking.deleteNamespacedNetworkPolicy({ name: 'closed', namespace: 'default' });
  }
  await make('odd', strict.text, 'loose', 9103);
  await eventually('the word is refused', async () => {
    const { items } = await core.listNamespacedEvent({ namespace: 'default' });
    return items.some(({ message }) => /odd is "loose", not strict or standard/.test(message ?? ''));
  });
  await lab.delete('strict', 'standard', 'odd');
  await lab.agreed();
});
