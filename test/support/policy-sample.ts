// Cases for the time that a run has: all of them in a soak, else one of each id, which the seed chooses.
import { seeded } from './wait.ts';

export function oneOfEach<T extends { readonly id: string }>(cases: readonly T[], seed: number): T[] {
  const random = seeded(seed);
  const byId = Map.groupBy(cases, ({ id }) => id);
  return [...byId.values()].map((all) => all[Math.floor(random() * all.length)]!);
}
