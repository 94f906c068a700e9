// Interfaces of other types than `interface`: what each asks of an instance, and what a client sees of it.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { attach, fails, listen, newEni, smallShape, testVpc } from '../testing.ts';

test('a trunk is for types that take one, one each; a branch hangs on nothing yet', async () => {
  await using lab = testVpc();
  const { vpc } = lab;
  const { subnetId, instanceId } = await smallShape(vpc);
  const trunk = await newEni(vpc, subnetId, { InterfaceType: 'trunk' });
  await attach(vpc, trunk, instanceId, 1);
  const described = await vpc.act('DescribeNetworkInterfaces', {
    Filters: [{ Name: 'interface-type', Values: ['trunk'] }],
  });
  assert.deepEqual(
    described.NetworkInterfaces!.map((eni) => [eni.NetworkInterfaceId, eni.InterfaceType]),
    [[trunk, 'trunk']],
  );
  const second = await newEni(vpc, subnetId, { InterfaceType: 'trunk' });
  await fails(attach(vpc, second, instanceId, 2), 'InvalidParameterCombination', /already has a trunk/);
  const { Instances } = await vpc.act('RunInstances', {
    ImageId: 'ami-1',
    InstanceType: 't3.small',
    MinCount: 1,
    MaxCount: 1,
    SubnetId: subnetId,
  });
  const small = Instances![0]!.InstanceId!;
  await fails(attach(vpc, second, small, 1), 'InvalidParameterCombination', /t3\.small .*not support trunk/);
  const branch = await newEni(vpc, subnetId, { InterfaceType: 'branch' });
  await fails(attach(vpc, branch, small, 1), 'OperationNotPermitted', /hangs on a trunk/);
  await fails(
    newEni(vpc, subnetId, { InterfaceType: 'load_balancer' }),
    'UnsupportedOperation',
    /InterfaceType/,
  );
});

test('an EFA has addresses, an EFA-only interface none: not of a subnet, not in metadata, not assigned', async () => {
  await using lab = testVpc();
  const { vpc } = lab;
  const { subnetId, instanceId } = await smallShape(vpc);
  const free = async () => (await vpc.act('DescribeSubnets', { SubnetIds: [subnetId] })).Subnets![0]!;
  const before = (await free()).AvailableIpAddressCount!;
  const efa = await newEni(vpc, subnetId, { InterfaceType: 'efa' });
  const only = await newEni(vpc, subnetId, { InterfaceType: 'efa-only' });
  assert.equal((await free()).AvailableIpAddressCount, before - 1);
  const { NetworkInterfaces } = await vpc.act('DescribeNetworkInterfaces', { NetworkInterfaceIds: [only] });
  assert.equal(NetworkInterfaces![0]!.PrivateIpAddress, undefined);
  assert.deepEqual(NetworkInterfaces![0]!.PrivateIpAddresses, []);
  for (const more of [
    { Ipv4PrefixCount: 1 },
    { SecondaryPrivateIpAddressCount: 1 },
    { PrivateIpAddress: '10.0.0.9' },
  ])
    await fails(
      newEni(vpc, subnetId, { InterfaceType: 'efa-only', ...more }),
      'InvalidParameterCombination',
      /no IP addresses/,
    );
  await attach(vpc, efa, instanceId, 1);
  await attach(vpc, only, instanceId, 2);
  await fails(
    vpc.act('AssignPrivateIpAddresses', { NetworkInterfaceId: only, SecondaryPrivateIpAddressCount: 1 }),
    'InvalidParameterCombination',
  );
  await vpc.act('ModifyInstanceMetadataOptions', { InstanceId: instanceId, HttpTokens: 'optional' });
  await using imds = await listen((request, response) => vpc.imdsHandler(request, response, { instanceId }));
  const { mac } = vpc.state().networkInterfaces[only]!;
  const key = (name: string) => fetch(`${imds.url}/latest/meta-data/network/interfaces/macs/${mac}/${name}`);
  const listed = await (await key('')).text();
  assert.match(listed, /^interface-id$/m);
  assert.doesNotMatch(listed, /local-ipv4s|ipv4-prefix|local-hostname/);
  assert.equal((await key('local-ipv4s')).status, 404);
  // The instance is described and stopped with it.
  await vpc.act('DescribeInstances', {});
  await vpc.act('TerminateInstances', { InstanceIds: [instanceId] });
});

test('a type without Nitro has no EFA, and no instance begins with an EFA-only interface', async () => {
  await using lab = testVpc();
  const { vpc } = lab;
  const { subnetId } = await smallShape(vpc);
  const launch = (InstanceType: 't2.small' | 'm5.large', type: string) =>
    vpc.act('RunInstances', {
      ImageId: 'ami-1',
      InstanceType,
      MinCount: 1,
      MaxCount: 1,
      NetworkInterfaces: [{ DeviceIndex: 0, SubnetId: subnetId, InterfaceType: type }],
    });
  await fails(
    launch('t2.small', 'efa'),
    'InvalidParameterCombination',
    /t2\.small instances do not support Elastic/,
  );
  await fails(launch('m5.large', 'efa-only'), 'InvalidParameterCombination', /cannot be the primary/);
  await fails(launch('m5.large', 'trunk'), 'UnsupportedOperation', /InterfaceType=trunk/);
  await launch('m5.large', 'efa');
});
