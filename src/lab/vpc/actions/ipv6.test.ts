// IPv6 of VPCs, subnets and interfaces through the service, with EC2's answers and errors.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { cidrContains, parseCidr, parseIp } from '../../../base/ip.ts';
import type { VpcService } from '../index.ts';
import { attach, fails, listen, newEni, primaryOf, REGION, subnetBlock, testVpc, ZONES } from '../testing.ts';

/** A VPC with a /56, a subnet with a /64 and one without, an m5.large in the first. */
async function dual(vpc: VpcService) {
  const made = (await vpc.act('CreateVpc', { CidrBlock: '10.0.0.0/16', AmazonProvidedIpv6CidrBlock: true }))
    .Vpc!;
  const vpcId = made.VpcId!;
  const block = made.Ipv6CidrBlockAssociationSet![0]!.Ipv6CidrBlock!;
  const six = subnetBlock(block, 1);
  const plain = await vpc.act('CreateSubnet', { VpcId: vpcId, CidrBlock: '10.0.1.0/24' });
  const subnet = await vpc.act('CreateSubnet', {
    VpcId: vpcId,
    CidrBlock: '10.0.0.0/24',
    Ipv6CidrBlock: six,
    AvailabilityZone: ZONES[0],
  });
  const subnetId = subnet.Subnet!.SubnetId!;
  const instance = await launch(vpc, { SubnetId: subnetId, Ipv6AddressCount: 1 });
  return { vpcId, block, six, subnetId, plainId: plain.Subnet!.SubnetId!, instanceId: instance.InstanceId! };
}

const launch = async (vpc: VpcService, more: object) =>
  (
    await vpc.act('RunInstances', {
      ImageId: 'ami-1',
      InstanceType: 'm5.large',
      MinCount: 1,
      MaxCount: 1,
      ...more,
    })
  ).Instances![0]!;

const isIn = (block: string, ip: string) => cidrContains(parseCidr(block), parseIp(ip));

