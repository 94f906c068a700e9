// Plans the pool's next actions. Pure and deterministic, without a clock.
// It grows when free addresses are fewer than waiting pods plus the warm target: existing ENIs are filled before a new
// one is attached, and a paused subnet does not stop other subnets. It shrinks when no pod waits and addresses were
// idle long enough: the emptiest ENIs go first, and no action names a held address. At most one action per ENI.
import { type Cidr, cidrSize, familyOf, type Ip } from '../base/ip.ts';
import type { InstanceLimits } from '../cloud/limits.ts';
import type { EniId } from '../cloud/port.ts';
import type { Demand, PoolPolicy } from './policy.ts';
import {
  type Block,
  type Creation,
  countPool,
  type Eni,
  freeInBlock,
  hasForeign,
  idleSince,
  isHolding,
  isIdle,
  isUsable,
  lostOn,
  type PoolState,
  usedOn,
} from './state.ts';

export type Action =
  | { kind: 'assign'; eniId: EniId; count: number }
  | {
      kind: 'create';
      subnetId: string;
      groupIds: readonly string[];
      networkCard: number;
      deviceIndex: number;
      count: number;
    }
  /** Finishes the creation of an ENI that was interrupted. */
  | { kind: 'resume'; creation: Creation }
  /** Sets up an attached ENI in the node's network. */
  | { kind: 'setup'; eniId: EniId }
  /** Asks EC2 for held addresses that it has taken from their ENI. */
  | { kind: 'reassign'; eniId: EniId; ips: readonly Ip[] }
  /** Attaches an ENI again whose addresses pods hold. */
  | { kind: 'reattach'; eniId: EniId }
  | { kind: 'unassign'; eniId: EniId; blocks: readonly Cidr[] }
  | { kind: 'remove'; eniId: EniId };

/** A held address that another interface has is asked for again after this (ms). */
const TAKEN_AGAIN = 300_000;

export const addressesPerEni = (limits: InstanceLimits): number => Math.max(0, limits.ipv4PerEni - 1);

/** Free addresses wanted: one per waiting pod plus the warm target, up to the pod limit. */
export function freeGoal(held: number, demand: Demand, policy: PoolPolicy): number {
  const wanted = policy.targets.kind === 'warm' ? policy.targets.free : (demand.expected ?? 0);
  const roomForPods = Math.max(0, policy.podLimit - held - demand.waiting);
  return demand.waiting + Math.min(wanted, roomForPods);
}

export function plan(
  state: PoolState,
  demand: Demand,
  limits: InstanceLimits,
  policy: PoolPolicy,
  now: number,
): Action[] {
  const finish = finishStarted(state, now);
  if (isPaused(state, 'cloud', demand, now)) return finish.filter((action) => action.kind === 'setup');
  const totals = countPool(state, 4, now);
  const comingBack = [...state.creations.values()]
    .filter((one) => !state.busy.has(one.token))
    .reduce((sum, one) => sum + one.count, 0);
  const goal = freeGoal(totals.held, demand, policy);
  const short = goal - totals.free - totals.incoming - comingBack;
  if (short > 0) {
    const actions = grow(withFinishing(state, finish), demand, limits, policy, now, short);
    return [...finish, ...(isProbe(state, 'cloud', now) ? actions.slice(0, 1) : actions)];
  }
  if (demand.waiting > 0 || totals.incoming > 0) return finish;
  return [...finish, ...shrink(withFinishing(state, finish), limits, policy, goal, totals.free, now)];
}

/** One action per ENI: those that are being finished count as busy for the rest of the plan. */
function withFinishing(state: PoolState, finish: readonly Action[]): PoolState {
  const busy = new Map(state.busy);
  for (const action of finish) if ('eniId' in action) busy.set(action.eniId, 0);
  return { ...state, busy };
}

