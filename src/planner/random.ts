// A seeded source of chance: the same seed gives the same trace and the same simulated cloud, on every machine.

export type Random = () => number;

/** Mulberry32: numbers from 0 to 1, 1 excluded. */
export function randomFrom(seed: number): Random {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
  };
}

/** A seed of its own for a named part, so that one part's draws do not shift another's. */
export function seedOf(seed: number, part: string): number {
  let hash = 2166136261 ^ seed;
  for (let i = 0; i < part.length; i++) hash = Math.imul(hash ^ part.charCodeAt(i), 16777619);
  return hash >>> 0;
}

export const between = (random: Random, least: number, most: number): number =>
  least + random() * (most - least);

export const wholeBetween = (random: Random, least: number, most: number): number =>
  least + Math.floor(random() * (most - least + 1));

/** The time to the next event of a process without memory. */
export const exponential = (random: Random, mean: number): number => -Math.log(1 - random()) * mean;

/** A positive number around `median`; `spread` is the standard deviation of its logarithm. */
export function lognormal(random: Random, median: number, spread: number): number {
  const normal = Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());
  return median * Math.exp(spread * normal);
}
