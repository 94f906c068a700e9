// The choice of addresses and prefixes in a subnet. EC2 does not place densely and tells nobody of its order: here it is
// a fixed scatter over the subnet, the same for the same calls, in which neighbours in time are not neighbours in space
// and a freed address comes last. Single addresses come from what no reservation has; prefixes from `prefix`
// reservations first, else from what none has; what is asked for by name may lie in any reservation.
// Fails with InsufficientFreeAddressesInSubnet, InsufficientCidrBlocks, InvalidIPAddress.InUse, InvalidParameterValue.
import { addToIp, cidrContains, formatIp, type Ipv4, parseCidr, parseIpv4 } from '../../base/ip.ts';
import type { Context } from './context.ts';
import { Ec2Error, invalidValue } from './errors.ts';
import type { Subnet, VpcState } from './model.ts';
import { FOR_PREFIXES, KEPT_BY_AWS, type Occupancy, OPEN, occupancyOf, PREFIX_SIZE } from './occupancy.ts';

export { PREFIX_SIZE };

/** EC2's AvailableIpAddressCount: what is set aside by a reservation is not available. */
export const availableAddresses = (state: VpcState, subnet: Subnet): number =>
  subnet.ipv6Native ? 0 : occupancyOf(state, subnet).free;

/** Takes the addresses asked for by name; EC2 refuses reserved, foreign and used ones. */
export function claimAddresses(ctx: Context, subnet: Subnet, wanted: readonly string[]): string[] {
  if (wanted.length === 0) return [];
  const cidr = parseCidr(subnet.cidr);
  const { start, holders, purpose } = occupancyOf(ctx.draft.state, subnet);
  const claimed = new Set<number>();
  for (const text of wanted) {
    const ip = parseAddress(text);
    if (!cidrContains(cidr, ip))
      throw invalidValue(`Address ${text} does not fall within the subnet's address range`);
    const offset = ip - start;
    if (purpose[offset] === KEPT_BY_AWS)
      throw invalidValue(`Address ${text} is in subnet's reserved address range`);
    if (holders[offset] || claimed.has(offset))
      throw new Ec2Error('InvalidIPAddress.InUse', `Address ${text} is in use.`);
    claimed.add(offset);
  }
  return [...wanted];
}

export function parseAddress(text: string): Ipv4 {
  try {
    return parseIpv4(text);
  } catch {
    throw invalidValue(`invalid value for parameter address: ${text}`);
  }
}

/** Takes `count` free addresses, the search going on where the last one ended. */
export function takeAddresses(ctx: Context, subnet: Subnet, count: number): string[] {
  if (count === 0) return [];
  const { start, size, holders, purpose, free } = occupancyOf(ctx.draft.state, subnet);
  if (free < count) {
    throw new Ec2Error(
      'InsufficientFreeAddressesInSubnet',
      `The specified subnet does not have enough free addresses to satisfy the request. (${subnet.id} has ${free} free, ${count} asked for)`,
    );
  }
  const taken: string[] = [];
  let turn = current(ctx, subnet).nextAddress ?? 0;
  for (; taken.length < count; turn = (turn + 1) % size) {
    const offset = scatter(turn, size, start);
    if (purpose[offset] === OPEN && holders[offset] === 0) taken.push(formatIp(addToIp(start, offset)));
  }
  ctx.draft.put('subnets', subnet.id, { ...current(ctx, subnet), nextAddress: turn });
  return taken;
}

/** Takes `count` free aligned /28 blocks; free single addresses alone do not make one. */
export function takePrefixes(ctx: Context, subnet: Subnet, count: number): string[] {
  if (count === 0) return [];
  const occupancy = occupancyOf(ctx.draft.state, subnet);
  const { start, size, free } = occupancy;
  const blocks = size / PREFIX_SIZE;
  const from = current(ctx, subnet).nextPrefix ?? 0;
  const taken: string[] = [];
  let next = from;
  for (const purpose of [FOR_PREFIXES, OPEN]) {
    for (let i = 0; i < blocks && taken.length < count; i++) {
      const turn = (from + i) % blocks;
      const first = scatter(turn, blocks, start) * PREFIX_SIZE;
      if (!isWholeBlock(occupancy, first, purpose)) continue;
      taken.push(`${formatIp(addToIp(start, first))}/28`);
      next = (turn + 1) % blocks;
    }
  }
  if (taken.length < count) {
    throw new Ec2Error(
      'InsufficientCidrBlocks',
      `The specified subnet does not have enough free cidr blocks to satisfy the request. (${subnet.id} has ${taken.length} free /28 and ${free} free addresses, ${count} /28 asked for)`,
    );
  }
  ctx.draft.put('subnets', subnet.id, { ...current(ctx, subnet), nextPrefix: next });
  return taken;
}

/** Takes the /28 blocks asked for by name. */
export function claimPrefixes(ctx: Context, subnet: Subnet, wanted: readonly string[]): string[] {
  if (wanted.length === 0) return [];
  const cidr = parseCidr(subnet.cidr);
  const occupancy = occupancyOf(ctx.draft.state, subnet);
  const claimed = new Set<number>();
  for (const text of wanted) {
    let first: number;
    try {
      const prefix = parseCidr(text);
      if (prefix.length !== 28 || !cidrContains(cidr, prefix.ip)) throw new Error('not a /28 of the subnet');
      first = (prefix.ip as Ipv4) - occupancy.start;
    } catch {
      throw invalidValue(`invalid value for parameter prefix: ${text}`);
    }
    if (claimed.has(first) || !isWholeBlock(occupancy, first))
      throw new Ec2Error('InvalidIPAddress.InUse', `Prefix ${text} is in use.`);
    claimed.add(first);
  }
  return [...wanted];
}

/** Nobody holds an address of the /28, AWS keeps none, and all are for `purpose` when one is asked for. */
function isWholeBlock(occupancy: Readonly<Occupancy>, first: number, purpose?: number): boolean {
  if (occupancy.heldInBlock[first / PREFIX_SIZE] !== 0) return false;
  const kinds = occupancy.purpose.subarray(first, first + PREFIX_SIZE);
  return kinds.every((kind) => (purpose === undefined ? kind !== KEPT_BY_AWS : kind === purpose));
}

/** The subnet's row in the draft, with what this action has already changed of it. */
const current = (ctx: Context, subnet: Subnet): Subnet => ctx.draft.state.subnets[subnet.id] ?? subnet;

/** The place of a turn: a permutation of 0..size-1, `size` a power of two, that differs from subnet to subnet. */
export function scatter(turn: number, size: number, seed: number): number {
  const mask = size - 1;
  const half = Math.max(1, Math.ceil(Math.log2(size) / 2));
  let place = (turn + Math.imul(seed >>> 4, 0x9e3779b1)) & mask;
  for (const [factor, summand] of ROUNDS) {
    place = (Math.imul(place, factor) + summand) & mask;
    place ^= place >>> half;
  }
  return place;
}

/** Odd factors, so that each round can be undone and the whole is a permutation. */
const ROUNDS = [
  [0x9e3779b1, 0x7f4a7c15],
  [0x85ebca6b, 0x165667b1],
  [0xc2b2ae35, 0x27d4eb2f],
] as const;