test('a VPC gets a /56 of Amazon at its making or later, with its routes, rules and network ACL', async () => {
  await using lab = testVpc();
  const { vpc } = lab;
  const { vpcId, block, six } = await dual(vpc);
  assert.match(block, /^2600:1f14:[0-9a-f:]*:\/56$/);
  const [shown] = (await vpc.act('DescribeVpcs', { VpcIds: [vpcId] })).Vpcs!;
  assert.deepEqual(
    shown!.Ipv6CidrBlockAssociationSet!.map(({ AssociationId: _, ...rest }) => rest),
    [
      {
        Ipv6CidrBlock: block,
        Ipv6CidrBlockState: { State: 'associated' },
        NetworkBorderGroup: REGION,
        Ipv6Pool: 'Amazon',
        Ipv6AddressAttribute: 'public',
        IpSource: 'amazon',
      },
    ],
  );
  const byBlock = (name: string, value: string) =>
    vpc.act('DescribeVpcs', { Filters: [{ Name: `ipv6-cidr-block-association.${name}`, Values: [value] }] });
  assert.equal((await byBlock('ipv6-cidr-block', block)).Vpcs!.length, 1);
  assert.equal((await byBlock('ipv6-cidr-block', six)).Vpcs!.length, 0);
  assert.equal((await byBlock('ipv6-pool', 'Amazon')).Vpcs!.length, 1);
  assert.equal((await byBlock('state', 'associated')).Vpcs!.length, 1);

  const egress = async (id: string) =>
    (
      await vpc.act('DescribeSecurityGroups', { Filters: [{ Name: 'vpc-id', Values: [id] }] })
    ).SecurityGroups!.map((group) =>
      group.IpPermissionsEgress!.flatMap((each) => [
        ...each.IpRanges!.map((range) => range.CidrIp),
        ...each.Ipv6Ranges!.map((range) => range.CidrIpv6),
      ]),
    );
  assert.deepEqual(await egress(vpcId), [['0.0.0.0/0', '::/0']]);
  await vpc.act('CreateSecurityGroup', { GroupName: 'web', Description: 'web', VpcId: vpcId });
  assert.deepEqual(await egress(vpcId), [
    ['0.0.0.0/0', '::/0'],
    ['0.0.0.0/0', '::/0'],
  ]);

  const later = (await vpc.act('CreateVpc', { CidrBlock: '10.1.0.0/16' })).Vpc!;
  assert.deepEqual(later.Ipv6CidrBlockAssociationSet, []);
  assert.deepEqual(await egress(later.VpcId!), [['0.0.0.0/0']]);
  const added = await vpc.act('AssociateVpcCidrBlock', {
    VpcId: later.VpcId,
    AmazonProvidedIpv6CidrBlock: true,
    Ipv6CidrBlockNetworkBorderGroup: REGION,
  });
  const association = added.Ipv6CidrBlockAssociation!;
  assert.equal(association.Ipv6CidrBlockState!.State, 'associating');
  assert.notEqual(association.Ipv6CidrBlock, block);
  assert.deepEqual(await egress(later.VpcId!), [['0.0.0.0/0', '::/0']]);
  const acls = await vpc.act('DescribeNetworkAcls', {
    Filters: [{ Name: 'vpc-id', Values: [later.VpcId!] }],
  });
  assert.deepEqual(
    acls
      .NetworkAcls![0]!.Entries!.filter((entry) => entry.Ipv6CidrBlock && entry.Egress)
      .map((entry) => [entry.RuleNumber, entry.RuleAction]),
    [
      [101, 'allow'],
      [32768, 'deny'],
    ],
  );
  const routes = async () =>
    (
      await vpc.act('DescribeRouteTables', { Filters: [{ Name: 'vpc-id', Values: [later.VpcId!] }] })
    ).RouteTables![0]!.Routes!.map((route) => [route.DestinationIpv6CidrBlock, route.GatewayId]);
  assert.deepEqual(await routes(), [
    [undefined, 'local'],
    [association.Ipv6CidrBlock, 'local'],
  ]);
  await vpc.act('DisassociateVpcCidrBlock', { AssociationId: association.AssociationId });
  assert.deepEqual(await routes(), [[undefined, 'local']]);
  const own = shown!.Ipv6CidrBlockAssociationSet![0]!.AssociationId;
  await fails(vpc.act('DisassociateVpcCidrBlock', { AssociationId: own }), 'InvalidCidrBlock.InUse');
  for (let i = 1; i < 5; i++)
    await vpc.act('AssociateVpcCidrBlock', { VpcId: vpcId, AmazonProvidedIpv6CidrBlock: true });
  await fails(
    vpc.act('AssociateVpcCidrBlock', { VpcId: vpcId, AmazonProvidedIpv6CidrBlock: true }),
    'CidrLimitExceeded',
  );
  await fails(
    vpc.act('AssociateVpcCidrBlock', {
      VpcId: vpcId,
      AmazonProvidedIpv6CidrBlock: true,
      CidrBlock: '10.5.0.0/16',
    }),
    'InvalidParameterCombination',
  );
});

