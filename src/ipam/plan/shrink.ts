// What the pool returns to EC2: long-idle addresses beyond the goal, from the emptiest ENIs first and whole ENIs where
// possible; blocks of the kind that the policy no longer prefers; all that is idle on ENIs that give no address. Pure.
// Invariant: nothing held, cooling, pinned or foreign is named.

import { PREFIX_SIZE } from '../config/incumbent.ts';
import type { PoolPolicy } from '../policy.ts';
import { type Aim, Allowance, slotsPerEni } from './aim.ts';
import { type BlockCount, type EniCount, isIdle, usesPrefixes } from './census.ts';
import { growableEnis, slotsOf } from './grow.ts';
import { isPaused } from './pauses.ts';
import { type Action, type PlanContext, returning } from './plan.ts';

const isReturnable = (each: BlockCount): boolean => !each.block.pinned && isIdle(each);
const isExpired = (each: BlockCount, { policy, now }: PlanContext): boolean =>
  isReturnable(each) && each.lastUse + restOf(each, policy) <= now;

/** Blocks of the other kind are given last: no pod that comes again asks for them. */
const OTHER_REST = 10_000;

/** How long (ms) a block is idle before it goes. */
export const restOf = ({ other }: Pick<BlockCount, 'other'>, { idleReleaseMs }: PoolPolicy): number =>
  other ? Math.min(OTHER_REST, idleReleaseMs) : idleReleaseMs;

/** ENIs that may be acted on, the emptiest first, the primary one last. */
function candidates(context: PlanContext): EniCount[] {
  const { state, census, now, isTaken } = context;
  return census.enis
    .filter(({ eni }) => eni.phase === 'ready' && eni.missingSince === null && !isTaken(eni.id))
    .filter(({ eni }) => !isPaused(state, `eni:${eni.id}`, { waiting: 0 }, now))
    .sort(
      (a, b) =>
        Number(a.eni.primary) - Number(b.eni.primary) ||
        a.used - b.used ||
        b.eni.deviceIndex - a.eni.deviceIndex,
    );
}

/** Empties ENIs that give no address, whoever waits: what is idle there is of no use. */
export function drain(context: PlanContext): Action[] {
  if (!context.census.enis.some((one) => one.closed)) return [];
  const actions: Action[] = [];
  for (const one of candidates(context)) {
    if (!one.closed) continue;
    if (!one.eni.primary && !one.isHolding && [...one.blocks, ...one.blocks6].every(isReturnable)) {
      actions.push({ kind: 'remove', eniId: one.eni.id });
      continue;
    }
    const out = [...one.blocks, ...one.blocks6]
      .filter((each) => each.usable && isReturnable(each))
      .map(({ block }) => block.cidr);
    if (out.length > 0) actions.push(returning(one.eni.id, out));
  }
  return actions;
}

/** Beyond a bound that was lowered idle blocks go, whatever the goal. */
export function returnBeyond(context: PlanContext): Action[] {
  if (!context.census.enis.some(({ eni }) => context.allowance.left(eni.subnetId) < 0)) return [];
  // Of its own: what is on its way back is not to be had yet.
  const allowance = new Allowance(context.state, context.policy);
  const actions: Action[] = [];
  for (const one of candidates(context)) {
    const { id, subnetId } = one.eni;
    if (one.closed || allowance.left(subnetId) >= 0) continue;
    const idle = one.blocks.filter((each) => each.usable && isReturnable(each));
    const first = idle[0];
    const out: BlockCount[] = [];
    for (const each of idle) {
      // A call returns one kind.
      if (each.size !== first!.size || allowance.left(subnetId) >= 0) continue;
      allowance.take(subnetId, -each.size);
      out.push(each);
    }
    if (out.length > 0)
      actions.push(
        returning(
          id,
          out.map(({ block }) => block.cidr),
        ),
      );
  }
  return actions;
}

