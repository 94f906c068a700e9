// Cases for the time that a run has: all of them in a soak, else one of each id, which the seed chooses.
import type { Case } from './policy-case.ts';
import { seeded } from './wait.ts';

export function oneOfEach(cases: readonly Case[], seed: number): Case[] {
  const random = seeded(seed);
  const byId = Map.groupBy(cases, ({ id }) => id);
  return [...byId.values()].map((all) => all[Math.floor(random() * all.length)]!);
}
