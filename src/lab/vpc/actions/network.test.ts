// What lies around the interfaces: groups, routes, public addresses, VPCs, tags.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fails, gatewayFor, newEni, primaryOf, smallShape, testVpc } from '../testing.ts';

test('security groups: rules by peer, once each, gone by id or by words', async () => {
  await using lab = testVpc();
  const { vpc } = lab;
  const { vpcId, subnetId } = await smallShape(vpc);
  const { GroupId } = await vpc.act('CreateSecurityGroup', {
    GroupName: 'web',
    Description: 'd',
    VpcId: vpcId,
  });
  const { GroupId: other } = await vpc.act('CreateSecurityGroup', {
    GroupName: 'db',
    Description: 'd',
    VpcId: vpcId,
  });
  await fails(
    vpc.act('CreateSecurityGroup', { GroupName: 'web', Description: 'd', VpcId: vpcId }),
    'InvalidGroup.Duplicate',
  );
  const IpPermissions = [
    {
      IpProtocol: '6',
      FromPort: 80,
      ToPort: 80,
      IpRanges: [{ CidrIp: '10.0.0.7/8', Description: 'inside' }],
      Ipv6Ranges: [{ CidrIpv6: '2001:db8::/32' }],
      UserIdGroupPairs: [{ GroupId: other }],
    },
  ];
  const { SecurityGroupRules } = await vpc.act('AuthorizeSecurityGroupIngress', { GroupId, IpPermissions });
  assert.deepEqual(
    SecurityGroupRules!.map((rule) => rule.CidrIpv4 ?? rule.CidrIpv6 ?? rule.ReferencedGroupInfo!.GroupId),
    ['10.0.0.0/8', '2001:db8::/32', other],
  );
  await fails(
    vpc.act('AuthorizeSecurityGroupIngress', { GroupId, IpPermissions }),
    'InvalidPermission.Duplicate',
    /TCP, from port: 80/,
  );
  const [described] = (await vpc.act('DescribeSecurityGroups', { GroupIds: [GroupId!] })).SecurityGroups!;
  assert.equal(described!.IpPermissions!.length, 1);
  assert.deepEqual(described!.IpPermissions![0]!.IpRanges, [{ CidrIp: '10.0.0.0/8', Description: 'inside' }]);
  assert.equal(described!.IpPermissionsEgress![0]!.IpRanges![0]!.CidrIp, '0.0.0.0/0');

  const allow = (permission: object) =>
    vpc.act('AuthorizeSecurityGroupIngress', { GroupId, IpPermissions: [permission] });
  const anywhere = [{ CidrIp: '0.0.0.0/0' }];
  await fails(allow({ IpProtocol: 'tcp', IpRanges: anywhere }), 'InvalidParameterValue');
  await fails(
    allow({ IpProtocol: 'tcp', FromPort: 9, ToPort: 8, IpRanges: anywhere }),
    'InvalidParameterValue',
  );
  await fails(allow({ IpProtocol: 'bogus', IpRanges: anywhere }), 'InvalidParameterValue');
  await fails(allow({ IpProtocol: '-1' }), 'InvalidPermission.Malformed');
  await fails(allow({ IpProtocol: '-1', IpRanges: [{ CidrIp: '10.0.0.0/33' }] }), 'InvalidParameterValue');
  await fails(
    allow({ IpProtocol: '-1', UserIdGroupPairs: [{ GroupId: 'sg-00000000' }] }),
    'InvalidGroup.NotFound',
  );
  const ports = (count: number, first: number) =>
    Array.from({ length: count }, (_, i) => ({
      IpProtocol: 'udp',
      FromPort: first + i,
      ToPort: first + i,
      IpRanges: anywhere,
    }));
  await fails(
    vpc.act('AuthorizeSecurityGroupIngress', { GroupId, IpPermissions: ports(58, 1) }),
    'RulesPerSecurityGroupLimitExceeded',
    /61.*60/,
  );
  await vpc.act('AuthorizeSecurityGroupIngress', { GroupId, IpPermissions: ports(57, 1) });

  await fails(vpc.act('DeleteSecurityGroup', { GroupId: other }), 'DependencyViolation');
  await vpc.act('RevokeSecurityGroupIngress', {
    GroupId,
    SecurityGroupRuleIds: [SecurityGroupRules![2]!.SecurityGroupRuleId!],
  });
  await vpc.act('RevokeSecurityGroupIngress', {
    GroupId,
    IpPermissions: [{ IpProtocol: 'tcp', FromPort: 80, ToPort: 80, IpRanges: [{ CidrIp: '10.0.0.0/8' }] }],
  });
  await fails(
    vpc.act('RevokeSecurityGroupIngress', {
      GroupId,
      IpPermissions: [{ IpProtocol: 'tcp', FromPort: 80, ToPort: 80, IpRanges: [{ CidrIp: '10.0.0.0/8' }] }],
    }),
    'InvalidPermission.NotFound',
  );
  await fails(
    vpc.act('RevokeSecurityGroupIngress', { GroupId, SecurityGroupRuleIds: ['sgr-00000000'] }),
    'InvalidSecurityGroupRuleId.NotFound',
  );
  await vpc.act('DeleteSecurityGroup', { GroupId: other });
  const egress = vpc.state().securityGroups[GroupId!]!.rules.find((rule) => rule.direction === 'egress')!;
  await vpc.act('ModifySecurityGroupRules', {
    GroupId: GroupId!,
    SecurityGroupRules: [
      {
        SecurityGroupRuleId: egress.id,
        SecurityGroupRule: { IpProtocol: 'tcp', FromPort: 443, ToPort: 443, CidrIpv4: '0.0.0.0/0' },
      },
    ],
  });
  assert.equal(
    vpc.state().securityGroups[GroupId!]!.rules.find((rule) => rule.id === egress.id)!.toPort,
    443,
  );
  const eni = await newEni(vpc, subnetId, { Groups: [GroupId] });
  await fails(vpc.act('DeleteSecurityGroup', { GroupId }), 'DependencyViolation');
  const standard = Object.values(vpc.state().securityGroups).find((group) => group.name === 'default')!;
  await vpc.act('ModifyNetworkInterfaceAttribute', { NetworkInterfaceId: eni, Groups: [standard.id] });
  await vpc.act('DeleteSecurityGroup', { GroupId });
  await fails(vpc.act('DeleteSecurityGroup', { GroupId: standard.id }), 'CannotDelete');
});

