// Addressing at the edges: secondary CIDRs and EC2's restrictions, prefixes beside addresses, types that take none, and
// what a lab says of a type instead of the table.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { VpcService } from '../index.ts';
import { attach, fails, listen, newEni, primaryOf, smallShape, testVpc, ZONES } from '../testing.ts';

const associate = (vpc: VpcService, VpcId: string, CidrBlock: string) =>
  vpc.act('AssociateVpcCidrBlock', { VpcId, CidrBlock });

/** A key of the instance's metadata: its text, or the status when it is not 200. */
async function metadata(vpc: VpcService, instanceId: string, path: string): Promise<string | number> {
  await vpc.act('ModifyInstanceMetadataOptions', { InstanceId: instanceId, HttpTokens: 'optional' });
  await using imds = await listen((request, response) => vpc.imdsHandler(request, response, { instanceId }));
  const answer = await fetch(`${imds.url}/latest/meta-data/${path}`);
  return answer.status === 200 ? answer.text() : answer.status;
}

test('a CIDR comes and goes: routes, describe, metadata and subnets follow', async () => {
  await using lab = testVpc();
  const { vpc } = lab;
  const { vpcId, instanceId } = await smallShape(vpc);
  const mac = primaryOf(vpc, instanceId).mac;
  const inside = () => metadata(vpc, instanceId, `network/interfaces/macs/${mac}/vpc-ipv4-cidr-blocks`);
  assert.equal(await inside(), '10.0.0.0/16');
  const { CidrBlockAssociation } = await associate(vpc, vpcId, '100.64.0.0/16');
  assert.equal(CidrBlockAssociation!.CidrBlockState!.State, 'associating');
  assert.equal(await inside(), '10.0.0.0/16\n100.64.0.0/16');
  const described = (
    await vpc.act('DescribeVpcs', {
      Filters: [{ Name: 'cidr-block-association.cidr-block', Values: ['100.64.*'] }],
    })
  ).Vpcs![0]!;
  assert.deepEqual(
    described.CidrBlockAssociationSet!.map((one) => [one.CidrBlock, one.CidrBlockState!.State]),
    [
      ['10.0.0.0/16', 'associated'],
      ['100.64.0.0/16', 'associated'],
    ],
  );
  const locals = async () =>
    (await vpc.act('DescribeRouteTables', {}))
      .RouteTables![0]!.Routes!.filter((route) => route.GatewayId === 'local')
      .map((route) => route.DestinationCidrBlock);
  assert.deepEqual(await locals(), ['10.0.0.0/16', '100.64.0.0/16']);

  const pods = (
    await vpc.act('CreateSubnet', {
      VpcId: vpcId,
      CidrBlock: '100.64.0.0/17',
      AvailabilityZone: ZONES[0],
    })
  ).Subnet!.SubnetId!;
  const eni = await newEni(vpc, pods, { Ipv4PrefixCount: 1 });
  await attach(vpc, eni, instanceId, 1);
  assert.match(vpc.state().networkInterfaces[eni]!.ipv4Prefixes[0]!, /^100\.64\./);

  const AssociationId = CidrBlockAssociation!.AssociationId!;
  const remove = () => vpc.act('DisassociateVpcCidrBlock', { AssociationId });
  await fails(
    remove(),
    'InvalidCidrBlock.InUse',
    new RegExp(`The vpc ${vpcId} currently has a subnet within CIDR block 100\\.64\\.0\\.0/16`),
  );
  await vpc.act('DetachNetworkInterface', {
    AttachmentId: vpc.state().networkInterfaces[eni]!.attachment!.id,
  });
  await vpc.act('DeleteNetworkInterface', { NetworkInterfaceId: eni });
  await vpc.act('DeleteSubnet', { SubnetId: pods });
  assert.equal((await remove()).CidrBlockAssociation!.CidrBlockState!.State, 'disassociating');
  assert.deepEqual(await locals(), ['10.0.0.0/16']);
  assert.equal(await inside(), '10.0.0.0/16');
  await fails(remove(), 'InvalidVpcCidrBlockAssociationID.NotFound');
  const [primary] = vpc.state().vpcs[vpcId]!.cidrs;
  await fails(
    vpc.act('DisassociateVpcCidrBlock', { AssociationId: primary!.associationId }),
    'OperationNotPermitted',
  );
});

