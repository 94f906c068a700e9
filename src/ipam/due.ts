// Computes when the pool needs another look without an event: when an address has cooled for a waiting pod, a pause or
// probe is due, or an address has been idle long enough. Pure. Null at rest.
import { freeGoal } from './plan.ts';
import type { Demand, PoolPolicy } from './policy.ts';
import { countPool, idleSince, type PoolState } from './state.ts';

/** Idle addresses are returned at multiples of this (ms), so that those of one wave go in one call. */
const RELEASE_GRID = 5_000;

export function nextWake(state: PoolState, demand: Demand, policy: PoolPolicy, now: number): number {
  let wake = Number.POSITIVE_INFINITY;
  const consider = (at: number) => {
    if (at > now && at < wake) wake = at;
  };
  for (const pause of state.pauses.values()) {
    consider(pause.until);
    if (demand.waiting > 0) consider(pause.probeAt);
  }
  const totals = countPool(state, 4, now);
  if (demand.waiting > 0) {
    for (const use of state.uses.values()) if (use.kind === 'cooling') consider(use.until);
    return wake;
  }
  const beyondGoal = totals.free + totals.cooling > freeGoal(totals.held, demand, policy);
  for (const eni of state.enis.values()) {
    // At the warm target only a whole ENI can be returned, if other ENIs can keep its warm addresses.
    if (!beyondGoal && eni.primary) continue;
    consider(onGrid(eni.since + policy.idleReleaseMs));
    for (const block of eni.blocks.values()) consider(onGrid(idleSince(state, block) + policy.idleReleaseMs));
  }
  return wake;
}

const onGrid = (at: number): number => Math.ceil(at / RELEASE_GRID) * RELEASE_GRID;
