// Counts the pool once per state: what each ENI and block has held, used and free, and which free address is next. Pure.
// Invariant: one pass over the blocks and one over the uses, however many prefixes there are; the answer is kept with
// the state until the time at which it changes by itself (a cooldown or a pause ends). What is counted is the family that
// runs short: IPv4 where pods have it, else IPv6. A /80 is never enumerated.
import { EGRESS4, isEgress } from '../../base/egress.ts';
import { addToIp, cidrContains, cidrOf, cidrSize, type Ip } from '../../base/ip.ts';
import type { InstanceLimits } from '../../cloud/limits.ts';
import type { EniId } from '../../cloud/port.ts';
import { PREFIX_SIZE } from '../config/incumbent.ts';
import type { Families, PoolPolicy } from '../policy.ts';
import { type Block, type Eni, isFree, isUsable, type PoolState, trunkOf } from '../state.ts';

/** Which of the node's blocks new pods get addresses from. */
export type Giving = {
  readonly families: Families;
  /** A pod of both families has its IPv6 address first. */
  readonly sixFirst: boolean;
  /** A pod without an IPv4 address gets one of the node's own for IPv4 hosts. */
  readonly egress: boolean;
  /** The kind that is given first. Free addresses of the other kind do not count for the goal. */
  readonly prefers: 'single' | 'prefix';
  readonly primary: boolean;
  readonly closedSubnets: ReadonlySet<string>;
  /** ENIs beyond this number, the emptiest, give none. */
  readonly maxEnis: number;
  /** ENIs that this card takes, while one of them is to be a trunk; null: none is. */
  readonly besideTrunk: { readonly enis: number; readonly card: number } | null;
  /** Of a subnet's usable addresses. */
  readonly maxPercent: number;
};

export const givesAll: Giving = {
  families: 'ipv4',
  sixFirst: false,
  egress: false,
  prefers: 'single',
  primary: true,
  closedSubnets: new Set(),
  maxEnis: Number.POSITIVE_INFINITY,
  besideTrunk: null,
  maxPercent: 100,
};

/** Below this bound (addresses of a node, or its share of a subnet) there is no room to use prefixes. */
const LEAST_FOR_PREFIXES = 2 * PREFIX_SIZE;

/** True when the node is to have prefixes, its type can, and its bound has room for them. */
export const usesPrefixes = (
  { addressing, maxAddresses }: Pick<PoolPolicy, 'addressing' | 'maxAddresses'>,
  limits: Pick<InstanceLimits, 'prefixes'>,
): boolean =>
  addressing !== 'secondary' &&
  limits.prefixes &&
  (maxAddresses === null || maxAddresses >= LEAST_FOR_PREFIXES);

const givings = new WeakMap<
  PoolPolicy,
  { readonly prefixes: boolean; readonly enis: number; readonly giving: Giving }
>();

export function givingOf(policy: PoolPolicy, limits: InstanceLimits): Giving {
  const prefixes = usesPrefixes(policy, limits);
  const known = givings.get(policy);
  if (known?.prefixes === prefixes && known.enis === limits.enis) return known.giving;
  const giving: Giving = {
    families: policy.families,
    sixFirst: policy.primaryFamily === 'ipv6',
    egress: policy.families === 'ipv6' && policy.egress4 === 'node',
    prefers: prefixes ? 'prefix' : 'single',
    primary: policy.primaryGives,
    closedSubnets: new Set(policy.excludedSubnetIds),
    maxEnis: policy.maxEnis ?? Number.POSITIVE_INFINITY,
    besideTrunk: policy.keepsTrunkSlot ? { enis: limits.enis, card: limits.defaultCard } : null,
    maxPercent: policy.maxSubnetPercent ?? 100,
  };
  givings.set(policy, { prefixes, enis: limits.enis, giving });
  return giving;
}

/** What the policy and the type say now. */
export const givingNow = (core: { policy: PoolPolicy; limits: InstanceLimits }): Giving =>
  givingOf(core.policy, core.limits);