test('what a VPC cannot have beside its CIDRs', async () => {
  await using lab = testVpc();
  const { vpc } = lab;
  const make = async (CidrBlock: string) => (await vpc.act('CreateVpc', { CidrBlock })).Vpc!.VpcId!;
  const restricted = /is restricted\. Use a CIDR from the same private address range/;
  const ten = await make('10.0.0.0/24');
  for (const cidr of ['172.16.0.0/16', '192.168.0.0/16', '10.0.1.0/24'])
    await fails(associate(vpc, ten, cidr), 'InvalidVpc.Range', restricted);
  for (const cidr of ['198.19.0.0/16', '10.2.0.0/15', '10.2.0.0/29'])
    await fails(associate(vpc, ten, cidr), 'InvalidVpc.Range');
  await fails(associate(vpc, ten, '10.0.0.128/25'), 'InvalidVpc.Conflict');
  for (const cidr of ['10.1.0.0/16', '100.64.0.0/16', '52.10.0.0/16']) await associate(vpc, ten, cidr);
  await associate(vpc, ten, '10.9.0.0/16');
  await fails(associate(vpc, ten, '10.8.0.0/16'), 'CidrLimitExceeded', /maximum number of allowed CIDRs: 5/);
  const other = await make('172.20.0.0/16');
  for (const cidr of ['10.7.0.0/16', '192.168.0.0/24', '172.31.0.0/16'])
    await fails(associate(vpc, other, cidr), 'InvalidVpc.Range', restricted);
  await associate(vpc, other, '172.21.0.0/16');
  const shared = await make('100.64.0.0/16');
  await fails(associate(vpc, shared, '10.0.0.0/16'), 'InvalidVpc.Range', restricted);
  await associate(vpc, shared, '100.65.0.0/16');
});

test('a CIDR is smaller than what a route leads elsewhere', async () => {
  await using lab = testVpc();
  const { vpc } = lab;
  const { vpcId, instanceId } = await smallShape(vpc);
  const table = Object.values(vpc.state().routeTables)[0]!;
  await vpc.act('CreateRoute', {
    RouteTableId: table.id,
    DestinationCidrBlock: '10.5.0.0/24',
    NetworkInterfaceId: primaryOf(vpc, instanceId).id,
  });
  for (const cidr of ['10.5.0.0/24', '10.5.0.0/16'])
    await fails(associate(vpc, vpcId, cidr), 'InvalidVpc.Conflict', /destination 10\.5\.0\.0\/24 of a route/);
  await associate(vpc, vpcId, '10.5.0.0/25');
});

test('an interface is made with addresses or with prefixes, never both; its own address may be named', async () => {
  await using lab = testVpc();
  const { vpc } = lab;
  const { subnetId } = await smallShape(vpc);
  const ip = { PrivateIpAddresses: [{ PrivateIpAddress: '10.0.0.99' }] };
  const ways = [
    { SecondaryPrivateIpAddressCount: 2 },
    { Ipv4PrefixCount: 1 },
    { Ipv4Prefixes: [{ Ipv4Prefix: '10.0.0.32/28' }] },
    ip,
  ];
  for (const [i, one] of ways.entries())
    for (const other of ways.slice(i + 1))
      await fails(
        newEni(vpc, subnetId, { ...one, ...other }),
        'InvalidParameterCombination',
        /can't specify/,
      );
  const eni = await newEni(vpc, subnetId, { PrivateIpAddress: '10.0.0.98', Ipv4PrefixCount: 2 });
  const row = vpc.state().networkInterfaces[eni]!;
  assert.deepEqual([row.privateIps, row.ipv4Prefixes.length], [['10.0.0.98'], 2]);
  const { NetworkInterfaces } = await vpc.act('DescribeNetworkInterfaces', { NetworkInterfaceIds: [eni] });
  assert.deepEqual(
    NetworkInterfaces![0]!.Ipv4Prefixes!.map((one) => one.Ipv4Prefix),
    row.ipv4Prefixes,
  );
});

test('prefixes and addresses share the slots of an attached interface, all or nothing', async () => {
  await using lab = testVpc();
  const { vpc } = lab;
  const { instanceId } = await smallShape(vpc);
  const eni = primaryOf(vpc, instanceId).id;
  const { mac } = primaryOf(vpc, instanceId);
  const assign = (more: object) => vpc.act('AssignPrivateIpAddresses', { NetworkInterfaceId: eni, ...more });
  const key = (name: string) => metadata(vpc, instanceId, `network/interfaces/macs/${mac}/${name}`);
  assert.equal(await key('ipv4-prefix'), 404);
  await assign({ SecondaryPrivateIpAddressCount: 4 });
  await assign({ Ipv4PrefixCount: 3 });
  // m5.large: ten slots, of which eight are taken.
  for (const more of [
    { Ipv4PrefixCount: 3 },
    { SecondaryPrivateIpAddressCount: 3 },
    { Ipv4Prefixes: ['10.0.0.16/28', '10.0.0.32/28', '10.0.0.48/28'] },
  ]) {
    const before = vpc.state();
    await fails(
      assign(more),
      'PrivateIpAddressLimitExceeded',
      /^Number of private addresses will exceed limit\. /,
    );
    assert.equal(vpc.state(), before);
  }
  const prefixes = primaryOf(vpc, instanceId).ipv4Prefixes;
  assert.equal(await key('ipv4-prefix'), prefixes.join('\n'));
  assert.equal(String(await key('local-ipv4s')).split('\n').length, 5);
  assert.match(String(await key('')), /\bipv4-prefix\b/);

  const unassign = (...Ipv4Prefixes: string[]) =>
    vpc.act('UnassignPrivateIpAddresses', { NetworkInterfaceId: eni, Ipv4Prefixes });
  await fails(unassign(prefixes[0]!, '10.0.0.240/28'), 'InvalidParameterValue', /10\.0\.0\.240\/28/);
  // An address inside a prefix is not an address of the interface.
  await fails(
    vpc.act('UnassignPrivateIpAddresses', {
      NetworkInterfaceId: eni,
      PrivateIpAddresses: [prefixes[0]!.replace('/28', '')],
    }),
    'InvalidParameterValue',
    /not assigned/,
  );
  await unassign(...prefixes);
  assert.equal(await key('ipv4-prefix'), 404);
  await fails(assign({ Ipv4PrefixCount: 0 }), 'InvalidParameterValue');
  await fails(assign({ Ipv4PrefixCount: 1, Ipv4Prefixes: ['10.0.0.16/28'] }), 'InvalidParameterCombination');
});

