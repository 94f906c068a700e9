// The choice of IPv6 addresses and prefixes in a subnet's /64, and the checks of those asked for by name. Addresses are
// drawn at random, prefixes from a random place on; the interfaces are the only record of who holds what. Single addresses
// come from what no reservation has; prefixes from `prefix` reservations first; what is named may lie in any.
// Fails with InsufficientFreeAddressesInSubnet, InsufficientCidrBlocks, InvalidParameterValue, InvalidIPAddress.InUse, InvalidSubnet.Range (of blocks).
import {
  addToIp,
  type Cidr,
  cidrContains,
  cidrCovers,
  cidrOf,
  cidrsOverlap,
  formatCidr,
  formatIp,
  type Ipv6,
  parseCidr,
  parseIpv6,
} from '../../base/ip.ts';
import type { Context } from './context.ts';
import { Ec2Error, invalidValue } from './errors.ts';
import type { NetworkInterface, Subnet, SubnetCidrReservation, Vpc } from './model.ts';
import { reservationsOf } from './occupancy.ts';

/** What is translated to IPv4, its last 32 bits being the address (RFC 6052). */
export const NAT64 = parseCidr('64:ff9b::/96');

/** Lengths of what EC2 gives: to a VPC, to a subnet, to an interface. */
export const VPC_LENGTH = 56;
export const SUBNET_LENGTH = 64;
export const PREFIX_LENGTH = 80;
/** Of a subnet's /64, as of an IPv4 subnet, AWS keeps the first four addresses and the last one. */
const KEPT_AT_START = 4n;

/** The range that Amazon's own blocks of this region come from; nothing of the lab ever leaves its namespaces. */
const AMAZON = parseCidr('2600:1f14::/32');

/** A /56 that no other VPC of the lab has. */
export function amazonBlock(ctx: Context): string {
  const taken = new Set(Object.values(ctx.draft.state.vpcs).flatMap((vpc) => ipv6CidrsOf(vpc)));
  for (;;) {
    const [a = 0, b = 0, c = 0] = ctx.random(3);
    const at = BigInt((a << 16) | (b << 8) | c) << BigInt(128 - VPC_LENGTH);
    const block = formatCidr({ ip: ((AMAZON.ip as bigint) | at) as Ipv6, length: VPC_LENGTH });
    if (!taken.has(block)) return block;
  }
}

export const ipv6CidrsOf = (of: Vpc | Subnet | undefined): string[] =>
  (of?.ipv6Cidrs ?? []).map((block) => block.cidr);

/** Reads an IPv6 block of the one length that EC2 takes there; it clears host bits rather than refuse them. */
export function readIpv6Block(text: string, length: number): string {
  try {
    const cidr = parseCidr(text, { mask: true });
    if (typeof cidr.ip === 'bigint' && cidr.length === length) return formatCidr(cidr);
  } catch {
    // Answered as any other text that is none.
  }
  throw invalidValue(`invalid value for parameter ipv6-cidr-block: ${text}`);
}

/** A subnet's block: a /64 of its VPC that no other subnet has. */
export function subnetIpv6Block(ctx: Context, vpc: Vpc, text: string, own?: Subnet): string {
  const cidr = readIpv6Block(text, SUBNET_LENGTH);
  if (!ipv6CidrsOf(vpc).some((block) => cidrCovers(parseCidr(block), parseCidr(cidr))))
    throw new Ec2Error('InvalidSubnet.Range', `The IPv6 CIDR '${cidr}' is invalid.`);
  const rival = Object.values(ctx.draft.state.subnets).find(
    (other) => other.vpcId === vpc.id && other.id !== own?.id && ipv6CidrsOf(other).includes(cidr),
  );
  if (rival)
    throw new Ec2Error('InvalidSubnet.Conflict', `The IPv6 CIDR '${cidr}' conflicts with another subnet`);
  return cidr;
}

/** Who holds what of a subnet, and the block itself; throws EC2's words for a subnet without one. */
type Held = {
  cidr: Cidr;
  addresses: Set<bigint>;
  prefixes: Set<bigint>;
  reservations: { block: Cidr; type: SubnetCidrReservation['type'] }[];
};

function heldIn(ctx: Context, subnet: Subnet): Held {
  const [block] = ipv6CidrsOf(subnet);
  if (block === undefined)
    throw invalidValue(
      `The subnet '${subnet.id}' has no IPv6 CIDR block associated with it, which IPv6 addresses need.`,
    );
  const addresses = new Set<bigint>();
  const prefixes = new Set<bigint>();
  for (const eni of Object.values(ctx.draft.state.networkInterfaces)) {
    if (eni.subnetId !== subnet.id) continue;
    for (const ip of eni.ipv6Addresses) addresses.add(parseIpv6(ip));
    for (const prefix of eni.ipv6Prefixes) prefixes.add(parseCidr(prefix).ip as bigint);
  }
  const reservations = reservationsOf(ctx.draft.state, subnet.id, 6).map(({ cidr, type }) => ({
    block: parseCidr(cidr),
    type,
  }));
  return { cidr: parseCidr(block), addresses, prefixes, reservations };
}

const prefixOf = (ip: bigint): bigint => cidrOf(ip as Ipv6, PREFIX_LENGTH).ip as bigint;
const lastOf = ({ ip, length }: Cidr): bigint => (ip as bigint) | ((1n << BigInt(128 - length)) - 1n);
const isKept = (held: Held, ip: bigint): boolean =>
  ip < (held.cidr.ip as bigint) + KEPT_AT_START || ip === lastOf(held.cidr);

