// Random lives of a VPC: whatever is asked in whatever order, what EC2 promises holds, and the disk knows it all.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  addToIp,
  type Cidr,
  cidrContains,
  cidrCovers,
  cidrSize,
  cidrsOverlap,
  formatCidr,
  hostCidr,
  parseCidr,
  parseIp,
} from '../../base/ip.ts';
import { type ActionName, availableAddresses, Ec2Error, type VpcService } from './index.ts';
import { cardLimit, limitsOf } from './limits.ts';
import type { NetworkInterface, VpcState } from './model.ts';
import { subnetBlock, testVpc, ZONES } from './testing.ts';
import { associationsOn, branchLimit, isInUse } from './trunks.ts';

/** One random call: which action, and numbers from which its parameters are drawn. */
type Step = { action: ActionName; a: number; b: number; n: number };
const ACTIONS = [
  'CreateNetworkInterface',
  'DeleteNetworkInterface',
  'AttachNetworkInterface',
  'DetachNetworkInterface',
  'AssociateTrunkInterface',
  'DisassociateTrunkInterface',
  'AssignPrivateIpAddresses',
  'UnassignPrivateIpAddresses',
  'AssignIpv6Addresses',
  'UnassignIpv6Addresses',
  'RunInstances',
  'TerminateInstances',
  'StopInstances',
  'StartInstances',
  'AllocateAddress',
  'AssociateAddress',
  'DisassociateAddress',
  'ReleaseAddress',
  'ModifyNetworkInterfaceAttribute',
  'CreateSubnetCidrReservation',
  'DeleteSubnetCidrReservation',
] as const satisfies ActionName[];
const step: fc.Arbitrary<Step> = fc.record({
  action: fc.constantFrom(...ACTIONS),
  a: fc.nat(1000),
  b: fc.nat(1000),
  n: fc.nat(12),
});

const FITS: Partial<Record<ActionName, (eni: NetworkInterface) => boolean>> = {
  AttachNetworkInterface: (eni) => eni.status === 'available',
  AssociateTrunkInterface: (eni) => eni.status === 'available' && eni.interfaceType === 'interface',
  DeleteNetworkInterface: (eni) => !eni.attachment,
  DetachNetworkInterface: (eni) => (eni.attachment?.deviceIndex ?? 0) > 0,
  AssociateAddress: (eni) => eni.privateIps.length > 1,
};

const pick = <T>(list: readonly T[], n: number): T | undefined => list[n % Math.max(1, list.length)];