test('a subnet has one /64 of its VPC, at its making or later', async () => {
  await using lab = testVpc();
  const { vpc } = lab;
  const { vpcId, block, six, plainId, subnetId } = await dual(vpc);
  const make = (Ipv6CidrBlock: string) =>
    vpc.act('CreateSubnet', { VpcId: vpcId, CidrBlock: '10.0.9.0/24', Ipv6CidrBlock });
  await fails(make(six), 'InvalidSubnet.Conflict', /IPv6 CIDR/);
  await fails(make('2600:1f14:ffff:ff00::/64'), 'InvalidSubnet.Range', /The IPv6 CIDR .* is invalid\./);
  await fails(make(block), 'InvalidParameterValue', /invalid value for parameter ipv6-cidr-block/);
  await fails(make('10.0.0.0/24'), 'InvalidParameterValue');
  const other = subnetBlock(block, 2);
  const { Ipv6CidrBlockAssociation: association } = await vpc.act('AssociateSubnetCidrBlock', {
    SubnetId: plainId,
    Ipv6CidrBlock: other,
  });
  await fails(
    vpc.act('AssociateSubnetCidrBlock', {
      SubnetId: plainId,
      Ipv6CidrBlock: subnetBlock(block, 3),
    }),
    'CidrLimitExceeded',
  );
  const found = async (name: string, value: string) =>
    (
      await vpc.act('DescribeSubnets', {
        Filters: [{ Name: `ipv6-cidr-block-association.${name}`, Values: [value] }],
      })
    ).Subnets!.map((each) => each.SubnetId);
  assert.deepEqual(await found('ipv6-cidr-block', other), [plainId]);
  assert.deepEqual(await found('association-id', association!.AssociationId!), [plainId]);
  assert.equal((await found('state', 'associated')).length, 2);
  const eni = await newEni(vpc, plainId, { Ipv6AddressCount: 1 });
  const leave = () => vpc.act('DisassociateSubnetCidrBlock', { AssociationId: association!.AssociationId! });
  await fails(leave(), 'InvalidCidrBlock.InUse');
  await vpc.act('DeleteNetworkInterface', { NetworkInterfaceId: eni });
  assert.equal((await leave()).Ipv6CidrBlockAssociation!.Ipv6CidrBlockState!.State, 'disassociating');
  await fails(leave(), 'InvalidSubnetCidrBlockAssociationID.NotFound');

  const modify = (SubnetId: string, Value: boolean) =>
    vpc.act('ModifySubnetAttribute', { SubnetId, AssignIpv6AddressOnCreation: { Value } });
  await fails(
    modify(plainId, true),
    'InvalidParameterValue',
    /Cannot set assign-ipv6-address-on-creation to true unless the subnet/,
  );
  await modify(subnetId, true);
  const state = () => Object.values(vpc.state().networkInterfaces);
  const plain = await newEni(vpc, subnetId);
  const none = await newEni(vpc, subnetId, { Ipv6AddressCount: 0 });
  const prefixed = await newEni(vpc, subnetId, { Ipv6PrefixCount: 1 });
  const counts = (id: string) => {
    const row = state().find((each) => each.id === id)!;
    return [row.ipv6Addresses.length, row.ipv6Prefixes.length];
  };
  assert.deepEqual(counts(plain), [1, 0]);
  assert.deepEqual(counts(none), [0, 0]);
  assert.deepEqual(counts(prefixed), [0, 1]);
});

