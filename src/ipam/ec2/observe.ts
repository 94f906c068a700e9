// Folds EC2's description of this instance's ENIs into the pool. Pure. A new ENI of ours is added at once; its other
// addresses are ours unless the node uses them or they have an Elastic IP. Later addresses are ours if a call of ours
// may have assigned them, else foreign. An ENI or address is removed only when two describes, at least 30 s apart and
// begun after our last change of that ENI settled, lack it. A held address that is missing stays held and is reported.
import { type Cidr, cidrContains, cidrSize, formatCidr, formatIp, hostCidr, type Ip } from '../../base/ip.ts';
import type { EniDescription, EniId } from '../../cloud/port.ts';
import { coolUnheld, findTheirEnis } from '../journal/adopt.ts';
import {
  type Block,
  dropStrays,
  type Eni,
  type ForeignEni,
  type Lease,
  newBlock,
  type PoolState,
  type Use,
  withEni,
  withoutEni,
} from '../state.ts';
import { bearsOurTags, isKeptAway, type Whose } from './tags.ts';

/** Two describes must be this far apart (ms) to remove something. */
export const REMOVAL_GAP = 30_000;
/** Within this time (ms) after an address's return to EC2, a describe that still lists it is considered stale. */
const RETURN_LAG = 60_000;

export type Observation = {
  kind:
    | 'eni-found'
    | 'eni-missing'
    | 'eni-gone'
    | 'address-found'
    | 'address-foreign'
    | 'address-missing'
    | 'address-gone';
  eniId: EniId;
  ip?: Ip;
  /** A pod holds the address, and EC2 no longer routes it here. */
  held: boolean;
};

export type DescribeContext = {
  instanceId: string;
  /** The cluster's name, when it has one. */
  cluster?: string | undefined;
  primaryEniId: EniId | null;
  /** Prefix of each subnet that an ENI may stand in. */
  subnetCidrs: ReadonlyMap<string, Cidr>;
  beganAt: number;
  now: number;
  /** Whether an address of an ENI that is seen for the first time is foreign. */
  isForeign: (address: { ip: Ip; public: boolean }) => boolean;
};

export function foldDescribe(
  state: PoolState,
  described: readonly EniDescription[],
  context: DescribeContext,
): { state: PoolState; observations: Observation[]; changed: Set<EniId>; found: Lease[] } {
  const observations: Observation[] = [];
  const changed = new Set<EniId>();
  const foreign: ForeignEni[] = [];
  const seen = new Set<EniId>();
  let skipped = false;
  const removed = new Map([...state.removed].filter(([, at]) => context.beganAt - at < RETURN_LAG));
  let next: PoolState = removed.size === state.removed.size ? state : { ...state, removed };
  // Between two pages EC2 may list an ENI twice.
  for (const eni of new Map(described.map((one) => [one.id, one])).values()) {
    seen.add(eni.id);
    const keptAway = isKeptAway(eni.tags);
    let known = next.enis.get(eni.id);
    // Its operator has taken the ENI from the pool: it goes once no pod holds an address of it.
    if (known && keptAway && !known.primary && mayJudge(next, known, context) && !heldOn(next, known)) {
      next = withoutEni(next, eni.id, context.now);
      changed.add(eni.id);
      observations.push({ kind: 'eni-gone', eniId: eni.id, held: false });
      known = undefined;
    }
    if (!known && (isBeingMade(next, eni.id) || (next.removed.has(eni.id) && !keptAway))) continue;
    if (!known && !isOurs(eni, context)) {
      const { deviceIndex, networkCard } = eni.attachment ?? { deviceIndex: -1, networkCard: 0 };
      foreign.push({
        id: eni.id,
        deviceIndex,
        networkCard,
        description: eni.description || eni.interfaceType,
        ...(eni.interfaceType === 'trunk'
          ? { trunk: { mac: eni.mac, subnetId: eni.subnetId, primaryIp: formatIp(primaryIpOf(eni)) } }
          : {}),
      });
      continue;
    }
    if (known && !mayJudge(next, known, context)) {
      skipped = true;
      continue;
    }
    const folded = known ? foldEni(next, known, eni, context, observations) : adoptEni(eni, context);
    if (!known) observations.push({ kind: 'eni-found', eniId: eni.id, held: false });
    if (folded !== known) {
      next = withEni(next, folded);
      changed.add(eni.id);
    }
  }
  for (const eni of next.enis.values()) {
    if (seen.has(eni.id) || !mayJudge(next, eni, context)) continue;
    const held = heldOn(next, eni);
    if (eni.missingSince === null) {
      next = withEni(next, { ...eni, missingSince: context.beganAt });
      observations.push({ kind: 'eni-missing', eniId: eni.id, held });
    } else if (!held && context.beganAt - eni.missingSince >= REMOVAL_GAP) {
      next = withoutEni(next, eni.id, context.now);
      changed.add(eni.id);
      observations.push({ kind: 'eni-gone', eniId: eni.id, held });
    }
  }
  const { state: settled, found, missing } = findTheirEnis({ ...next, foreign });
  const sure = settleUnsure(settled, missing.length === 0 && !skipped, context.beganAt);
  return { state: dropStrays(sure, context.now), observations, changed, found };
}