export type BlockCount = {
  readonly block: Block;
  readonly size: number;
  held: number;
  /** Held, cooling, quarantined or on a link of the node. */
  used: number;
  /** Since when (ms) nobody has used it: its arrival, or the end of its last address's cooldown. */
  lastUse: number;
  /** Its free addresses may be given out. */
  readonly usable: boolean;
  /** Of the kind that is not preferred: given out last, and returned when it is idle. */
  readonly other: boolean;
};

export type EniCount = {
  readonly eni: Eni;
  readonly blocks: BlockCount[];
  /** Its /80s. */
  readonly blocks6: BlockCount[];
  /** The /80 that pods get addresses of. */
  six: BlockCount | null;
  /** Gives no address to new pods, by the policy: it drains. */
  closed: boolean;
  held: number;
  used: number;
  free: number;
  /** A pod has an address that it carries, or carried when the address was given out. */
  isHolding: boolean;
  /** Held addresses that EC2 does not list on it. */
  lost: Ip[];
};

export type Totals = {
  held: number;
  /** May be given out now. */
  free: number;
  cooling: number;
  quarantined: number;
  foreign: number;
  /** Expected from calls in flight. */
  incoming: number;
};

export type Census = {
  readonly enis: readonly EniCount[];
  /** The highest place within its /80 of an IPv6 address that is in use. */
  readonly last6: bigint;
  readonly totals: Totals;
  /** Of IPv6, whatever family is counted. */
  readonly totals6: Pick<Totals, 'held' | 'free' | 'cooling'>;
  /** Free addresses that count for the goal: those of the preferred kind. */
  readonly counted: number;
  readonly now: number;
  readonly changesAt: number;
  readonly giving: Giving;
};

export const prefixKey = (subnetId: string): string => `prefix:${subnetId}`;

/** True while the subnet is known to have no whole /28, and where the node's share of it is too small for one. */
export const lacksPrefixes = (state: PoolState, subnetId: string, giving: Giving, now: number): boolean =>
  (state.pauses.get(prefixKey(subnetId))?.until ?? 0) > now ||
  (giving.maxPercent < 100 && shareOf(state, subnetId, giving.maxPercent) < LEAST_FOR_PREFIXES);

/** EC2 keeps five addresses of a subnet. */
const KEPT = 5;

/** So many percent of the addresses of a subnet that EC2 gives out; 0 while the subnet is not known. */
export function shareOf(state: PoolState, subnetId: string, percent: number): number {
  let cidr = state.subnets.get(subnetId)?.cidr;
  if (!cidr) for (const eni of state.enis.values()) if (eni.subnetId === subnetId) cidr = eni.subnetCidr;
  return cidr ? Math.floor((Math.max(0, cidrSize(cidr) - KEPT) * percent) / 100) : 0;
}

const kept = new WeakMap<PoolState, Census>();

export function censusOf(state: PoolState, now: number, giving: Giving = givesAll): Census {
  const last = kept.get(state);
  if (last && last.giving === giving && last.now <= now && now < last.changesAt) return last;
  const census = count(state, now, giving);
  kept.set(state, census);
  return census;
}

export const countPool = (state: PoolState, now: number, giving: Giving = givesAll): Totals =>
  censusOf(state, now, giving).totals;

