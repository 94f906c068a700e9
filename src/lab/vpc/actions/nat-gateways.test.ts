// NAT gateways: their states and interface, what they take and give back, routes to them, and what is refused.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { VpcService } from '../index.ts';
import { fails, gatewayFor, newEni, smallShape, testVpc } from '../testing.ts';

const allocation = async (vpc: VpcService) => (await vpc.act('AllocateAddress', {})).AllocationId!;
const find = async (vpc: VpcService, id: string) =>
  (await vpc.act('DescribeNatGateways', { NatGatewayIds: [id] })).NatGateways![0]!;
async function create(vpc: VpcService, input: object): Promise<string> {
  return (await vpc.act('CreateNatGateway', input as never)).NatGateway!.NatGatewayId!;
}

test('a public one has an interface of EC2s own and the Elastic IP, until it is deleted', async () => {
  let now = 0;
  const clock = { now: () => now, sleep: () => new Promise<void>(() => {}) };
  await using lab = testVpc({ clock, settings: { ec2Latency: 'realistic' } });
  const { vpc } = lab;
  const { vpcId, subnetId } = await smallShape(vpc);
  await gatewayFor(vpc, vpcId);
  const AllocationId = await allocation(vpc);
  const id = await create(vpc, {
    SubnetId: subnetId,
    AllocationId,
    PrivateIpAddress: '10.0.0.77',
    TagSpecifications: [{ ResourceType: 'natgateway', Tags: [{ Key: 'Name', Value: 'out' }] }],
  });
  const pending = await find(vpc, id);
  assert.equal(pending.State, 'pending');
  assert.equal(pending.NatGatewayAddresses![0]!.PrivateIp, '10.0.0.77');
  now += 300_000;
  const gateway = await find(vpc, id);
  assert.deepEqual([gateway.State, gateway.ConnectivityType, gateway.VpcId], ['available', 'public', vpcId]);
  const [address] = gateway.NatGatewayAddresses!;
  assert.deepEqual(
    [address!.AllocationId, address!.Status, address!.IsPrimary],
    [AllocationId, 'succeeded', true],
  );
  for (const [Name, Value] of [
    ['nat-gateway-id', id],
    ['state', 'available'],
    ['subnet-id', subnetId],
    ['vpc-id', vpcId],
    ['tag:Name', 'out'],
  ] as const) {
    const found = await vpc.act('DescribeNatGateways', { Filter: [{ Name, Values: [Value] }] });
    assert.deepEqual(
      found.NatGateways!.map((one) => one.NatGatewayId),
      [id],
      Name,
    );
  }
  await fails(
    vpc.act('DescribeNatGateways', { Filter: [{ Name: 'zone', Values: ['a'] }] }),
    'InvalidParameterValue',
  );

  const NetworkInterfaceId = address!.NetworkInterfaceId!;
  const { NetworkInterfaces } = await vpc.act('DescribeNetworkInterfaces', {
    Filters: [{ Name: 'interface-type', Values: ['nat_gateway'] }],
  });
  const eni = NetworkInterfaces![0]!;
  assert.equal(eni.NetworkInterfaceId, NetworkInterfaceId);
  assert.equal(eni.Description, `Interface for NAT Gateway ${id}`);
  assert.deepEqual(
    [eni.RequesterManaged, eni.SourceDestCheck, eni.Status, eni.Groups, eni.Association!.PublicIp],
    [true, false, 'in-use', [], address!.PublicIp],
  );
  assert.deepEqual([eni.Attachment!.InstanceOwnerId, eni.Attachment!.Status], ['amazon-aws', 'attached']);

  await fails(vpc.act('DeleteNetworkInterface', { NetworkInterfaceId }), 'InvalidParameterValue', /in use/);
  await fails(
    vpc.act('DetachNetworkInterface', { AttachmentId: eni.Attachment!.AttachmentId! }),
    'OperationNotPermitted',
    /ela-attach/,
  );
  const AssociationId = address!.AssociationId!;
  for (const refused of [
    vpc.act('ModifyNetworkInterfaceAttribute', { NetworkInterfaceId, SourceDestCheck: { Value: true } }),
    vpc.act('AssignPrivateIpAddresses', { NetworkInterfaceId, SecondaryPrivateIpAddressCount: 1 }),
    vpc.act('AssociateAddress', { NetworkInterfaceId, AllocationId: await allocation(vpc) }),
    vpc.act('DisassociateAddress', { AssociationId }),
    vpc.act('AssociateAddress', {
      NetworkInterfaceId: await newEni(vpc, subnetId),
      AllocationId,
      AllowReassociation: true,
    }),
  ])
    await fails(refused, 'AuthFailure');
  await fails(vpc.act('ReleaseAddress', { AllocationId }), 'InvalidIPAddress.InUse');

  await vpc.act('DeleteNatGateway', { NatGatewayId: id });
  assert.equal((await find(vpc, id)).State, 'deleting');
  now += 300_000;
  const deleted = await find(vpc, id);
  assert.equal(deleted.State, 'deleted');
  assert.notEqual(deleted.DeleteTime, undefined);
  assert.equal(vpc.state().networkInterfaces[NetworkInterfaceId], undefined);
  await vpc.act('ReleaseAddress', { AllocationId });
  await fails(vpc.act('DeleteNatGateway', { NatGatewayId: id }), 'NatGatewayNotFound');
  now += 3_600_000;
  await fails(vpc.act('DescribeNatGateways', { NatGatewayIds: [id] }), 'NatGatewayNotFound');
});