async function run(vpc: VpcService, { action, a, b, n }: Step): Promise<void> {
  const state = vpc.state();
  const subnetId = pick(Object.keys(state.subnets), a)!;
  const enis = Object.values(state.networkInterfaces);
  // Mostly one that the call can mean, now and then any.
  const fitting = enis.filter((one) => FITS[action]?.(one) ?? true);
  const eni = pick(fitting.length && n !== 7 ? fitting : enis, a);
  const instanceId = pick(Object.keys(state.instances), b);
  const NetworkInterfaceId = eni?.id ?? 'eni-00000000';
  const AllocationId = pick(
    Object.values(state.publicAddresses).filter((one) => one.allocationId),
    b,
  )?.allocationId;
  switch (action) {
    case 'CreateNetworkInterface':
      await vpc.act(
        action,
        n % 4 === 3
          ? { SubnetId: subnetId, InterfaceType: 'trunk' }
          : n % 3 === 0
            ? { SubnetId: subnetId, Ipv4PrefixCount: n % 2 }
            : { SubnetId: subnetId, SecondaryPrivateIpAddressCount: n },
      );
      return;
    case 'DeleteNetworkInterface':
      await vpc.act(action, { NetworkInterfaceId });
      return;
    case 'AttachNetworkInterface':
      {
        const near = Object.values(state.instances).filter(
          (one) => one.zone === eni?.zone && one.state === 'running',
        );
        await vpc.act(action, {
          NetworkInterfaceId,
          InstanceId: pick(near, b)?.id ?? instanceId,
          DeviceIndex: n,
        });
      }
      return;
    case 'DetachNetworkInterface':
      await vpc.act(action, {
        AttachmentId: eni?.attachment?.id ?? 'eni-attach-00000000',
        Force: n % 2 === 0,
      });
      return;
    case 'AssociateTrunkInterface': {
      // Mostly to a trunk that is attached; VLAN ids are few, so that they meet.
      const trunks = enis.filter((one) => one.interfaceType === 'trunk' && (one.attachment || n === 7));
      await vpc.act(action, {
        BranchInterfaceId: NetworkInterfaceId,
        TrunkInterfaceId: (pick(trunks, b) ?? eni)?.id ?? 'eni-00000000',
        VlanId: n,
      });
      return;
    }
    case 'DisassociateTrunkInterface':
      await vpc.act(action, {
        AssociationId: pick(Object.keys(state.trunkAssociations), b) ?? 'trunk-assoc-00000000',
      });
      return;
    case 'AssignPrivateIpAddresses': {
      // A named address may be anybody's, reserved, or none of the subnet.
      const named = `10.0.${n % 3}.${b % 40}`;
      if (n % 4 === 0)
        await vpc.act(action, {
          NetworkInterfaceId,
          PrivateIpAddresses: [named],
          AllowReassignment: a % 2 === 0,
        });
      else if (n % 4 === 1) await vpc.act(action, { NetworkInterfaceId, Ipv4PrefixCount: 1 });
      else await vpc.act(action, { NetworkInterfaceId, SecondaryPrivateIpAddressCount: n });
      return;
    }
    case 'UnassignPrivateIpAddresses':
      await vpc.act(action, {
        NetworkInterfaceId,
        PrivateIpAddresses: (eni?.privateIps ?? []).slice(b % 3, (b % 3) + n),
      });
      return;
    case 'AssignIpv6Addresses': {
      // A named one may be anybody's, kept by AWS, in a prefix, or none of the subnet.
      const base =
        state.subnets[eni?.subnetId ?? '']?.ipv6Cidrs?.[0]?.cidr.replace('::/64', '') ?? 'fd00:0:0:1';
      if (n % 4 === 0)
        await vpc.act(action, { NetworkInterfaceId, Ipv6Addresses: [`${base}:0:0:${n}:${b % 9}`] });
      else if (n % 4 === 1)
        await vpc.act(action, { NetworkInterfaceId, Ipv6Prefixes: [`${base}:${b % 9}::/80`] });
      else if (n % 4 === 2) await vpc.act(action, { NetworkInterfaceId, Ipv6PrefixCount: 1 + (b % 3) });
      else await vpc.act(action, { NetworkInterfaceId, Ipv6AddressCount: n });
      return;
    }
    case 'UnassignIpv6Addresses':
      await vpc.act(action, {
        NetworkInterfaceId,
        Ipv6Addresses: (eni?.ipv6Addresses ?? []).slice(b % 2, (b % 2) + n),
        Ipv6Prefixes: (eni?.ipv6Prefixes ?? []).slice(a % 2),
      });
      return;
    case 'RunInstances':
      await vpc.act(action, {
        ImageId: 'ami-1',
        InstanceType: pick(['m5.large', 't3.small', 'c6in.32xlarge'] as const, b),
        MinCount: 1,
        MaxCount: 1 + (n % 2),
        SubnetId: subnetId,
        TagSpecifications: [
          { ResourceType: 'instance', Tags: [{ Key: 'Name', Value: pick(['node', 'vpc', 'a b'], a)! }] },
        ],
      });
      return;
    case 'TerminateInstances':
    case 'StopInstances':
    case 'StartInstances':
      await vpc.act(action, { InstanceIds: [instanceId ?? 'i-00000000'] });
      return;
    case 'AllocateAddress':
      await vpc.act(action, {});
      return;
    case 'AssociateAddress':
      await vpc.act(action, {
        AllocationId,
        NetworkInterfaceId,
        PrivateIpAddress: pick(eni?.privateIps ?? [], n),
        AllowReassociation: n % 2 === 0,
      });
      return;
    case 'DisassociateAddress':
      await vpc.act(action, { AssociationId: pick(Object.values(state.publicAddresses), b)?.associationId });
      return;
    case 'ReleaseAddress':
      await vpc.act(action, { AllocationId });
      return;
    case 'CreateSubnetCidrReservation':
      await vpc.act(action, {
        SubnetId: subnetId,
        Cidr: `${state.subnets[subnetId]!.cidr.replace(/\d+\/.*/, '')}${(b % 4) * 16}/28`,
        ReservationType: n % 2 ? 'prefix' : 'explicit',
      });
      return;
    case 'DeleteSubnetCidrReservation':
      await vpc.act(action, {
        SubnetCidrReservationId: pick(Object.keys(state.subnetCidrReservations), b) ?? 'scr-00000000',
      });
      return;
    case 'ModifyNetworkInterfaceAttribute':
      await vpc.act(action, {
        NetworkInterfaceId,
        Attachment: { AttachmentId: eni?.attachment?.id, DeleteOnTermination: n % 2 === 0 },
      });
      return;
  }
}