test('addresses and /80 prefixes are assigned and given back, all or nothing', async () => {
  await using lab = testVpc();
  const { vpc } = lab;
  const { six, subnetId, plainId, instanceId } = await dual(vpc);
  const eni = primaryOf(vpc, instanceId);
  const [own] = eni.ipv6Addresses;
  assert.ok(isIn(six, own!));
  const NetworkInterfaceId = eni.id;
  const assign = (more: object) => vpc.act('AssignIpv6Addresses', { NetworkInterfaceId, ...more });
  const prefix = (await assign({ Ipv6PrefixCount: 1 })).AssignedIpv6Prefixes![0]!;
  assert.match(prefix, /\/80$/);
  assert.ok(isIn(six, prefix.replace('/80', '')));
  const two = (await assign({ Ipv6AddressCount: 2 })).AssignedIpv6Addresses!;
  assert.equal(two.length, 2);
  const base = six.replace('/64', '');
  const named = `${base}beef`;
  assert.deepEqual(
    (await assign({ Ipv6Addresses: [`${base}0:0:BEEF`.replace('::', ':0:')] })).AssignedIpv6Addresses,
    [named],
  );
  await fails(assign({ Ipv6Addresses: [named] }), 'InvalidIPAddress.InUse');
  await fails(assign({ Ipv6Addresses: [`${base}1`] }), 'InvalidParameterValue', /reserved/);
  await fails(assign({ Ipv6Addresses: ['2001:db8::1'] }), 'InvalidParameterValue', /does not fall within/);
  await fails(assign({ Ipv6Addresses: ['10.0.0.9'] }), 'InvalidParameterValue', /Invalid IPv6 address/);
  await fails(assign({ Ipv6Addresses: [`${base}7`, `${base}7`] }), 'InvalidParameterValue', /Duplicate/);
  await fails(assign({ Ipv6Prefixes: [prefix] }), 'InvalidIPAddress.InUse');
  await fails(assign({ Ipv6Prefixes: [six] }), 'InvalidParameterValue');
  await fails(assign({ Ipv6Addresses: [prefix.replace('/80', '5')] }), 'InvalidIPAddress.InUse');
  await fails(assign({}), 'MissingParameter');
  await fails(assign({ Ipv6AddressCount: 1, Ipv6Addresses: [`${base}8`] }), 'InvalidParameterCombination');
  await fails(
    assign({ Ipv6AddressCount: 1, Ipv6PrefixCount: 1 }),
    'InvalidParameterValue',
    /only specify one of/,
  );
  await fails(assign({ Ipv6AddressCount: -1 }), 'InvalidParameterValue');
  // m5.large: ten slots, of which five are taken.
  await fails(
    assign({ Ipv6PrefixCount: 6 }),
    'PrivateIpAddressLimitExceeded',
    /has 5, 6 more asked for.*is 10/,
  );
  const before = JSON.stringify(vpc.state());
  await fails(assign({ Ipv6AddressCount: 7 }), 'PrivateIpAddressLimitExceeded');
  assert.equal(JSON.stringify(vpc.state()), before);

  const [shown] = (await vpc.act('DescribeNetworkInterfaces', { NetworkInterfaceIds: [eni.id] }))
    .NetworkInterfaces!;
  assert.deepEqual(
    shown!.Ipv6Addresses!.map((each) => each.Ipv6Address),
    [own, ...two, named],
  );
  assert.deepEqual(shown!.Ipv6Prefixes, [{ Ipv6Prefix: prefix }]);
  const instance = (await vpc.act('DescribeInstances', { InstanceIds: [instanceId] })).Reservations![0]!
    .Instances![0]!;
  assert.equal(instance.Ipv6Address, own);
  assert.deepEqual(instance.NetworkInterfaces![0]!.Ipv6Prefixes, [{ Ipv6Prefix: prefix }]);
  const by = async (name: string, value: string) =>
    (await vpc.act('DescribeInstances', { Filters: [{ Name: name, Values: [value] }] })).Reservations!.length;
  assert.equal(await by('ipv6-address', own!), 1);
  assert.equal(await by('network-interface.ipv6-addresses.ipv6-address', named), 1);
  assert.equal(await by('network-interface.ipv6-prefixes.ipv6-prefix', prefix), 1);
  const enis = await vpc.act('DescribeNetworkInterfaces', {
    Filters: [{ Name: 'ipv6-addresses.ipv6-address', Values: [named] }],
  });
  assert.equal(enis.NetworkInterfaces!.length, 1);

  const unassign = (more: object) => vpc.act('UnassignIpv6Addresses', { NetworkInterfaceId, ...more });
  await fails(unassign({}), 'MissingParameter');
  await fails(unassign({ Ipv6Addresses: [`${base}77`] }), 'InvalidParameterValue', /are not assigned/);
  const gone = await unassign({ Ipv6Addresses: [named], Ipv6Prefixes: [prefix] });
  assert.deepEqual([gone.UnassignedIpv6Addresses, gone.UnassignedIpv6Prefixes], [[named], [prefix]]);
  await assign({ Ipv6Prefixes: [prefix] });

  await fails(newEni(vpc, plainId, { Ipv6AddressCount: 1 }), 'InvalidParameterValue', /no IPv6 CIDR block/);
  await fails(
    newEni(vpc, subnetId, { Ipv6AddressCount: 1, Ipv6PrefixCount: 1 }),
    'InvalidParameterValue',
    /only specify one of/,
  );
  const many = await newEni(vpc, subnetId, { Ipv6AddressCount: 11 });
  await fails(attach(vpc, many, instanceId, 1), 'PrivateIpAddressLimitExceeded');
  await fails(
    launch(vpc, { SubnetId: subnetId, InstanceType: 'm3.medium', Ipv6AddressCount: 1 }),
    'InvalidParameterCombination',
    /IPv6 is not supported for the instance type 'm3.medium'/,
  );
  await fails(
    launch(vpc, {
      SubnetId: subnetId,
      InstanceType: 't2.micro',
      NetworkInterfaces: undefined,
      Ipv6AddressCount: 3,
    }),
    'PrivateIpAddressLimitExceeded',
  );
  await fails(
    launch(vpc, { NetworkInterfaces: [{ DeviceIndex: 0, SubnetId: subnetId }], Ipv6AddressCount: 1 }),
    'InvalidParameterCombination',
  );
});

