// Interfaces and their addresses: what an allocator meets, in process.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  attach,
  fails,
  gatewayFor,
  newEni,
  primaryOf,
  runInstance,
  smallShape,
  testVpc,
} from '../testing.ts';

test('an instance takes as many interfaces as its type has, one per index, from its zone', async () => {
  await using lab = testVpc();
  const { vpc } = lab;
  const { subnetId, otherSubnetId, instanceId } = await smallShape(vpc);
  const enis = [
    await newEni(vpc, subnetId),
    await newEni(vpc, subnetId),
    await newEni(vpc, subnetId),
  ] as const;
  await attach(vpc, enis[0], instanceId, 1);
  await fails(attach(vpc, enis[1], instanceId, 1), 'InvalidParameterValue', /device index '1'/);
  await fails(attach(vpc, enis[0], instanceId, 2), 'InvalidNetworkInterface.InUse');
  await attach(vpc, enis[1], instanceId, 2);
  await fails(
    attach(vpc, enis[2], instanceId, 3),
    'AttachmentLimitExceeded',
    /Interface count 4 exceeds the limit for m5\.large/,
  );
  await fails(
    attach(vpc, await newEni(vpc, otherSubnetId), instanceId, 3),
    'InvalidParameterCombination',
    /availability zone/,
  );
  await fails(
    attach(vpc, 'eni-0123456789abcdef0', instanceId, 3),
    'InvalidNetworkInterfaceID.NotFound',
    /The networkInterface ID 'eni-0123456789abcdef0' does not exist/,
  );
  await fails(attach(vpc, enis[2], 'i-0123456789abcdef0', 3), 'InvalidInstanceID.NotFound');
  const wide = await newEni(vpc, subnetId, { SecondaryPrivateIpAddressCount: 10 });
  const small = await runInstance(vpc, { SubnetId: subnetId, InstanceType: 't3.small' });
  await fails(attach(vpc, wide, small, 1), 'PrivateIpAddressLimitExceeded', /11.*t3\.small is 4/);
  await fails(
    vpc.act('DetachNetworkInterface', { AttachmentId: primaryOf(vpc, instanceId).attachment!.id }),
    'OperationNotPermitted',
  );
  await fails(
    vpc.act('DetachNetworkInterface', { AttachmentId: 'eni-attach-0123456789abcdef0' }),
    'InvalidAttachmentID.NotFound',
  );
});

test('a type with two cards has room on each', async () => {
  await using lab = testVpc();
  const { vpc } = lab;
  const { subnetId } = await smallShape(vpc);
  const { Instances } = await vpc.act('RunInstances', {
    ImageId: 'ami-1',
    InstanceType: 'c6in.32xlarge',
    MinCount: 1,
    MaxCount: 1,
    SubnetId: subnetId,
  });
  const InstanceId = Instances![0]!.InstanceId!;
  const onCard = async (NetworkCardIndex: number, DeviceIndex: number) =>
    vpc.act('AttachNetworkInterface', {
      NetworkInterfaceId: await newEni(vpc, subnetId),
      InstanceId,
      DeviceIndex,
      NetworkCardIndex,
    });
  await onCard(1, 0);
  await onCard(1, 1);
  await fails(onCard(2, 1), 'InvalidParameterValue', /card/);
  for (let index = 1; index < 8; index++) await onCard(0, index);
  await fails(onCard(0, 8), 'AttachmentLimitExceeded');
});