/**
 * After a lost journal: the pool is complete once each ENI was judged and each lease has its ENI. A lease whose address
 * two describes do not list has lost the address, and is no longer waited for.
 */
function settleUnsure(state: PoolState, isComplete: boolean, beganAt: number): PoolState {
  if (!state.unsure) return state;
  const describedAt = state.unsure.describedAt ?? beganAt;
  const isOver = isComplete || beganAt - describedAt >= REMOVAL_GAP;
  return { ...coolUnheld(state), unsure: isOver ? null : { ...state.unsure, describedAt } };
}

/** True for the primary ENI, and for ENIs of a suitable type with our tags. */
export function isOurs(eni: EniDescription, context: Whose & { primaryEniId: EniId | null }): boolean {
  if (context.primaryEniId ? eni.id === context.primaryEniId : eni.attachment?.deviceIndex === 0) return true;
  return (
    bearsOurTags(eni.tags, context) && (eni.interfaceType === 'interface' || eni.interfaceType === 'efa')
  );
}

const isBeingMade = (state: PoolState, id: EniId): boolean =>
  [...state.creations.values()].some((creation) => creation.eniId === id);

const mayJudge = (state: PoolState, eni: Eni, context: DescribeContext): boolean =>
  !state.busy.has(eni.id) && context.beganAt > eni.settledAt;

/** True when pods hold addresses of the block: on this ENI, or on one that is not known yet. */
export function holdsIn(state: PoolState, cidr: Cidr, eniId: EniId): boolean {
  const isHere = (use: Use | undefined) =>
    use?.kind === 'held' &&
    use.lease.branch === undefined &&
    (use.lease.eni === null || use.lease.eni.id === eniId);
  if (cidrSize(cidr) === 1) return isHere(state.uses.get(cidr.ip));
  for (const [ip, use] of state.uses) if (isHere(use) && cidrContains(cidr, ip)) return true;
  return false;
}

/** True when a pod holds an address of the block, whatever ENI it was given from. */
function isHeldAnywhere(state: PoolState, cidr: Cidr): boolean {
  if (cidrSize(cidr) === 1) return state.uses.get(cidr.ip)?.kind === 'held';
  for (const [ip, use] of state.uses) if (use.kind === 'held' && cidrContains(cidr, ip)) return true;
  return false;
}

const heldOn = (state: PoolState, eni: Eni): boolean =>
  [...state.uses.values()].some((use) => use.kind === 'held' && use.lease.eni?.id === eni.id);

export function adoptEni(eni: EniDescription, context: DescribeContext): Eni {
  const primaryIp = primaryIpOf(eni);
  const primary = context.primaryEniId ? eni.id === context.primaryEniId : eni.attachment?.deviceIndex === 0;
  // The primary ENI is attached while the instance runs; a describe that lags does not say so yet.
  const isAttached = primary || eni.attachment?.status === 'attached';
  return {
    id: eni.id,
    mac: eni.mac,
    deviceIndex: eni.attachment?.deviceIndex ?? (primary ? 0 : -1),
    networkCard: eni.attachment?.networkCard ?? 0,
    subnetCidr: context.subnetCidrs.get(eni.subnetId) ?? hostCidr(primaryIp),
    primaryIp,
    ...own6(eni),
    subnetId: eni.subnetId,
    groupIds: eni.groupIds,
    interfaceType: eni.interfaceType,
    attachmentId: eni.attachment?.id ?? null,
    deleteOnTermination: eni.attachment?.deleteOnTermination ?? false,
    primary,
    phase: isAttached ? 'attached' : 'leaving',
    since: context.now,
    settledAt: Math.min(context.beganAt, context.now) - 1,
    missingSince: null,
    blocks: new Map(
      blocksOf(eni).map(({ cidr, pinned }) => {
        // Nobody but the pool uses prefixes of its ENIs.
        const foreign = cidrSize(cidr) === 1 && context.isForeign({ ip: cidr.ip, public: pinned });
        return [cidr.ip, newBlock(cidr, context.now, { pinned, foreign })];
      }),
    ),
    unsettled: null,
    returned: new Map(),
  };
}

