// Which nodes are opened because their subnet has free addresses again: an agent learns of them by trying, and it tries when
// a pod waits. Pure. Each free address opens one node, for so long as a pod needs to come and its agent to try; then the
// agent's word counts again, and other nodes come first.
import type { PodwayNode } from '../../kube/index.ts';

/** A node stays open for so long (ms) while no pod comes; then it rests, so that others have their chance. */
const OPEN_MS = 20_000;
const REST_MS = 10_000;

/** `ends`, `rests` (ms): when it closes, and until when it has no other. `pods`: those with or waiting for an address then. */
export type Chance = { readonly ends: number; readonly rests: number; readonly pods: number };
export type Chances = ReadonlyMap<string, Chance>;

/** A node that is full: the subnets that its addresses come from, and its pods that have or wait for one. */
export type Full = { readonly subnets: readonly string[]; readonly pods: number };

/** Open: its time is not over, and no pod has come since. */
export const isOpen = (chance: Chance | undefined, pods: number, now: number): boolean =>
  chance !== undefined && chance.ends > now && pods <= chance.pods;

export const podsOf = ({ status }: PodwayNode): number =>
  (status?.addresses?.held ?? 0) + (status?.addresses?.waiting ?? 0);

/** Nodes that are out of addresses because EC2 said that their subnets are full. */
export function fullSubnets(
  podwayNodes: ReadonlyMap<string, PodwayNode>,
  isTainted: (name: string) => boolean,
): Map<string, Full> {
  const full = new Map<string, Full>();
  for (const [name, own] of podwayNodes)
    if (own.status?.addresses?.lack === 'SUBNET_EXHAUSTED' && isTainted(name))
      full.set(name, { subnets: own.spec?.subnets ?? [], pods: podsOf(own) });
  return full;
}

/** `free`: addresses by subnet, as EC2 says now. */
export function nextChances(
  before: Chances,
  full: ReadonlyMap<string, Full>,
  free: ReadonlyMap<string, number>,
  now: number,
): Chances {
  const next = new Map([...before].filter(([, { rests }]) => rests > now));
  const left = new Map(free);
  // A node that is open takes its address from the count.
  for (const [name, chance] of next) {
    const { subnets = [], pods = 0 } = full.get(name) ?? {};
    if (isOpen(chance, pods, now)) take(left, subnets);
  }
  const waiting = [...full.keys()].filter((name) => !next.has(name)).sort();
  // Those that never had one, or had it longest ago, come first.
  for (const name of waiting.sort((a, b) => (before.get(a)?.ends ?? 0) - (before.get(b)?.ends ?? 0)))
    if (take(left, full.get(name)!.subnets)) {
      const ends = now + OPEN_MS;
      next.set(name, { ends, rests: ends + REST_MS, pods: full.get(name)!.pods });
    }
  return next;
}

function take(left: Map<string, number>, subnets: readonly string[]): boolean {
  const subnet = subnets.find((id) => (left.get(id) ?? 0) > 0);
  if (subnet === undefined) return false;
  left.set(subnet, left.get(subnet)! - 1);
  return true;
}
