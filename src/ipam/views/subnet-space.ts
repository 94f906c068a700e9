// The addresses of a subnet as EC2 has given them out: what is free, in which runs, and which aligned /28s are whole. Pure.
// EC2 tells nobody of fragmentation, so it is computed from the interfaces that stand in the subnet.
import { addToIp, type Cidr, cidrSize, type Ipv4 } from '../../base/ip.ts';
import { PREFIX_SIZE } from '../config/incumbent.ts';

/** Addresses that AWS keeps of every subnet (Amazon VPC User Guide, "Subnet sizing"). */
const KEPT_AT_START = 4;
const KEPT_AT_END = 1;

const OPEN = 0;
const KEPT_BY_AWS = 1;
const FOR_PREFIXES = 2;
const FOR_NAMED = 3;

export type SpaceInput = {
  cidr: Cidr;
  /** Subnet CIDR reservations: `prefix` for prefixes only, `explicit` for what is asked for by name. */
  reservations: readonly { cidr: Cidr; kind: 'prefix' | 'explicit' }[];
  addresses: readonly Ipv4[];
  prefixes: readonly Cidr[];
};

export type SubnetSpace = {
  readonly start: Ipv4;
  readonly size: number;
  /** 1 for an address that somebody holds. */
  readonly held: Uint8Array;
  readonly purpose: Uint8Array;
};

export function subnetSpace({ cidr, reservations, addresses, prefixes }: SpaceInput): SubnetSpace {
  const start = cidr.ip as Ipv4;
  const size = cidrSize(cidr);
  const held = new Uint8Array(size);
  const purpose = new Uint8Array(size);
  const mark = (to: Uint8Array, value: number, ip: number, count: number) =>
    to.fill(value, Math.max(0, ip - start), Math.max(0, Math.min(size, ip - start + count)));
  for (const { cidr: block, kind } of reservations)
    mark(purpose, kind === 'prefix' ? FOR_PREFIXES : FOR_NAMED, block.ip as Ipv4, cidrSize(block));
  purpose.fill(KEPT_BY_AWS, 0, KEPT_AT_START);
  purpose.fill(KEPT_BY_AWS, size - KEPT_AT_END);
  for (const ip of addresses) mark(held, 1, ip, 1);
  for (const prefix of prefixes) mark(held, 1, prefix.ip as Ipv4, cidrSize(prefix));
  return { start, size, held, purpose };
}

export type SpaceFigures = {
  /** Addresses that may be had at all: all but those that AWS keeps. */
  usable: number;
  /** May be had as single addresses without a name. */
  free: number;
  /** Free addresses side by side, at most. */
  largestFreeRun: number;
  /** Whole /28s that may be had as prefixes. */
  freePrefixes: number;
  /** Addresses that reservations set aside. */
  reserved: { prefix: number; explicit: number };
};

export function spaceFigures({ size, held, purpose }: SubnetSpace): SpaceFigures {
  const figures: SpaceFigures = {
    usable: 0,
    free: 0,
    largestFreeRun: 0,
    freePrefixes: 0,
    reserved: { prefix: 0, explicit: 0 },
  };
  let run = 0;
  for (let offset = 0; offset < size; offset++) {
    const kind = purpose[offset];
    if (kind !== KEPT_BY_AWS) figures.usable++;
    if (kind === FOR_PREFIXES) figures.reserved.prefix++;
    if (kind === FOR_NAMED) figures.reserved.explicit++;
    const isFree = kind === OPEN && held[offset] === 0;
    if (isFree) figures.free++;
    run = isFree ? run + 1 : 0;
    if (run > figures.largestFreeRun) figures.largestFreeRun = run;
  }
  for (let first = 0; first + PREFIX_SIZE <= size; first += PREFIX_SIZE)
    if (canBePrefix(purpose, first) && holdersOf(held, first) === 0) figures.freePrefixes++;
  return figures;
}

/** EC2 gives prefixes out of what is all reserved for them, or all unreserved. */
function canBePrefix(purpose: Uint8Array, first: number): boolean {
  const kind = purpose[first];
  if (kind !== OPEN && kind !== FOR_PREFIXES) return false;
  for (let i = 1; i < PREFIX_SIZE; i++) if (purpose[first + i] !== kind) return false;
  return true;
}

function holdersOf(held: Uint8Array, first: number): number {
  let count = 0;
  for (let i = 0; i < PREFIX_SIZE; i++) count += held[first + i]!;
  return count;
}

/** The /28s that could be prefixes and that somebody holds addresses of, with those addresses. */
export function brokenPrefixes({ start, size, held, purpose }: SubnetSpace): { ip: Ipv4; held: Ipv4[] }[] {
  const broken: { ip: Ipv4; held: Ipv4[] }[] = [];
  for (let first = 0; first + PREFIX_SIZE <= size; first += PREFIX_SIZE) {
    if (!canBePrefix(purpose, first) || holdersOf(held, first) === 0) continue;
    const inside: Ipv4[] = [];
    for (let i = 0; i < PREFIX_SIZE; i++)
      if (held[first + i] === 1) inside.push(addToIp(start, first + i) as Ipv4);
    broken.push({ ip: addToIp(start, first) as Ipv4, held: inside });
  }
  return broken;
}
