// The agent's IAM policy against the calls that a lab saw in a run that has a node grow, shrink, change its groups and give
// back: nothing is called that is not allowed, and nothing is allowed that was not called.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { CreateSecurityGroupCommand } from '@aws-sdk/client-ec2';
import { CustomObjectsApi } from '@kubernetes/client-node';
import type { CallsView, IpamNode } from '../../src/lab/daemon/protocol.ts';
import { eventually } from '../support/wait.ts';
import { ROOT, skip } from './command.ts';
import { Lab } from './lab.ts';

const NODE = 'node-1';
/** Two more than an m5.large's first ENI holds. */
const PODS = Array.from({ length: 11 }, (_, index) => `p-${index}`);

const { Statement } = JSON.parse(readFileSync(join(ROOT, 'deploy/iam/agent.json'), 'utf8')) as {
  Statement: { Action: string | string[] }[];
};
const allowed = [...new Set(Statement.flatMap(({ Action }) => Action))].sort();

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
    const { calls } = await lab.json<CallsView>('lab', 'calls');
    const called = new Set(
      calls.filter(({ caller }) => caller === NODE).map(({ action }) => `ec2:${action}`),
    );
    assert.ok(called.has('ec2:CreateNetworkInterface'));
    // EC2 asks for it where CreateNetworkInterface carries tags; tags are put back on ENIs older than a minute alone.
    called.add('ec2:CreateTags');
    assert.deepEqual([...called].sort(), allowed);
  } finally {
    await lab.down();
  }
});
