// Deployment: one ReplicaSet per pod template, sized so that a rollout never has more pods than maxSurge allows nor fewer
// available ones than maxUnavailable does. Each pass takes one step; the sets' changes bring the next. Pure.
import type { Pod } from '../../../kube/types.ts';
import { type Deployment, deployments, type ReplicaSet, replicaSets } from '../workloads.ts';
import { deploymentStatus } from './deployment-status.ts';
import { type Action, earliest, type Plan } from './plan.ts';
import { isFinished } from './pods.ts';
import { forgotten, newSet, REVISION, revisionOf, sizeAnnotations, splitSets, synced } from './revisions.ts';
import { isScaled, nextSize, rescale, type Size, shrinkOld } from './scaling.ts';

type Input = {
  deployment: Deployment;
  sets: readonly ReplicaSet[];
  /** Pods of a ReplicaSet, including terminating ones. */
  podsOf: (set: ReplicaSet) => readonly Pod[];
  now: number;
  failure?: string | undefined;
};

export function planDeployment(input: Input): Plan {
  const { deployment, sets, now, failure } = input;
  const { fresh, old } = splitSets(deployment, sets);
  const ending = deployment.metadata.deletionTimestamp !== undefined;
  const step = ending ? nothing : nextStep(input, fresh, old);
  const { status, wakeAt } = deploymentStatus({
    deployment,
    fresh,
    made: step.made,
    old,
    now,
    ...(failure === undefined ? {} : { failure }),
  });
  return {
    actions: [{ do: 'status', resource: deployments, object: deployment, status }, ...step.actions],
    ...earliest(wakeAt),
  };
}

type Step = { actions: Action[]; made?: ReplicaSet };
const nothing: Step = { actions: [] };

function nextStep(
  { deployment, podsOf }: Input,
  fresh: ReplicaSet | undefined,
  old: readonly ReplicaSet[],
): Step {
  const all = [...old, ...(fresh ? [fresh] : [])];
  if (deployment.spec.paused || isScaled(deployment, all)) {
    const renewed = fresh ? revised(deployment, fresh, old) : [];
    const actions = renewed.length > 0 ? renewed : resize(deployment, rescale(deployment, fresh, old));
    if (deployment.spec.paused || actions.length > 0) return { actions };
  }
  if (deployment.spec.strategy.type === 'Recreate') {
    const down = old.filter((set) => set.spec.replicas > 0).map((set) => ({ set, replicas: 0 }));
    if (down.length > 0) return { actions: resize(deployment, down) };
    if (old.some((set) => podsOf(set).some((pod) => !isFinished(pod)))) return nothing;
  }
  if (!fresh) {
    const made = newSet(deployment, old, nextSize(deployment, old, 0));
    const notice = `Scaled up replica set ${made.metadata.name} from 0 to ${made.spec.replicas}`;
    return {
      made,
      actions: [{ do: 'create', resource: replicaSets, object: made }, told(deployment, notice)],
    };
  }
  const renewed = revised(deployment, fresh, old);
  if (renewed.length > 0) return { actions: renewed };
  const size = nextSize(deployment, all, fresh.spec.replicas);
  if (size !== fresh.spec.replicas) return { actions: resize(deployment, [{ set: fresh, replicas: size }]) };
  const down = shrinkOld(
    deployment,
    fresh,
    old.filter((set) => set.spec.replicas > 0),
  );
  if (down.length > 0) return { actions: resize(deployment, down) };
  const complete = (fresh.status?.availableReplicas ?? 0) === deployment.spec.replicas;
  return {
    actions: complete
      ? forgotten(deployment, old).map((object) => ({ do: 'delete', resource: replicaSets, object }))
      : [],
  };
}

/** Brings the set's annotations, and the Deployment's revision after it, to what they should be. */
function revised(deployment: Deployment, fresh: ReplicaSet, old: readonly ReplicaSet[]): Action[] {
  const set = synced(deployment, fresh, old);
  if (set) return [{ do: 'update', resource: replicaSets, object: set }];
  const revision = String(revisionOf(fresh));
  if (deployment.metadata.annotations?.[REVISION] === revision) return [];
  const annotations = { ...deployment.metadata.annotations, [REVISION]: revision };
  const metadata = { ...deployment.metadata, annotations };
  return [{ do: 'update', resource: deployments, object: { ...deployment, metadata } }];
}

function resize(deployment: Deployment, sizes: readonly Size[]): Action[] {
  const marks = sizeAnnotations(deployment);
  return sizes.flatMap(({ set, replicas }): Action[] => {
    const annotations = { ...set.metadata.annotations, ...marks };
    const before = set.metadata.annotations ?? {};
    const from = set.spec.replicas;
    if (from === replicas && Object.keys(marks).every((key) => before[key] === marks[key])) return [];
    const object = { ...set, metadata: { ...set.metadata, annotations }, spec: { ...set.spec, replicas } };
    const direction = replicas > from ? 'up' : 'down';
    const notice = `Scaled ${direction} replica set ${set.metadata.name} from ${from} to ${replicas}`;
    const event = from === replicas ? [] : [told(deployment, notice)];
    return [{ do: 'update', resource: replicaSets, object }, ...event];
  });
}

const told = (about: Deployment, message: string): Action => ({
  do: 'event',
  about,
  notice: { type: 'Normal', reason: 'ScalingReplicaSet', message },
});
