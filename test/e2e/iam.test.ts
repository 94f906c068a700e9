// The IAM policies of agent and controller against the calls that a lab saw: a node grows, shrinks, changes its groups and
// gives back; a subnet is full, and a node goes and leaves an ENI. Nothing is called that is not allowed, and nothing is
// allowed that was not called.
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import {
  CreateNetworkInterfaceCommand,
  CreateSecurityGroupCommand,
  DescribeNetworkInterfacesCommand,
  type EC2Client,
  ModifyNetworkInterfaceAttributeCommand,
  TerminateInstancesCommand,
} from '@aws-sdk/client-ec2';
import { CustomObjectsApi } from '@kubernetes/client-node';
import type { CallsView, IpamNode } from '../../src/lab/daemon/protocol.ts';
import { eventually } from '../support/wait.ts';
import { ROOT, skip } from './command.ts';
import { Lab } from './lab.ts';

const NODE = 'node-1';
/** Two more than an m5.large's first ENI holds. */
const PODS = Array.from({ length: 11 }, (_, index) => `p-${index}`);

/** Actions that a document of deploy/iam allows. */
function allowed(name: string): string[] {
  const { Statement } = JSON.parse(readFileSync(join(ROOT, 'deploy/iam', `${name}.json`), 'utf8')) as {
    Statement: { Action: string | string[] }[];
  };
  return [...new Set(Statement.flatMap(({ Action }) => Action))].sort();
}

/** Actions that a lab saw of one caller, without one call of each of `but`. */
async function called(lab: Lab, caller: string, but: readonly string[] = []): Promise<Set<string>> {
  const { calls } = await lab.json<CallsView>('lab', 'calls');
  const actions = calls.filter((call) => call.caller === caller).map(({ action }) => action);
  for (const own of but) actions.splice(actions.indexOf(own), 1);
  return new Set(actions.map((action) => `ec2:${action}`));
}

test('what an agent calls is what its policy allows', { skip }, async () => {
  const lab = new Lab('iam', [
    ...['--nodes', '1', '--set', 'families=dual', '--set', 'warm=1'],
    ...['--set', 'cooldown=0s', '--set', 'idleRelease=1s'],
  ]);
  const shown = (what: string, look: (node: IpamNode) => boolean) =>
    eventually(what, async () => {
      const node = await lab.ipam(NODE);
      return look(node) ? node : undefined;
    });
  try {
    await lab.up();
    await Promise.all(PODS.map((pod) => lab.run(pod)));
    await lab.delete(...PODS);
    await shown('the second ENI is gone', (node) => node.enis.length === 1);
    const ec2 = await lab.ec2();
    await ec2.send(
      new CreateSecurityGroupCommand({
        ...{ VpcId: (await lab.status()).vpcs[0]!.id, GroupName: 'for-pods', Description: 'for pods' },
        TagSpecifications: [{ ResourceType: 'security-group', Tags: [{ Key: 'for', Value: 'pods' }] }],
      }),
    );
    ec2.destroy();
    await (await lab.kube()).makeApiClient(CustomObjectsApi).createClusterCustomObject({
      ...{ group: 'podway.dev', version: 'v1alpha1', plural: 'nodenetworks' },
      body: {
        ...{ apiVersion: 'podway.dev/v1alpha1', kind: 'NodeNetwork', metadata: { name: 'grouped' } },
        spec: {
          families: 'dual',
          securityGroups: { tags: { for: 'pods' }, existingENIs: 'change' },
        },
      },
    });
    await shown('the NodeNetwork counts', (node) => node.source?.kind === 'NodeNetwork');
    const { enis } = await lab.ipam(NODE);
    const { cidr } = enis[0]!.ipv6Prefixes![0]!;
    await lab.ok('ipam', 'release-idle', cidr, '--node', NODE);
    // An agent asks once, within half a minute of its start.
    const asksWithinMs = 40_000;
    const seen = await eventually(
      'the type was asked for',
      async () => {
        const actions = await called(lab, NODE);
        return actions.has('ec2:DescribeInstanceTypes') ? actions : undefined;
      },
      asksWithinMs,
    );
    assert.ok(seen.has('ec2:CreateNetworkInterface'));
    // EC2 asks for it where CreateNetworkInterface carries tags; tags are put back on ENIs older than a minute alone.
    seen.add('ec2:CreateTags');
    assert.deepEqual([...seen].sort(), allowed('agent'));
  } finally {
    await lab.down();
  }
});