function count(state: PoolState, now: number, giving: Giving): Census {
  const totals: Totals = { held: 0, free: 0, cooling: 0, quarantined: 0, foreign: 0, incoming: 0 };
  const counts = new Map<EniId, EniCount>();
  const prefixes = new Map<Ip, [EniCount, BlockCount]>();
  let changesAt = Number.POSITIVE_INFINITY;
  let last6 = 0n;
  const totals6 = { held: 0, free: 0, cooling: 0 };
  const counted6 = giving.families === 'ipv6';
  for (const pause of state.pauses.values())
    if (pause.until > now) changesAt = Math.min(changesAt, pause.until);
  for (const eni of state.enis.values()) counts.set(eni.id, countEni(state, eni, giving, now, prefixes));
  for (const [ip, use] of state.uses) {
    const isSix = typeof ip !== 'number';
    const isCounted = isSix === counted6;
    if (isSix && placeIn80(ip) > last6) last6 = placeIn80(ip);
    const free = isFree(use, now);
    if (use.kind === 'cooling' && use.until > now && use.until < changesAt) changesAt = use.until;
    if (!free && isCounted) totals[state.taken.has(ip) ? 'quarantined' : use.kind]++;
    if (!free && isSix && use.kind !== 'quarantined') totals6[use.kind]++;
    if (use.kind === 'held' && !isEgress(ip)) noteHeld(counts, ip, use.lease.eni?.id);
    const found = prefixes.size > 0 ? prefixes.get(prefixBase(ip)) : undefined;
    if (!found || (found[1].size !== PREFIX_SIZE && !cidrContains(found[1].block.cidr, ip))) continue;
    const [eni, block] = found;
    if (use.kind === 'cooling' && use.until > block.lastUse) block.lastUse = use.until;
    if (free) continue;
    block.used++;
    if (use.kind !== 'held') continue;
    block.held++;
    if (isCounted) eni.held++;
    eni.isHolding = true;
  }
  for (const ip of state.onLinks.keys()) {
    if (!isFree(state.uses.get(ip), now)) continue;
    if ((typeof ip !== 'number') === counted6) totals.quarantined++;
    const found = prefixes.get(prefixBase(ip));
    if (found) found[1].used++;
  }
  closeSurplus(counts, mostOwn(state, giving));
  let counted = 0;
  for (const one of counts.values())
    counted += counted6 ? sumUp6(one, totals) : sumUp(one, totals, giving.families === 'dual');
  for (const expected of state.busy.values()) totals.incoming += expected;
  for (const { six } of counts.values()) if (six) totals6.free += six.size - six.used;
  return { enis: [...counts.values()], totals, counted, now, changesAt, giving, last6, totals6 };
}

const SIX_LENGTH = 80;
/** EC2 gives IPv6 prefixes of this length alone. */
const prefixBase = (ip: Ip): Ip =>
  typeof ip === 'number' ? (((ip & ~(PREFIX_SIZE - 1)) >>> 0) as Ip) : cidrOf(ip, SIX_LENGTH).ip;

const HOST_BITS6 = BigInt(128 - SIX_LENGTH);
const PLACES6 = (1n << HOST_BITS6) - 1n;
const placeIn80 = (ip: bigint): bigint => ip & PLACES6;

function countEni(
  state: PoolState,
  eni: Eni,
  giving: Giving,
  now: number,
  prefixes: Map<Ip, [EniCount, BlockCount]>,
): EniCount {
  const closed = giving.closedSubnets.has(eni.subnetId) || (eni.primary && !giving.primary);
  const counted: EniCount = {
    ...{ eni, blocks: [], blocks6: [], six: null, closed },
    ...{ held: 0, used: 0, free: 0, isHolding: false, lost: [] },
  };
  const singlesAreOther = giving.prefers === 'prefix' && !lacksPrefixes(state, eni.subnetId, giving, now);
  for (const block of eni.blocks.values()) {
    const { ip } = block.cidr;
    const isSix = typeof ip !== 'number';
    const size = cidrSize(block.cidr);
    if (isSix && block.cidr.length !== SIX_LENGTH) continue;
    const one: BlockCount = {
      block,
      size,
      held: 0,
      used: 0,
      lastUse: block.since,
      usable: isUsable(eni, block),
      other: isSix ? false : size > 1 ? giving.prefers === 'single' : singlesAreOther,
    };
    if (isSix && one.usable) counted.six ??= one;
    (isSix ? counted.blocks6 : counted.blocks).push(one);
    if (size > 1) {
      prefixes.set(ip, [counted, one]);
      continue;
    }
    const use = state.uses.get(ip);
    if (use?.kind === 'cooling') one.lastUse = Math.max(block.since, use.until);
    if (isFree(use, now)) one.used = state.onLinks.has(ip) ? 1 : 0;
    else one.used = 1;
    if (use?.kind !== 'held') continue;
    one.held = 1;
    counted.held++;
    counted.isHolding = true;
  }
  return counted;
}