test('a type without Nitro takes no prefixes: not on its interface, not by attach, not as another type', async () => {
  await using lab = testVpc();
  const { vpc } = lab;
  const { subnetId, instanceId } = await smallShape(vpc);
  const launch = (InstanceType: 't2.small' | 'm5.metal', more = {}) =>
    vpc.act('RunInstances', {
      ImageId: 'ami-1',
      InstanceType,
      MinCount: 1,
      MaxCount: 1,
      NetworkInterfaces: [{ DeviceIndex: 0, SubnetId: subnetId, ...more }],
    });
  const xen = (await launch('t2.small')).Instances![0]!.InstanceId!;
  const says = /prefixes are not supported by the instance type t2\.small/;
  const refused = (call: Promise<unknown>) => fails(call, 'InvalidParameterCombination', says);
  await refused(
    vpc.act('AssignPrivateIpAddresses', {
      NetworkInterfaceId: primaryOf(vpc, xen).id,
      Ipv4PrefixCount: 1,
    }),
  );
  const eni = await newEni(vpc, subnetId, { Ipv4PrefixCount: 1 });
  await refused(attach(vpc, eni, xen, 1));
  await refused(launch('t2.small', { Ipv4PrefixCount: 1 }));
  await launch('m5.metal', { Ipv4PrefixCount: 1 });
  await attach(vpc, eni, instanceId, 1);
  await vpc.act('StopInstances', { InstanceIds: [instanceId] });
  await refused(
    vpc.act('ModifyInstanceAttribute', { InstanceId: instanceId, InstanceType: { Value: 't2.small' } }),
  );
});

test('what the lab says of a type beats the table, in answers and at the limits', async () => {
  await using lab = testVpc({ typeOverrides: { 'm5.large': { enis: 2, ipv4PerEni: 3 } } });
  const { vpc } = lab;
  const { subnetId, instanceId } = await smallShape(vpc);
  const info = async (type: 'm5.large' | 'm5.xlarge') => {
    const { InstanceTypes } = await vpc.act('DescribeInstanceTypes', { InstanceTypes: [type] });
    const { NetworkInfo } = InstanceTypes![0]!;
    return [NetworkInfo!.MaximumNetworkInterfaces, NetworkInfo!.Ipv4AddressesPerInterface];
  };
  assert.deepEqual(await info('m5.large'), [2, 3]);
  assert.deepEqual(await info('m5.xlarge'), [4, 15]);
  await attach(vpc, await newEni(vpc, subnetId), instanceId, 1);
  await fails(
    attach(vpc, await newEni(vpc, subnetId), instanceId, 2),
    'AttachmentLimitExceeded',
    /m5\.large/,
  );
  await fails(
    vpc.act('AssignPrivateIpAddresses', {
      NetworkInterfaceId: primaryOf(vpc, instanceId).id,
      SecondaryPrivateIpAddressCount: 3,
    }),
    'PrivateIpAddressLimitExceeded',
    /the limit of m5\.large is 3/,
  );
});

test('one attribute of a subnet at a time, and none that has no meaning', async () => {
  await using lab = testVpc();
  const { vpc } = lab;
  const { subnetId: SubnetId } = await smallShape(vpc);
  await vpc.act('ModifySubnetAttribute', { SubnetId, MapPublicIpOnLaunch: { Value: true } });
  const subnet = (await vpc.act('DescribeSubnets', { SubnetIds: [SubnetId] })).Subnets![0]!;
  assert.equal(subnet.MapPublicIpOnLaunch, true);
  await fails(vpc.act('ModifySubnetAttribute', { SubnetId }), 'InvalidParameterCombination');
  await fails(
    vpc.act('ModifySubnetAttribute', {
      SubnetId,
      MapPublicIpOnLaunch: { Value: false },
      PrivateDnsHostnameTypeOnLaunch: 'ip-name',
    }),
    'InvalidParameterCombination',
  );
  for (const [name, value] of [
    ['MapCustomerOwnedIpOnLaunch', { Value: true }],
    ['CustomerOwnedIpv4Pool', 'ipv4pool-coip-1'],
    ['PrivateDnsHostnameTypeOnLaunch', 'resource-name'],
    ['EnableResourceNameDnsARecordOnLaunch', { Value: true }],
    ['EnableLniAtDeviceIndex', 1],
  ] as const)
    await fails(
      vpc.act('ModifySubnetAttribute', { SubnetId, [name]: value }),
      'UnsupportedOperation',
      new RegExp(name),
    );
});
