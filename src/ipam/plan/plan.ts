// Plans the pool's next actions. Pure and deterministic, without a clock.
// It grows (grow.ts) when free addresses are fewer than waiting pods plus the targets, and shrinks (shrink.ts) when no
// pod waits and addresses were idle long enough. Work that was begun is finished first. At most one action per ENI.
import { type Cidr, cidrSize, type Ip } from '../../base/ip.ts';
import type { InstanceLimits } from '../../cloud/limits.ts';
import type { EniId } from '../../cloud/port.ts';
import type { Demand, PoolPolicy } from '../policy.ts';
import { blockHolding, type Creation, hasForeign, type PoolState } from '../state.ts';
import { Allowance, aimOf, slotsPerEni } from './aim.ts';
import { type Census, censusOf, type EniCount, givingOf, isIdle } from './census.ts';
import { grow, widen } from './grow.ts';
import { isPaused, isProbe } from './pauses.ts';
import { drain, makeRoom, returnBeyond, shrink } from './shrink.ts';
import { growSix } from './six.ts';

export type Action =
  | { kind: 'assign'; eniId: EniId; count: number }
  | { kind: 'assign-prefixes'; eniId: EniId; count: number }
  /** A /80. */
  | { kind: 'assign-six'; eniId: EniId }
  | {
      kind: 'create';
      subnetId: string;
      groupIds: readonly string[];
      networkCard: number;
      deviceIndex: number;
      /** Single addresses. */
      count: number;
      /** /28s; absent: none. */
      prefixes?: number;
      /** /80s; absent: none. */
      prefixes6?: number;
    }
  /** Finishes the creation of an ENI that was interrupted. */
  | { kind: 'resume'; creation: Creation }
  /** Sets up an attached ENI in the node's network. */
  | { kind: 'setup'; eniId: EniId }
  /** Asks EC2 for held addresses, and prefixes with held addresses, that it has taken from their ENI. */
  | { kind: 'reassign'; eniId: EniId; ips: readonly Ip[]; prefixes: readonly Cidr[] }
  /** Attaches an ENI again whose addresses pods hold. */
  | { kind: 'reattach'; eniId: EniId }
  /** Blocks of one kind: one call. */
  | { kind: 'unassign'; eniId: EniId; blocks: readonly Cidr[] }
  | { kind: 'remove'; eniId: EniId };

/** What the parts of a plan share. */
export type PlanContext = {
  readonly state: PoolState;
  readonly census: Census;
  readonly demand: Demand;
  readonly limits: InstanceLimits;
  readonly policy: PoolPolicy;
  readonly now: number;
  readonly allowance: Allowance;
  /** ENIs with a call in flight or an action of this plan. */
  readonly isTaken: (id: EniId) => boolean;
};

/** A held address that another interface has is asked for again after this (ms). */
const TAKEN_AGAIN = 300_000;

export function plan(
  state: PoolState,
  demand: Demand,
  limits: InstanceLimits,
  policy: PoolPolicy,
  now: number,
): Action[] {
  const census = censusOf(state, now, givingOf(policy, limits));
  const actions = finishStarted(state, census, limits, now);
  if (isPaused(state, 'cloud', demand, now)) return actions.filter((action) => action.kind === 'setup');
  const touched = new Set<EniId>();
  for (const action of actions) if ('eniId' in action) touched.add(action.eniId);
  const aim = aimOf(state, census, demand, limits, policy);
  const context: PlanContext = {
    ...{ state, census, demand, limits, policy, now },
    allowance: new Allowance(state, policy),
    isTaken: (id) => touched.has(id) || state.busy.has(id),
  };
  const add = (more: readonly Action[]) => {
    for (const action of more) if ('eniId' in action) touched.add(action.eniId);
    actions.push(...more);
  };
  if (!isProbe(state, 'cloud', now)) add([...drain(context), ...returnBeyond(context)]);
  // Before IPv4: no address of an ENI can be given without it.
  add(growSix(context));
  if (aim.short > 0) {
    const growing = grow(context, aim);
    add(isProbe(state, 'cloud', now) || aim.oneByOne ? growing.slice(0, 1) : growing);
    if (growing.length === 0 && demand.waiting === 0) add(makeRoom(context));
    return actions;
  }
  const wider = isProbe(state, 'cloud', now) ? [] : widen(context);
  add(wider);
  if (wider.length === 0 && demand.waiting === 0 && census.totals.incoming === 0) add(shrink(context, aim));
  return actions;
}

