// What a controller wants done, as values. A planner takes an object, what it owns and the time, and answers a Plan;
// apply.ts alone touches the store. Planners read only what they are given, so a test reads a rollout as a list.
import { rfc3339 } from '../../../base/clock.ts';
import type { Resource } from '../../../kube/resources.ts';
import type { KubeObject, OwnerReference } from '../../../kube/types.ts';
import type { WorkloadCondition } from '../workloads.ts';

export type Notice = { type: 'Normal' | 'Warning'; reason: string; message: string };

export type Action =
  | { do: 'create'; resource: Resource; object: KubeObject }
  /** Metadata and spec become those of `object`. */
  | { do: 'update'; resource: Resource; object: KubeObject }
  | { do: 'status'; resource: Resource; object: KubeObject; status: object }
  | { do: 'delete'; resource: Resource; object: KubeObject }
  | { do: 'event'; about: KubeObject; notice: Notice };

/** `wakeAt`: ms; the object is planned again then even if nothing changes. */
export type Plan = { actions: Action[]; wakeAt?: number };

/** Pods that one pass makes for one object; the changes that it causes bring the next pass. */
export const BURST = 50;

export const earliest = (...times: (number | undefined)[]): { wakeAt?: number } => {
  const known = times.filter((time) => time !== undefined);
  return known.length === 0 ? {} : { wakeAt: Math.min(...known) };
};

export function ownedBy(owner: KubeObject, { apiVersion, kind }: { apiVersion: string; kind: string }) {
  const { name = '', uid = '' } = owner.metadata;
  return { apiVersion, kind, name, uid, controller: true, blockOwnerDeletion: true } satisfies OwnerReference;
}

export const controllerOf = (object: KubeObject): OwnerReference | undefined =>
  object.metadata.ownerReferences?.find((owner) => owner.controller);

export const conditionOf = (
  conditions: readonly WorkloadCondition[] | undefined,
  type: string,
): WorkloadCondition | undefined => conditions?.find((each) => each.type === type);

/** Replaces the condition of the same type; an unchanged condition keeps its times. */
export function withCondition(
  conditions: readonly WorkloadCondition[],
  next: WorkloadCondition,
  now: number,
  stamp: 'lastUpdateTime' | 'lastProbeTime' | undefined,
): WorkloadCondition[] {
  const old = conditionOf(conditions, next.type);
  const same = old?.status === next.status && old.reason === next.reason && old.message === next.message;
  if (same) return [...conditions];
  const at = rfc3339(now);
  const since = old?.status === next.status ? (old.lastTransitionTime ?? at) : at;
  const written = { ...next, ...(stamp === undefined ? {} : { [stamp]: at }), lastTransitionTime: since };
  return putCondition(conditions, written);
}

/** Replaces the condition of its type in place, so that the order stays. */
export const putCondition = (
  conditions: readonly WorkloadCondition[],
  next: WorkloadCondition,
): WorkloadCondition[] =>
  conditionOf(conditions, next.type) === undefined
    ? [...conditions, next]
    : conditions.map((each) => (each.type === next.type ? next : each));
