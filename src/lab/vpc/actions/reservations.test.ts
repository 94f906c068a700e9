// Subnet CIDR reservations: what automatic choice leaves alone, what it takes first, what AWS counts, and the refusals.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { cidrCovers, cidrOf, parseCidr, parseIp } from '../../../base/ip.ts';
import type { VpcService } from '../index.ts';
import { fails, newEni, smallShape, testVpc } from '../testing.ts';

async function subnetOf(vpc: VpcService, CidrBlock: string): Promise<string> {
  const { vpcId } = await smallShape(vpc);
  return (await vpc.act('CreateSubnet', { VpcId: vpcId, CidrBlock })).Subnet!.SubnetId!;
}
const reserve = async (vpc: VpcService, SubnetId: string, Cidr: string, type: 'prefix' | 'explicit') =>
  (await vpc.act('CreateSubnetCidrReservation', { SubnetId, Cidr, ReservationType: type }))
    .SubnetCidrReservation!;
const freeOf = async (vpc: VpcService, id: string) =>
  (await vpc.act('DescribeSubnets', { SubnetIds: [id] })).Subnets![0]!.AvailableIpAddressCount;
const within = (cidr: string, ip: string) =>
  cidrCovers(parseCidr(cidr), ip.includes('/') ? parseCidr(ip) : cidrOf(parseIp(ip), 32));

test('single addresses stay out of every reservation, prefixes come from those for prefixes first', async () => {
  await using lab = testVpc();
  const { vpc } = lab;
  const subnetId = await subnetOf(vpc, '10.0.2.0/24');
  await reserve(vpc, subnetId, '10.0.2.64/26', 'prefix');
  await reserve(vpc, subnetId, '10.0.2.192/27', 'explicit');
  assert.equal(await freeOf(vpc, subnetId), 251 - 64 - 32);

  const eni = await newEni(vpc, subnetId, { Ipv4PrefixCount: 4 });
  const first = vpc.state().networkInterfaces[eni]!;
  assert.equal(first.ipv4Prefixes.length, 4);
  for (const prefix of first.ipv4Prefixes) assert.ok(within('10.0.2.64/26', prefix), prefix);
  // A prefix of a reservation takes nothing from what is available; the interface's own address does.
  assert.equal(await freeOf(vpc, subnetId), 251 - 64 - 32 - 1);

  // With the reservation used up, a whole /28 that no reservation has.
  await vpc.act('AssignPrivateIpAddresses', { NetworkInterfaceId: eni, Ipv4PrefixCount: 1 });
  const fifth = vpc.state().networkInterfaces[eni]!.ipv4Prefixes[4]!;
  assert.ok(!within('10.0.2.64/26', fifth) && !within('10.0.2.192/27', fifth), fifth);

  const rest = (await freeOf(vpc, subnetId))!;
  const singles = await newEni(vpc, subnetId, { SecondaryPrivateIpAddressCount: rest - 1 });
  for (const ip of vpc.state().networkInterfaces[singles]!.privateIps)
    assert.ok(!within('10.0.2.64/26', ip) && !within('10.0.2.192/27', ip), ip);
  await fails(newEni(vpc, subnetId), 'InsufficientFreeAddressesInSubnet', /0 free, 1 asked/);

  // By name, both kinds of reservation give.
  const named = await newEni(vpc, subnetId, { PrivateIpAddress: '10.0.2.200' });
  await vpc.act('UnassignPrivateIpAddresses', {
    NetworkInterfaceId: eni,
    Ipv4Prefixes: [first.ipv4Prefixes[0]!],
  });
  const inside = first.ipv4Prefixes[0]!.replace('/28', '');
  await vpc.act('AssignPrivateIpAddresses', { NetworkInterfaceId: named, PrivateIpAddresses: [inside] });
  await vpc.act('AssignPrivateIpAddresses', { NetworkInterfaceId: named, Ipv4Prefixes: ['10.0.2.208/28'] });
  await fails(
    vpc.act('AssignPrivateIpAddresses', { NetworkInterfaceId: eni, Ipv4PrefixCount: 1 }),
    'InsufficientCidrBlocks',
  );
});

test('a reservation leaves held addresses where they are, and gives the rest back when it goes', async () => {
  await using lab = testVpc();
  const { vpc } = lab;
  const subnetId = await subnetOf(vpc, '10.0.2.0/26');
  const eni = await newEni(vpc, subnetId, { PrivateIpAddress: '10.0.2.20' });
  assert.equal(await freeOf(vpc, subnetId), 58);
  const { SubnetCidrReservationId: id } = await reserve(vpc, subnetId, '10.0.2.16/28', 'explicit');
  assert.equal(await freeOf(vpc, subnetId), 58 - 15);
  assert.deepEqual(vpc.state().networkInterfaces[eni]!.privateIps, ['10.0.2.20']);
  // Held from the reservation or not: what is freed inside it does not become available.
  await vpc.act('DeleteNetworkInterface', { NetworkInterfaceId: eni });
  assert.equal(await freeOf(vpc, subnetId), 58 - 15);
  const { DeletedSubnetCidrReservation } = await vpc.act('DeleteSubnetCidrReservation', {
    SubnetCidrReservationId: id,
  });
  assert.equal(DeletedSubnetCidrReservation!.Cidr, '10.0.2.16/28');
  assert.equal(await freeOf(vpc, subnetId), 59);
  assert.equal(lab.reopen().state().subnetCidrReservations[id!], undefined);
});

