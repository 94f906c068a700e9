// Computes when the pool needs another look without an event: when an address has cooled for a waiting pod, a pause or
// probe is due, or an address has been idle long enough. Pure. Infinity at rest.
import type { InstanceLimits } from '../../cloud/limits.ts';
import type { Demand, PoolPolicy } from '../policy.ts';
import type { PoolState } from '../state.ts';
import { freeGoal } from './aim.ts';
import { censusOf, givingOf } from './census.ts';
import { restOf } from './shrink.ts';

/** Idle addresses are returned at multiples of this (ms), so that those of one wave go in one call. */
const RELEASE_GRID = 5_000;

export function nextWake(
  state: PoolState,
  demand: Demand,
  limits: InstanceLimits,
  policy: PoolPolicy,
  now: number,
): number {
  let wake = Number.POSITIVE_INFINITY;
  const consider = (at: number) => {
    if (at > now && at < wake) wake = at;
  };
  for (const pause of state.pauses.values()) {
    consider(pause.until);
    if (demand.waiting > 0) consider(pause.probeAt);
  }
  if (demand.waiting > 0) {
    for (const use of state.uses.values()) if (use.kind === 'cooling') consider(use.until);
    return wake;
  }
  const { totals, enis } = censusOf(state, now, givingOf(policy, limits));
  const isIncumbent = policy.targets.kind === 'incumbent';
  const beyondGoal = isIncumbent || totals.free + totals.cooling > freeGoal(totals.held, demand, policy);
  for (const { eni, blocks, closed } of enis) {
    if (closed) {
      for (const { lastUse } of blocks) consider(lastUse);
      continue;
    }
    // At the goal only a whole ENI can be returned, if others can keep its addresses, and blocks of the other kind.
    const canLeave = beyondGoal || !eni.primary;
    if (canLeave) consider(onGrid(eni.since + policy.idleReleaseMs));
    for (const each of blocks)
      if (canLeave || each.other) consider(onGrid(each.lastUse + restOf(each, policy)));
  }
  return wake;
}

const onGrid = (at: number): number => Math.ceil(at / RELEASE_GRID) * RELEASE_GRID;
