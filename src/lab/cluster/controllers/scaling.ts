// How many pods each ReplicaSet of a Deployment is to have, as numbers: the step of a rolling update and the shares when
// a Deployment is scaled in the middle of one. The rules are those of kubernetes/pkg/controller/deployment. Pure.
import type { Deployment, ReplicaSet } from '../workloads.ts';
import { DESIRED, MAX_REPLICAS, maxSurge, maxUnavailable } from './revisions.ts';

export type Size = { set: ReplicaSet; replicas: number };

const sum = (sets: readonly ReplicaSet[], of: (set: ReplicaSet) => number): number =>
  sets.reduce((total, set) => total + of(set), 0);
export const wanted = (set: ReplicaSet): number => set.spec.replicas;
export const available = (set: ReplicaSet): number => set.status?.availableReplicas ?? 0;
export const total = sum;

/** The size of the set of the present template in the next step. */
export function nextSize(deployment: Deployment, all: readonly ReplicaSet[], current: number): number {
  const { replicas, strategy } = deployment.spec;
  if (strategy.type === 'Recreate') return replicas;
  if (current >= replicas) return replicas;
  const room = replicas + maxSurge(deployment) - sum(all, wanted);
  return room <= 0 ? current : current + Math.min(room, replicas - current);
}

/** Old sets give way by as many pods as may be missing: those that do not serve first, then the oldest set's. */
export function shrinkOld(deployment: Deployment, fresh: ReplicaSet, old: readonly ReplicaSet[]): Size[] {
  const atLeast = deployment.spec.replicas - maxUnavailable(deployment);
  const pending = fresh.spec.replicas - available(fresh);
  let mayGo = sum(old, wanted) + fresh.spec.replicas - atLeast - pending;
  const sizes = new Map(old.map((set) => [set, wanted(set)]));
  for (const set of old) {
    const idle = Math.max(0, wanted(set) - available(set));
    const down = Math.max(0, Math.min(mayGo, idle));
    sizes.set(set, wanted(set) - down);
    mayGo -= down;
  }
  let spare = sum(old, available) + available(fresh) - atLeast;
  spare = Math.min(spare, mayGo);
  for (const set of old) {
    const down = Math.max(0, Math.min(spare, sizes.get(set)!));
    sizes.set(set, sizes.get(set)! - down);
    spare -= down;
  }
  return changed(sizes);
}

/** True when the Deployment's size changed since its sets were sized. */
export const isScaled = (deployment: Deployment, all: readonly ReplicaSet[]): boolean =>
  all.some(
    (set) =>
      set.spec.replicas > 0 && (set.metadata.annotations?.[DESIRED] ?? '') !== `${deployment.spec.replicas}`,
  );

/** The sets' sizes after the Deployment was scaled: shares of their present sizes, the rest to the largest. */
export function rescale(
  deployment: Deployment,
  fresh: ReplicaSet | undefined,
  old: readonly ReplicaSet[],
): Size[] {
  const { replicas, strategy } = deployment.spec;
  const all = [...old, ...(fresh ? [fresh] : [])];
  const active = all.filter((set) => set.spec.replicas > 0);
  if (active.length <= 1) {
    const only = active[0] ?? fresh ?? old.at(-1);
    return only ? [{ set: only, replicas }] : [];
  }
  if (fresh && isSaturated(deployment, fresh)) {
    return changed(new Map(old.map((set) => [set, 0])));
  }
  if (strategy.type !== 'RollingUpdate') return [];
  const limit = replicas + maxSurge(deployment);
  const toAdd = (replicas > 0 ? limit : 0) - sum(active, wanted);
  const older = (a: ReplicaSet, b: ReplicaSet) => all.indexOf(a) - all.indexOf(b);
  active.sort((a, b) => b.spec.replicas - a.spec.replicas || (toAdd > 0 ? older(b, a) : older(a, b)));
  let added = 0;
  const sizes = active.map((set) => {
    const share = shareOf(deployment, set, limit);
    const left = toAdd - added;
    const step = toAdd === 0 ? 0 : toAdd > 0 ? Math.min(share, left) : Math.max(share, left);
    added += step;
    return { set, replicas: set.spec.replicas + step };
  });
  sizes[0]!.replicas = Math.max(0, sizes[0]!.replicas + toAdd - added);
  return sizes;
}

function shareOf(deployment: Deployment, set: ReplicaSet, limit: number): number {
  if (deployment.spec.replicas === 0) return -set.spec.replicas;
  const before = Number(set.metadata.annotations?.[MAX_REPLICAS]) || deployment.status?.replicas || limit;
  return Math.round((set.spec.replicas * limit) / before) - set.spec.replicas;
}

function isSaturated(deployment: Deployment, fresh: ReplicaSet): boolean {
  const { replicas } = deployment.spec;
  return (
    fresh.spec.replicas === replicas &&
    fresh.metadata.annotations?.[DESIRED] === String(replicas) &&
    available(fresh) === replicas
  );
}

const changed = (sizes: ReadonlyMap<ReplicaSet, number>): Size[] =>
  [...sizes]
    .filter(([set, size]) => size !== set.spec.replicas)
    .map(([set, replicas]) => ({ set, replicas }));