test('one without a way to its Elastic IP fails, and says why', async () => {
  await using lab = testVpc();
  const { vpc } = lab;
  const { vpcId, subnetId } = await smallShape(vpc);
  const AllocationId = await allocation(vpc);
  const without = await find(vpc, await create(vpc, { SubnetId: subnetId, AllocationId }));
  assert.deepEqual([without.State, without.FailureCode], ['failed', 'Gateway.NotAttached']);
  assert.match(without.FailureMessage!, new RegExp(`Network ${vpcId} has no Internet gateway attached`));
  await gatewayFor(vpc, vpcId);
  await create(vpc, { SubnetId: subnetId, AllocationId });
  const taken = await find(vpc, await create(vpc, { SubnetId: subnetId, AllocationId }));
  assert.deepEqual([taken.State, taken.FailureCode], ['failed', 'Resource.AlreadyAssociated']);
  await vpc.act('DeleteNatGateway', { NatGatewayId: taken.NatGatewayId! });
  assert.equal((await find(vpc, taken.NatGatewayId!)).State, 'deleted');
});

test('what EC2 refuses at once', async () => {
  await using lab = testVpc();
  const { vpc } = lab;
  const { vpcId, subnetId } = await smallShape(vpc);
  await gatewayFor(vpc, vpcId);
  const AllocationId = await allocation(vpc);
  const asked = (input: object) => vpc.act('CreateNatGateway', { SubnetId: subnetId, ...input } as never);
  await fails(asked({}), 'MissingParameter', /AllocationId/);
  await fails(asked({ AllocationId: 'eipalloc-00000000' }), 'InvalidAllocationID.NotFound');
  await fails(asked({ SubnetId: 'subnet-00000000', AllocationId }), 'InvalidSubnetID.NotFound');
  await fails(asked({ ConnectivityType: 'private', AllocationId }), 'InvalidParameterCombination');
  await fails(asked({ ConnectivityType: 'both', AllocationId }), 'InvalidParameterValue');
  await fails(asked({ AllocationId, PrivateIpAddress: '10.0.0.1' }), 'InvalidParameterValue', /reserved/);
  await fails(asked({ AllocationId, PrivateIpAddress: '10.9.0.1' }), 'InvalidParameterValue', /range/);
  for (const more of [
    { SecondaryAllocationIds: ['eipalloc-1'] },
    { AvailabilityMode: 'regional' },
    { SecondaryPrivateIpAddressCount: 2 },
  ])
    await fails(asked({ AllocationId, ...more }), 'UnsupportedOperation', new RegExp(Object.keys(more)[0]!));
  for (let i = 0; i < 5; i++) await create(vpc, { SubnetId: subnetId, ConnectivityType: 'private' });
  await fails(asked({ ConnectivityType: 'private' }), 'NatGatewayLimitExceeded', /5/);
  await fails(vpc.act('DeleteNatGateway', { NatGatewayId: 'nat-00000000' }), 'NatGatewayNotFound');
  await fails(vpc.act('DescribeNatGateways', { NatGatewayIds: ['x'] }), 'NatGatewayMalformed');
  await fails(vpc.act('DeleteSubnet', { SubnetId: subnetId }), 'DependencyViolation');
});