/** Finishes interrupted work: ENIs that are half made, not set up, or half removed. */
function finishStarted(state: PoolState, now: number): Action[] {
  const actions: Action[] = [];
  const waitsFor = (key: string) => (state.pauses.get(key)?.until ?? 0) > now;
  for (const creation of state.creations.values()) {
    if (!state.busy.has(creation.token) && !waitsFor(`create:${creation.token}`))
      actions.push({ kind: 'resume', creation });
  }
  for (const eni of state.enis.values()) {
    if (state.busy.has(eni.id) || waitsFor(`eni:${eni.id}`)) continue;
    if (eni.phase === 'leaving') {
      // An ENI that was detached under running pods is reported and kept, and so is an ENI that others use.
      if (!isHolding(state, eni) && !hasForeign(eni)) actions.push({ kind: 'remove', eniId: eni.id });
    } else if (eni.missingSince !== null) {
      if (isHolding(state, eni)) actions.push({ kind: 'reattach', eniId: eni.id });
    } else if (eni.phase === 'attached') actions.push({ kind: 'setup', eniId: eni.id });
    else {
      const lost = lostOn(state, eni, now, TAKEN_AGAIN);
      const blocks = [...eni.blocks.values()];
      const leaving = blocks.filter((block) => block.leaving && isIdle(state, block, now));
      if (blocks.some((block) => block.pending)) actions.push({ kind: 'setup', eniId: eni.id });
      else if (lost.length > 0) actions.push({ kind: 'reassign', eniId: eni.id, ips: lost });
      else if (leaving.length > 0)
        actions.push({ kind: 'unassign', eniId: eni.id, blocks: leaving.map((one) => one.cidr) });
    }
  }
  return actions;
}

/** True while `key` is paused. While a pod waits, one try is allowed each time the probe is due. */
function isPaused(state: PoolState, key: string, demand: Demand, now: number): boolean {
  const pause = state.pauses.get(key);
  if (!pause || pause.until <= now) return false;
  return demand.waiting === 0 || pause.probeAt > now;
}

const isProbe = (state: PoolState, key: string, now: number): boolean =>
  (state.pauses.get(key)?.until ?? 0) > now;

/** ENIs of ours with room for addresses, in the order of filling: the primary one, then the fullest. */
export function growableEnis(
  state: PoolState,
  limits: InstanceLimits,
  now: number,
): { eni: Eni; room: number }[] {
  return [...state.enis.values()]
    .filter((eni) => eni.phase === 'ready' && eni.missingSince === null && !eni.linkless)
    .map((eni) => ({ eni, room: addressesPerEni(limits) - ipv4Slots(eni) }))
    .filter(({ room }) => room > 0)
    .sort(
      (a, b) =>
        Number(b.eni.primary) - Number(a.eni.primary) ||
        usedOn(state, b.eni, now) - usedOn(state, a.eni, now) ||
        a.eni.deviceIndex - b.eni.deviceIndex,
    );
}

/** Slots of the ENI that IPv4 blocks take: an address takes one, a prefix takes one. */
const ipv4Slots = (eni: Eni): number =>
  [...eni.blocks.values()].filter((block) => familyOf(block.cidr.ip) === 4).length;

/** Device indexes on the default card that nobody uses; none when the card is full. */
export function freeDeviceIndexes(state: PoolState, limits: InstanceLimits): number[] {
  const all = [...state.enis.values(), ...state.foreign, ...state.creations.values()];
  // An unattached ENI (made before a crash, about to be deleted) takes no slot.
  const attached = all.filter((one) => one.networkCard === limits.defaultCard && one.deviceIndex >= 0);
  const taken = new Set(attached.map((one) => one.deviceIndex));
  const free: number[] = [];
  for (let index = 1; free.length + attached.length < limits.enis; index++)
    if (!taken.has(index)) free.push(index);
  return free;
}