/** Notes on the lease's ENI that it is held, and whether EC2 lists the address there. */
function noteHeld(counts: ReadonlyMap<EniId, EniCount>, ip: Ip, id: EniId | undefined): void {
  const one = id === undefined ? undefined : counts.get(id);
  if (!one) return;
  one.isHolding = true;
  const { blocks } = one.eni;
  const block = blocks.get(ip) ?? blocks.get(prefixBase(ip));
  if (!block || !cidrContains(block.cidr, ip) || block.missingSince !== null) one.lost.push(ip);
}

/** How many ENIs of the pool give addresses at most. */
function mostOwn(state: PoolState, { maxEnis, besideTrunk }: Giving): number {
  if (besideTrunk === null || trunkOf(state) !== null) return maxEnis;
  const others = state.foreign.filter(
    ({ networkCard, deviceIndex }) => networkCard === besideTrunk.card && deviceIndex >= 0,
  );
  return Math.min(maxEnis, Math.max(1, besideTrunk.enis - 1 - others.length));
}

/** The emptiest ENIs beyond the policy's number, and one where a trunk has no slot, give no address. */
function closeSurplus(counts: ReadonlyMap<EniId, EniCount>, most: number): void {
  if (counts.size <= most) return;
  const all = [...counts.values()].filter(({ eni }) => eni.phase !== 'leaving');
  const surplus = all.length - most;
  const emptiest = all
    .filter(({ eni }) => !eni.primary)
    .sort((a, b) => a.held - b.held || b.eni.deviceIndex - a.eni.deviceIndex);
  for (const one of emptiest.slice(0, Math.max(0, surplus))) one.closed = true;
}

/** The same of IPv6: /80s. */
function sumUp6(one: EniCount, totals: Totals): number {
  for (const each of one.blocks6) {
    one.used += each.used;
    if (one.closed || each.block.foreign) continue;
    if (each === one.six) one.free = each.size - each.used;
    else if (isComing(one.eni, each.block)) totals.incoming++;
  }
  for (const each of one.blocks) one.used += each.used;
  totals.free += one.free;
  return one.free;
}

/**
 * Adds the ENI's blocks to the totals; answers how many free addresses count for the goal. With `dual` an address is to be had
 * once its ENI has a /80, too.
 */
function sumUp(one: EniCount, totals: Totals, dual: boolean): number {
  let counted = 0;
  const lacksSix = dual && one.six === null;
  for (const each of one.blocks) {
    const { block, size } = each;
    const free = size - each.used;
    one.used += block.foreign ? size : each.used;
    if (block.foreign) totals.foreign += size;
    else if (one.closed) continue;
    else if (each.usable && !lacksSix) {
      one.free += free;
      totals.free += free;
      if (!each.other) counted += free;
    } else if (each.usable || isComing(one.eni, block)) totals.incoming += free;
  }
  return counted;
}

/** True when the block will be usable as soon as the node's network has been told of it. */
const isComing = (eni: Eni, block: Block): boolean =>
  isUsable({ ...eni, phase: eni.phase === 'attached' ? 'ready' : eni.phase }, { ...block, pending: false });

export const isIdle = ({ used, block }: BlockCount): boolean => used === 0 && !block.foreign;

/**
 * The free address to give out next: of the preferred kind; of the primary ENI, then of the one with the most pods, an
 * empty ENI last; of the prefix with the most pods; among those the one released longest ago, a never used one first.
 */
