// What EC2 shows and what it leaves out, and the lists of what an account has beside its network.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fails, newEni, smallShape, testVpc } from '../testing.ts';

test('untagged instances, VPCs, subnets and groups say nothing of tags; interfaces and tables do', async () => {
  await using lab = testVpc();
  const { vpc } = lab;
  const { instanceId, subnetId } = await smallShape(vpc);
  const [instance] = (await vpc.act('DescribeInstances', {})).Reservations![0]!.Instances!;
  const silent = [
    instance!,
    (await vpc.act('DescribeVpcs', {})).Vpcs![0]!,
    (await vpc.act('DescribeSubnets', {})).Subnets![0]!,
    (await vpc.act('DescribeSecurityGroups', {})).SecurityGroups![0]!,
  ];
  for (const item of silent) assert.equal('Tags' in item, false, JSON.stringify(item));
  assert.deepEqual((await vpc.act('DescribeRouteTables', {})).RouteTables![0]!.Tags, []);
  assert.deepEqual((await vpc.act('DescribeNetworkInterfaces', {})).NetworkInterfaces![0]!.TagSet, []);
  await vpc.act('CreateTags', { Resources: [instanceId, subnetId], Tags: [{ Key: 'a', Value: 'b' }] });
  assert.deepEqual((await vpc.act('DescribeSubnets', { SubnetIds: [subnetId] })).Subnets![0]!.Tags, [
    { Key: 'a', Value: 'b' },
  ]);
});

test('an interface has a DNS name where the VPC gives host names', async () => {
  await using lab = testVpc();
  const { vpc } = lab;
  const { vpcId } = await smallShape(vpc);
  const eni = async () => (await vpc.act('DescribeNetworkInterfaces', {})).NetworkInterfaces![0]!;
  assert.equal((await eni()).PrivateDnsName, undefined);
  const instance = async () => (await vpc.act('DescribeInstances', {})).Reservations![0]!.Instances![0]!;
  assert.match((await instance()).PrivateDnsName!, /^ip-10-0-0-/);
  await fails(
    vpc.act('ModifyVpcAttribute', {
      VpcId: vpcId,
      EnableDnsHostnames: { Value: true },
      EnableDnsSupport: { Value: true },
    }),
    'InvalidParameterCombination',
  );
  await vpc.act('ModifyVpcAttribute', { VpcId: vpcId, EnableDnsHostnames: { Value: true } });
  assert.match((await eni()).PrivateDnsName!, /^ip-10-0-0-\d+\.us-west-2\.compute\.internal$/);
  assert.equal((await eni()).PrivateIpAddresses![0]!.PrivateDnsName, (await eni()).PrivateDnsName);
});

test('images are those that a launch takes', async () => {
  await using lab = testVpc();
  const { vpc } = lab;
  await smallShape(vpc);
  const { Images } = await vpc.act('DescribeImages', { ImageIds: ['ami-0123456789abcdef0'] });
  assert.deepEqual(
    Images!.map((image) => [image.ImageId, image.State, image.Architecture]),
    [['ami-0123456789abcdef0', 'available', 'x86_64']],
  );
  await fails(
    vpc.act('DescribeImages', { ImageIds: ['debian'] }),
    'InvalidAMIID.Malformed',
    /expecting "ami-/,
  );
  const ids = async (input: object) =>
    (await vpc.act('DescribeImages', input)).Images!.map((image) => image.ImageId);
  assert.deepEqual(await ids({ Owners: ['amazon'] }), ['ami-1']);
  assert.deepEqual(await ids({ Owners: ['self'] }), []);
  assert.deepEqual(await ids({ Filters: [{ Name: 'architecture', Values: ['arm64'] }] }), []);
});

test('key pairs and volumes are none, and who names one hears so', async () => {
  await using lab = testVpc();
  const { vpc } = lab;
  assert.deepEqual(await vpc.act('DescribeKeyPairs', {}), { KeyPairs: [] });
  await fails(vpc.act('DescribeKeyPairs', { KeyNames: ['mine'] }), 'InvalidKeyPair.NotFound', /'mine'/);
  assert.deepEqual(await vpc.act('DescribeVolumes', { MaxResults: 5 }), { Volumes: [] });
  await fails(vpc.act('DescribeVolumes', { VolumeIds: ['vol-0123456789abcdef0'] }), 'InvalidVolume.NotFound');
  await fails(vpc.act('DescribeVolumes', { MaxResults: 1 }), 'InvalidParameterValue');
});

