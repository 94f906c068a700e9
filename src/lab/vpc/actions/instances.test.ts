// Instances: launch, names, stop, start, end.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { attach, fails, gatewayFor, newEni, runInstance, smallShape, testVpc, ZONES } from '../testing.ts';

test('an instance stops, starts and ends with what is its own', async () => {
  await using lab = testVpc();
  const { vpc } = lab;
  const { vpcId, subnetId } = await smallShape(vpc);
  await vpc.act('ModifySubnetAttribute', { SubnetId: subnetId, MapPublicIpOnLaunch: { Value: true } });
  const id = await runInstance(vpc, { SubnetId: subnetId, Name: 'web 1' });
  const InstanceIds = [id];
  const describe = async () =>
    (await vpc.act('DescribeInstances', { InstanceIds })).Reservations![0]!.Instances![0]!;
  assert.equal(vpc.state().instances[id]!.name, 'web-1');
  const first = (await describe()).PublicIpAddress;
  assert.match(first ?? '', /^198\.1[89]\./);
  const kept = await newEni(vpc, subnetId);
  const doomed = await newEni(vpc, subnetId);
  await attach(vpc, kept, id, 1);
  const { AttachmentId } = await attach(vpc, doomed, id, 2);
  await vpc.act('ModifyNetworkInterfaceAttribute', {
    NetworkInterfaceId: doomed,
    Attachment: { AttachmentId, DeleteOnTermination: true },
  });

  const { StoppingInstances } = await vpc.act('StopInstances', { InstanceIds });
  assert.equal(StoppingInstances![0]!.PreviousState!.Name, 'running');
  assert.equal(StoppingInstances![0]!.CurrentState!.Name, 'stopping');
  assert.equal((await describe()).State!.Name, 'stopped');
  assert.equal((await describe()).PublicIpAddress, undefined);
  await fails(vpc.act('RebootInstances', { InstanceIds }), 'IncorrectInstanceState');
  await fails(
    vpc.act('ModifyInstanceAttribute', { InstanceId: id, InstanceType: { Value: 't2.nano' } }),
    'AttachmentLimitExceeded',
  );
  await vpc.act('ModifyInstanceAttribute', { InstanceId: id, InstanceType: { Value: 'm5.xlarge' } });
  await vpc.act('StartInstances', { InstanceIds });
  assert.notEqual((await describe()).PublicIpAddress, undefined);
  assert.equal((await describe()).InstanceType as string, 'm5.xlarge');

  await vpc.act('ModifyInstanceAttribute', { InstanceId: id, DisableApiTermination: { Value: true } });
  await fails(vpc.act('TerminateInstances', { InstanceIds }), 'OperationNotPermitted');
  await vpc.act('ModifyInstanceAttribute', { InstanceId: id, DisableApiTermination: { Value: false } });
  await gatewayFor(vpc, vpcId);
  const { AllocationId, PublicIp } = await vpc.act('AllocateAddress', {});
  await fails(
    vpc.act('AssociateAddress', { AllocationId, InstanceId: id }),
    'InvalidInstanceID',
    /multiple interfaces/,
  );
  await vpc.act('AssociateAddress', { AllocationId, NetworkInterfaceId: kept });
  await vpc.act('TerminateInstances', { InstanceIds });
  const state = vpc.state();
  assert.equal(state.instances[id]!.state, 'terminated');
  assert.deepEqual(
    [state.networkInterfaces[kept]!.status, state.networkInterfaces[doomed]],
    ['available', undefined],
  );
  assert.equal(state.publicAddresses[PublicIp!]!.networkInterfaceId, kept);
  assert.deepEqual(Object.keys(state.publicAddresses), [PublicIp]);
  await fails(vpc.act('StartInstances', { InstanceIds }), 'IncorrectInstanceState');
  // The name is free again.
  const again = await runInstance(vpc, { SubnetId: subnetId, Name: 'web 1' });
  assert.equal(vpc.state().instances[again]!.name, 'web-1');
});

test('names of instances are fit for a namespace and differ', async () => {
  await using lab = testVpc();
  const { subnetId } = await smallShape(lab.vpc);
  const name = async (Name: string) => {
    const id = await runInstance(lab.vpc, { SubnetId: subnetId, Name });
    return lab.vpc.state().instances[id]!.name;
  };
  for (const [asked, expected] of [
    ['db', /^db$/],
    ['db', /^db-2$/],
    ['vpc', /^i-vpc$/],
    ['pod-1', /^i-pod-1$/],
    ['../x y', /^x-y$/],
    ['---', /^i-0[0-9a-f]{16}$/],
    ['a'.repeat(100), /^a{40}$/],
  ] as const) {
    assert.match(await name(asked), expected);
  }
});

test('a launch is all or nothing, and says what is wrong with it', async () => {
  await using lab = testVpc();
  const { vpc } = lab;
  const { vpcId, subnetId, otherSubnetId } = await smallShape(vpc);
  const launch = (more: object) =>
    vpc.act('RunInstances', {
      ImageId: 'ami-1',
      InstanceType: 'm5.large',
      MinCount: 1,
      MaxCount: 1,
      SubnetId: subnetId,
      ...more,
    });
  await fails(launch({ ImageId: undefined }), 'MissingParameter');
  await fails(launch({ ImageId: 'debian' }), 'InvalidAMIID.Malformed');
  await fails(launch({ InstanceType: 'm5.huge' }), 'InvalidParameterValue', /m5\.huge/);
  await fails(launch({ SubnetId: undefined }), 'MissingInput');
  await fails(launch({ MinCount: 2 }), 'InvalidParameterValue');
  await fails(
    launch({ NetworkInterfaces: [{ DeviceIndex: 0, SubnetId: subnetId }] }),
    'InvalidParameterCombination',
  );
  await fails(
    launch({ SubnetId: undefined, NetworkInterfaces: [{ DeviceIndex: 1, SubnetId: subnetId }] }),
    'InvalidParameterValue',
    /index 0/,
  );
  await fails(launch({ Placement: { AvailabilityZone: ZONES[1] } }), 'InvalidParameterValue');
  await fails(launch({ TagSpecifications: [{ ResourceType: 'vpc', Tags: [] }] }), 'InvalidParameterValue');
  const { Subnet } = await vpc.act('CreateSubnet', { VpcId: vpcId, CidrBlock: '10.0.2.0/28' });
  const before = vpc.state();
  await fails(
    launch({ SubnetId: Subnet!.SubnetId!, MinCount: 12, MaxCount: 12 }),
    'InsufficientFreeAddressesInSubnet',
  );
  assert.equal(vpc.state(), before);
  const most = await launch({ SubnetId: Subnet!.SubnetId!, MinCount: 2, MaxCount: 15 });
  assert.equal(most.Instances!.length, 11, 'as many as there is room for');
  const many = await launch({ MinCount: 3, MaxCount: 3 });
  assert.equal(many.Instances!.length, 3);
  const existing = await newEni(vpc, otherSubnetId);
  const two = await launch({
    SubnetId: undefined,
    NetworkInterfaces: [
      { DeviceIndex: 1, SubnetId: otherSubnetId, SecondaryPrivateIpAddressCount: 2 },
      { DeviceIndex: 0, NetworkInterfaceId: existing },
    ],
  });
  const enis = two.Instances![0]!.NetworkInterfaces!;
  assert.deepEqual(
    enis.map((eni) => [
      eni.NetworkInterfaceId === existing,
      eni.PrivateIpAddresses!.length,
      eni.Attachment!.DeleteOnTermination,
    ]),
    [
      [true, 1, false],
      [false, 3, true],
    ],
  );
});
