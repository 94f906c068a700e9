// What a Deployment says of itself: the counts and the conditions Available, Progressing and ReplicaFailure that
// `kubectl rollout status` waits for. The rules are those of kubernetes/pkg/controller/deployment/progress.go. Pure.
import { rfc3339 } from '../../../base/clock.ts';
import type { Deployment, DeploymentStatus, ReplicaSet, WorkloadCondition } from '../workloads.ts';
import { conditionOf, earliest, putCondition, withCondition } from './plan.ts';
import { maxUnavailable } from './revisions.ts';
import { available, total, wanted } from './scaling.ts';

type Input = {
  deployment: Deployment;
  fresh: ReplicaSet | undefined;
  /** The set of the present template that this pass makes. */
  made: ReplicaSet | undefined;
  old: readonly ReplicaSet[];
  now: number;
  failure?: string;
};

export function deploymentStatus(input: Input): { status: DeploymentStatus; wakeAt?: number } {
  const { deployment, fresh, old } = input;
  const all = [...old, ...(fresh ? [fresh] : [])];
  const counts = {
    observedGeneration: deployment.metadata.generation ?? 1,
    replicas: total(all, (set) => set.status?.replicas ?? 0),
    updatedReplicas: fresh?.status?.replicas ?? 0,
    readyReplicas: total(all, (set) => set.status?.readyReplicas ?? 0),
    availableReplicas: total(all, available),
    unavailableReplicas: Math.max(0, total(all, wanted) - total(all, available)),
  };
  const { conditions, wakeAt } = conditionsOf(input, counts);
  return { status: { ...counts, conditions }, ...earliest(wakeAt) };
}

function conditionsOf(
  { deployment, fresh, made, old, now, failure }: Input,
  counts: Required<Omit<DeploymentStatus, 'conditions'>>,
): { conditions: WorkloadCondition[]; wakeAt?: number | undefined } {
  const { replicas, progressDeadlineSeconds, paused } = deployment.spec;
  const before = deployment.status?.conditions ?? [];
  const enough = counts.availableReplicas >= replicas - maxUnavailable(deployment);
  let conditions = set(before, now, 'Available', enough, {
    reason: enough ? 'MinimumReplicasAvailable' : 'MinimumReplicasUnavailable',
    message: `Deployment ${enough ? 'has' : 'does not have'} minimum availability.`,
  });
  const broken = failure ?? failureOf(fresh) ?? old.map(failureOf).find((each) => each !== undefined);
  conditions =
    broken === undefined
      ? conditions.filter((each) => each.type !== 'ReplicaFailure')
      : set(conditions, now, 'ReplicaFailure', true, { reason: 'FailedCreate', message: broken });

  const progressing = conditionOf(conditions, 'Progressing');
  const say = (status: WorkloadCondition['status'], reason: string, message: string) =>
    withCondition(conditions, { type: 'Progressing', status, reason, message }, now, 'lastUpdateTime');
  const name = `ReplicaSet "${(fresh ?? made)?.metadata.name ?? ''}"`;
  if (made) return { conditions: say('True', 'NewReplicaSetCreated', `Created new replica set ${name}`) };
  const late = progressing?.reason === 'ProgressDeadlineExceeded';
  if (paused)
    return { conditions: late ? conditions : say('Unknown', 'DeploymentPaused', 'Deployment is paused') };
  const done =
    counts.updatedReplicas === replicas &&
    counts.replicas === replicas &&
    counts.availableReplicas === replicas;
  const settled =
    progressing?.reason === 'NewReplicaSetAvailable' && counts.replicas === counts.updatedReplicas;
  if (done)
    return { conditions: say('True', 'NewReplicaSetAvailable', `${name} has successfully progressed.`) };
  if (settled) return { conditions };
  const was = deployment.status ?? {};
  const moved =
    counts.updatedReplicas > (was.updatedReplicas ?? 0) ||
    counts.replicas - counts.updatedReplicas < (was.replicas ?? 0) - (was.updatedReplicas ?? 0) ||
    counts.readyReplicas > (was.readyReplicas ?? 0) ||
    counts.availableReplicas > (was.availableReplicas ?? 0);
  const begins = progressing?.status !== 'True' && !late;
  if (moved || begins || progressing.reason === 'NewReplicaSetAvailable') {
    // Each step begins the deadline anew: its time is written even when the words stay.
    const at = rfc3339(now);
    const since = progressing?.status === 'True' ? progressing.lastTransitionTime : undefined;
    const step: WorkloadCondition = {
      type: 'Progressing',
      status: 'True',
      reason: 'ReplicaSetUpdated',
      message: `${name} is progressing.`,
      lastUpdateTime: at,
      lastTransitionTime: since ?? at,
    };
    return { conditions: putCondition(conditions, step), wakeAt: now + progressDeadlineSeconds * 1000 };
  }
  if (late) return { conditions };
  const deadline = Date.parse(progressing.lastUpdateTime ?? '') + progressDeadlineSeconds * 1000;
  if (deadline <= now)
    return { conditions: say('False', 'ProgressDeadlineExceeded', `${name} has timed out progressing.`) };
  return { conditions, wakeAt: deadline };
}

const failureOf = (set: ReplicaSet | undefined): string | undefined =>
  conditionOf(set?.status?.conditions, 'ReplicaFailure')?.message;

const set = (
  conditions: readonly WorkloadCondition[],
  now: number,
  type: string,
  yes: boolean,
  why: { reason: string; message: string },
): WorkloadCondition[] =>
  withCondition(conditions, { type, status: yes ? 'True' : 'False', ...why }, now, 'lastUpdateTime');
