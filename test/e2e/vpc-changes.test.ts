// What changes in the VPC while a node runs, on real packets: a second CIDR is added to the VPC, a pod's address gets a
// public one and loses it, and the primary ENI gets other security groups. Nothing is restarted, no stream stops.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import {
  AllocateAddressCommand,
  AssociateAddressCommand,
  AssociateVpcCidrBlockCommand,
  AuthorizeSecurityGroupIngressCommand,
  CreateSecurityGroupCommand,
  CreateSubnetCommand,
  DescribeImagesCommand,
  DescribeNetworkInterfacesCommand,
  DisassociateAddressCommand,
  type EC2Client,
  ModifyNetworkInterfaceAttributeCommand,
  type NetworkInterface,
  ReleaseAddressCommand,
  RunInstancesCommand,
} from '@aws-sdk/client-ec2';
import type { PodView } from '../../src/lab/daemon/protocol.ts';
import { SERVE_TAG } from '../../src/lab/shape/build.ts';
import { Streams } from '../support/streams.ts';
import { eventually } from '../support/wait.ts';
import { skip } from './command.ts';
import { downAll, Lab } from './lab.ts';

const NODE = 'node-1';
/** More than the primary ENI takes. */
const PODS = 11;
const INTERNET = '203.0.113.10';
const lab = new Lab('vpcchg', [
  '--nodes',
  '2',
  '--set',
  'cooldown=0s',
  '--set',
  'idleRelease=1h',
  '--set',
  'warm=5',
]);
const streams = new Streams();
let ec2: EC2Client;
let pods: PodView[];
let groupId: string;
let vpcId: string;

const ipOf = (pod: PodView): string => pod.ips[0]!;
async function eniWith(ip: string): Promise<NetworkInterface> {
  const filters = [{ Name: 'addresses.private-ip-address', Values: [ip] }];
  const { NetworkInterfaces } = await ec2.send(new DescribeNetworkInterfacesCommand({ Filters: filters }));
  assert.ok(NetworkInterfaces?.[0], `no ENI has ${ip}`);
  return NetworkInterfaces[0];
}
const groupsOf = (eni: NetworkInterface) => eni.Groups!.map((group) => group.GroupId!);
const enisOfNode = async (): Promise<NetworkInterface[]> => {
  const { nodes } = await lab.status();
  const { instanceId } = nodes.find((node) => node.name === NODE)!;
  const filters = [{ Name: 'attachment.instance-id', Values: [instanceId] }];
  const { NetworkInterfaces } = await ec2.send(new DescribeNetworkInterfacesCommand({ Filters: filters }));
  return NetworkInterfaces!.toSorted((a, b) => a.Attachment!.DeviceIndex! - b.Attachment!.DeviceIndex!);
};

before(async () => {
  if (skip) return;
  await lab.up();
  ec2 = await lab.ec2();
  const names = Array.from({ length: PODS }, (_, i) => `p-${i + 1}`);
  pods = await Promise.all(names.map((name) => lab.run(name, '--node', NODE)));
  const far = await lab.run('far', '--node', 'node-2');
  const eni = await eniWith(ipOf(pods[0]!));
  groupId = groupsOf(eni)[0]!;
  vpcId = eni.VpcId!;
  await streams.open(pods[0]!.netnsPath, [`${ipOf(far)}:8080`, `${INTERNET}:8080`]);
});
after(async () => {
  streams.close();
  ec2?.destroy();
  if (!skip) await downAll([lab]);
});

