// Whether something that failed lately may be tried. Pure. Keys: `cloud`, `create`, `subnet:ID`, `prefix:ID`, `eni:ID`.
import type { Demand } from './policy.ts';
import type { Pause, PoolState } from './state.ts';

export function activePause(state: PoolState, key: string, now: number): Pause | null {
  const pause = state.pauses.get(key);
  return pause && pause.until > now ? pause : null;
}

/** True while `key` is paused. While a pod waits, one try is allowed each time the probe is due. */
export function isPaused(state: PoolState, key: string, demand: Demand, now: number): boolean {
  const pause = activePause(state, key, now);
  return pause !== null && (demand.waiting === 0 || pause.probeAt > now);
}

export const isProbe = (state: PoolState, key: string, now: number): boolean =>
  activePause(state, key, now) !== null;