test('the metadata says what an interface holds, and leaves out what it does not', async () => {
  await using lab = testVpc();
  const { vpc } = lab;
  const { block, six, instanceId, plainId } = await dual(vpc);
  const eni = primaryOf(vpc, instanceId);
  const { AssignedIpv6Prefixes: prefixes } = await vpc.act('AssignIpv6Addresses', {
    NetworkInterfaceId: eni.id,
    Ipv6PrefixCount: 2,
  });
  const second = await newEni(vpc, plainId);
  await attach(vpc, second, instanceId, 1);
  await vpc.act('ModifyInstanceMetadataOptions', { InstanceId: instanceId, HttpTokens: 'optional' });
  await using imds = await listen((request, response) => vpc.imdsHandler(request, response, { instanceId }));
  const get = async (path: string) => {
    const answer = await fetch(`${imds.url}/latest/meta-data/${path}`);
    return answer.status === 200 ? await answer.text() : answer.status;
  };
  const macs = `network/interfaces/macs/${eni.mac}`;
  assert.equal(await get('ipv6'), eni.ipv6Addresses[0]);
  assert.equal(await get(`${macs}/ipv6s`), eni.ipv6Addresses[0]);
  assert.equal(await get(`${macs}/ipv6-prefix`), prefixes!.join('\n'));
  assert.equal(await get(`${macs}/subnet-ipv6-cidr-blocks`), six);
  assert.equal(await get(`${macs}/vpc-ipv6-cidr-blocks`), block);
  const other = `network/interfaces/macs/${vpc.state().networkInterfaces[second]!.mac}`;
  for (const key of ['ipv6s', 'ipv6-prefix', 'subnet-ipv6-cidr-blocks'])
    assert.equal(await get(`${other}/${key}`), 404);
  assert.equal(await get(`${other}/vpc-ipv6-cidr-blocks`), block);
});

test('an IPv6 route leads by a gateway, an egress-only one or an interface', async () => {
  await using lab = testVpc();
  const { vpc } = lab;
  const { vpcId, block, instanceId } = await dual(vpc);
  const table = Object.values(vpc.state().routeTables)[0]!.id;
  const create = (more: object) => vpc.act('CreateRoute', { RouteTableId: table, ...more });
  const { EgressOnlyInternetGateway: made } = await vpc.act('CreateEgressOnlyInternetGateway', {
    VpcId: vpcId,
    TagSpecifications: [
      { ResourceType: 'egress-only-internet-gateway', Tags: [{ Key: 'Name', Value: 'out' }] },
    ],
  });
  const gateway = made!.EgressOnlyInternetGatewayId!;
  assert.deepEqual(made!.Attachments, [{ VpcId: vpcId, State: 'attached' }]);
  const listed = await vpc.act('DescribeEgressOnlyInternetGateways', {
    Filters: [{ Name: 'tag:Name', Values: ['out'] }],
  });
  assert.deepEqual(listed.EgressOnlyInternetGateways, [made]);
  await fails(
    create({ DestinationCidrBlock: '0.0.0.0/0', EgressOnlyInternetGatewayId: gateway }),
    'InvalidParameterValue',
  );
  await create({ DestinationIpv6CidrBlock: '::/0', EgressOnlyInternetGatewayId: gateway });
  await fails(
    create({ DestinationIpv6CidrBlock: '::/0', NetworkInterfaceId: primaryOf(vpc, instanceId).id }),
    'RouteAlreadyExists',
  );
  await fails(create({ DestinationIpv6CidrBlock: '0.0.0.0/0', GatewayId: 'local' }), 'InvalidParameterValue');
  await fails(
    create({ DestinationIpv6CidrBlock: '::/0', DestinationCidrBlock: '0.0.0.0/0', GatewayId: 'local' }),
    'InvalidParameterCombination',
  );
  const route = async () =>
    (
      await vpc.act('DescribeRouteTables', {
        Filters: [{ Name: 'route.egress-only-internet-gateway-id', Values: [gateway] }],
      })
    ).RouteTables![0]!.Routes!.find((each) => each.DestinationIpv6CidrBlock === '::/0')!;
  assert.deepEqual([(await route()).EgressOnlyInternetGatewayId, (await route()).State], [gateway, 'active']);
  await fails(vpc.act('DeleteVpc', { VpcId: vpcId }), 'DependencyViolation');
  assert.deepEqual(
    await vpc.act('DeleteEgressOnlyInternetGateway', { EgressOnlyInternetGatewayId: gateway }),
    {
      ReturnCode: true,
    },
  );
  assert.equal((await route()).State, 'blackhole');
  await fails(
    vpc.act('DeleteEgressOnlyInternetGateway', { EgressOnlyInternetGatewayId: gateway }),
    'InvalidEgressOnlyInternetGatewayId.NotFound',
  );
  await fails(
    vpc.act('DeleteEgressOnlyInternetGateway', { EgressOnlyInternetGatewayId: 'igw-1' }),
    'InvalidEgressOnlyInternetGatewayId.Malformed',
  );
  await vpc.act('ReplaceRoute', {
    RouteTableId: table,
    DestinationIpv6CidrBlock: '::/0',
    NetworkInterfaceId: primaryOf(vpc, instanceId).id,
  });
  await fails(
    vpc.act('DeleteRoute', { RouteTableId: table, DestinationIpv6CidrBlock: block }),
    'InvalidParameterValue',
  );
  await vpc.act('DeleteRoute', { RouteTableId: table, DestinationIpv6CidrBlock: '::/0' });
  await fails(
    vpc.act('DeleteRoute', { RouteTableId: table, DestinationIpv6CidrBlock: '::/0' }),
    'InvalidRoute.NotFound',
    /destination-ipv6-cidr-block/,
  );
});

