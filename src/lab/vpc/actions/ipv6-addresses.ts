// IPv6 addresses and /80 prefixes of an interface: at its making, and by Assign and Unassign. All or nothing, within the
// type's limit when attached. Fails with PrivateIpAddressLimitExceeded, InvalidParameterCombination,
// InvalidParameterValue, InvalidIPAddress.InUse.
import type * as ec2 from '@aws-sdk/client-ec2';
import { formatCidr, formatIp, parseCidr } from '../../../base/ip.ts';
import { type Context, need } from '../context.ts';
import { conflict, invalidValue, missing, required } from '../errors.ts';
import {
  claimIpv6Addresses,
  claimIpv6Prefixes,
  ipv6CidrsOf,
  readIpv6Address,
  takeIpv6Addresses,
  takeIpv6Prefixes,
} from '../ipv6.ts';
import { checkIpv6Slots, limitsOf, tooMany } from '../limits.ts';
import type { NetworkInterface, Subnet } from '../model.ts';
import { ownInterface } from './attachments.ts';
import type { Meanings } from './types.ts';

/** What a request asks for; a count of none is nothing asked for, and keeps the subnet from giving one by itself. */
export type Ipv6Asked = {
  addresses: string[];
  addressCount: number | undefined;
  prefixes: string[];
  prefixCount: number | undefined;
};

/** Of an interface without an instance: more than the largest type takes. */
const MAX_UNATTACHED = 256;

type Request = {
  Ipv6Addresses?: ec2.InstanceIpv6Address[] | undefined;
  Ipv6AddressCount?: number | undefined;
  Ipv6Prefixes?: ec2.Ipv6PrefixSpecificationRequest[] | undefined;
  Ipv6PrefixCount?: number | undefined;
};

export const ipv6Asked = (input: Request): Ipv6Asked => ({
  addresses: (input.Ipv6Addresses ?? []).map((one) => required(one.Ipv6Address, 'ipv6Address')),
  addressCount: input.Ipv6AddressCount,
  prefixes: (input.Ipv6Prefixes ?? []).map((one) => required(one.Ipv6Prefix, 'ipv6Prefix')),
  prefixCount: input.Ipv6PrefixCount,
});

const number = (value: number | undefined, name: string): number => {
  if (value === undefined) return 0;
  if (!Number.isInteger(value) || value < 0)
    throw invalidValue(`Value (${value}) for parameter ${name} is invalid. Must be 0 or more.`);
  return value;
};

/** Checks that one way of the four is used; how many addresses and prefixes it asks for. */
function countsOf(asked: Ipv6Asked): { addresses: number; prefixes: number } {
  const addressCount = number(asked.addressCount, 'ipv6AddressCount');
  const prefixCount = number(asked.prefixCount, 'ipv6PrefixCount');
  if (asked.addresses.length > 0 && asked.addressCount !== undefined)
    throw conflict('IPv6 addresses and IPv6 address count may not be specified on the same request');
  if (asked.prefixes.length > 0 && asked.prefixCount !== undefined)
    throw conflict('IPv6 prefixes and IPv6 prefix count may not be specified on the same request');
  const addresses = asked.addresses.length + addressCount;
  const prefixes = asked.prefixes.length + prefixCount;
  if (addresses > 0 && prefixes > 0) {
    throw invalidValue(
      'You can and can only specify one of ipv6-addresses or ipv6-addresses-count  ipv6-prefix and ipv6-prefix-count.',
    );
  }
  return { addresses, prefixes };
}

function take(ctx: Context, subnet: Subnet, asked: Ipv6Asked): { addresses: string[]; prefixes: string[] } {
  const counts = countsOf(asked);
  return {
    addresses: asked.addresses.length
      ? claimIpv6Addresses(
          ctx,
          subnet,
          distinct(asked.addresses, (ip) => formatIp(readIpv6Address(ip))),
        )
      : takeIpv6Addresses(ctx, subnet, counts.addresses),
    prefixes: asked.prefixes.length
      ? claimIpv6Prefixes(ctx, subnet, distinct(asked.prefixes, canonicalPrefix))
      : takeIpv6Prefixes(ctx, subnet, counts.prefixes),
  };
}

function distinct(texts: readonly string[], canonical: (text: string) => string): string[] {
  const all = texts.map(canonical);
  if (new Set(all).size !== all.length) throw invalidValue('Duplicate IPv6 address or prefix in the request');
  return all;
}

function canonicalPrefix(text: string): string {
  try {
    return formatCidr(parseCidr(text));
  } catch {
    throw invalidValue(`invalid value for parameter ipv6-prefix: ${text}`);
  }
}

