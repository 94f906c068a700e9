// Pods in a secondary CIDR of the VPC by the AWS VPC CNI's custom networking: nodes in 10.50.0.0/16, pods in 100.64.0.0/16.
// Inside the VPC a pod is seen with its own address, outside with its node's. The primary ENI gives no pod address. A
// node without its ENIConfig says so and heals when it comes.
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { DescribeNetworkInterfacesCommand, type EC2Client } from '@aws-sdk/client-ec2';
import { CustomObjectsApi } from '@kubernetes/client-node';
import type { Check, IpamNode, LabStatus } from '../../src/lab/daemon/protocol.ts';
import { eventually } from '../support/wait.ts';
import { ROOT, skip } from './command.ts';
import { Lab } from './lab.ts';

const lab = new Lab('custom', ['-f', join(ROOT, 'examples/custom-networking.yaml')]);
const kind = { group: 'crd.k8s.amazonaws.com', version: 'v1alpha1', plural: 'eniconfigs' };
let ec2: EC2Client;
let status: LabStatus;

before(async () => {
  if (skip) return;
  await lab.up();
  ec2 = await lab.ec2();
  status = await lab.status();
});
after(async () => {
  ec2?.destroy();
  if (!skip) await lab.down();
});

const subnetOf = (name: string): string => status.vpcs[0]!.subnets.find((subnet) => subnet.name === name)!.id;
const isPodAddress = (ip: string): boolean => ip.startsWith('100.64.');

test('connectivity: pods keep their 100.64 address in the VPC, and have the node address outside', {
  skip,
}, async () => {
  const { ok, checks } = await lab.json<{ ok: boolean; checks: Check[] }>('connectivity', 'test');
  assert.ok(ok, JSON.stringify(checks.filter((one) => !one.ok)));
  const across = checks.find(({ name }) => name === 'pod-to-pod-across-nodes')!;
  assert.match(across.observed, / 100\.64\./);
  const outside = checks.filter(({ name }) => name === 'pod-to-internet');
  assert.ok(outside.length > 0 && outside.every(({ observed }) => !observed.includes('100.64.')));
});

test("ENIs for pods stand in the ENIConfig's subnet with its groups; the primary one gives nothing", {
  skip,
}, async () => {
  for (const node of await lab.json<IpamNode[]>('ipam', 'show')) {
    assert.deepEqual(node.source?.kind, 'environment');
    assert.equal(node.limits.pods, 20);
    assert.equal(node.limits.addresses, 18);
    const [primary, ...others] = node.enis;
    assert.deepEqual(primary!.addresses, []);
    assert.ok(others.length > 0);
    const zone = node.node === 'node-1' ? 'pods-a' : 'pods-b';
    for (const eni of others) {
      assert.equal(eni.subnetId, subnetOf(zone));
      assert.ok(eni.addresses.every(({ ip }) => isPodAddress(ip)));
    }
    const { NetworkInterfaces } = await ec2.send(
      new DescribeNetworkInterfacesCommand({ NetworkInterfaceIds: others.map(({ id }) => id) }),
    );
    assert.deepEqual(
      [...new Set(NetworkInterfaces!.flatMap((eni) => eni.Groups!.map((group) => group.GroupName)))],
      ['pods'],
    );
  }
});

test('the ENIConfig goes: running pods and attached ENIs go on; it comes again, and so do ENIs', {
  skip,
}, async () => {
  const api = (await lab.kube()).makeApiClient(CustomObjectsApi);
  const config = await api.getClusterCustomObject({ ...kind, name: 'us-west-2a' });
  await api.deleteClusterCustomObject({ ...kind, name: 'us-west-2a' });
  const first = await lab.run('first', '--node', 'node-1');
  assert.ok(isPodAddress(first.ips[0]!));
  await eventually('node-1 knows that its ENIConfig is gone', async () =>
    /ENI_CONFIG_INVALID/.test(await lab.ok('ipam', 'explain', 'node-1', '-o', 'json')),
  );
  // The first ENI for pods has nine addresses: more than these need another one.
  const names = Array.from({ length: 12 }, (_, index) => `more-${index + 1}`);
  for (const name of names) await lab.ok('pod', 'run', name, '--node', 'node-1', '--no-wait');
  const waiting = await eventually('a pod is told of the ENIConfig', async () =>
    (await lab.pods()).find(({ message }) => message?.code === 'ENI_CONFIG_INVALID'),
  );
  assert.match(waiting.message!.text, /the ENIConfig us-west-2a of this node does not exist/);
  assert.equal((await lab.status()).nodes.find(({ name }) => name === 'node-1')!.ready, true);
  const { metadata, spec } = config as { metadata: { name: string }; spec: object };
  const body = {
    apiVersion: 'crd.k8s.amazonaws.com/v1alpha1',
    kind: 'ENIConfig',
    metadata: { name: metadata.name },
    spec,
  };
  await api.createClusterCustomObject({ ...kind, body });
  await eventually('every pod runs', async () =>
    (await lab.pods()).every(({ phase, ips }) => phase === 'Running' && isPodAddress(ips[0]!)),
  );
  await lab.ok('pod', 'delete', 'first', ...names);
});

test('a node whose ENIConfig was never there is not ready, with the cause, until it comes', {
  skip,
}, async () => {
  const bare = new Lab('customno', [
    ...['--nodes', '1', '--set', 'warm=1'],
    ...['--set', 'env=AWS_VPC_K8S_CNI_CUSTOM_NETWORK_CFG=true;WARM_IP_TARGET=1'],
  ]);
  try {
    const up = bare.up();
    up.catch(() => {});
    const api = await eventually('its API answers', async () =>
      (await bare.kube()).makeApiClient(CustomObjectsApi),
    );
    await eventually('node-1 is not ready, with the cause', async () => {
      const node = (await bare.status()).nodes[0];
      return (
        node?.ready === false && /ENI_CONFIG_INVALID: the ENIConfig default/.test(node.message?.text ?? '')
      );
    });
    const subnet = (await bare.status()).vpcs[0]!.subnets.find(({ name }) => name === 'subnet-a')!.id;
    const body = {
      apiVersion: 'crd.k8s.amazonaws.com/v1alpha1',
      kind: 'ENIConfig',
      metadata: { name: 'default' },
      spec: { subnet },
    };
    await api.createClusterCustomObject({ ...kind, body });
    await up;
    assert.equal((await bare.run('web')).phase, 'Running');
  } finally {
    await bare.down();
  }
});
