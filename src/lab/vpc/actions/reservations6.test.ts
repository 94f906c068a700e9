// Reservations of a subnet's IPv6 block, and primary IPv6 addresses: what they give, what they keep, what is refused.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { cidrContains, parseCidr, parseIp } from '../../../base/ip.ts';
import type { VpcService } from '../index.ts';
import { fails, newEni, runInstance, subnetBlock, testVpc } from '../testing.ts';

async function shape(vpc: VpcService) {
  const { Vpc } = await vpc.act('CreateVpc', { CidrBlock: '10.0.0.0/16', AmazonProvidedIpv6CidrBlock: true });
  const block = vpc.state().vpcs[Vpc!.VpcId!]!.ipv6Cidrs![0]!.cidr;
  const six = subnetBlock(block, 1);
  const made = await vpc.act('CreateSubnet', {
    VpcId: Vpc!.VpcId!,
    CidrBlock: '10.0.0.0/24',
    Ipv6CidrBlock: six,
  });
  const SubnetId = made.Subnet!.SubnetId!;
  const base = six.replace('::/64', '');
  const reserve = async (Cidr: string, ReservationType: 'prefix' | 'explicit') =>
    (await vpc.act('CreateSubnetCidrReservation', { SubnetId, Cidr, ReservationType }))
      .SubnetCidrReservation!;
  return { SubnetId, base, six, reserve };
}
const eniOf = (vpc: VpcService, id: string) => vpc.state().networkInterfaces[id]!;
const within = (cidr: string, ip: string) => cidrContains(parseCidr(cidr), parseIp(ip.replace('/80', '')));

test('prefixes come from their reservations first, addresses from none, names from any', async () => {
  await using lab = testVpc();
  const { vpc } = lab;
  const { SubnetId, base, six, reserve } = await shape(vpc);
  const forPrefixes = `${base}:8000::/79`;
  const prefix = await reserve(forPrefixes, 'prefix');
  const upper = await reserve(`${base}:c000::/66`, 'explicit');
  assert.equal(prefix.Cidr, forPrefixes);
  const id = await newEni(vpc, SubnetId, { Ipv6PrefixCount: 3 });
  const inside = eniOf(vpc, id).ipv6Prefixes.filter((one) => within(forPrefixes, one));
  assert.equal(inside.length, 2, 'the third is from what no reservation has');
  assert.ok(eniOf(vpc, id).ipv6Prefixes.every((one) => !within(upper.Cidr!, one)));
  const addressed = await newEni(vpc, SubnetId, { Ipv6AddressCount: 60 });
  for (const ip of eniOf(vpc, addressed).ipv6Addresses)
    assert.ok(!within(forPrefixes, ip) && !within(upper.Cidr!, ip), ip);
  const named = await newEni(vpc, SubnetId, { Ipv6Addresses: [{ Ipv6Address: `${base}:c000::9` }] });
  assert.deepEqual(eniOf(vpc, named).ipv6Addresses, [`${base}:c000::9`]);

  const list = await vpc.act('GetSubnetCidrReservations', { SubnetId });
  assert.deepEqual(list.SubnetIpv4CidrReservations, []);
  assert.equal(list.SubnetIpv6CidrReservations!.length, 2);
  const { associationId } = vpc.state().subnets[SubnetId]!.ipv6Cidrs![0]!;
  for (const eni of [id, addressed, named])
    await vpc.act('DeleteNetworkInterface', { NetworkInterfaceId: eni });
  await fails(
    vpc.act('DisassociateSubnetCidrBlock', { AssociationId: associationId }),
    'InvalidCidrBlock.InUse',
    /reservations/,
  );
  await vpc.act('DeleteSubnetCidrReservation', { SubnetCidrReservationId: upper.SubnetCidrReservationId! });
  await vpc.act('DeleteSubnetCidrReservation', { SubnetCidrReservationId: prefix.SubnetCidrReservationId! });
  await reserve(six, 'explicit');
  await fails(newEni(vpc, SubnetId, { Ipv6AddressCount: 1 }), 'InsufficientFreeAddressesInSubnet');
  await fails(newEni(vpc, SubnetId, { Ipv6PrefixCount: 1 }), 'InsufficientCidrBlocks');
});

test('reservations that EC2 refuses', async () => {
  await using lab = testVpc();
  const { vpc } = lab;
  const { base, reserve } = await shape(vpc);
  await fails(reserve(`${base}:8000::/81`, 'prefix'), 'InvalidParameterValue', /a prefix is a \/80/);
  await fails(reserve('2001:db8::/80', 'prefix'), 'InvalidParameterValue', /not within/);
  await reserve(`${base}:8000::/80`, 'prefix');
  await fails(reserve(`${base}:8000::/81`, 'explicit'), 'InvalidParameterValue', /overlap/);
  await reserve('10.0.0.64/28', 'prefix');
});

test('a primary IPv6 address is the first, and stays', async () => {
  await using lab = testVpc();
  const { vpc } = lab;
  const { SubnetId } = await shape(vpc);
  await fails(
    newEni(vpc, SubnetId, { EnablePrimaryIpv6: true }),
    'InvalidParameterValue',
    /needs an IPv6 address/,
  );
  const NetworkInterfaceId = await newEni(vpc, SubnetId, { Ipv6AddressCount: 2 });
  const shown = async () =>
    (await vpc.act('DescribeNetworkInterfaces', { NetworkInterfaceIds: [NetworkInterfaceId] }))
      .NetworkInterfaces![0]!.Ipv6Addresses!;
  const modify = (EnablePrimaryIpv6: boolean) =>
    vpc.act('ModifyNetworkInterfaceAttribute', { NetworkInterfaceId, EnablePrimaryIpv6 });
  assert.ok((await shown()).every((one) => !one.IsPrimaryIpv6));
  await modify(false);
  await modify(true);
  const [first, second] = await shown();
  assert.deepEqual([first!.IsPrimaryIpv6, second!.IsPrimaryIpv6], [true, false]);
  await fails(modify(false), 'InvalidParameterValue', /cannot be disabled/);
  const unassign = (ip: string) =>
    vpc.act('UnassignIpv6Addresses', { NetworkInterfaceId, Ipv6Addresses: [ip] });
  await fails(unassign(first!.Ipv6Address!), 'InvalidParameterValue', /primary IPv6 address/);
  await unassign(second!.Ipv6Address!);

  const { Instances } = await vpc.act('RunInstances', {
    ImageId: 'ami-1',
    InstanceType: 'm5.large',
    MinCount: 1,
    MaxCount: 1,
    SubnetId,
    Ipv6AddressCount: 1,
    EnablePrimaryIpv6: true,
  });
  assert.equal(Instances![0]!.NetworkInterfaces![0]!.Ipv6Addresses![0]!.IsPrimaryIpv6, true);
  await runInstance(vpc, { SubnetId });
  const found = await vpc.act('DescribeInstances', {
    Filters: [{ Name: 'network-interface.ipv6-addresses.is-primary-ipv6', Values: ['true'] }],
  });
  assert.equal(found.Reservations!.length, 1);
});
