// The IAM policies of agent and controller against the calls that a lab saw: a node grows, shrinks, changes its groups
// and gives back; a subnet is full, a pod gets a branch, and a node goes and leaves an ENI. Nothing is called that is
// not allowed, and nothing is allowed that was not called.
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import {
  CreateNetworkInterfaceCommand,
  CreateSecurityGroupCommand,
  DescribeNetworkInterfacesCommand,
  TerminateInstancesCommand,
} from '@aws-sdk/client-ec2';
import { CustomObjectsApi } from '@kubernetes/client-node';
import { TAG_INSTANCE } from '../../src/ipam/ec2/tags.ts';
import { nodes, POD_ENI, pods, securityGroupPolicies } from '../../src/kube/index.ts';
import type { CallsView, IpamNode } from '../../src/lab/daemon/protocol.ts';
import { eventually } from '../support/wait.ts';
import { asksWebhooks } from '../support/webhooks.ts';
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
  for (const own of but) {
    assert.ok(actions.includes(own), `the lab saw no ${own}`);
    actions.splice(actions.indexOf(own), 1);
  }
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
    const asksWithinMs = 90_000;
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
    // Asked when something arrives on a node for a pod with a branch: branch.test.ts.
    seen.add('ec2:DescribeSecurityGroupRules');
    assert.deepEqual([...seen].sort(), allowed('agent'));
  } finally {
    await lab.down();
  }
});

/** A lab's controller has the lab's own key, as the test has. */
const CONTROLLER = 'admin';
/** A subnet of 11 addresses for node-1, and room for node-2, which takes branches. */
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
    { name: 'node-2', type: 'm5.large', subnet: 'large', securityGroups: ['nodes'] },
  ],
};

test('what the controller calls is what its two policies allow', { skip, timeout: 240_000 }, async () => {
  const dir = mkdtempSync(join(tmpdir(), 'podway-iam-'));
  const file = join(dir, 'lab.yaml');
  writeFileSync(file, JSON.stringify(TWO_SUBNETS));
  const lab = new Lab('iamc', [
    ...['-f', file, '--set', 'cooldown=0s', '--set', 'idleRelease=1h', '--set', 'warm=1'],
    ...['--set', 'controller=process', '--set', 'env=PODWAY_SWEEP_GAP=1s'],
  ]);
  const own: string[] = [];
  try {
    await lab.up();
    const { api, ec2 } = await lab.clients();
    ec2.middlewareStack.add(
      (next, { commandName }) => {
        own.push(commandName!.replace(/Command$/, ''));
        return next;
      },
      { step: 'initialize' },
    );
    const { id: VpcId, subnets } = (await lab.status()).vpcs[0]!;
    const [small, large] = ['small', 'large'].map((one) => subnets.find(({ name }) => name === one)!.id);
    const asked = { GroupName: 'web', Description: 'web', VpcId };
    const group = (await ec2.send(new CreateSecurityGroupCommand(asked))).GroupId!;
    await api.create(securityGroupPolicies, {
      metadata: { name: 'web', namespace: 'default' },
      spec: { podSelector: { matchLabels: { app: 'web' } }, securityGroups: { groupIds: [group] } },
    });
    // Of the eleven, one is the node's and one its first free address.
    await ec2.send(
      new CreateNetworkInterfaceCommand({ SubnetId: small!, SecondaryPrivateIpAddressCount: 8 }),
    );
    const run = (name: string, node: string, app = name) =>
      api.create(pods, {
        metadata: { name, namespace: 'default', labels: { app } },
        spec: { nodeName: node, containers: [{ name: 'c', image: 'pod-server' }] },
      });
    await eventually('node-2 takes branches', async () => {
      const { capacity } = (await api.get(nodes, 'node-2')).status!;
      return capacity?.[POD_ENI] === '9';
    });
    await eventually('the API asks the webhooks', () => asksWebhooks(api));
    await Promise.all([run('a', 'node-1'), run('b', 'node-1'), run('web', 'node-2')]);
    await eventually('the pod has a branch', async () => {
      const { metadata } = await api.get(pods, 'web', 'default');
      return metadata.annotations?.[POD_ENI];
    });
    await api.delete(pods, 'web', 'default', { gracePeriodSeconds: 0 });
    const seen = (action: string) =>
      eventually(`it calls ${action}`, async () => (await called(lab, CONTROLLER, own)).has(`ec2:${action}`));
    await seen('DisassociateTrunkInterface');
    await seen('DescribeSubnets');

    const instance = (await api.get(nodes, 'node-2')).spec!.providerID!.split('/').at(-1)!;
    await ec2.send(new TerminateInstancesCommand({ InstanceIds: [instance] }));
    const { NetworkInterface } = await ec2.send(
      new CreateNetworkInterfaceCommand({
        SubnetId: large!,
        TagSpecifications: [
          { ResourceType: 'network-interface', Tags: [{ Key: TAG_INSTANCE, Value: instance }] },
        ],
      }),
    );
    const left = NetworkInterface!.NetworkInterfaceId!;
    await eventually('what the gone node left is swept', async () => {
      const { NetworkInterfaces = [] } = await ec2.send(new DescribeNetworkInterfacesCommand({}));
      return NetworkInterfaces.every(({ NetworkInterfaceId }) => NetworkInterfaceId !== left);
    });
    const both = new Set([...allowed('controller'), ...allowed('pod-security-groups')]);
    const calls = await called(lab, CONTROLLER, own);
    // EC2 asks for it where CreateNetworkInterface carries tags.
    calls.add('ec2:CreateTags');
    assert.deepEqual([...calls].sort(), [...both].sort());
  } finally {
    await lab.down();
    rmSync(dir, { recursive: true });
  }
});