/** A kill or somebody else left the ENI so that it would stay when the instance ends. */
const outlivesInstance = (eni: EniCount['eni']): boolean =>
  !eni.primary && !eni.deleteOnTermination && eni.attachmentId !== null;

/** Finishes interrupted work: ENIs that are half made, not set up, or half removed. */
function finishStarted(state: PoolState, census: Census, limits: InstanceLimits, now: number): Action[] {
  const actions: Action[] = [];
  const waitsFor = (key: string) => (state.pauses.get(key)?.until ?? 0) > now;
  for (const creation of state.creations.values()) {
    if (!state.busy.has(creation.token) && !waitsFor(`create:${creation.token}`))
      actions.push({ kind: 'resume', creation });
  }
  for (const one of census.enis) {
    const { eni } = one;
    if (state.busy.has(eni.id) || waitsFor(`eni:${eni.id}`)) continue;
    if (eni.phase === 'leaving') {
      // An ENI that was detached under running pods is reported and kept, and so is an ENI that others use.
      if (!one.isHolding && !hasForeign(eni)) actions.push({ kind: 'remove', eniId: eni.id });
    } else if (eni.missingSince !== null) {
      if (one.isHolding) actions.push({ kind: 'reattach', eniId: eni.id });
    } else if (eni.phase === 'attached' || outlivesInstance(eni))
      actions.push({ kind: 'setup', eniId: eni.id });
    else {
      const action = finishBlocks(state, one, limits, now);
      if (action) actions.push(action);
    }
  }
  return actions;
}

function finishBlocks(state: PoolState, one: EniCount, limits: InstanceLimits, now: number): Action | null {
  const eniId = one.eni.id;
  const leaving: Cidr[] = [];
  for (const each of [...one.blocks, ...one.blocks6]) {
    if (each.block.pending) return { kind: 'setup', eniId };
    if (each.block.leaving && isIdle(each)) leaving.push(each.block.cidr);
  }
  if (one.lost.length > 0) {
    const action = slotsForLost(one, limits) ?? askAgain(state, one, now);
    if (action) return action;
  }
  return leaving.length > 0 ? returning(eniId, leaving) : null;
}

/** Returns idle blocks whose slots the ENI's lost blocks need. */
function slotsForLost({ eni, blocks, lost }: EniCount, limits: InstanceLimits): Action | null {
  const missing = new Set(
    lost.filter((ip) => typeof ip === 'number').map((ip) => blockHolding(eni, ip) ?? ip),
  );
  const listed = blocks.filter(({ block }) => !missing.has(block));
  const excess = listed.length + missing.size - slotsPerEni(limits);
  if (excess <= 0) return null;
  const idle = listed.filter((each) => each.usable && !each.block.pinned && isIdle(each));
  const out = idle.slice(0, excess).map(({ block }) => block.cidr);
  return out.length > 0 ? returning(eni.id, out) : null;
}

/** Held addresses and prefixes that EC2 does not list, but those found taken lately. */
function askAgain(state: PoolState, { eni, lost }: EniCount, now: number): Action | null {
  const ips: Ip[] = [];
  const prefixes = new Set<Cidr>();
  for (const ip of lost) {
    const taken = state.taken.get(ip);
    if (taken && taken.since + TAKEN_AGAIN > now) continue;
    const block = blockHolding(eni, ip);
    if (block && cidrSize(block.cidr) > 1) prefixes.add(block.cidr);
    else ips.push(ip);
  }
  if (ips.length + prefixes.size === 0) return null;
  return { kind: 'reassign', eniId: eni.id, ips, prefixes: [...prefixes] };
}

/** Returns these blocks: those of the first one's kind, since a call takes one kind. */
export const returning = (eniId: EniId, blocks: readonly Cidr[]): Action => ({
  kind: 'unassign',
  eniId,
  blocks: blocks.filter((one) => one.length === blocks[0]!.length),
});
