// Time for tests that cannot wait for real pauses.
import { type Clock, systemClock } from './clock.ts';

/** In whole ms, as the system's. Begins now and runs `speed` times as fast. */
export function fastClock(speed: number): Clock {
  const since = Date.now();
  const began = performance.now();
  return {
    now: () => Math.round(since + (performance.now() - began) * speed),
    sleep: (ms, signal) => systemClock.sleep(ms / speed, signal),
  };
}