test('addresses: by name or by number, never reserved ones, moved only when allowed', async () => {
  await using lab = testVpc();
  const { vpc } = lab;
  const { vpcId, subnetId } = await smallShape(vpc);
  const [one, two] = [
    await newEni(vpc, subnetId, { PrivateIpAddress: '10.0.0.100' }),
    await newEni(vpc, subnetId),
  ];
  const assign = (NetworkInterfaceId: string, ...PrivateIpAddresses: string[]) =>
    vpc.act('AssignPrivateIpAddresses', { NetworkInterfaceId, PrivateIpAddresses });
  await assign(one, '10.0.0.200', '10.0.0.201');
  for (const ip of ['10.0.0.0', '10.0.0.1', '10.0.0.3', '10.0.0.255'])
    await fails(assign(two, ip), 'InvalidParameterValue', /reserved/);
  for (const ip of ['10.0.1.9', '010.0.0.9', 'x', '::1'])
    await fails(assign(two, ip), 'InvalidParameterValue');
  await fails(assign(two, '10.0.0.200'), 'InvalidParameterValue', /reassignment was not allowed/);
  await fails(newEni(vpc, subnetId, { PrivateIpAddress: '10.0.0.200' }), 'InvalidIPAddress.InUse');
  await fails(vpc.act('AssignPrivateIpAddresses', { NetworkInterfaceId: one }), 'MissingParameter');
  await fails(
    vpc.act('AssignPrivateIpAddresses', {
      NetworkInterfaceId: one,
      SecondaryPrivateIpAddressCount: 1,
      Ipv4PrefixCount: 1,
    }),
    'InvalidParameterCombination',
  );

  // The Elastic IP goes where its private address goes.
  await gatewayFor(vpc, vpcId);
  const { AllocationId, PublicIp } = await vpc.act('AllocateAddress', {});
  await vpc.act('AssociateAddress', {
    AllocationId,
    NetworkInterfaceId: one,
    PrivateIpAddress: '10.0.0.200',
  });
  const move = { NetworkInterfaceId: two, AllowReassignment: true };
  await vpc.act('AssignPrivateIpAddresses', { ...move, PrivateIpAddresses: ['10.0.0.200'] });
  assert.deepEqual(vpc.state().networkInterfaces[one]!.privateIps, ['10.0.0.100', '10.0.0.201']);
  assert.equal(vpc.state().publicAddresses[PublicIp!]!.networkInterfaceId, two);
  await fails(
    vpc.act('AssignPrivateIpAddresses', { ...move, PrivateIpAddresses: ['10.0.0.100'] }),
    'InvalidParameterValue',
    /primary/,
  );

  const unassign = (...PrivateIpAddresses: string[]) =>
    vpc.act('UnassignPrivateIpAddresses', { NetworkInterfaceId: one, PrivateIpAddresses });
  await fails(unassign('10.0.0.100'), 'InvalidParameterValue', /primary/);
  await fails(unassign('10.0.0.201', '10.0.0.9'), 'InvalidParameterValue', /10\.0\.0\.9/);
  await unassign('10.0.0.201');
});

test('a subnet runs full, addresses come back, and a freed one is not the next one given', async () => {
  await using lab = testVpc();
  const { vpc } = lab;
  const { vpcId } = await smallShape(vpc);
  const { Subnet } = await vpc.act('CreateSubnet', { VpcId: vpcId, CidrBlock: '10.0.2.0/28' });
  const subnetId = Subnet!.SubnetId!;
  assert.equal(Subnet!.AvailableIpAddressCount, 11);
  const eni = await newEni(vpc, subnetId, { SecondaryPrivateIpAddressCount: 9 });
  const [freed] = vpc.state().networkInterfaces[eni]!.privateIps.slice(1);
  await vpc.act('UnassignPrivateIpAddresses', { NetworkInterfaceId: eni, PrivateIpAddresses: [freed!] });
  const next = await newEni(vpc, subnetId);
  assert.notEqual(vpc.state().networkInterfaces[next]!.privateIps[0], freed);
  await fails(
    newEni(vpc, subnetId, { SecondaryPrivateIpAddressCount: 1 }),
    'InsufficientFreeAddressesInSubnet',
    /1 free, 2 asked/,
  );
  await newEni(vpc, subnetId);
  await fails(newEni(vpc, subnetId), 'InsufficientFreeAddressesInSubnet', /0 free/);
});