test('routes: one per destination, local ones stay, a lost target is a black hole', async () => {
  await using lab = testVpc();
  const { vpc } = lab;
  const { vpcId, subnetId, instanceId } = await smallShape(vpc);
  const gateway = await gatewayFor(vpc, vpcId);
  const { RouteTable } = await vpc.act('CreateRouteTable', { VpcId: vpcId });
  const RouteTableId = RouteTable!.RouteTableId!;
  const route = (DestinationCidrBlock: string, target: object) =>
    vpc.act('CreateRoute', { RouteTableId, DestinationCidrBlock, ...target });
  await route('0.0.0.0/0', { GatewayId: gateway });
  await route('192.168.0.0/16', { NetworkInterfaceId: primaryOf(vpc, instanceId).id });
  await fails(
    route('0.0.0.0/0', { NetworkInterfaceId: primaryOf(vpc, instanceId).id }),
    'RouteAlreadyExists',
  );
  for (const inside of ['10.0.9.0/24', '169.254.169.254/32'])
    await fails(
      route(inside, { GatewayId: gateway }),
      'InvalidParameterValue',
      /services of|lies in the VPC's/,
    );
  await fails(
    vpc.act('ReplaceRoute', { RouteTableId, DestinationCidrBlock: '10.0.0.0/16', GatewayId: gateway }),
    'InvalidParameterValue',
    /lies in the VPC's 10\.0\.0\.0\/16/,
  );
  await fails(route('1.0.0.0/8', { GatewayId: 'igw-00000000' }), 'InvalidGatewayID.NotFound');
  await fails(route('1.0.0.0/8', { NatGatewayId: 'nat-1' }), 'InvalidNatGatewayID.NotFound', /nat-1/);
  await fails(
    vpc.act('DeleteRoute', { RouteTableId, DestinationCidrBlock: '10.0.0.0/16' }),
    'InvalidParameterValue',
  );
  await fails(
    vpc.act('DeleteRoute', { RouteTableId, DestinationCidrBlock: '1.0.0.0/8' }),
    'InvalidRoute.NotFound',
  );
  const { AssociationId } = await vpc.act('AssociateRouteTable', { RouteTableId, SubnetId: subnetId });
  await fails(vpc.act('DeleteRouteTable', { RouteTableId }), 'DependencyViolation');
  await vpc.act('StopInstances', { InstanceIds: [instanceId] });
  await vpc.act('DetachInternetGateway', { InternetGatewayId: gateway, VpcId: vpcId });
  await vpc.act('AssociateVpcCidrBlock', { VpcId: vpcId, CidrBlock: '100.64.0.0/16' });
  const [table] = (
    await vpc.act('DescribeRouteTables', { Filters: [{ Name: 'association.subnet-id', Values: [subnetId] }] })
  ).RouteTables!;
  assert.deepEqual(
    table!.Routes!.map((one) => [one.DestinationCidrBlock, one.State]),
    [
      ['10.0.0.0/16', 'active'],
      ['0.0.0.0/0', 'blackhole'],
      ['192.168.0.0/16', 'blackhole'],
      ['100.64.0.0/16', 'active'],
    ],
  );
  await vpc.act('DisassociateRouteTable', { AssociationId: AssociationId! });
  const main = Object.values(vpc.state().routeTables).find((one) => one.associations.some((a) => a.main))!;
  await fails(
    vpc.act('DisassociateRouteTable', { AssociationId: main.associations[0]!.id }),
    'InvalidParameterValue',
  );
  await vpc.act('ReplaceRouteTableAssociation', { AssociationId: main.associations[0]!.id, RouteTableId });
  assert.equal(vpc.state().routeTables[RouteTableId]!.associations[0]!.main, true);
  await vpc.act('DeleteRouteTable', { RouteTableId: main.id });
});