test('an IPv6-only subnet has interfaces and instances without IPv4', async () => {
  await using lab = testVpc();
  const { vpc } = lab;
  const { vpcId, block } = await dual(vpc);
  const Ipv6CidrBlock = subnetBlock(block, 10);
  const make = (more: object) => vpc.act('CreateSubnet', { VpcId: vpcId, Ipv6Native: true, ...more });
  await fails(make({ Ipv6CidrBlock, CidrBlock: '10.0.8.0/24' }), 'InvalidParameterCombination');
  await fails(make({}), 'MissingParameter');
  const subnet = (await make({ Ipv6CidrBlock })).Subnet!;
  assert.equal(subnet.Ipv6Native, true);
  assert.equal(Object.hasOwn(subnet, 'CidrBlock'), false);
  const SubnetId = subnet.SubnetId!;
  const one = await launch(vpc, { SubnetId });
  assert.equal(one.PrivateIpAddress, undefined);
  assert.equal(one.PrivateDnsName, `${one.InstanceId}.${REGION}.compute.internal`);
  assert.ok(isIn(Ipv6CidrBlock, one.Ipv6Address!));
  assert.equal(one.NetworkInterfaces![0]!.PrivateIpAddresses!.length, 0);
  const eni = await newEni(vpc, SubnetId, { Ipv6PrefixCount: 1 });
  const row = vpc.state().networkInterfaces[eni]!;
  assert.deepEqual([row.privateIps, row.ipv6Addresses.length, row.ipv6Prefixes.length], [[], 1, 1]);
  await fails(newEni(vpc, SubnetId, { PrivateIpAddress: '10.0.0.9' }), 'InvalidParameterCombination');
  await fails(
    vpc.act('AssignPrivateIpAddresses', { NetworkInterfaceId: eni, Ipv4PrefixCount: 1 }),
    'InvalidParameterCombination',
  );
  await fails(launch(vpc, { SubnetId, InstanceType: 't2.micro' }), 'InvalidParameterCombination', /Nitro/);
  await fails(
    vpc.act('ModifySubnetAttribute', { SubnetId, MapPublicIpOnLaunch: { Value: true } }),
    'InvalidParameterValue',
  );
  await fails(
    vpc.act('CreateSubnetCidrReservation', { SubnetId, Cidr: '10.0.0.0/28', ReservationType: 'prefix' }),
    'InvalidParameterValue',
    /IPv6-only/,
  );
  await vpc.act('CreateSubnet', { VpcId: vpcId, CidrBlock: '10.0.8.0/24' });
  await using imds = await listen((request, response) =>
    vpc.imdsHandler(request, response, { instanceId: one.InstanceId! }),
  );
  await vpc.act('ModifyInstanceMetadataOptions', { InstanceId: one.InstanceId!, HttpTokens: 'optional' });
  const get = async (path: string) => (await fetch(`${imds.url}/latest/meta-data/${path}`)).status;
  assert.equal(await get('local-ipv4'), 404);
  const mac = vpc.state().networkInterfaces[one.NetworkInterfaces![0]!.NetworkInterfaceId!]!.mac;
  assert.equal(await get(`network/interfaces/macs/${mac}/local-ipv4s`), 404);
  assert.equal(await get(`network/interfaces/macs/${mac}/subnet-ipv4-cidr-block`), 404);
  assert.equal(await get(`network/interfaces/macs/${mac}/ipv6s`), 200);
});
