// Which nodes are opened because their subnet has free addresses again: an agent learns of them by trying, and it tries when
// a pod waits. Pure. A node is opened where a subnet has as many free addresses as one more pod costs there, which are not
// counted for another node, for so long as a pod needs to come and its agent to try; then the agent's word counts again, and
// other nodes come first.
import type { AddressNeed, PodwayNode } from '../../kube/index.ts';

/** A node stays open for so long (ms) while no pod comes; then it rests, so that others have their chance. */
const OPEN_MS = 20_000;
const REST_MS = 10_000;

/** `ends`, `rests` (ms): when it closes, and until when it has no other. `pods`: those with or waiting for an address then. */
export type Chance = { readonly ends: number; readonly rests: number; readonly pods: number };
export type Chances = ReadonlyMap<string, Chance>;

/** A node that is full: what opens it, any of them, and its pods that have or wait for an address. */
export type Full = { readonly needs: readonly AddressNeed[]; readonly pods: number };

/** Open: its time is not over, and no pod has come since. */
export const isOpen = (chance: Chance | undefined, pods: number, now: number): boolean =>
  chance !== undefined && chance.ends > now && pods <= chance.pods;

export const podsOf = ({ status }: PodwayNode): number =>
  (status?.addresses?.held ?? 0) + (status?.addresses?.waiting ?? 0);

/** What one more pod needs; those that wait on the node get theirs before it. */
function needsOf({ spec, status }: PodwayNode): AddressNeed[] {
  const waiting = status?.addresses?.waiting ?? 0;
  // An agent that does not tell is of an earlier version.
  const needs =
    status?.addresses?.needs ?? (spec?.subnets ?? []).map((subnetId) => ({ subnetId, addresses: 1 }));
  return needs.map(({ subnetId, addresses }) => ({ subnetId, addresses: addresses + waiting }));
}

/** Nodes that are out of addresses because EC2 said that their subnets are full, and that a free address could help. */
export function fullSubnets(
  podwayNodes: ReadonlyMap<string, PodwayNode>,
  isTainted: (name: string) => boolean,
): Map<string, Full> {
  const full = new Map<string, Full>();
  for (const [name, own] of podwayNodes) {
    if (own.status?.addresses?.lack !== 'SUBNET_EXHAUSTED' || !isTainted(name)) continue;
    const needs = needsOf(own);
    if (needs.length > 0) full.set(name, { needs, pods: podsOf(own) });
  }
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
  // A node that is open takes its addresses from the count; when they have gone elsewhere it closes.
  for (const [name, chance] of next) {
    const { needs = [], pods = 0 } = full.get(name) ?? {};
    if (isOpen(chance, pods, now) && !take(left, needs) && needs.some(({ subnetId }) => free.has(subnetId)))
      next.set(name, { ...chance, ends: now, rests: now });
  }
  const waiting = [...full.keys()].filter((name) => !next.has(name)).sort();
  // Those that never had one, or had it longest ago, come first.
  for (const name of waiting.sort((a, b) => (before.get(a)?.ends ?? 0) - (before.get(b)?.ends ?? 0)))
    if (take(left, full.get(name)!.needs)) {
      const ends = now + OPEN_MS;
      next.set(name, { ends, rests: ends + REST_MS, pods: full.get(name)!.pods });
    }
  return next;
}

function take(left: Map<string, number>, needs: readonly AddressNeed[]): boolean {
  const need = needs.find(({ subnetId, addresses }) => (left.get(subnetId) ?? 0) >= addresses);
  if (need === undefined) return false;
  left.set(need.subnetId, left.get(need.subnetId)! - need.addresses);
  return true;
}