test('public addresses: one per private one, moved only when allowed, given back', async () => {
  await using lab = testVpc({ settings: { publicPool: '203.0.113.0/29' } });
  const { vpc } = lab;
  const { vpcId, subnetId } = await smallShape(vpc);
  const [one, two] = [await newEni(vpc, subnetId), await newEni(vpc, subnetId)];
  const { AllocationId, PublicIp } = await vpc.act('AllocateAddress', {});
  const associate = (more: object) =>
    vpc.act('AssociateAddress', { AllocationId, NetworkInterfaceId: one, ...more });
  await fails(associate({}), 'Gateway.NotAttached');
  const gateway = await gatewayFor(vpc, vpcId);
  const first = await associate({});
  assert.deepEqual(await associate({}), first);
  await fails(associate({ NetworkInterfaceId: two }), 'Resource.AlreadyAssociated');
  await fails(associate({ PrivateIpAddress: '10.0.0.250' }), 'InvalidParameterValue');
  const moved = await associate({ NetworkInterfaceId: two, AllowReassociation: true });
  await fails(vpc.act('ReleaseAddress', { AllocationId }), 'InvalidIPAddress.InUse');
  await fails(
    vpc.act('DetachInternetGateway', { InternetGatewayId: gateway, VpcId: vpcId }),
    'DependencyViolation',
  );
  await fails(
    vpc.act('DisassociateAddress', { AssociationId: first.AssociationId }),
    'InvalidAssociationID.NotFound',
  );
  assert.equal(
    (await vpc.act('DescribeAddresses', { PublicIps: [PublicIp!] })).Addresses![0]!.NetworkInterfaceId,
    two,
  );
  await vpc.act('DisassociateAddress', { AssociationId: moved.AssociationId });
  for (let i = 0; i < 5; i++) await vpc.act('AllocateAddress', {});
  await fails(vpc.act('AllocateAddress', {}), 'AddressLimitExceeded', /6/);
  await vpc.act('ReleaseAddress', { AllocationId });
  await vpc.act('AllocateAddress', {});
});

test('a VPC and its subnets: ranges, conflicts, and nothing is deleted under others', async () => {
  await using lab = testVpc();
  const { vpc } = lab;
  const { vpcId, subnetId, otherSubnetId, instanceId } = await smallShape(vpc);
  for (const CidrBlock of ['10.0.0.0/15', '10.0.0.0/29'])
    await fails(vpc.act('CreateVpc', { CidrBlock }), 'InvalidVpc.Range');
  await fails(vpc.act('CreateVpc', { CidrBlock: 'x' }), 'InvalidParameterValue');
  const subnet = (CidrBlock: string, more: object = {}) =>
    vpc.act('CreateSubnet', { VpcId: vpcId, CidrBlock, ...more });
  await fails(subnet('10.1.0.0/24'), 'InvalidSubnet.Range');
  await fails(subnet('10.0.0.128/25'), 'InvalidSubnet.Conflict');
  await fails(
    subnet('10.0.9.0/24', { AvailabilityZone: 'us-west-2z' }),
    'InvalidParameterValue',
    /us-west-2a, us-west-2b/,
  );
  await fails(subnet('10.0.9.0/24', { VpcId: 'vpc-00000000' }), 'InvalidVpcID.NotFound');
  await fails(vpc.act('DeleteSubnet', { SubnetId: subnetId }), 'DependencyViolation');
  await fails(vpc.act('DeleteVpc', { VpcId: vpcId }), 'DependencyViolation');
  await vpc.act('TerminateInstances', { InstanceIds: [instanceId] });
  for (const SubnetId of [subnetId, otherSubnetId]) await vpc.act('DeleteSubnet', { SubnetId });
  await vpc.act('DeleteVpc', { VpcId: vpcId });
  const { vpcs, subnets, routeTables, securityGroups } = vpc.state();
  assert.deepEqual([vpcs, subnets, routeTables, securityGroups], [{}, {}, {}, {}]);
});