/** A lab's controller has the lab's own key, as the test has. */
const CONTROLLER = 'admin';
/** A subnet of 11 addresses for node-1, and room for node-2. */
const TWO_SUBNETS = {
  region: 'us-west-2',
  vpcs: [
    {
      ...{ name: 'two', cidrs: ['10.60.0.0/16'] },
      subnets: [
        { name: 'small', cidr: '10.60.0.0/28', zone: 'us-west-2a' },
        { name: 'large', cidr: '10.60.1.0/24', zone: 'us-west-2b' },
      ],
      securityGroups: [{ name: 'nodes', ingress: [{ from: 'nodes' }] }],
    },
  ],
  instances: [
    { name: 'node-1', type: 'm5.large', subnet: 'small', securityGroups: ['nodes'] },
    { name: 'node-2', type: 't3.micro', subnet: 'large', securityGroups: ['nodes'] },
  ],
};

test('what the controller calls is what its policy allows', { skip, timeout: 90_000 }, async () => {
  const dir = mkdtempSync(join(tmpdir(), 'podway-iam-'));
  const file = join(dir, 'lab.yaml');
  writeFileSync(file, JSON.stringify(TWO_SUBNETS));
  const lab = new Lab('iamc', [
    ...['-f', file, '--set', 'cooldown=0s', '--set', 'idleRelease=1h', '--set', 'warm=1'],
    ...['--set', 'controller=process', '--set', 'env=PODWAY_SWEEP_GAP=1s'],
  ]);
  let ec2: EC2Client | undefined;
  try {
    await lab.up();
    ec2 = await lab.ec2();
    const { subnets } = (await lab.status()).vpcs[0]!;
    const SubnetId = subnets.find(({ name }) => name === 'small')!.id;
    // Of the eleven, one is the node's and one its first free address.
    await ec2.send(new CreateNetworkInterfaceCommand({ SubnetId, SecondaryPrivateIpAddressCount: 8 }));
    for (const pod of ['a', 'b']) await lab.ok('pod', 'run', pod, '--node', 'node-1', '--no-wait');
    await lab.run('c', '--node', 'node-2');
    const { id } = await eventually('node-2 has a second ENI', async () =>
      (await lab.ipam('node-2')).enis.find(({ deviceIndex }) => deviceIndex > 0),
    );
    await eventually('the full subnet was looked at', async () =>
      (await called(lab, CONTROLLER)).has('ec2:DescribeSubnets'),
    );
    const described = await ec2.send(new DescribeNetworkInterfacesCommand({ NetworkInterfaceIds: [id] }));
    const { AttachmentId, InstanceId } = described.NetworkInterfaces![0]!.Attachment!;
    const Attachment = { AttachmentId: AttachmentId!, DeleteOnTermination: false };
    await ec2.send(new ModifyNetworkInterfaceAttributeCommand({ NetworkInterfaceId: id, Attachment }));
    await ec2.send(new TerminateInstancesCommand({ InstanceIds: [InstanceId!] }));
    await eventually('the ENI is swept', async () =>
      (await called(lab, CONTROLLER)).has('ec2:DeleteNetworkInterface'),
    );
    const own = [
      'CreateNetworkInterface',
      'DescribeNetworkInterfaces',
      'ModifyNetworkInterfaceAttribute',
      'TerminateInstances',
    ];
    assert.deepEqual([...(await called(lab, CONTROLLER, own))].sort(), allowed('controller'));
  } finally {
    ec2?.destroy();
    await lab.down();
    rmSync(dir, { recursive: true });
  }
});
