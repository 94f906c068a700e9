// Which addresses of a subnet are free, and the choice of new ones. Derived from the interfaces each time: there is no
// second record that could disagree. EC2 keeps five addresses of a subnet: network, router, DNS, future use, broadcast.
// Fails with InsufficientFreeAddressesInSubnet, InsufficientCidrBlocks, InvalidIPAddress.InUse, InvalidParameterValue.
import { addToIp, cidrContains, cidrSize, formatIp, type Ipv4, parseCidr, parseIpv4 } from '../../base/ip.ts';
import type { Context } from './context.ts';
import { Ec2Error, invalidValue } from './errors.ts';
import type { Subnet, VpcState } from './model.ts';

const RESERVED_AT_START = 4;
const RESERVED_AT_END = 1;
export const PREFIX_SIZE = 16;

/** Offsets in the subnet that an interface holds, by address or inside a prefix. */
function usedOffsets(state: VpcState, subnet: Subnet): Set<number> {
  const start = parseCidr(subnet.cidr).ip as Ipv4;
  const used = new Set<number>();
  for (const eni of Object.values(state.networkInterfaces)) {
    if (eni.subnetId !== subnet.id) continue;
    for (const ip of eni.privateIps) used.add(parseIpv4(ip) - start);
    for (const prefix of eni.ipv4Prefixes) {
      const first = (parseCidr(prefix).ip as Ipv4) - start;
      for (let i = 0; i < PREFIX_SIZE; i++) used.add(first + i);
    }
  }
  return used;
}

const usable = (subnet: Subnet): number =>
  cidrSize(parseCidr(subnet.cidr)) - RESERVED_AT_START - RESERVED_AT_END;

export const availableAddresses = (state: VpcState, subnet: Subnet): number =>
  usable(subnet) - usedOffsets(state, subnet).size;

/** Takes the addresses asked for by name; EC2 refuses reserved, foreign and used ones. */
export function claimAddresses(ctx: Context, subnet: Subnet, wanted: readonly string[]): string[] {
  const cidr = parseCidr(subnet.cidr);
  const used = usedOffsets(ctx.draft.state, subnet);
  for (const text of wanted) {
    const ip = parseAddress(text);
    if (!cidrContains(cidr, ip))
      throw invalidValue(`Address ${text} does not fall within the subnet's address range`);
    const offset = ip - (cidr.ip as number);
    if (offset < RESERVED_AT_START || offset >= cidrSize(cidr) - RESERVED_AT_END) {
      throw invalidValue(`Address ${text} is in subnet's reserved address range`);
    }
    if (used.has(offset)) throw new Ec2Error('InvalidIPAddress.InUse', `Address ${text} is in use.`);
    used.add(offset);
  }
  return wanted.map((text) => formatIp(parseAddress(text)));
}

export function parseAddress(text: string): Ipv4 {
  try {
    return parseIpv4(text);
  } catch {
    throw invalidValue(`invalid value for parameter address: ${text}`);
  }
}

/** Takes `count` free addresses, the search going on where the last one ended. */
export function takeAddresses(
  ctx: Context,
  subnet: Subnet,
  count: number,
  alsoUsed: readonly string[] = [],
): string[] {
  if (count === 0) return [];
  const cidr = parseCidr(subnet.cidr);
  const start = cidr.ip as Ipv4;
  const used = usedOffsets(ctx.draft.state, subnet);
  for (const ip of alsoUsed) used.add(parseIpv4(ip) - start);
  const free = usable(subnet) - used.size;
  if (free < count) {
    throw new Ec2Error(
      'InsufficientFreeAddressesInSubnet',
      `The specified subnet does not have enough free addresses to satisfy the request. (${subnet.id} has ${free} free, ${count} asked for)`,
    );
  }
  const end = cidrSize(cidr) - RESERVED_AT_END;
  const taken: string[] = [];
  let offset = Math.max(RESERVED_AT_START, ctx.draft.state.subnets[subnet.id]?.nextOffset ?? 0);
  while (taken.length < count) {
    if (offset >= end) offset = RESERVED_AT_START;
    if (!used.has(offset)) {
      used.add(offset);
      taken.push(formatIp(addToIp(start, offset)));
    }
    offset++;
  }
  ctx.draft.put('subnets', subnet.id, { ...ctx.draft.state.subnets[subnet.id]!, nextOffset: offset });
  return taken;
}

const prefixIsFree = (subnet: Subnet, used: Set<number>, first: number): boolean => {
  const end = cidrSize(parseCidr(subnet.cidr)) - RESERVED_AT_END;
  if (first < RESERVED_AT_START || first + PREFIX_SIZE > end) return false;
  for (let i = 0; i < PREFIX_SIZE; i++) if (used.has(first + i)) return false;
  return true;
};

/** Takes `count` free aligned /28 blocks; free single addresses alone do not make one. */
export function takePrefixes(ctx: Context, subnet: Subnet, count: number): string[] {
  if (count === 0) return [];
  const cidr = parseCidr(subnet.cidr);
  const used = usedOffsets(ctx.draft.state, subnet);
  const taken: string[] = [];
  for (let first = 0; first < cidrSize(cidr) && taken.length < count; first += PREFIX_SIZE) {
    if (prefixIsFree(subnet, used, first)) taken.push(`${formatIp(addToIp(cidr.ip as Ipv4, first))}/28`);
  }
  if (taken.length < count) {
    throw new Ec2Error(
      'InsufficientCidrBlocks',
      `The specified subnet does not have enough free cidr blocks to satisfy the request. (${subnet.id} has ${taken.length} free /28, ${count} asked for)`,
    );
  }
  return taken;
}

/** Takes the /28 blocks asked for by name. */
export function claimPrefixes(ctx: Context, subnet: Subnet, wanted: readonly string[]): string[] {
  const cidr = parseCidr(subnet.cidr);
  const used = usedOffsets(ctx.draft.state, subnet);
  for (const text of wanted) {
    let first: number;
    try {
      const prefix = parseCidr(text);
      if (prefix.length !== 28 || !cidrContains(cidr, prefix.ip)) throw new Error('not a /28 of the subnet');
      first = (prefix.ip as number) - (cidr.ip as number);
    } catch {
      throw invalidValue(`invalid value for parameter prefix: ${text}`);
    }
    if (!prefixIsFree(subnet, used, first))
      throw new Ec2Error('InvalidIPAddress.InUse', `Prefix ${text} is in use.`);
    for (let i = 0; i < PREFIX_SIZE; i++) used.add(first + i);
  }
  return [...wanted];
}