test('routes to one: of IPv4, of 64:ff9b::/96, and a black hole once it is gone', async () => {
  await using lab = testVpc();
  const { vpc } = lab;
  const { vpcId, subnetId } = await smallShape(vpc);
  const NatGatewayId = await create(vpc, { SubnetId: subnetId, ConnectivityType: 'private' });
  const { RouteTable } = await vpc.act('CreateRouteTable', { VpcId: vpcId });
  const RouteTableId = RouteTable!.RouteTableId!;
  const states = async () =>
    (
      await vpc.act('DescribeRouteTables', {
        Filters: [{ Name: 'route.nat-gateway-id', Values: [NatGatewayId] }],
      })
    ).RouteTables!.flatMap((table) =>
      table.Routes!.filter((one) => one.NatGatewayId).map((one) => one.State),
    );
  await vpc.act('CreateRoute', { RouteTableId, DestinationCidrBlock: '0.0.0.0/0', NatGatewayId });
  await vpc.act('CreateRoute', { RouteTableId, DestinationIpv6CidrBlock: '64:ff9b::/96', NatGatewayId });
  assert.deepEqual(await states(), ['active', 'active']);
  await fails(
    vpc.act('CreateRoute', { RouteTableId, DestinationIpv6CidrBlock: '::/0', NatGatewayId }),
    'UnsupportedOperation',
    /64:ff9b::\/96/,
  );
  const other = (await vpc.act('CreateVpc', { CidrBlock: '10.9.0.0/16' })).Vpc!.VpcId!;
  const foreign = (await vpc.act('CreateRouteTable', { VpcId: other })).RouteTable!.RouteTableId!;
  await fails(
    vpc.act('CreateRoute', { RouteTableId: foreign, DestinationCidrBlock: '0.0.0.0/0', NatGatewayId }),
    'InvalidParameterValue',
    /different networks/,
  );
  await vpc.act('DeleteNatGateway', { NatGatewayId });
  assert.deepEqual(await states(), ['blackhole', 'blackhole']);
  await fails(
    vpc.act('ReplaceRoute', { RouteTableId, DestinationCidrBlock: '0.0.0.0/0', NatGatewayId }),
    'InvalidNatGatewayID.NotFound',
  );
});

test('a subnet says whether its names have addresses of 64:ff9b::/96', async () => {
  await using lab = testVpc();
  const { vpc } = lab;
  const { subnetId } = await smallShape(vpc);
  const found = async () =>
    (await vpc.act('DescribeSubnets', { Filters: [{ Name: 'enable-dns64', Values: ['true'] }] })).Subnets!;
  assert.deepEqual(await found(), []);
  await vpc.act('ModifySubnetAttribute', { SubnetId: subnetId, EnableDns64: { Value: true } });
  assert.deepEqual(
    (await found()).map((one) => [one.SubnetId, one.EnableDns64]),
    [[subnetId, true]],
  );
  await vpc.act('ModifySubnetAttribute', { SubnetId: subnetId, EnableDns64: { Value: false } });
  assert.deepEqual(await found(), []);
});
