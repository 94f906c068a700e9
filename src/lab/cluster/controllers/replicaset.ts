// ReplicaSet: as many active pods as `replicas` says. Ended pods are not counted and stay where they are, as upstream.
import { pods as podResource } from '../../../kube/resources.ts';
import type { Pod } from '../../../kube/types.ts';
import { type ReplicaSet, type ReplicaSetStatus, replicaSets } from '../workloads.ts';
import { type Action, BURST, earliest, ownedBy, type Plan, withCondition } from './plan.ts';
import { goFirst, isActive, isAvailable, isReady, nextAvailable, podFrom } from './pods.ts';

/** `failure`: why pods could not be made the last time. */
type Input = { set: ReplicaSet; pods: readonly Pod[]; now: number; failure?: string | undefined };

export function planReplicaSet({ set, pods, now, failure }: Input): Plan {
  const active = pods.filter(isActive);
  const { replicas, minReadySeconds, template } = set.spec;
  const missing = replicas - active.length;
  const actions: Action[] = [];
  if (set.metadata.deletionTimestamp === undefined) {
    const reference = ownedBy(set, { apiVersion: 'apps/v1', kind: 'ReplicaSet' });
    for (let i = 0; i < Math.min(missing, BURST); i++)
      actions.push({
        do: 'create',
        resource: podResource,
        object: podFrom(template, { object: set, reference }),
      });
    if (missing < 0)
      for (const object of goFirst(active).slice(0, -missing))
        actions.push({ do: 'delete', resource: podResource, object });
  }
  const wanted = Object.entries(template.metadata?.labels ?? {});
  const others = (set.status?.conditions ?? []).filter((each) => each.type !== 'ReplicaFailure');
  const conditions =
    failure === undefined
      ? others
      : withCondition(
          set.status?.conditions ?? [],
          { type: 'ReplicaFailure', status: 'True', reason: 'FailedCreate', message: failure },
          now,
          undefined,
        );
  const status: ReplicaSetStatus = {
    replicas: active.length,
    fullyLabeledReplicas: active.filter(({ metadata }) =>
      wanted.every(([key, value]) => metadata.labels?.[key] === value),
    ).length,
    readyReplicas: active.filter(isReady).length,
    availableReplicas: active.filter((pod) => isAvailable(pod, minReadySeconds, now)).length,
    observedGeneration: set.metadata.generation ?? 1,
    ...(conditions.length === 0 ? {} : { conditions }),
  };
  // The status comes first: a create that fails must not keep it from being seen.
  return {
    actions: [{ do: 'status', resource: replicaSets, object: set, status }, ...actions],
    ...earliest(nextAvailable(active, minReadySeconds, now)),
  };
}
