// What others do in EC2 to a node with running pods: addresses unassigned, an ENI detached, an address given to another
// interface, one put on an ENI. `ipam check` makes the agent ask EC2 at once, where it would else wait for IMDS's hint.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import {
  AssignPrivateIpAddressesCommand,
  CreateNetworkInterfaceCommand,
  DeleteNetworkInterfaceCommand,
  DescribeNetworkInterfacesCommand,
  DetachNetworkInterfaceCommand,
  type EC2Client,
  type NetworkInterface,
  UnassignPrivateIpAddressesCommand,
} from '@aws-sdk/client-ec2';
import { CoreV1Api } from '@kubernetes/client-node';
import type { IpamAddress, PodView } from '../../src/lab/daemon/protocol.ts';
import { eventually } from '../support/wait.ts';
import { skip } from './command.ts';
import { downAll, Lab } from './lab.ts';

/** More than the primary ENI takes. */
const PODS = 11;
const PORT = '8080';
const lab = new Lab('taken', ['--nodes', '2', '--set', 'idleRelease=1h', '--set', 'warm=5']);
let ec2: EC2Client;
let pods: PodView[];

before(async () => {
  if (skip) return;
  await lab.up();
  ec2 = await lab.ec2();
  await lab.run('asker', '--node', 'node-2');
  const names = Array.from({ length: PODS }, (_, i) => `p-${i + 1}`);
  pods = await Promise.all(names.map((name) => lab.run(name, '--node', 'node-1')));
});
after(async () => {
  ec2?.destroy();
  if (!skip) await downAll([lab]);
});

const ipOf = (pod: PodView): string => pod.ips[0]!;
async function eniWith(ip: string): Promise<NetworkInterface> {
  const filters = [{ Name: 'addresses.private-ip-address', Values: [ip] }];
  const { NetworkInterfaces } = await ec2.send(new DescribeNetworkInterfacesCommand({ Filters: filters }));
  assert.ok(NetworkInterfaces?.[0], `no ENI has ${ip}`);
  return NetworkInterfaces[0];
}
const unassign = async (ip: string): Promise<string> => {
  const { NetworkInterfaceId } = await eniWith(ip);
  const PrivateIpAddresses = [ip];
  await ec2.send(new UnassignPrivateIpAddressesCommand({ NetworkInterfaceId, PrivateIpAddresses }));
  return NetworkInterfaceId!;
};
const reaches = (pod: PodView) =>
  eventually(`${pod.name} answers`, async () => {
    const { answer } = await lab.askFrom('asker', 'tcp', ipOf(pod), PORT);
    return answer !== undefined;
  });
const shown = async (ip: string): Promise<IpamAddress[]> =>
  (await lab.ipam('node-1')).enis.flatMap((eni) => eni.addresses).filter((one) => one.ip === ip);
const onSecond = async (): Promise<PodView> => {
  const { enis } = await lab.ipam('node-1');
  const there = enis.find((eni) => eni.deviceIndex === 1)!.addresses.map((one) => one.ip);
  return pods.find((pod) => there.includes(ipOf(pod)))!;
};

test('addresses of pods that somebody unassigns are assigned again', { skip }, async () => {
  const victims = [pods[0]!, await onSecond()];
  for (const pod of victims) await unassign(ipOf(pod));
  await lab.agreed();
  for (const pod of victims) await reaches(pod);
});

test('an ENI of pods that somebody detaches is attached again where it was', { skip }, async () => {
  const pod = await onSecond();
  const eni = await eniWith(ipOf(pod));
  await ec2.send(new DetachNetworkInterfaceCommand({ AttachmentId: eni.Attachment!.AttachmentId! }));
  await lab.agreed();
  const { Attachment } = await eniWith(ipOf(pod));
  assert.deepEqual([Attachment?.DeviceIndex, Attachment?.DeleteOnTermination], [1, true]);
  await reaches(pod);
});

test('an address that another interface has is quarantined, told on the pod, and had back', {
  skip,
}, async () => {
  const pod = pods[1]!;
  const { SubnetId } = await eniWith(ipOf(pod));
  await unassign(ipOf(pod));
  const create = new CreateNetworkInterfaceCommand({ SubnetId, PrivateIpAddress: ipOf(pod) });
  const { NetworkInterface: other } = await ec2.send(create);
  await eventually('the node knows', async () => {
    await lab.podway('ipam', 'check');
    return (await shown(ipOf(pod)))[0]?.state === 'quarantined';
  });
  const [address, ...more] = await shown(ipOf(pod));
  assert.equal(more.length, 0);
  assert.equal(address?.reason, `EC2 has given it to ${other!.NetworkInterfaceId}`);
  const api = (await lab.kube()).makeApiClient(CoreV1Api);
  const condition = async () =>
    (await api.readNamespacedPod({ name: pod.name, namespace: 'default' })).status?.conditions?.find(
      (one) => one.type === 'podway.io/AddressAssigned',
    );
  await eventually('the pod says so', async () => (await condition())?.status === 'False');
  await eventually('an Event tells it', async () => {
    const { items } = await api.listNamespacedEvent({
      namespace: 'default',
      fieldSelector: `involvedObject.name=${pod.name},type=Warning`,
    });
    return items.some((event) => event.message?.includes(other!.NetworkInterfaceId!));
  });
  const check = await lab.podway('ipam', 'check');
  assert.match(
    check.stdout,
    new RegExp(`quarantined by .* EC2 has given it to ${other!.NetworkInterfaceId}`),
  );
  assert.match(check.stderr, /is 1 difference/);
  await ec2.send(new DeleteNetworkInterfaceCommand({ NetworkInterfaceId: other!.NetworkInterfaceId! }));
  await lab.delete(pod.name);
  await lab.agreed();
});

test('an address that somebody puts on an ENI is foreign, and is nobody’s here', { skip }, async () => {
  const { NetworkInterfaceId } = await eniWith(ipOf(await onSecond()));
  const assign = { NetworkInterfaceId, SecondaryPrivateIpAddressCount: 1 };
  const answer = await ec2.send(new AssignPrivateIpAddressesCommand(assign));
  const ip = answer.AssignedPrivateIpAddresses![0]!.PrivateIpAddress!;
  await lab.agreed();
  assert.deepEqual(
    (await shown(ip)).map((one) => one.state),
    ['foreign'],
  );
  assert.equal((await lab.ipam('node-1')).totals.foreign, 1);
  await unassign(ip);
  await reaches(pods[0]!);
});