test('a CIDR added to the VPC: pods keep their own address to it, without a restart', { skip }, async () => {
  const CidrBlock = '100.64.0.0/16';
  await ec2.send(new AssociateVpcCidrBlockCommand({ VpcId: vpcId, CidrBlock }));
  const AvailabilityZone = (await eniWith(ipOf(pods[0]!))).AvailabilityZone!;
  const made = await ec2.send(
    new CreateSubnetCommand({ VpcId: vpcId, CidrBlock: '100.64.1.0/24', AvailabilityZone }),
  );
  const { Images } = await ec2.send(new DescribeImagesCommand({}));
  await ec2.send(
    new RunInstancesCommand({
      ImageId: Images?.[0]?.ImageId ?? 'ami-00000000000000000',
      InstanceType: 't3.small',
      MinCount: 1,
      MaxCount: 1,
      SubnetId: made.Subnet!.SubnetId!,
      SecurityGroupIds: [groupId],
      TagSpecifications: [
        {
          ResourceType: 'instance',
          Tags: [
            { Key: 'Name', Value: 'peer' },
            { Key: SERVE_TAG, Value: 'true' },
          ],
        },
      ],
    }),
  );
  const peer = await eventually('the peer runs', async () =>
    (await lab.status()).instances.find((one) => one.name === 'peer' && one.ips.length > 0),
  );
  const onSecond = pods.find((pod) => pod === pods.at(-1))!;
  for (const pod of [pods[0]!, onSecond])
    await eventually(
      `${pod.name} is known by its own address`,
      async () => {
        const { answer } = await lab.askFrom(pod.name, 'tcp', peer.ips[0]!, '8080');
        return answer === `peer ${ipOf(pod)}`;
      },
      60_000,
    );
  const { answer } = await lab.ask('peer', 'tcp', ipOf(onSecond), '8080');
  assert.equal(answer, `${onSecond.name} ${peer.ips[0]}`);
  await streams.alive();
  await lab.agreed();
});

test('a pod’s address gets a public one, is reached by it, and loses it', { skip }, async () => {
  const IpPermissions = [
    { IpProtocol: 'tcp', FromPort: 8080, ToPort: 8080, IpRanges: [{ CidrIp: `${INTERNET}/32` }] },
  ];
  await ec2.send(new AuthorizeSecurityGroupIngressCommand({ GroupId: groupId, IpPermissions }));
  for (const pod of [pods[1]!, pods.at(-1)!]) {
    const { AllocationId, PublicIp } = await ec2.send(new AllocateAddressCommand({ Domain: 'vpc' }));
    const { NetworkInterfaceId } = await eniWith(ipOf(pod));
    const association = await ec2.send(
      new AssociateAddressCommand({ AllocationId, NetworkInterfaceId, PrivateIpAddress: ipOf(pod) }),
    );
    const { answer } = await eventually('the internet reaches it', async () => {
      const found = await lab.ask('internet', 'tcp', PublicIp!, '8080');
      return found.answer !== undefined && found;
    });
    assert.equal(answer, `${pod.name} ${INTERNET}`);
    await lab.agreed();
    await ec2.send(new DisassociateAddressCommand({ AssociationId: association.AssociationId! }));
    await ec2.send(new ReleaseAddressCommand({ AllocationId }));
    assert.equal((await lab.ask('internet', 'tcp', PublicIp!, '8080')).answer, undefined);
    assert.equal((await lab.askFrom('far', 'tcp', ipOf(pod), '8080')).answer?.split(' ')[0], pod.name);
    // Seen without it again, the address is like any other.
    await lab.agreed();
  }
  await streams.alive();
});

test('other security groups on the primary ENI: new ENIs take them, those that exist keep theirs', {
  skip,
}, async () => {
  const { GroupId } = await ec2.send(
    new CreateSecurityGroupCommand({ GroupName: 'more', Description: 'more', VpcId: vpcId }),
  );
  const [primary, second] = await enisOfNode();
  const Groups = [groupId, GroupId!];
  await ec2.send(
    new ModifyNetworkInterfaceAttributeCommand({ NetworkInterfaceId: primary!.NetworkInterfaceId!, Groups }),
  );
  // Asks EC2 now, where the node would else see it at its next describe.
  await lab.agreed();
  const more = Array.from({ length: 10 }, (_, i) => `more-${i}`);
  await Promise.all(more.map((name) => lab.run(name, '--node', NODE)));
  const [, stillSecond, third] = await enisOfNode();
  assert.deepEqual(groupsOf(stillSecond!), groupsOf(second!));
  assert.deepEqual(groupsOf(third!).toSorted(), Groups.toSorted());
  await streams.alive();
  await lab.agreed();
});