export function nextFree(state: PoolState, now: number, giving: Giving): { eni: Eni; ips: Ip[] } | null {
  const census = censusOf(state, now, giving);
  if (census.totals.free === 0) return null;
  if (giving.families !== 'ipv6') {
    const found = nextFree4(state, census, now);
    if (!found) return null;
    const { one, ip } = found;
    if (!one.six || giving.families !== 'dual') return { eni: one.eni, ips: [ip] };
    const six = next6(state, census, one.six);
    return { eni: one.eni, ips: giving.sixFirst ? [six, ip] : [ip, six] };
  }
  const able = census.enis.filter((one) => one.free > 0);
  const one = able.find(({ eni }) => eni.primary) ?? able[0];
  if (!one?.six) return null;
  const egress = giving.egress ? nextEgress(state, now) : null;
  return { eni: one.eni, ips: [next6(state, census, one.six), ...(egress === null ? [] : [egress])] };
}

/** The first that nobody has and that does not cool; null when there is none. */
function nextEgress(state: PoolState, now: number): Ip | null {
  // Not the first and the last, which programs may take for a network's own.
  for (let place = 1; place < cidrSize(EGRESS4) - 1; place++) {
    const ip = addToIp(EGRESS4.ip, place);
    if (isFree(state.uses.get(ip), now) && !state.onLinks.has(ip)) return ip;
  }
  return null;
}

/**
 * The next address of a /80: its place is the time in ms, or the one after the highest in use where that is later. So one
 * that was given once is not given again, without a list of them, also when the journal is lost.
 */
function next6(state: PoolState, { now, last6 }: Census, { block }: BlockCount): Ip {
  const time = BigInt(Math.max(1, Math.floor(now)));
  for (let place = last6 >= time ? last6 + 1n : time; ; place++) {
    const ip = ((block.cidr.ip as bigint) | (place & PLACES6)) as Ip;
    if ((place & PLACES6) !== 0n && !state.uses.has(ip) && !state.onLinks.has(ip)) return ip;
  }
}

function nextFree4(state: PoolState, census: Census, now: number): { one: EniCount; ip: Ip } | null {
  const { giving } = census;
  const preferred = giving.prefers === 'prefix';
  let best: { one: EniCount; block: BlockCount; rank: number; since: number } | null = null;
  for (const one of census.enis) {
    if (one.free === 0) continue;
    const fullness = one.eni.primary ? MOST : one.used === 0 ? 0 : 1 + one.held;
    for (const each of one.blocks) {
      if (!each.usable || each.used >= each.size) continue;
      const isPrefix = each.size > 1;
      const rank =
        (isPrefix === preferred ? MOST * MOST * 2 : 0) + fullness * MOST + (isPrefix ? each.held : 0);
      if (best && rank < best.rank) continue;
      const since = isPrefix ? 0 : releasedAt(state, each.block.cidr.ip);
      if (!best || rank > best.rank || since < best.since) best = { one, block: each, rank, since };
    }
  }
  if (!best) return null;
  const { block } = best.block;
  const ip = best.block.size > 1 ? oldestIn(state, block, now) : block.cidr.ip;
  return ip === null ? null : { one: best.one, ip };
}

/** More than any ENI has addresses. */
const MOST = 65_536;

function releasedAt(state: PoolState, ip: Ip): number {
  const use = state.uses.get(ip);
  return use?.kind === 'cooling' ? use.since : 0;
}

function oldestIn(state: PoolState, block: Block, now: number): Ip | null {
  let best: Ip | null = null;
  let since = Number.POSITIVE_INFINITY;
  const size = cidrSize(block.cidr);
  for (let offset = 0; offset < size; offset++) {
    const ip = addToIp(block.cidr.ip, offset);
    const use = state.uses.get(ip);
    if (state.onLinks.has(ip) || !isFree(use, now)) continue;
    if (use === undefined) return ip;
    if (releasedAt(state, ip) < since) {
      best = ip;
      since = releasedAt(state, ip);
    }
  }
  return best;
}
