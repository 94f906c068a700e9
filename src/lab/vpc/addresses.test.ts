// Where EC2 puts addresses: scattered, whole, and the index of what is held right after every change.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { scatter } from './addresses.ts';
import { fails, newEni, testVpc } from './testing.ts';

test('the scatter visits every place once, and differs between subnets', () => {
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 12 }), fc.nat(), (bits, seed) => {
      const size = 2 ** bits;
      const seen = new Set(Array.from({ length: size }, (_, turn) => scatter(turn, size, seed)));
      assert.equal(seen.size, size);
      for (const place of seen) assert.ok(place >= 0 && place < size);
    }),
    { numRuns: 100 },
  );
  const first = (seed: number) => Array.from({ length: 8 }, (_, turn) => scatter(turn, 256, seed)).join();
  assert.notEqual(first(0x0a000000), first(0x0a000100));
});

test('neighbours in time are not neighbours in space: a few addresses break many /28s', async () => {
  await using lab = testVpc();
  const { vpc } = lab;
  const VpcId = (await vpc.act('CreateVpc', { CidrBlock: '10.0.0.0/16' })).Vpc!.VpcId!;
  const { Subnet } = await vpc.act('CreateSubnet', { VpcId, CidrBlock: '10.0.0.0/24' });
  const eni = await newEni(vpc, Subnet!.SubnetId!, { SecondaryPrivateIpAddressCount: 39 });
  const ips = vpc.state().networkInterfaces[eni]!.privateIps;
  const blocks = new Set(ips.map((ip) => Number(ip.split('.')[3]) >> 4));
  assert.ok(blocks.size > 10, `40 addresses touch ${blocks.size} of 16 /28s`);
});

test('a fragmented subnet has free addresses and no /28; freeing one address of a block brings it back', async () => {
  await using lab = testVpc();
  const { vpc } = lab;
  const VpcId = (await vpc.act('CreateVpc', { CidrBlock: '10.0.0.0/16' })).Vpc!.VpcId!;
  const SubnetId = (await vpc.act('CreateSubnet', { VpcId, CidrBlock: '10.0.0.0/26' })).Subnet!.SubnetId!;
  const pins = ['10.0.0.20', '10.0.0.40'];
  const eni = await newEni(vpc, SubnetId, { PrivateIpAddress: '10.0.0.10' });
  await vpc.act('AssignPrivateIpAddresses', { NetworkInterfaceId: eni, PrivateIpAddresses: pins });
  const prefix = () => vpc.act('AssignPrivateIpAddresses', { NetworkInterfaceId: eni, Ipv4PrefixCount: 1 });
  await fails(prefix(), 'InsufficientCidrBlocks', /0 free \/28 and 56 free addresses, 1 \/28 asked for/);
  await vpc.act('AssignPrivateIpAddresses', {
    NetworkInterfaceId: eni,
    SecondaryPrivateIpAddressCount: 1,
  });
  const fourth = vpc.state().networkInterfaces[eni]!.privateIps.at(-1)!;
  await vpc.act('UnassignPrivateIpAddresses', { NetworkInterfaceId: eni, PrivateIpAddresses: [fourth] });
  await vpc.act('UnassignPrivateIpAddresses', { NetworkInterfaceId: eni, PrivateIpAddresses: ['10.0.0.40'] });
  assert.deepEqual((await prefix()).AssignedIpv4Prefixes, [{ Ipv4Prefix: '10.0.0.32/28' }]);
});

test('the same calls give the same addresses', async () => {
  const lives = async () => {
    await using lab = testVpc();
    const { vpc } = lab;
    const VpcId = (await vpc.act('CreateVpc', { CidrBlock: '10.0.0.0/16' })).Vpc!.VpcId!;
    const SubnetId = (await vpc.act('CreateSubnet', { VpcId, CidrBlock: '10.0.16.0/22' })).Subnet!.SubnetId!;
    const eni = await newEni(vpc, SubnetId, { SecondaryPrivateIpAddressCount: 9 });
    const other = await newEni(vpc, SubnetId, { Ipv4PrefixCount: 3 });
    const rows = lab.reopen().state().networkInterfaces;
    return [...rows[eni]!.privateIps, ...rows[other]!.privateIps, ...rows[other]!.ipv4Prefixes];
  };
  assert.deepEqual(await lives(), await lives());
});