export function shrink(context: PlanContext, aim: Aim): Action[] {
  const { census, demand, limits, policy, now } = context;
  const actions: Action[] = [];
  const leaving = new Set<EniCount>();
  const all = candidates(context).filter((one) => !one.closed);
  let free = census.counted;
  let enis = aim.mostEnis;
  const slots = slotsPerEni(limits);
  let spare = slotsOf(context) - (demand.room ?? 0);
  for (const one of all) {
    if (enis <= 0 || spare < slots) break;
    const { eni, blocks } = one;
    if (eni.primary || one.isHolding || eni.since + policy.idleReleaseMs > now) continue;
    if (!blocks.every((each) => isExpired(each, context)) || !one.blocks6.every(isReturnable)) continue;
    if (policy.families === 'ipv6' && one.six && !all.some((other) => other !== one && other.six)) continue;
    const elsewhere = free - countedOn(one);
    if (!aim.canSpare(one, elsewhere)) {
      const moved =
        aim.keep > elsewhere
          ? moveElsewhere(context, new Set([...leaving, one]), aim.keep - elsewhere)
          : null;
      if (moved) return [...actions, moved];
      continue;
    }
    actions.push({ kind: 'remove', eniId: eni.id });
    leaving.add(one);
    free = elsewhere;
    enis--;
    spare -= slots;
  }
  let most = aim.mostBlocks;
  for (const one of all) {
    if (leaving.has(one)) continue;
    const expired = one.blocks.filter((each) => each.usable && isExpired(each, context));
    if (expired.length > 1) expired.sort((a, b) => a.lastUse - b.lastUse);
    const out: BlockCount[] = [];
    for (const each of expired) {
      if (!each.other) {
        if (most <= 0 || free - each.size < aim.keep) continue;
        most--;
        free -= each.size;
      }
      out.push(each);
    }
    if (out.length === 0) continue;
    actions.push(
      returning(
        one.eni.id,
        out.map(({ block }) => block.cidr),
      ),
    );
  }
  return actions;
}

/** Slots or bounds are used up, and the goal needs the preferred kind: one idle block of the other kind goes. */
export function makeRoom(context: PlanContext): Action[] {
  const { census, limits, policy, allowance } = context;
  const size = usesPrefixes(policy, limits) ? PREFIX_SIZE : 1;
  const growable = growableEnis(census.enis, limits);
  if (growable.some(({ one }) => allowance.left(one.eni.subnetId) >= size)) return [];
  for (const one of candidates(context)) {
    if (one.closed) continue;
    const block = one.blocks.find((each) => each.other && each.usable && isExpired(each, context));
    if (block) return [returning(one.eni.id, [block.block.cidr])];
  }
  return [];
}

const countedOn = (one: EniCount): number =>
  one.blocks.reduce((sum, each) => sum + (each.usable && !each.other ? each.size - each.used : 0), 0);

/** An ENI that only keeps warm addresses can leave once other ENIs keep them: plans the assign for that. */
function moveElsewhere(context: PlanContext, leaving: ReadonlySet<EniCount>, missing: number): Action | null {
  const { state, census, limits, policy, now, allowance, isTaken } = context;
  const prefixes = usesPrefixes(policy, limits);
  const size = prefixes ? PREFIX_SIZE : 1;
  const count = Math.ceil(missing / size);
  if (count > slotsPerEni(limits)) return null;
  for (const { one, room } of growableEnis(census.enis, limits)) {
    const { id, subnetId } = one.eni;
    const keys = [`subnet:${subnetId}`, `eni:${id}`, ...(prefixes ? [`prefix:${subnetId}`] : [])];
    if (leaving.has(one) || room < count || isTaken(id) || allowance.left(subnetId) < count * size) continue;
    if (keys.some((key) => isPaused(state, key, { waiting: 0 }, now))) continue;
    return { kind: prefixes ? 'assign-prefixes' : 'assign', eniId: id, count };
  }
  return null;
}