function check(state: VpcState, before: VpcState): void {
  const holders = new Map<string, string>();
  const sixes: Cidr[] = [];
  for (const eni of Object.values(state.networkInterfaces)) {
    const cidr = parseCidr(state.subnets[eni.subnetId]!.cidr);
    const start = cidr.ip as number;
    const inPrefixes = eni.ipv4Prefixes.flatMap((p) =>
      Array.from({ length: 16 }, (_, i) => (parseCidr(p).ip as number) + i),
    );
    for (const ip of [...eni.privateIps.map((one) => parseIp(one) as number), ...inPrefixes]) {
      const key = `${eni.subnetId}/${ip}`;
      assert.equal(holders.get(key), undefined, `${ip} is held twice`);
      holders.set(key, eni.id);
      assert.ok(cidrContains(cidr, ip as never), `${ip} is outside ${eni.subnetId}`);
      assert.ok(ip - start >= 4 && ip - start < 2 ** (32 - cidr.length) - 1, `${ip} is reserved`);
    }
    assert.ok(eni.privateIps.length >= 1);
    checkIpv6(state, eni, sixes);
    const old = before.networkInterfaces[eni.id];
    if (old) assert.equal(eni.privateIps[0], old.privateIps[0], 'the primary address never changes');
    assert.equal(eni.status === 'in-use', isInUse(state, eni), `${eni.id}: status and attachment`);
    if (eni.attachment) {
      const instance = state.instances[eni.attachment.instanceId]!;
      assert.notEqual(instance.state, 'terminated');
      assert.equal(instance.zone, eni.zone);
      assert.ok(
        eni.privateIps.length + eni.ipv4Prefixes.length <= limitsOf(state, instance.instanceType)!.ipv4PerENI,
      );
      assert.ok(
        eni.ipv6Addresses.length + eni.ipv6Prefixes.length <=
          limitsOf(state, instance.instanceType)!.ipv4PerENI,
      );
    }
  }
  for (const instance of Object.values(state.instances)) {
    const enis = Object.values(state.networkInterfaces).filter(
      (eni) => eni.attachment?.instanceId === instance.id,
    );
    const places = enis.map((eni) => `${eni.attachment!.networkCardIndex}/${eni.attachment!.deviceIndex}`);
    assert.equal(new Set(places).size, places.length, 'one interface per device index');
    assert.ok(
      enis.filter((eni) => eni.attachment!.networkCardIndex === 0).length <=
        cardLimit(limitsOf(state, instance.instanceType)!, 0),
    );
    if (instance.state !== 'terminated')
      assert.ok(places.includes('0/0'), 'a live instance has its primary interface');
    assert.ok(enis.filter((eni) => eni.interfaceType === 'trunk').length <= 1, 'one trunk per instance');
    assert.match(instance.name, /^[A-Za-z0-9][A-Za-z0-9._-]*$/);
  }
  checkTrunks(state);
  const names = Object.values(state.instances)
    .filter((one) => one.state !== 'terminated')
    .map((one) => one.name);
  assert.equal(new Set(names).size, names.length, 'names of live instances differ');
  const mapped = new Set<string>();
  for (const address of Object.values(state.publicAddresses)) {
    if (address.networkInterfaceId === undefined) continue;
    const eni = state.networkInterfaces[address.networkInterfaceId];
    assert.ok(eni);
    assert.ok(
      eni.privateIps.includes(address.privateIp!),
      `${address.publicIp} is mapped to an address that nobody holds`,
    );
    assert.ok(!mapped.has(`${eni.id}/${address.privateIp}`), 'one public address per private one');
    mapped.add(`${eni.id}/${address.privateIp}`);
  }
  const macs = Object.values(state.networkInterfaces).map((eni) => eni.mac);
  assert.equal(new Set(macs).size, macs.length);
}

/** A branch hangs on one trunk of its zone and on nothing else; a VLAN id of a trunk names one; the type's limit holds. */
function checkTrunks(state: VpcState): void {
  const rows = Object.values(state.trunkAssociations);
  const keys = rows.map((row) => `${row.trunkInterfaceId}/${row.vlanId}`);
  assert.equal(new Set(keys).size, rows.length, 'one branch per VLAN id of a trunk');
  assert.equal(new Set(rows.map((row) => row.branchInterfaceId)).size, rows.length, 'one trunk per branch');
  for (const row of rows) {
    const [branch, trunk] = [row.branchInterfaceId, row.trunkInterfaceId].map(
      (id) => state.networkInterfaces[id]!,
    );
    assert.equal(trunk!.interfaceType, 'trunk');
    assert.equal(branch!.attachment, undefined);
    assert.equal(branch!.zone, trunk!.zone);
    assert.ok(row.vlanId >= 1 && row.vlanId <= 4094);
    const instance = trunk!.attachment && state.instances[trunk!.attachment.instanceId];
    if (instance)
      assert.ok(
        associationsOn(state, trunk!.id).length <= branchLimit(limitsOf(state, instance.instanceType)!),
      );
  }
}

