// A subnet that is full: its nodes get no more pods, and when somebody frees an address in it the pod that waits starts on
// one of them, though no agent has a reason to ask EC2 again.
import assert from 'node:assert/strict';
import { rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import {
  CreateNetworkInterfaceCommand,
  DeleteNetworkInterfaceCommand,
  type EC2Client,
} from '@aws-sdk/client-ec2';
import { CoreV1Api } from '@kubernetes/client-node';
import { eventually } from '../support/wait.ts';
import { skip } from './command.ts';
import { Lab } from './lab.ts';

const NO_ADDRESS = 'podway.dev/no-address';
const file = join(tmpdir(), `podway-full-${process.pid}.yaml`);
const lab = new Lab('full', [
  ...['-f', file, '--set', 'cooldown=0s', '--set', 'idleRelease=1h', '--set', 'warm=1'],
  ...['--set', 'controller=process'],
]);
let api: CoreV1Api;
let ec2: EC2Client;

before(async () => {
  if (skip) return;
  writeFileSync(
    file,
    JSON.stringify({
      region: 'us-west-2',
      vpcs: [
        {
          name: 'small',
          cidrs: ['10.60.0.0/16'],
          // Eleven addresses: two nodes, eight pods and one interface of somebody else.
          subnets: [{ name: 'nodes', cidr: '10.60.0.0/28', zone: 'us-west-2a' }],
          securityGroups: [{ name: 'nodes', ingress: [{ from: 'nodes' }] }],
        },
      ],
      instances: ['node-1', 'node-2'].map((name) => ({
        ...{ name, type: 'm5.large', subnet: 'nodes', securityGroups: ['nodes'] },
      })),
    }),
  );
  await lab.up();
  api = (await lab.kube()).makeApiClient(CoreV1Api);
  ec2 = await lab.ec2();
});
after(async () => {
  if (skip) return;
  rmSync(file, { force: true });
  ec2?.destroy();
  await lab.down();
});

const phase = async (name: string) =>
  (await api.readNamespacedPod({ name, namespace: 'default' })).status?.phase;

test('a full subnet closes its nodes, and one address that is freed in it lets a pod start', {
  skip,
  timeout: 240_000,
}, async () => {
  const { vpcs } = await lab.status();
  const SubnetId = vpcs[0]!.subnets[0]!.id;
  const { NetworkInterface } = await ec2.send(new CreateNetworkInterfaceCommand({ SubnetId }));
  for (let pod = 1; pod <= 8; pod++) await lab.ok('pod', 'run', `p${pod}`, '--no-wait');
  await eventually('the subnet is used up', async () => {
    const pods = await lab.pods();
    return pods.every((pod) => pod.phase === 'Running');
  });
  const reasons = await eventually('both nodes say so', async () => {
    const { items } = await api.listNode();
    const all = items.map(({ spec, status }) => ({
      isTainted: spec?.taints?.some(({ key }) => key === NO_ADDRESS) === true,
      reason: status?.conditions?.find(({ type }) => (type as string) === 'PodwayAddressesAvailable')?.reason,
    }));
    return all.every(({ isTainted, reason }) => isTainted && reason) && all.map(({ reason }) => reason);
  });
  assert.deepEqual(reasons, ['SubnetExhausted', 'SubnetExhausted']);
  await lab.ok('pod', 'run', 'late', '--no-wait');
  await eventually('it waits for a node', async () => {
    const { spec, status } = await api.readNamespacedPod({ name: 'late', namespace: 'default' });
    return spec?.nodeName === undefined && status?.conditions?.some(({ type }) => type === 'PodScheduled');
  });
  await ec2.send(
    new DeleteNetworkInterfaceCommand({ NetworkInterfaceId: NetworkInterface!.NetworkInterfaceId! }),
  );
  await eventually('it starts', async () => (await phase('late')) === 'Running');
});
