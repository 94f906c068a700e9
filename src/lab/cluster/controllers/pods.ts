// Pods as controllers see them: which count, which are ready and since when, what one made from a template looks like,
// which goes first when there are too many. Pure.
import { createHash } from 'node:crypto';
import type { KubeObject, OwnerReference, Pod } from '../../../kube/types.ts';
import type { PodTemplate } from '../workloads.ts';

export const isFinished = (pod: Pod): boolean =>
  pod.status?.phase === 'Succeeded' || pod.status?.phase === 'Failed';

/** Neither ended nor asked to end. */
export const isActive = (pod: Pod): boolean =>
  !isFinished(pod) && pod.metadata.deletionTimestamp === undefined;

const readyCondition = (pod: Pod) => pod.status?.conditions?.find((each) => each.type === 'Ready');
export const isReady = (pod: Pod): boolean => readyCondition(pod)?.status === 'True';

/** When a ready pod counts as available, ms; undefined for a pod that is not ready. */
function availableAt(pod: Pod, minReadySeconds = 0): number | undefined {
  const ready = readyCondition(pod);
  if (ready?.status !== 'True') return undefined;
  return minReadySeconds === 0 ? 0 : Date.parse(ready.lastTransitionTime ?? '') + minReadySeconds * 1000;
}

export const isAvailable = (pod: Pod, minReadySeconds: number | undefined, now: number): boolean => {
  const at = availableAt(pod, minReadySeconds);
  return at !== undefined && at <= now;
};

/** The next moment at which a ready pod becomes available. */
export const nextAvailable = (
  pods: readonly Pod[],
  minReadySeconds: number | undefined,
  now: number,
): number | undefined => {
  const times = pods
    .map((pod) => availableAt(pod, minReadySeconds))
    .filter((at) => at !== undefined && at > now);
  return times.length === 0 ? undefined : Math.min(...(times as number[]));
};

/** A pod of the template, without a name: the API makes one from `generateName`. */
export function podFrom(
  template: PodTemplate,
  owner: { object: KubeObject; reference: OwnerReference; generateName?: string },
): Pod {
  const { labels, annotations, finalizers } = template.metadata ?? {};
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: {
      generateName: owner.generateName ?? `${owner.object.metadata.name}-`,
      namespace: owner.object.metadata.namespace!,
      ...(labels ? { labels: { ...labels } } : {}),
      ...(annotations ? { annotations: { ...annotations } } : {}),
      ...(finalizers ? { finalizers: [...finalizers] } : {}),
      ownerReferences: [owner.reference],
    },
    spec: structuredClone(template.spec),
  };
}

const PHASES: Record<string, number> = { Pending: 0, Unknown: 1, Running: 2 };
const COST = 'controller.kubernetes.io/pod-deletion-cost';

/**
 * The order in which a controller that has too many lets go (ActivePodsWithRanks of kubernetes/pkg/controller): without
 * a node, not yet running, not ready, of low deletion cost, on a node with more of them, ready or made last.
 */
export function goFirst(pods: readonly Pod[]): Pod[] {
  const onNode = new Map<string, number>();
  for (const { spec } of pods)
    if (spec.nodeName) onNode.set(spec.nodeName, (onNode.get(spec.nodeName) ?? 0) + 1);
  const rank = (pod: Pod): number[] => [
    pod.spec.nodeName ? 1 : 0,
    PHASES[pod.status?.phase ?? 'Pending'] ?? 0,
    isReady(pod) ? 1 : 0,
    Number(pod.metadata.annotations?.[COST] ?? 0),
    -(onNode.get(pod.spec.nodeName ?? '') ?? 0),
    -Date.parse(readyCondition(pod)?.lastTransitionTime ?? '') || 0,
    -restartsOf(pod),
    -Date.parse(pod.metadata.creationTimestamp ?? '') || 0,
  ];
  const ranked = pods.map((pod) => ({ pod, by: rank(pod) }));
  ranked.sort((a, b) => {
    for (const [i, value] of a.by.entries()) if (value !== b.by[i]) return value - b.by[i]!;
    return (a.pod.metadata.name ?? '') < (b.pod.metadata.name ?? '') ? -1 : 1;
  });
  return ranked.map(({ pod }) => pod);
}

export const restartsOf = (pod: Pod): number =>
  (pod.status?.containerStatuses ?? []).reduce((sum, each) => sum + each.restartCount, 0);

/** As Kubernetes writes hashes: no vowels, so no words. 27^10 of them: two templates of one object never meet. */
const LETTERS = 'bcdfghjklmnpqrstvwxz2456789';

/** Equal for equal templates, independent of the order of their fields. */
export function templateHash(template: unknown): string {
  const digest = createHash('sha256').update(canonical(template)).digest();
  return Array.from(digest.subarray(0, 10), (byte) => LETTERS[byte % LETTERS.length]).join('');
}

function canonical(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(canonical).join(',')}]`;
  if (value === null || typeof value !== 'object') return JSON.stringify(value) ?? 'null';
  const fields = Object.entries(value).filter(([, each]) => each !== undefined);
  fields.sort(([a], [b]) => (a < b ? -1 : 1));
  return `{${fields.map(([key, each]) => `${JSON.stringify(key)}:${canonical(each)}`).join(',')}}`;
}