/** Of its subnet's /64 and not kept by AWS; nobody else's, nor within anybody's prefix. */
function checkIpv6(state: VpcState, eni: NetworkInterface, taken: Cidr[]): void {
  const own = [...eni.ipv6Addresses.map(hostOf), ...eni.ipv6Prefixes.map((prefix) => parseCidr(prefix))];
  const block = state.subnets[eni.subnetId]!.ipv6Cidrs?.[0]?.cidr;
  assert.ok(own.length === 0 || block !== undefined);
  for (const one of own) {
    assert.ok(cidrCovers(parseCidr(block!), one), `${formatCidr(one)} is outside ${block}`);
    const kept = [0, 1, 2, 3].map((offset) => addToIp(parseCidr(block!).ip, offset));
    assert.ok(!kept.some((ip) => cidrContains(one, ip)), `${formatCidr(one)} is reserved`);
    assert.ok(!taken.some((other) => cidrsOverlap(other, one)), `${formatCidr(one)} is held twice`);
    taken.push(one);
  }
}

/** Counted address by address: not AWS's, of no reservation, held by nobody. */
function freeAddresses(state: VpcState, subnetId: string): number {
  const cidr = parseCidr(state.subnets[subnetId]!.cidr);
  const blocks = Object.values(state.subnetCidrReservations)
    .filter((row) => row.subnetId === subnetId)
    .map((row) => parseCidr(row.cidr));
  for (const eni of Object.values(state.networkInterfaces)) {
    if (eni.subnetId !== subnetId) continue;
    blocks.push(...eni.ipv4Prefixes.map((one) => parseCidr(one)), ...eni.privateIps.map(hostOf));
  }
  let free = 0;
  for (let i = 4; i < cidrSize(cidr) - 1; i++)
    if (!blocks.some((block) => cidrContains(block, addToIp(cidr.ip, i)))) free++;
  return free;
}
const hostOf = (ip: string) => hostCidr(parseIp(ip));

async function checkAnswers(vpc: VpcService): Promise<void> {
  const state = vpc.state();
  const { NetworkInterfaces = [] } = await vpc.act('DescribeNetworkInterfaces', {});
  const said = NetworkInterfaces.map((eni) => [
    eni.NetworkInterfaceId,
    eni.PrivateIpAddresses?.map((one) => one.PrivateIpAddress),
  ]);
  const real = Object.values(state.networkInterfaces).map(
    (eni) => [eni.id, eni.privateIps] as [string, string[]],
  );
  assert.deepEqual(
    said,
    real.sort(([a], [b]) => (a < b ? -1 : 1)),
  );
  for (const subnet of (await vpc.act('DescribeSubnets', {})).Subnets ?? []) {
    const free = freeAddresses(state, subnet.SubnetId!);
    assert.equal(subnet.AvailableIpAddressCount, free);
    assert.equal(availableAddresses(state, state.subnets[subnet.SubnetId!]!), free);
  }
}

test('in any order of calls: no address twice, limits hold, answers are the state, the disk has it', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 10, maxLength: 120, size: 'max' }), async (steps) => {
      await using lab = testVpc();
      const { vpc } = lab;
      const made = (
        await vpc.act('CreateVpc', { CidrBlock: '10.0.0.0/16', AmazonProvidedIpv6CidrBlock: true })
      ).Vpc!;
      const vpcId = made.VpcId!;
      const block = made.Ipv6CidrBlockAssociationSet![0]!.Ipv6CidrBlock!;
      // Small subnets, so that they run full.
      await vpc.act('CreateSubnet', {
        VpcId: vpcId,
        CidrBlock: '10.0.0.0/26',
        Ipv6CidrBlock: subnetBlock(block, 1),
        AvailabilityZone: ZONES[0],
      });
      await vpc.act('CreateSubnet', { VpcId: vpcId, CidrBlock: '10.0.1.0/27', AvailabilityZone: ZONES[1] });
      const gateway = (await vpc.act('CreateInternetGateway', {})).InternetGateway!.InternetGatewayId!;
      await vpc.act('AttachInternetGateway', { VpcId: vpcId, InternetGatewayId: gateway });
      for (const subnet of Object.values(vpc.state().subnets)) {
        await vpc.act('ModifySubnetAttribute', { SubnetId: subnet.id, MapPublicIpOnLaunch: { Value: true } });
      }
      for (const one of steps) {
        const before = vpc.state();
        const copy = structuredClone(before);
        try {
          await run(vpc, one);
        } catch (error) {
          if (!(error instanceof Ec2Error)) throw error;
          assert.equal(vpc.state(), before, 'a call that fails changes nothing');
        }
        assert.deepEqual(before, copy, 'a state is never changed in place');
        check(vpc.state(), before);
      }
      await checkAnswers(vpc);
      const last = vpc.state();
      assert.deepEqual(lab.reopen().state(), last);
    }),
    { numRuns: 60 },
  );
});
