// Parameters that were once dropped are honoured or refused by name, through the service as a client meets it.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fails, newEni, smallShape, testVpc } from '../testing.ts';

const CALLER = { kind: 'admin', arn: 'arn', userId: 'AIDA' } as const;

test('what the lab has no meaning for is refused by its name, and changes nothing', async () => {
  await using lab = testVpc();
  const { vpc } = lab;
  const { vpcId, subnetId, instanceId } = await smallShape(vpc);
  const launch = {
    ImageId: 'ami-1',
    InstanceType: 'm5.large',
    MinCount: 1,
    MaxCount: 1,
    SubnetId: subnetId,
  } as const;
  const table = Object.values(vpc.state().routeTables)[0]!.id;
  const cases: [string, object, string][] = [
    ['CreateVpc', { CidrBlock: '10.9.0.0/16', InstanceTenancy: 'dedicated' }, 'InstanceTenancy=dedicated'],
    ['CreateSubnet', { VpcId: vpcId, CidrBlock: '10.0.9.0/24', OutpostArn: 'arn' }, 'OutpostArn'],
    ['CreateVpc', { CidrBlock: '10.9.0.0/16', Ipv6Pool: 'ipv6pool-ec2-1' }, 'Ipv6Pool'],
    [
      'ModifyVpcAttribute',
      { VpcId: vpcId, EnableNetworkAddressUsageMetrics: { Value: true } },
      'EnableNetworkAddressUsageMetrics',
    ],
    ['CreateRoute', { RouteTableId: table, DestinationPrefixListId: 'pl-1' }, 'DestinationPrefixListId'],
    ['AssociateRouteTable', { RouteTableId: table, GatewayId: 'igw-1' }, 'GatewayId'],
    ['RunInstances', { ...launch, InstanceMarketOptions: { MarketType: 'spot' } }, 'InstanceMarketOptions'],
    ['RunInstances', { ...launch, HibernationOptions: { Configured: true } }, 'HibernationOptions'],
    ['RunInstances', { ...launch, CpuOptions: { CoreCount: 1, ThreadsPerCore: 1 } }, 'CpuOptions'],
    ['RunInstances', { ...launch, Placement: { HostId: 'h-1' } }, 'Placement.HostId'],
    ['RunInstances', { ...launch, Placement: { Tenancy: 'dedicated' } }, 'Placement.Tenancy=dedicated'],
    ['RunInstances', { ...launch, EbsOptimized: true }, 'EbsOptimized'],
    ['RunInstances', { ...launch, Monitoring: { Enabled: true } }, 'Monitoring'],
    ['RunInstances', { ...launch, BlockDeviceMappings: [{ DeviceName: 'x' }] }, 'BlockDeviceMappings'],
    [
      'RunInstances',
      { ...launch, PrivateDnsNameOptions: { HostnameType: 'resource-name' } },
      'PrivateDnsNameOptions.HostnameType=resource-name',
    ],
    ['StopInstances', { InstanceIds: [instanceId], Hibernate: true }, 'Hibernate'],
    ['AllocateAddress', { Domain: 'vpc', CustomerOwnedIpv4Pool: 'p' }, 'CustomerOwnedIpv4Pool'],
  ];
  const before = JSON.stringify(vpc.state());
  for (const [action, input, parameter] of cases) {
    const words = new RegExp(`^${action} with ${parameter.replaceAll('.', '\\.')} has no meaning`);
    await fails(vpc.actByName(action, input, CALLER), 'UnsupportedOperation', words);
  }
  assert.equal(JSON.stringify(vpc.state()), before);
});

test('a launch honours what it accepts', async () => {
  await using lab = testVpc();
  const { vpc } = lab;
  const { subnetId } = await smallShape(vpc);
  const launch = (more: object) =>
    vpc.act('RunInstances', {
      ImageId: 'ami-1',
      InstanceType: 'm5.large',
      MinCount: 1,
      MaxCount: 1,
      SubnetId: subnetId,
      ...more,
    });
  const { Instances } = await launch({
    MaxCount: 3,
    IamInstanceProfile: { Name: 'podway-node' },
    DisableApiStop: true,
    Placement: { AvailabilityZoneId: 'usw2-az1', Tenancy: 'default' },
  });
  assert.deepEqual(
    Instances!.map((instance) => instance.AmiLaunchIndex),
    [0, 1, 2],
  );
  const third = Instances![2]!.InstanceId!;
  const described = async () =>
    (await vpc.act('DescribeInstances', { InstanceIds: [third] })).Reservations![0]!.Instances![0]!;
  assert.equal((await described()).AmiLaunchIndex, 2);
  assert.equal(
    (await described()).IamInstanceProfile?.Arn,
    'arn:aws:iam::123456789012:instance-profile/podway-node',
  );
  await fails(
    vpc.act('StopInstances', { InstanceIds: [third] }),
    'OperationNotPermitted',
    /'disableApiStop'/,
  );
  await vpc.act('ModifyInstanceAttribute', { InstanceId: third, DisableApiStop: { Value: false } });
  await vpc.act('StopInstances', { InstanceIds: [third], Force: true });
  assert.match(
    (await described()).StateTransitionReason!,
    /^User initiated \(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d GMT\)$/,
  );
  await vpc.act('StartInstances', { InstanceIds: [third] });
  assert.equal((await described()).StateTransitionReason, '');

  await fails(
    launch({ IamInstanceProfile: { Name: 'other' } }),
    'InvalidParameterValue',
    /the lab has podway-node/,
  );
  await fails(
    launch({ IamInstanceProfile: { Arn: 'arn:x' } }),
    'InvalidParameterValue',
    /the lab has arn:aws:iam/,
  );
  await fails(launch({ KeyName: 'mine' }), 'InvalidKeyPair.NotFound', /The key pair 'mine' does not exist/);
  await fails(
    launch({ Placement: { AvailabilityZoneId: 'usw2-az2' } }),
    'InvalidParameterValue',
    /us-west-2b/,
  );
  await fails(launch({ MetadataOptions: { HttpTokens: 'maybe' } }), 'InvalidParameterValue', /HttpTokens/);
  const beside = { NetworkInterfaces: [{ DeviceIndex: 0, SubnetId: subnetId }] };
  await fails(
    launch(beside),
    'InvalidParameterCombination',
    /^Network interfaces and an instance-level subnet ID may not be specified on the same request$/,
  );
  const NetworkInterfaceId = await newEni(vpc, subnetId);
  await fails(
    launch({
      SubnetId: undefined,
      NetworkInterfaces: [{ DeviceIndex: 0, NetworkInterfaceId, Description: 'x' }],
    }),
    'InvalidParameterCombination',
    /Description is for a new one/,
  );
});

test('a dry run asks whether one may, not in which state things are', async () => {
  await using lab = testVpc();
  const { vpc } = lab;
  const { instanceId } = await smallShape(vpc);
  const change = { InstanceId: instanceId, InstanceType: { Value: 'm5.xlarge' } };
  await fails(vpc.act('ModifyInstanceAttribute', change), 'IncorrectInstanceState');
  await fails(vpc.act('ModifyInstanceAttribute', { ...change, DryRun: true }), 'DryRunOperation');
  const other = { InstanceId: 'i-00000000', DryRun: true, InstanceType: { Value: 'm5.xlarge' } };
  await fails(vpc.act('ModifyInstanceAttribute', other), 'InvalidInstanceID.NotFound');
});
