// Secondary private addresses and /28 prefixes of an interface. All or nothing, within the type's limit when attached.
// Fails with PrivateIpAddressLimitExceeded, InsufficientFreeAddressesInSubnet, InsufficientCidrBlocks,
// InvalidParameterValue. The primary address never changes.
import { claimAddresses, claimPrefixes, parseAddress, takeAddresses, takePrefixes } from '../addresses.ts';
import { type Context, need } from '../context.ts';
import { conflict, Ec2Error, invalidValue, missing } from '../errors.ts';
import { checkSlots, limitsOf, tooMany } from '../limits.ts';
import type { NetworkInterface, Subnet } from '../model.ts';
import { ownInterface } from './attachments.ts';
import { dropAssociations, moveAssociation } from './elastic-ips.ts';
import type { Meanings } from './types.ts';

/** Of an interface without an instance: more than the largest type takes. */
const MAX_UNATTACHED = 256;

function checkLimit(ctx: Context, eni: NetworkInterface, added: number, prefixes = 0): void {
  const { state } = ctx.draft;
  const instance = eni.attachment && state.instances[eni.attachment.instanceId];
  const has = eni.privateIps.length + eni.ipv4Prefixes.length;
  const counts = { id: eni.id, has, added, prefixes };
  const limits = instance && limitsOf(state, instance.instanceType);
  if (limits) checkSlots(limits, instance.instanceType, counts);
  else if (has + added > MAX_UNATTACHED) throw tooMany(counts, undefined, MAX_UNATTACHED);
}

/** Takes addresses away from other interfaces of the subnet when AllowReassignment says so; a primary one never. */
function reassign(ctx: Context, eni: NetworkInterface, ips: readonly string[]): void {
  for (const other of Object.values(ctx.draft.state.networkInterfaces)) {
    if (other.id === eni.id || other.subnetId !== eni.subnetId) continue;
    const moved = ips.filter((ip) => other.privateIps.includes(ip));
    if (moved.length === 0) continue;
    if (moved.includes(other.privateIps[0]!)) {
      throw invalidValue(
        `Address ${other.privateIps[0]} is the primary address of another interface and cannot be reassigned`,
      );
    }
    const privateIps = other.privateIps.filter((ip) => !moved.includes(ip));
    ctx.draft.put('networkInterfaces', other.id, { ...other, privateIps });
    for (const ip of moved) moveAssociation(ctx, other.id, ip, eni.id);
  }
}

const count = (value: number | undefined, name: string): number => {
  if (value === undefined) return 0;
  if (!Number.isInteger(value) || value < 1)
    throw invalidValue(`Value (${value}) for parameter ${name} is invalid. Must be 1 or more.`);
  return value;
};

function newAddresses(
  ctx: Context,
  eni: NetworkInterface,
  subnet: Subnet,
  wanted: string[],
  number: number,
  move: boolean,
): string[] {
  for (const ip of wanted) parseAddress(ip);
  const named = [...new Set(wanted)].filter((ip) => !eni.privateIps.includes(ip));
  if (wanted.length > 0 && named.length === 0 && !move) {
    throw invalidValue(`Some of [${wanted.join(', ')}] are already assigned to interface ${eni.id}`);
  }
  checkLimit(ctx, eni, named.length + number);
  if (move) reassign(ctx, eni, named);
  try {
    return named.length ? claimAddresses(ctx, subnet, named) : takeAddresses(ctx, subnet, number);
  } catch (error) {
    // Assign speaks of a used address in other words than create does.
    if (error instanceof Ec2Error && error.code === 'InvalidIPAddress.InUse') {
      throw invalidValue(
        `${error.message} It is assigned to another interface, but reassignment was not allowed`,
      );
    }
    throw error;
  }
}

export const privateAddressActions: Meanings<'AssignPrivateIpAddresses' | 'UnassignPrivateIpAddresses'> = {
  AssignPrivateIpAddresses: (ctx, input) => {
    const eni = ownInterface(ctx, input.NetworkInterfaceId);
    if (eni.interfaceType === 'efa-only')
      throw conflict(`An EFA-only network interface has no IP addresses and no prefixes. (${eni.id})`);
    const subnet = need(ctx, 'subnets', eni.subnetId);
    if (subnet.ipv6Native)
      throw conflict(`IPv4 addresses and prefixes are not supported in the IPv6-only subnet ${subnet.id}`);
    const wanted = input.PrivateIpAddresses ?? [];
    const wantedPrefixes = input.Ipv4Prefixes ?? [];
    const number = count(input.SecondaryPrivateIpAddressCount, 'secondaryPrivateIpAddressCount');
    const prefixNumber = count(input.Ipv4PrefixCount, 'ipv4PrefixCount');
    const ways = [wanted.length, wantedPrefixes.length, number, prefixNumber].filter((n) => n > 0).length;
    if (ways === 0) throw missing('secondaryPrivateIpAddressCount');
    if (ways > 1)
      throw conflict(
        'Only one of private IP addresses, their count, prefixes and their count can be specified',
      );

    if (wantedPrefixes.length || prefixNumber) {
      const added = wantedPrefixes.length + prefixNumber;
      checkLimit(ctx, eni, added, added);
      const prefixes = wantedPrefixes.length
        ? claimPrefixes(ctx, subnet, wantedPrefixes)
        : takePrefixes(ctx, subnet, prefixNumber);
      ctx.draft.put('networkInterfaces', eni.id, {
        ...eni,
        ipv4Prefixes: [...eni.ipv4Prefixes, ...prefixes],
      });
      return {
        NetworkInterfaceId: eni.id,
        AssignedPrivateIpAddresses: [],
        AssignedIpv4Prefixes: prefixes.map((p) => ({ Ipv4Prefix: p })),
      };
    }
    const ips = newAddresses(ctx, eni, subnet, wanted, number, input.AllowReassignment ?? false);
    ctx.draft.put('networkInterfaces', eni.id, { ...eni, privateIps: [...eni.privateIps, ...ips] });
    return {
      NetworkInterfaceId: eni.id,
      AssignedPrivateIpAddresses: ips.map((ip) => ({ PrivateIpAddress: ip })),
    };
  },

  UnassignPrivateIpAddresses: (ctx, input) => {
    const eni = ownInterface(ctx, input.NetworkInterfaceId);
    const ips = input.PrivateIpAddresses ?? [];
    const prefixes = input.Ipv4Prefixes ?? [];
    if (ips.length === 0 && prefixes.length === 0) throw missing('privateIpAddress');
    const foreign = [
      ...ips.filter((ip) => !eni.privateIps.includes(ip)),
      ...prefixes.filter((p) => !eni.ipv4Prefixes.includes(p)),
    ];
    if (foreign.length > 0) {
      throw invalidValue(`Some of [${foreign.join(', ')}] are not assigned to interface ${eni.id}`);
    }
    if (ips.includes(eni.privateIps[0]!)) {
      throw invalidValue(
        `The primary private IP address ${eni.privateIps[0]} of ${eni.id} cannot be unassigned`,
      );
    }
    dropAssociations(ctx, eni.id, ips);
    ctx.draft.put('networkInterfaces', eni.id, {
      ...eni,
      privateIps: eni.privateIps.filter((ip) => !ips.includes(ip)),
      ipv4Prefixes: eni.ipv4Prefixes.filter((p) => !prefixes.includes(p)),
    });
    return {};
  },
};
