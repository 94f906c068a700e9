// A Deployment's history: which ReplicaSet is of its present template, which revision each has, what is forgotten.
// The annotations are those that `kubectl rollout history` and `undo` read. Pure.
import { isDeepStrictEqual } from 'node:util';
import { type Deployment, type PodTemplate, podsOf, type ReplicaSet, replicaSets } from '../workloads.ts';
import { ownedBy } from './plan.ts';
import { templateHash } from './pods.ts';

const HASH_LABEL = 'pod-template-hash';
export const REVISION = 'deployment.kubernetes.io/revision';
export const DESIRED = 'deployment.kubernetes.io/desired-replicas';
export const MAX_REPLICAS = 'deployment.kubernetes.io/max-replicas';
const HISTORY = 'deployment.kubernetes.io/revision-history';
/** Annotations of a Deployment that its ReplicaSets do not take over. */
const OWN = new Set([
  'kubectl.kubernetes.io/last-applied-configuration',
  REVISION,
  HISTORY,
  DESIRED,
  MAX_REPLICAS,
]);

export const revisionOf = (set: ReplicaSet): number => Number(set.metadata.annotations?.[REVISION] ?? 0);

const madeAt = (set: ReplicaSet): string =>
  `${set.metadata.creationTimestamp ?? ''} ${set.metadata.name ?? ''}`;
const byAge = (a: ReplicaSet, b: ReplicaSet): number => (madeAt(a) < madeAt(b) ? -1 : 1);

const withoutHash = (template: PodTemplate) => {
  const { [HASH_LABEL]: _, ...labels } = template.metadata?.labels ?? {};
  return {
    spec: template.spec,
    labels,
    annotations: template.metadata?.annotations ?? {},
    finalizers: template.metadata?.finalizers ?? [],
  };
};

/** The oldest set of the present template, and the others, oldest first. */
export function splitSets(
  deployment: Deployment,
  sets: readonly ReplicaSet[],
): { fresh: ReplicaSet | undefined; old: ReplicaSet[] } {
  const template = withoutHash(deployment.spec.template);
  const sorted = [...sets].sort(byAge);
  const fresh = sorted.find((set) => isDeepStrictEqual(withoutHash(set.spec.template), template));
  return { fresh, old: sorted.filter((set) => set !== fresh) };
}

const nextRevision = (old: readonly ReplicaSet[]): number => Math.max(0, ...old.map(revisionOf)) + 1;

export const maxSurge = ({ spec: { strategy, replicas } }: Deployment): number =>
  strategy.type === 'RollingUpdate' ? podsOf(strategy.rollingUpdate?.maxSurge ?? '25%', replicas, 'up') : 0;

export function maxUnavailable(deployment: Deployment): number {
  const { strategy, replicas } = deployment.spec;
  if (strategy.type !== 'RollingUpdate') return 0;
  const exact = podsOf(strategy.rollingUpdate?.maxUnavailable ?? '25%', replicas, 'down');
  // Shares that round to nothing on both sides would never let a rollout begin.
  const atLeast = exact === 0 && maxSurge(deployment) === 0 ? 1 : exact;
  return Math.min(atLeast, replicas);
}

export const sizeAnnotations = (deployment: Deployment): Record<string, string> => ({
  [DESIRED]: String(deployment.spec.replicas),
  [MAX_REPLICAS]: String(deployment.spec.replicas + maxSurge(deployment)),
});

/** The set of the present template with what it takes from its Deployment; undefined when it has it already. */
export function synced(
  deployment: Deployment,
  fresh: ReplicaSet,
  old: readonly ReplicaSet[],
): ReplicaSet | undefined {
  const before = fresh.metadata.annotations ?? {};
  const copied = Object.entries(deployment.metadata.annotations ?? {}).filter(([key]) => !OWN.has(key));
  const annotations = { ...before, ...Object.fromEntries(copied) };
  const revision = nextRevision(old);
  const had = revisionOf(fresh);
  if (had < revision) {
    annotations[REVISION] = String(revision);
    if (had > 0) annotations[HISTORY] = before[HISTORY] ? `${before[HISTORY]},${had}` : String(had);
  }
  const { minReadySeconds } = deployment.spec;
  if (isDeepStrictEqual(annotations, before) && fresh.spec.minReadySeconds === minReadySeconds)
    return undefined;
  const { minReadySeconds: _, ...spec } = fresh.spec;
  return {
    ...fresh,
    metadata: { ...fresh.metadata, annotations },
    spec: { ...spec, ...(minReadySeconds === undefined ? {} : { minReadySeconds }) },
  };
}

export function newSet(deployment: Deployment, old: readonly ReplicaSet[], replicas: number): ReplicaSet {
  const { metadata, spec } = deployment;
  const hash = templateHash(withoutHash(spec.template));
  const copied = Object.entries(metadata.annotations ?? {}).filter(([key]) => !OWN.has(key));
  const labels = { ...spec.template.metadata?.labels, [HASH_LABEL]: hash };
  return {
    apiVersion: 'apps/v1',
    kind: replicaSets.kind,
    metadata: {
      name: `${metadata.name}-${hash}`,
      namespace: metadata.namespace!,
      labels,
      annotations: {
        ...Object.fromEntries(copied),
        ...sizeAnnotations(deployment),
        [REVISION]: String(nextRevision(old)),
      },
      ownerReferences: [ownedBy(deployment, { apiVersion: 'apps/v1', kind: 'Deployment' })],
    },
    spec: {
      replicas,
      selector: {
        ...spec.selector,
        matchLabels: { ...spec.selector.matchLabels, [HASH_LABEL]: hash },
      },
      template: { ...spec.template, metadata: { ...spec.template.metadata, labels } },
      ...(spec.minReadySeconds === undefined ? {} : { minReadySeconds: spec.minReadySeconds }),
    },
  };
}

/** Old sets beyond the history that the Deployment keeps: empty ones, lowest revision first. */
export function forgotten(deployment: Deployment, old: readonly ReplicaSet[]): ReplicaSet[] {
  const empty = old.filter(
    ({ metadata, spec, status }) =>
      spec.replicas === 0 &&
      (status?.replicas ?? 0) === 0 &&
      (status?.observedGeneration ?? 0) >= (metadata.generation ?? 1) &&
      metadata.deletionTimestamp === undefined,
  );
  empty.sort((a, b) => revisionOf(a) - revisionOf(b));
  return empty.slice(0, Math.max(0, empty.length - deployment.spec.revisionHistoryLimit));
}