test('tags: on create, later, and by their own describe', async () => {
  await using lab = testVpc();
  const { vpc } = lab;
  const { vpcId, subnetId, instanceId } = await smallShape(vpc);
  const eni = await newEni(vpc, subnetId, {
    TagSpecifications: [{ ResourceType: 'network-interface', Tags: [{ Key: 'a', Value: '1' }] }],
  });
  await vpc.act('CreateTags', {
    Resources: [eni, vpcId, instanceId],
    Tags: [
      { Key: 'b', Value: '2' },
      { Key: '__proto__', Value: 'x' },
    ],
  });
  const describe = async (Filters: { Name: string; Values: string[] }[]) =>
    (await vpc.act('DescribeTags', { Filters }))
      .Tags!.map((tag) => `${tag.ResourceType} ${tag.Key}=${tag.Value}`)
      .sort();
  assert.deepEqual(await describe([{ Name: 'resource-id', Values: [eni] }]), [
    'network-interface __proto__=x',
    'network-interface a=1',
    'network-interface b=2',
  ]);
  assert.deepEqual(await describe([{ Name: 'tag:b', Values: ['2'] }]), [
    'instance b=2',
    'network-interface b=2',
    'vpc b=2',
  ]);
  await vpc.act('DeleteTags', { Resources: [eni], Tags: [{ Key: 'a', Value: 'other' }, { Key: 'b' }] });
  assert.deepEqual(await describe([{ Name: 'resource-id', Values: [eni] }]), [
    'network-interface __proto__=x',
    'network-interface a=1',
  ]);
  assert.deepEqual(lab.reopen().state().networkInterfaces[eni], vpc.state().networkInterfaces[eni]);
  await vpc
    .act('DeleteTags', { Resources: [eni] })
    .catch(() => lab.vpc.act('DeleteTags', { Resources: [eni] }));
  assert.deepEqual(lab.vpc.state().networkInterfaces[eni]!.tags, {});
  const tag = (...Tags: object[]) => lab.vpc.act('CreateTags', { Resources: [eni], Tags });
  await fails(tag({ Key: 'aws:x', Value: '' }), 'InvalidParameterValue', /reserved/);
  await fails(tag({ Key: 'k'.repeat(129) }), 'InvalidParameterValue');
  await fails(tag({ Key: 'k' }, { Key: 'k' }), 'InvalidParameterValue', /Duplicate/);
  await fails(tag(...Array.from({ length: 51 }, (_, i) => ({ Key: `k${i}` }))), 'TagLimitExceeded');
  await fails(lab.vpc.act('CreateTags', { Resources: ['thing-1'], Tags: [{ Key: 'k' }] }), 'InvalidID');
  await fails(
    lab.vpc.act('CreateTags', { Resources: ['eni-00000000'], Tags: [{ Key: 'k' }] }),
    'InvalidNetworkInterfaceID.NotFound',
  );
});

test('zones, regions, types and attributes are those of the lab', async () => {
  await using lab = testVpc();
  const { vpc } = lab;
  const zones = (await vpc.act('DescribeAvailabilityZones', {})).AvailabilityZones!;
  assert.deepEqual(
    zones.map((zone) => [zone.ZoneName, zone.ZoneId]),
    [
      ['us-west-2a', 'usw2-az1'],
      ['us-west-2b', 'usw2-az2'],
    ],
  );
  const [type] = (await vpc.act('DescribeInstanceTypes', { InstanceTypes: ['m5.large'] })).InstanceTypes!;
  assert.deepEqual(
    [type!.NetworkInfo!.MaximumNetworkInterfaces, type!.NetworkInfo!.Ipv4AddressesPerInterface],
    [3, 10],
  );
  await fails(
    vpc.act('DescribeInstanceTypes', { InstanceTypes: ['m5.huge' as 'm5.large'] }),
    'InvalidInstanceType',
  );
  const { AccountAttributes } = await vpc.act('DescribeAccountAttributes', {
    AttributeNames: ['default-vpc'],
  });
  assert.equal(AccountAttributes![0]!.AttributeValues![0]!.AttributeValue, 'none');
});
