// Waiting in tests: a condition is looked at again and again, never a fixed sleep, and the time is bounded.
import { setTimeout as sleep } from 'node:timers/promises';

/** Resolves with the first value of `look` that is not undefined or false. Throws naming `what` after `boundMs`. */
export async function eventually<T>(
  what: string,
  look: () => Promise<T | undefined | false> | T | undefined | false,
  boundMs = 60_000,
): Promise<T> {
  const end = performance.now() + boundMs;
  let last: unknown;
  for (let pause = 5; ; pause = Math.min(pause * 1.5, 200)) {
    try {
      const value = await look();
      if (value !== undefined && value !== false) return value as T;
      last = undefined;
    } catch (error) {
      last = error;
    }
    if (performance.now() >= end)
      throw new Error(
        `${what}: not within ${boundMs / 1000} s${last ? `: ${(last as Error).message}` : ''}`,
        {
          cause: last,
        },
      );
    await sleep(pause);
  }
}

/** The same numbers for the same seed (mulberry32): a failing storm can be run again. */
export function seeded(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}
