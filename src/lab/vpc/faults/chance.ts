// Chance that a seed decides: the number at a place of a seed's sequence, the same on every run. Pure.

/** Even in [0, 1): the `index`-th number of the seed's sequence (splitmix32's mixing of both). */
export function chance(seed: number, index: number): number {
  let x = (Math.imul(seed ^ 0x9e3779b9, 0x85ebca6b) + Math.imul(index + 1, 0x9e3779b9)) >>> 0;
  x = Math.imul(x ^ (x >>> 16), 0x21f0aaad);
  x = Math.imul(x ^ (x >>> 15), 0x735a2d97);
  return ((x ^ (x >>> 15)) >>> 0) / 2 ** 32;
}

/** A time around `median` with a long tail, as services answer: log-normal, at most four times the median. */
export function spread(median: number, sigma: number, seed: number, index: number): number {
  // Box-Muller; 1 - u is never 0.
  const normal =
    Math.sqrt(-2 * Math.log(1 - chance(seed, 2 * index))) *
    Math.cos(2 * Math.PI * chance(seed, 2 * index + 1));
  return Math.round(Math.min(4 * median, median * Math.exp(sigma * normal)));
}