test('each VPC has its default network ACL, which every subnet is associated with', async () => {
  await using lab = testVpc();
  const { vpc } = lab;
  const { vpcId, subnetId, otherSubnetId } = await smallShape(vpc);
  const { NetworkAcls } = await vpc.act('DescribeNetworkAcls', {});
  assert.equal(NetworkAcls!.length, 1);
  const [acl] = NetworkAcls!;
  assert.deepEqual([acl!.VpcId, acl!.IsDefault], [vpcId, true]);
  assert.match(acl!.NetworkAclId!, /^acl-[0-9a-f]{17}$/);
  assert.deepEqual(acl!.Associations!.map((each) => each.SubnetId).sort(), [subnetId, otherSubnetId].sort());
  assert.deepEqual(
    acl!.Entries!.map((each) => [each.Egress, each.RuleNumber, each.RuleAction]),
    [
      [true, 100, 'allow'],
      [true, 32_767, 'deny'],
      [false, 100, 'allow'],
      [false, 32_767, 'deny'],
    ],
  );
  const by = async (Name: string, Value: string) =>
    (await vpc.act('DescribeNetworkAcls', { Filters: [{ Name, Values: [Value] }] })).NetworkAcls!.length;
  assert.equal(await by('association.subnet-id', subnetId), 1);
  assert.equal(await by('default', 'false'), 0);
  await fails(
    vpc.act('DescribeNetworkAcls', { NetworkAclIds: ['acl-00000000'] }),
    'InvalidNetworkAclID.NotFound',
  );
});

test('instance types: what their names say of processors and memory, where they are offered, pages of 100', async () => {
  await using lab = testVpc();
  const { vpc } = lab;
  const type = async (name: string) =>
    (await vpc.act('DescribeInstanceTypes', { InstanceTypes: [name as 'm5.large'] })).InstanceTypes![0]!;
  for (const [name, vCpus, cores, mib] of [
    ['t3.small', 2, 1, 2048],
    ['t2.micro', 1, 1, 1024],
    ['m5.large', 2, 1, 8192],
    ['m5.metal', 96, 48, 393_216],
    ['c6g.medium', 1, 1, 2048],
    ['r5.24xlarge', 96, 48, 786_432],
    ['c5n.18xlarge', 72, 36, 193_536],
    ['i3.16xlarge', 64, 32, 499_712],
    ['m7i.metal-24xl', 96, 48, 393_216],
  ] as const) {
    const { VCpuInfo, MemoryInfo } = await type(name);
    assert.deepEqual(
      [VCpuInfo?.DefaultVCpus, VCpuInfo?.DefaultCores, MemoryInfo?.SizeInMiB],
      [vCpus, cores, mib],
      name,
    );
  }
  assert.equal((await type('p4d.24xlarge')).VCpuInfo, undefined);
  assert.deepEqual((await type('c6g.medium')).ProcessorInfo?.SupportedArchitectures, ['arm64']);
  assert.equal((await type('t1.micro')).CurrentGeneration, false);
  assert.equal((await type('t3.micro')).CurrentGeneration, true);
  await fails(
    vpc.act('DescribeInstanceTypes', { MaxResults: 101 }),
    'InvalidParameterValue',
    /between 5 and 100/,
  );
  assert.equal((await vpc.act('DescribeInstanceTypes', {})).InstanceTypes!.length, 100);

  const offered = (LocationType: 'region' | 'availability-zone' | 'availability-zone-id' | 'outpost') =>
    vpc.act('DescribeInstanceTypeOfferings', {
      LocationType,
      Filters: [{ Name: 'instance-type', Values: ['m5.large'] }],
    });
  const places = async (kind: 'region' | 'availability-zone' | 'availability-zone-id') =>
    (await offered(kind)).InstanceTypeOfferings!.map((each) => each.Location);
  assert.deepEqual(await places('region'), ['us-west-2']);
  assert.deepEqual(await places('availability-zone'), ['us-west-2a', 'us-west-2b']);
  assert.deepEqual(await places('availability-zone-id'), ['usw2-az1', 'usw2-az2']);
  await fails(offered('outpost'), 'InvalidParameterValue');
});

test('every attribute of an instance and of an interface can be described', async () => {
  await using lab = testVpc();
  const { vpc } = lab;
  const { instanceId, subnetId } = await smallShape(vpc);
  const { InstanceAttributeName, NetworkInterfaceAttribute } = await import('@aws-sdk/client-ec2');
  for (const Attribute of Object.values(InstanceAttributeName)) {
    const answer = await vpc.act('DescribeInstanceAttribute', { InstanceId: instanceId, Attribute });
    assert.equal(Object.keys(answer).length, 2, Attribute);
  }
  await fails(
    vpc.act('DescribeInstanceAttribute', { InstanceId: instanceId, Attribute: 'colour' as 'kernel' }),
    'InvalidParameterValue',
  );
  const NetworkInterfaceId = await newEni(vpc, subnetId);
  for (const Attribute of Object.values(NetworkInterfaceAttribute))
    await vpc.act('DescribeNetworkInterfaceAttribute', { NetworkInterfaceId, Attribute });
});