/** Of an IPv6-only subnet's ENI its first IPv6 address. */
const primaryIpOf = ({ id, addresses, ipv6Addresses }: EniDescription): Ip => {
  const ip = addresses[0]?.ip ?? ipv6Addresses[0];
  if (ip === undefined) throw new Error(`${id} has neither an IPv4 nor an IPv6 address`);
  return ip;
};

const own6 = ({ addresses, ipv6Addresses }: EniDescription): { ip6?: Ip } =>
  addresses.length > 0 && ipv6Addresses[0] !== undefined ? { ip6: ipv6Addresses[0] } : {};

/** Single IPv6 addresses are no blocks: they are the node's own, or somebody's who does not know the pool. */
function blocksOf(eni: EniDescription): { cidr: Cidr; pinned: boolean }[] {
  return [
    ...eni.addresses
      .filter((one) => !one.primary)
      .map((one) => ({ cidr: hostCidr(one.ip), pinned: one.public })),
    ...[...eni.ipv4Prefixes, ...eni.ipv6Prefixes].map((cidr) => ({ cidr, pinned: false })),
  ];
}

function foldEni(
  state: PoolState,
  known: Eni,
  eni: EniDescription,
  context: DescribeContext,
  observations: Observation[],
): Eni {
  const blocks = new Map<Ip, Block>();
  let same = true;
  let awaited = known.unsettled?.count ?? 0;
  const isSettled = known.unsettled !== null && context.beganAt - known.unsettled.since >= RETURN_LAG;
  /** Whether an address that the pool does not know on this ENI is foreign. */
  const isForeign = (cidr: Cidr, isPublic: boolean): boolean => {
    if (isHeldAnywhere(state, cidr)) return false;
    // The lost journal may have named the address: judge it as on an ENI that is seen for the first time.
    if (state.unsure) return cidrSize(cidr) === 1 && context.isForeign({ ip: cidr.ip, public: isPublic });
    return awaited-- <= 0;
  };
  const note = (kind: Observation['kind'], cidr: Cidr) => {
    observations.push({ kind, eniId: known.id, ip: cidr.ip, held: holdsIn(state, cidr, known.id) });
  };
  const listed = new Set<string>();
  for (const { cidr, pinned } of blocksOf(eni)) {
    listed.add(formatCidr(cidr));
    const block = known.blocks.get(cidr.ip);
    if (block?.cidr.length === cidr.length) {
      if (block.pinned !== pinned || block.missingSince !== null) same = false;
      blocks.set(cidr.ip, same ? block : { ...block, pinned, missingSince: null });
      continue;
    }
    const returned = known.returned.get(cidr.ip);
    if (returned !== undefined && context.beganAt - returned < RETURN_LAG) continue;
    same = false;
    const foreign = isForeign(cidr, pinned);
    blocks.set(cidr.ip, newBlock(cidr, context.now, { pinned, foreign }));
    note(foreign ? 'address-foreign' : 'address-found', cidr);
  }
  for (const block of known.blocks.values()) {
    if (listed.has(formatCidr(block.cidr))) continue;
    same = false;
    // A block of another size has come in its place.
    if (blocks.has(block.cidr.ip)) continue;
    if (block.missingSince === null) {
      blocks.set(block.cidr.ip, { ...block, missingSince: context.beganAt });
      note('address-missing', block.cidr);
    } else if (context.beganAt - block.missingSince < REMOVAL_GAP || holdsIn(state, block.cidr, known.id))
      blocks.set(block.cidr.ip, block);
    else note('address-gone', block.cidr);
  }
  const attachment = eni.attachment;
  const returned = new Map([...known.returned].filter(([, at]) => context.now - at < RETURN_LAG));
  const { ip6: _, ...rest } = known;
  const next: Eni = {
    ...rest,
    ...own6(eni),
    groupIds: eni.groupIds,
    attachmentId: attachment?.id ?? known.attachmentId,
    deleteOnTermination: attachment?.deleteOnTermination ?? known.deleteOnTermination,
    missingSince: null,
    blocks,
    unsettled: known.unsettled && !isSettled && awaited > 0 ? { ...known.unsettled, count: awaited } : null,
    returned,
  };
  const unchanged =
    same &&
    known.missingSince === null &&
    known.ip6 === next.ip6 &&
    known.attachmentId === next.attachmentId &&
    known.deleteOnTermination === next.deleteOnTermination &&
    known.groupIds.join() === next.groupIds.join() &&
    known.unsettled?.count === next.unsettled?.count &&
    known.returned.size === returned.size;
  return unchanged ? known : next;
}

export function describeObservation(one: Observation): string {
  const what = one.ip === undefined ? one.eniId : `${formatIp(one.ip)} on ${one.eniId}`;
  return one.held ? `${what}, held by a pod` : what;
}
