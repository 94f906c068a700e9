// Whether something that failed lately may be tried. Pure. Keys: `cloud`, `describe`, `create`, `subnet:ID`, `prefix:ID`, `eni:ID`.
import type { Demand } from '../policy.ts';
import type { Pause, PoolState } from '../state.ts';

export function activePause(state: PoolState, key: string, now: number): Pause | null {
  const pause = state.pauses.get(key);
  return pause && pause.until > now ? pause : null;
}

/** After the pause of a throttled call its next try is under way, and may be throttled again (ms). */
const STILL_THROTTLED = 5_000;

/** The pause that explains why `key` brings nothing: an active one, or a throttled call that is being tried again. */
export function explainingPause(state: PoolState, key: string, now: number): Pause | null {
  const pause = state.pauses.get(key);
  const isThrottled = pause?.cause === 'CLOUD_THROTTLED' && pause.until + STILL_THROTTLED > now;
  return isThrottled ? pause : activePause(state, key, now);
}

/** True while `key` is paused. While a pod waits, one try is allowed each time the probe is due. */
export function isPaused(state: PoolState, key: string, demand: Demand, now: number): boolean {
  const pause = activePause(state, key, now);
  return pause !== null && (demand.waiting === 0 || pause.probeAt > now);
}

export const isProbe = (state: PoolState, key: string, now: number): boolean =>
  activePause(state, key, now) !== null;