test('prefixes are aligned, free as a whole, and take one slot each', async () => {
  await using lab = testVpc();
  const { vpc } = lab;
  const { vpcId } = await smallShape(vpc);
  const { Subnet } = await vpc.act('CreateSubnet', { VpcId: vpcId, CidrBlock: '10.0.3.0/26' });
  const SubnetId = Subnet!.SubnetId!;
  await newEni(vpc, SubnetId, { PrivateIpAddress: '10.0.3.20' });
  const eni = await newEni(vpc, SubnetId, { Ipv4PrefixCount: 1 });
  assert.deepEqual(vpc.state().networkInterfaces[eni]!.ipv4Prefixes, ['10.0.3.32/28']);
  assert.equal(
    (await vpc.act('DescribeSubnets', { SubnetIds: [SubnetId] })).Subnets![0]!.AvailableIpAddressCount,
    64 - 5 - 2 - 16,
  );
  await fails(
    vpc.act('AssignPrivateIpAddresses', { NetworkInterfaceId: eni, Ipv4PrefixCount: 1 }),
    'InsufficientCidrBlocks',
  );
  await fails(
    vpc.act('AssignPrivateIpAddresses', { NetworkInterfaceId: eni, Ipv4Prefixes: ['10.0.3.33/28'] }),
    'InvalidParameterValue',
  );
  await fails(
    vpc.act('AssignPrivateIpAddresses', { NetworkInterfaceId: eni, PrivateIpAddresses: ['10.0.3.40'] }),
    'InvalidParameterValue',
    /in use/,
  );
  await vpc.act('UnassignPrivateIpAddresses', { NetworkInterfaceId: eni, Ipv4Prefixes: ['10.0.3.32/28'] });
  assert.deepEqual(vpc.state().networkInterfaces[eni]!.ipv4Prefixes, []);
});

test('changes that take time: two statuses, each in its time, also over a restart', async () => {
  let now = Date.now();
  const waiters = new Set<{ at: number; wake: () => void }>();
  const clock = {
    now: () => now,
    sleep: (ms: number, signal?: AbortSignal) =>
      new Promise<void>((resolve, reject) => {
        waiters.add({ at: now + ms, wake: resolve });
        signal?.addEventListener('abort', () => reject(signal.reason));
      }),
  };
  await using lab = testVpc({ clock, settings: { ec2Latency: 'realistic' } });
  const advance = async (ms: number) => {
    now += ms;
    for (const waiter of waiters) if (waiter.at <= now) waiter.wake();
    await new Promise((resolve) => setImmediate(resolve));
  };
  const { subnetId, instanceId } = await smallShape(lab.vpc);
  const status = (id: string) => {
    const eni = lab.vpc.state().networkInterfaces[id]!;
    return `${eni.status} ${eni.attachment?.status ?? '-'}`;
  };
  assert.equal(lab.vpc.state().instances[instanceId]!.state, 'pending');
  await advance(10_000);
  assert.equal(lab.vpc.state().instances[instanceId]!.state, 'running');
  const eni = await newEni(lab.vpc, subnetId);
  assert.equal(status(eni), 'pending -');
  await advance(1000);
  assert.equal(status(eni), 'available -');
  const { AttachmentId } = await attach(lab.vpc, eni, instanceId, 1);
  assert.equal(status(eni), 'in-use attaching');
  await fails(lab.vpc.act('DetachNetworkInterface', { AttachmentId: AttachmentId! }), 'IncorrectState');
  lab.reopen();
  await advance(3000);
  assert.equal(status(eni), 'in-use attached');
  let told = 0;
  lab.vpc.onChange(() => void told++);
  await lab.vpc.act('DetachNetworkInterface', { AttachmentId: AttachmentId! });
  assert.equal(status(eni), 'in-use detaching');
  await fails(lab.vpc.act('DeleteNetworkInterface', { NetworkInterfaceId: eni }), 'InvalidParameterValue');
  await advance(7000);
  assert.equal(status(eni), 'available -');
  assert.equal(told, 2);
});