function isFreePrefix(held: Held, prefix: bigint): boolean {
  if (held.prefixes.has(prefix)) return false;
  const last = lastOf({ ip: prefix as Ipv6, length: PREFIX_LENGTH });
  if (isKept(held, prefix) || isKept(held, last)) return false;
  for (const ip of held.addresses) if (prefixOf(ip) === prefix) return false;
  return true;
}

const bits = (bytes: Uint8Array): bigint => BigInt(`0x${Buffer.from(bytes).toString('hex')}`);

/** `count` addresses that nobody holds, none of them in anybody's prefix. */
export function takeIpv6Addresses(ctx: Context, subnet: Subnet, count: number): string[] {
  if (count === 0) return [];
  const held = heldIn(ctx, subnet);
  const taken: string[] = [];
  for (let draw = 0; draw < count * MOST_DRAWS && taken.length < count; draw++) {
    const ip = (held.cidr.ip as bigint) | bits(ctx.random(8));
    if (held.addresses.has(ip) || held.prefixes.has(prefixOf(ip)) || isKept(held, ip)) continue;
    if (held.reservations.some(({ block }) => cidrContains(block, ip as Ipv6))) continue;
    held.addresses.add(ip);
    taken.push(formatIp(ip as Ipv6));
  }
  if (taken.length === count) return taken;
  throw new Ec2Error(
    'InsufficientFreeAddressesInSubnet',
    `The specified subnet does not have enough free addresses to satisfy the request. (${subnet.id}, ${count} IPv6 addresses asked for)`,
  );
}

/** A subnet in which so many draws for an address find none has what is free in reservations. */
const MOST_DRAWS = 10_000;

/** `count` free /80 blocks. */
export function takeIpv6Prefixes(ctx: Context, subnet: Subnet, count: number): string[] {
  if (count === 0) return [];
  const held = heldIn(ctx, subnet);
  const taken: string[] = [];
  const forPrefixes = held.reservations.filter(({ type }) => type === 'prefix').map(({ block }) => block);
  const isOpen = (cidr: Cidr) => !held.reservations.some(({ block }) => cidrsOverlap(block, cidr));
  for (const [block, fits] of [
    ...forPrefixes.map((each) => [each, () => true] as const),
    [held.cidr, isOpen] as const,
  ]) {
    const places = 2 ** (PREFIX_LENGTH - block.length);
    const first = Number(bits(ctx.random(2))) % places;
    for (let i = 0; i < places && taken.length < count; i++) {
      const place = BigInt((first + i) % places) << BigInt(128 - PREFIX_LENGTH);
      const cidr = { ip: ((block.ip as bigint) + place) as Ipv6, length: PREFIX_LENGTH };
      if (!fits(cidr) || !isFreePrefix(held, cidr.ip)) continue;
      held.prefixes.add(cidr.ip);
      taken.push(formatCidr(cidr));
    }
  }
  if (taken.length === count) return taken;
  throw new Ec2Error(
    'InsufficientCidrBlocks',
    `The specified subnet does not have enough free cidr blocks to satisfy the request. (${subnet.id} has ${taken.length} free /${PREFIX_LENGTH}, ${count} asked for)`,
  );
}

/** The addresses asked for by name, in canonical text. */
export function claimIpv6Addresses(ctx: Context, subnet: Subnet, wanted: readonly string[]): string[] {
  if (wanted.length === 0) return [];
  const held = heldIn(ctx, subnet);
  return wanted.map((text) => {
    const ip = readIpv6Address(text);
    if (!cidrContains(held.cidr, ip))
      throw invalidValue(`Address ${text} does not fall within the subnet's address range`);
    if (isKept(held, ip)) throw invalidValue(`Address ${text} is in subnet's reserved address range`);
    if (held.addresses.has(ip) || held.prefixes.has(prefixOf(ip)))
      throw new Ec2Error('InvalidIPAddress.InUse', `Address ${text} is in use.`);
    held.addresses.add(ip);
    return formatIp(ip);
  });
}

export function readIpv6Address(text: string): Ipv6 {
  try {
    return parseIpv6(text);
  } catch {
    throw invalidValue(`Invalid IPv6 address: ${text}`);
  }
}

/** The /80 blocks asked for by name, in canonical text. */
export function claimIpv6Prefixes(ctx: Context, subnet: Subnet, wanted: readonly string[]): string[] {
  if (wanted.length === 0) return [];
  const held = heldIn(ctx, subnet);
  return wanted.map((text) => {
    const cidr = readIpv6Prefix(text);
    if (cidr === undefined || !cidrCovers(held.cidr, cidr))
      throw invalidValue(`invalid value for parameter ipv6-prefix: ${text}`);
    if (!isFreePrefix(held, cidr.ip as bigint))
      throw new Ec2Error('InvalidIPAddress.InUse', `Prefix ${text} is in use.`);
    held.prefixes.add(cidr.ip as bigint);
    return formatCidr(cidr);
  });
}

function readIpv6Prefix(text: string): Cidr | undefined {
  try {
    const cidr = parseCidr(text);
    return cidr.length === PREFIX_LENGTH && typeof cidr.ip === 'bigint' ? cidr : undefined;
  } catch {
    return undefined;
  }
}

/** Whether anybody holds an address or prefix of the block. */
export const isBlockHeld = (enis: readonly NetworkInterface[], block: string): boolean => {
  const cidr = parseCidr(block);
  return enis.some(
    (eni) =>
      eni.ipv6Addresses.some((ip) => cidrContains(cidr, parseIpv6(ip))) ||
      eni.ipv6Prefixes.some((prefix) => cidrsOverlap(cidr, parseCidr(prefix))),
  );
};

/** The router's address in a subnet's block: the first after the block's own. */
export const routerOfIpv6 = (block: string): Ipv6 => addToIp(parseCidr(block).ip as Ipv6, 1);