function grow(
  state: PoolState,
  demand: Demand,
  limits: InstanceLimits,
  policy: PoolPolicy,
  now: number,
  short: number,
): Action[] {
  const actions: Action[] = [];
  const probed = new Set<string>();
  let missing = short;
  // A paused subnet or ENI gets one probe for one address; others take as many as they have room for.
  const take = (keys: string[], room: number): number => {
    if (keys.some((key) => isPaused(state, key, demand, now) || probed.has(key))) return 0;
    const probes = keys.filter((key) => isProbe(state, key, now));
    for (const key of probes) probed.add(key);
    return probes.length > 0 ? 1 : Math.min(room, missing);
  };
  for (const { eni, room } of growableEnis(state, limits, now)) {
    if (missing <= 0) return actions;
    const underWay = state.busy.get(eni.id);
    if (underWay !== undefined) {
      // A call for this ENI is in flight. Its remaining room is requested next, so no other ENI is attached for that.
      if (!isPaused(state, `subnet:${eni.subnetId}`, demand, now)) missing -= Math.max(0, room - underWay);
      continue;
    }
    const count = take([`subnet:${eni.subnetId}`, `eni:${eni.id}`], room);
    if (count === 0) continue;
    actions.push({ kind: 'assign', eniId: eni.id, count });
    missing -= count;
  }
  // The same for ENIs that are being created: they are filled once they are attached.
  for (const creation of state.creations.values())
    missing -= Math.max(0, addressesPerEni(limits) - creation.count);
  for (const eni of state.enis.values()) {
    if (eni.phase === 'attached') missing -= Math.max(0, addressesPerEni(limits) - ipv4Slots(eni));
  }
  const primary = [...state.enis.values()].find((eni) => eni.primary);
  if (!primary || addressesPerEni(limits) === 0 || policy.noNewEni) return actions;
  const subnets = policy.subnetIds.length > 0 ? policy.subnetIds : [primary.subnetId];
  for (const deviceIndex of freeDeviceIndexes(state, limits)) {
    for (const subnetId of subnets) {
      if (missing <= 0) return actions;
      const count = take([`subnet:${subnetId}`, 'create'], addressesPerEni(limits));
      if (count === 0) continue;
      const networkCard = limits.defaultCard;
      actions.push({ kind: 'create', subnetId, groupIds: primary.groupIds, networkCard, deviceIndex, count });
      missing -= count;
      break;
    }
  }
  return actions;
}

/** Returns long-idle addresses beyond the goal, from the emptiest ENIs first; whole ENIs where possible. */
function shrink(
  state: PoolState,
  limits: InstanceLimits,
  policy: PoolPolicy,
  goal: number,
  totalFree: number,
  now: number,
): Action[] {
  const actions: Action[] = [];
  const leaving = new Set<EniId>();
  const isExpired = (block: Block) =>
    !block.pinned &&
    !block.foreign &&
    isIdle(state, block, now) &&
    idleSince(state, block) + policy.idleReleaseMs <= now;
  const candidates = [...state.enis.values()]
    .filter((eni) => eni.phase === 'ready' && eni.missingSince === null && !state.busy.has(eni.id))
    .filter((eni) => !isPaused(state, `eni:${eni.id}`, { waiting: 0 }, now))
    .sort(
      (a, b) =>
        Number(a.primary) - Number(b.primary) ||
        usedOn(state, a, now) - usedOn(state, b, now) ||
        b.deviceIndex - a.deviceIndex,
    );
  let free = totalFree;
  for (const eni of candidates) {
    const blocks = [...eni.blocks.values()];
    if (eni.primary || eni.since + policy.idleReleaseMs > now || !blocks.every(isExpired)) continue;
    const elsewhere = free - sumFree(state, eni, blocks, now);
    if (elsewhere < goal) {
      const moved = moveElsewhere(state, limits, eni.id, goal - elsewhere, now);
      if (moved) return [...actions, moved];
      continue;
    }
    actions.push({ kind: 'remove', eniId: eni.id });
    leaving.add(eni.id);
    free = elsewhere;
  }
  for (const eni of candidates) {
    if (free <= goal) break;
    if (leaving.has(eni.id)) continue;
    const expired = [...eni.blocks.values()]
      .filter((block) => isUsable(eni, block) && isExpired(block))
      .sort((a, b) => idleSince(state, a) - idleSince(state, b));
    const out: Cidr[] = [];
    for (const block of expired) {
      if (free - cidrSize(block.cidr) < goal) break;
      out.push(block.cidr);
      free -= cidrSize(block.cidr);
    }
    if (out.length > 0) actions.push({ kind: 'unassign', eniId: eni.id, blocks: out });
  }
  return actions;
}

const sumFree = (state: PoolState, eni: Eni, blocks: readonly Block[], now: number): number =>
  blocks.reduce((sum, block) => sum + (isUsable(eni, block) ? freeInBlock(state, block, now) : 0), 0);

/** An ENI that only keeps warm addresses can leave once other ENIs keep them: plans the assign for that. */
function moveElsewhere(
  state: PoolState,
  limits: InstanceLimits,
  leaving: EniId,
  count: number,
  now: number,
): Action | null {
  for (const { eni, room } of growableEnis(state, limits, now)) {
    const keys = [`subnet:${eni.subnetId}`, `eni:${eni.id}`];
    if (eni.id === leaving || room < count || state.busy.has(eni.id)) continue;
    if (keys.some((key) => isPaused(state, key, { waiting: 0 }, now))) continue;
    return { kind: 'assign', eniId: eni.id, count };
  }
  return null;
}