test('reservations are listed by subnet, type and tag, and go with their subnet', async () => {
  await using lab = testVpc();
  const { vpc } = lab;
  const SubnetId = await subnetOf(vpc, '10.0.2.0/24');
  const made = await vpc.act('CreateSubnetCidrReservation', {
    SubnetId,
    Cidr: '10.0.2.128/25',
    ReservationType: 'prefix',
    Description: 'pods',
    TagSpecifications: [{ ResourceType: 'subnet-cidr-reservation', Tags: [{ Key: 'team', Value: 'a' }] }],
  });
  const one = made.SubnetCidrReservation!;
  assert.match(one.SubnetCidrReservationId!, /^scr-0[0-9a-f]{16}$/);
  assert.deepEqual(
    { ...one, SubnetCidrReservationId: '' },
    {
      SubnetCidrReservationId: '',
      SubnetId,
      Cidr: '10.0.2.128/25',
      ReservationType: 'prefix',
      OwnerId: '123456789012',
      Description: 'pods',
      Tags: [{ Key: 'team', Value: 'a' }],
    },
  );
  const two = await reserve(vpc, SubnetId, '10.0.2.64/32', 'explicit');
  const list = async (Name: string, ...Values: string[]) =>
    (
      await vpc.act('GetSubnetCidrReservations', { SubnetId, Filters: [{ Name, Values }] })
    ).SubnetIpv4CidrReservations!.map((row) => row.SubnetCidrReservationId);
  assert.deepEqual(await list('reservationType', 'explicit'), [two.SubnetCidrReservationId]);
  assert.deepEqual(await list('tag:team', 'a'), [one.SubnetCidrReservationId]);
  assert.deepEqual((await list('subnet-id', SubnetId)).length, 2);
  await vpc.act('CreateTags', { Resources: [two.SubnetCidrReservationId!], Tags: [{ Key: 'team' }] });
  assert.equal((await list('tag-key', 'team')).length, 2);
  await vpc.act('DeleteSubnet', { SubnetId });
  assert.deepEqual(lab.reopen().state().subnetCidrReservations, {});
});

test('refusals name the range, the one in the way, and what is not there', async () => {
  await using lab = testVpc();
  const { vpc } = lab;
  const subnetId = await subnetOf(vpc, '10.0.2.0/24');
  const { SubnetCidrReservationId: id } = await reserve(vpc, subnetId, '10.0.2.64/26', 'explicit');
  const refused = (cidr: string, type: 'prefix' | 'explicit', says: RegExp) =>
    fails(reserve(vpc, subnetId, cidr, type), 'InvalidParameterValue', says);
  await refused('10.0.2.96/28', 'prefix', /10\.0\.2\.96\/28 has overlap with existing reserved CIDR block/);
  await refused('10.0.2.0/24', 'explicit', /has overlap/);
  await refused('10.0.3.0/28', 'explicit', /not within the CIDR 10\.0\.2\.0\/24/);
  await refused('10.0.0.0/16', 'explicit', /not within/);
  await refused('2001:db8::/80', 'prefix', /not within/);
  await refused('10.0.2.128/29', 'prefix', /too small/);
  await refused('10.0.2.1/24', 'prefix', /not a valid CIDR block/);
  await refused('10.0.2.0', 'prefix', /not a valid CIDR block/);
  await refused('10.0.2.128/28', 'manual' as 'prefix', /Value \(manual\).*reservationType/);
  await fails(
    vpc.act('CreateSubnetCidrReservation', {
      SubnetId: 'subnet-00000000',
      Cidr: '10.0.2.0/28',
      ReservationType: 'prefix',
    }),
    'InvalidSubnetID.NotFound',
  );
  await vpc.act('DeleteSubnetCidrReservation', { SubnetCidrReservationId: id });
  await fails(
    vpc.act('DeleteSubnetCidrReservation', { SubnetCidrReservationId: id }),
    'InvalidSubnetCidrReservationID.NotFound',
    new RegExp(`'${id}' does not exist`),
  );
  await fails(
    vpc.act('DeleteSubnetCidrReservation', { SubnetCidrReservationId: 'pods' }),
    'InvalidSubnetCidrReservationID.Malformed',
  );
});