/** Of a new interface: what is asked for, else what its subnet gives to each. */
export function firstIpv6(
  ctx: Context,
  subnet: Subnet,
  asked: Ipv6Asked | undefined,
): Pick<NetworkInterface, 'ipv6Addresses' | 'ipv6Prefixes'> {
  const counts = asked ? countsOf(asked) : { addresses: 0, prefixes: 0 };
  const total = counts.addresses + counts.prefixes;
  if (total > MAX_UNATTACHED)
    throw tooMany({ id: 'The interface', has: 0, added: total }, undefined, MAX_UNATTACHED, 'IPv6');
  const own = subnet.assignIpv6AddressOnCreation && ipv6CidrsOf(subnet).length > 0;
  // An interface of an IPv6-only subnet is never without an address.
  if (counts.addresses === 0 && subnet.ipv6Native) {
    const [address] = takeIpv6Addresses(ctx, subnet, 1);
    const { prefixes } = asked ? take(ctx, subnet, asked) : { prefixes: [] };
    return { ipv6Addresses: [address!], ipv6Prefixes: prefixes };
  }
  if (total === 0 && asked?.addressCount === undefined && own)
    return { ipv6Addresses: takeIpv6Addresses(ctx, subnet, 1), ipv6Prefixes: [] };
  const taken = asked ? take(ctx, subnet, asked) : { addresses: [], prefixes: [] };
  return { ipv6Addresses: taken.addresses, ipv6Prefixes: taken.prefixes };
}

function checkLimit(ctx: Context, eni: NetworkInterface, added: number, prefixes: number): void {
  const { state } = ctx.draft;
  const instance = eni.attachment && state.instances[eni.attachment.instanceId];
  const has = eni.ipv6Addresses.length + eni.ipv6Prefixes.length;
  const counts = { id: eni.id, has, added, prefixes };
  const limits = instance && limitsOf(state, instance.instanceType);
  if (limits) checkIpv6Slots(limits, instance.instanceType, counts);
  else if (has + added > MAX_UNATTACHED) throw tooMany(counts, undefined, MAX_UNATTACHED, 'IPv6');
}

export const ipv6AddressActions: Meanings<'AssignIpv6Addresses' | 'UnassignIpv6Addresses'> = {
  AssignIpv6Addresses: (ctx, input) => {
    const eni = ownInterface(ctx, input.NetworkInterfaceId);
    if (eni.interfaceType === 'efa-only')
      throw conflict(`An EFA-only network interface has no IP addresses and no prefixes. (${eni.id})`);
    const asked: Ipv6Asked = {
      addresses: input.Ipv6Addresses ?? [],
      addressCount: input.Ipv6AddressCount,
      prefixes: input.Ipv6Prefixes ?? [],
      prefixCount: input.Ipv6PrefixCount,
    };
    const counts = countsOf(asked);
    const added = counts.addresses + counts.prefixes;
    if (added === 0) throw missing('ipv6AddressCount');
    checkLimit(ctx, eni, added, counts.prefixes);
    const { addresses, prefixes } = take(ctx, need(ctx, 'subnets', eni.subnetId), asked);
    ctx.draft.put('networkInterfaces', eni.id, {
      ...eni,
      ipv6Addresses: [...eni.ipv6Addresses, ...addresses],
      ipv6Prefixes: [...eni.ipv6Prefixes, ...prefixes],
    });
    return {
      NetworkInterfaceId: eni.id,
      AssignedIpv6Addresses: addresses,
      AssignedIpv6Prefixes: prefixes,
    };
  },

  UnassignIpv6Addresses: (ctx, input) => {
    const eni = ownInterface(ctx, input.NetworkInterfaceId);
    const addresses = (input.Ipv6Addresses ?? []).map((text) => formatIp(readIpv6Address(text)));
    const prefixes = (input.Ipv6Prefixes ?? []).map(canonicalPrefix);
    if (addresses.length + prefixes.length === 0) throw missing('ipv6Addresses');
    const foreign = [
      ...addresses.filter((ip) => !eni.ipv6Addresses.includes(ip)),
      ...prefixes.filter((prefix) => !eni.ipv6Prefixes.includes(prefix)),
    ];
    if (foreign.length > 0)
      throw invalidValue(`Some of [${foreign.join(', ')}] are not assigned to interface ${eni.id}`);
    if (eni.primaryIpv6 && addresses.includes(eni.ipv6Addresses[0]!))
      throw invalidValue(
        `The primary IPv6 address ${eni.ipv6Addresses[0]} of ${eni.id} cannot be unassigned`,
      );
    ctx.draft.put('networkInterfaces', eni.id, {
      ...eni,
      ipv6Addresses: eni.ipv6Addresses.filter((ip) => !addresses.includes(ip)),
      ipv6Prefixes: eni.ipv6Prefixes.filter((prefix) => !prefixes.includes(prefix)),
    });
    return {
      NetworkInterfaceId: eni.id,
      UnassignedIpv6Addresses: addresses,
      UnassignedIpv6Prefixes: prefixes,
    };
  },
};
