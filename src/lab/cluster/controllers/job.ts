// Job: pods that run to their end until `completions` of them succeeded, `parallelism` at once, `backoffLimit` failures
// at most. A pod that ended is counted once and for all: its uid is written to the status before its finalizer goes, and
// the count follows when the finalizer has gone, so that neither a deleted pod nor a kill between two steps is counted
// twice or never. Pure.
import { rfc3339 } from '../../../base/clock.ts';
import { pods as podResource } from '../../../kube/resources.ts';
import type { Pod } from '../../../kube/types.ts';
import { type Job, type JobStatus, jobs, type WorkloadCondition } from '../workloads.ts';
import { indexOf, indexRanges, missingIndexes, podOfJob, TRACKING } from './job-pods.ts';
import { type Action, BURST, conditionOf, earliest, type Plan, withCondition } from './plan.ts';
import { goFirst, isActive, isReady, restartsOf } from './pods.ts';

/** Pause after a failed pod, doubled with each; upstream begins at 10 s, which is long for a laboratory. */
const FIRST_PAUSE_MS = 1000;
const LAST_PAUSE_MS = 60_000;

type Input = { job: Job; pods: readonly Pod[]; now: number };
type End = { type: 'Complete' | 'Failed'; reason: string; message: string };

export const isTracked = (pod: Pod): boolean => pod.metadata.finalizers?.includes(TRACKING) === true;

export const untracked = (pod: Pod): Action => ({
  do: 'update',
  resource: podResource,
  object: {
    ...pod,
    metadata: {
      ...pod.metadata,
      finalizers: pod.metadata.finalizers?.filter((each) => each !== TRACKING) ?? [],
    },
  },
});

export function planJob({ job, pods, now }: Input): Plan {
  if (job.spec.managedBy !== undefined && job.spec.managedBy !== 'kubernetes.io/job-controller')
    return { actions: [] };
  const { counted, actions } = count(job, pods);
  const status: JobStatus = {
    ...job.status,
    ...counted,
    active: 0,
    conditions: job.status?.conditions ?? [],
  };
  const active = pods.filter(isActive);
  const over = endOf(job.status);
  const wake: (number | undefined)[] = [];
  if (over) {
    const at = Date.parse(over.lastTransitionTime ?? '');
    const ttl = job.spec.ttlSecondsAfterFinished;
    actions.push(...active.map(deletion));
    const settled = pods.every((pod) => !isTracked(pod));
    if (ttl !== undefined && at + ttl * 1000 > now) wake.push(at + ttl * 1000);
    else if (ttl !== undefined && settled)
      return { actions: [{ do: 'delete', resource: jobs, object: job }] };
  } else if (job.metadata.deletionTimestamp === undefined) {
    const step = advance(job, status, active, pods, now);
    actions.push(...step.actions);
    wake.push(step.wakeAt);
  }
  const alive = endOf(status) ? [] : active;
  status.active = alive.length;
  status.ready = alive.filter(isReady).length;
  status.terminating = pods.filter((pod) => pod.metadata.deletionTimestamp && isTracked(pod)).length;
  if (job.spec.completionMode === 'Indexed') status.completedIndexes = indexRanges(succeeded(pods, status));
  // The status is first: what is in it must be there before a finalizer goes.
  return {
    actions: [{ do: 'status', resource: jobs, object: job, status }, ...actions],
    ...earliest(...wake),
  };
}

const deletion = (object: Pod): Action => ({ do: 'delete', resource: podResource, object });
/** A pod that the controller deletes; it did not fail and is not counted. */
const takenBack = (pod: Pod): Action[] => [
  untracked(pod),
  deletion({ ...pod, metadata: { ...pod.metadata, finalizers: [] } }),
];

const endOf = (status: JobStatus | undefined): WorkloadCondition | undefined =>
  status?.conditions?.find(
    ({ type, status: yes }) => (type === 'Complete' || type === 'Failed') && yes === 'True',
  );

/** Ended pods, in three steps: written down as uncounted, freed of their finalizer, added to the numbers. */
function count(job: Job, pods: readonly Pod[]): { counted: Partial<JobStatus>; actions: Action[] } {
  const before = job.status?.uncountedTerminatedPods ?? {};
  const byUid = new Map(pods.map((pod) => [pod.metadata.uid ?? '', pod]));
  const actions: Action[] = [];
  const next: Required<NonNullable<JobStatus['uncountedTerminatedPods']>> = { succeeded: [], failed: [] };
  const sums = { succeeded: job.status?.succeeded ?? 0, failed: job.status?.failed ?? 0 };
  for (const how of ['succeeded', 'failed'] as const) {
    for (const uid of before[how] ?? []) {
      const pod = byUid.get(uid);
      if (pod === undefined || !isTracked(pod)) sums[how] += 1;
      else {
        next[how].push(uid);
        actions.push(untracked(pod));
      }
    }
  }
  const known = new Set([...next.succeeded, ...next.failed]);
  for (const [uid, pod] of byUid) {
    if (!isTracked(pod) || isActive(pod) || known.has(uid)) continue;
    next[pod.status?.phase === 'Succeeded' ? 'succeeded' : 'failed'].push(uid);
  }
  return { counted: { ...sums, uncountedTerminatedPods: next }, actions };
}

const succeededNow = (status: JobStatus): number =>
  (status.succeeded ?? 0) + (status.uncountedTerminatedPods?.succeeded?.length ?? 0);
const failedNow = (status: JobStatus): number =>
  (status.failed ?? 0) + (status.uncountedTerminatedPods?.failed?.length ?? 0);

/** Changes `status` to what this pass makes it. */
function advance(
  job: Job,
  status: JobStatus,
  active: readonly Pod[],
  pods: readonly Pod[],
  now: number,
): Plan {
  const { spec } = job;
  const conditions = status.conditions ?? [];
  const suspended = conditionOf(conditions, 'Suspended');
  const say = (type: string, yes: boolean, reason: string, message: string) =>
    withCondition(
      status.conditions ?? [],
      { type, status: yes ? 'True' : 'False', reason, message },
      now,
      'lastProbeTime',
    );
  if (spec.suspend) {
    delete status.startTime;
    status.conditions = say('Suspended', true, 'JobSuspended', 'Job suspended');
    return { actions: active.flatMap(takenBack) };
  }
  if (suspended?.status === 'True') status.conditions = say('Suspended', false, 'JobResumed', 'Job resumed');
  status.startTime ??= rfc3339(now);

  const end = decide(job, status, active, now);
  if (end) {
    if (end.type === 'Complete') status.completionTime = rfc3339(now);
    const first = end.type === 'Complete' ? 'SuccessCriteriaMet' : 'FailureTarget';
    status.conditions = say(first, true, end.reason, end.message);
    status.conditions = say(end.type, true, end.reason, end.message);
    const notice =
      end.type === 'Complete'
        ? { type: 'Normal' as const, reason: 'Completed', message: 'Job completed' }
        : { type: 'Warning' as const, reason: end.reason, message: end.message };
    const ttl = spec.ttlSecondsAfterFinished;
    return {
      actions: [
        ...active.flatMap((pod) => (end.type === 'Complete' ? takenBack(pod) : [deletion(pod)])),
        { do: 'event', about: job, notice },
      ],
      ...earliest(ttl === undefined ? undefined : now + ttl * 1000),
    };
  }
  const deadline =
    spec.activeDeadlineSeconds === undefined
      ? undefined
      : Date.parse(status.startTime) + spec.activeDeadlineSeconds * 1000;
  const done = succeededNow(status);
  // Without completions each pod that succeeds says that there is no more work.
  const room =
    spec.completions === undefined ? (done > 0 ? active.length : spec.parallelism) : spec.completions - done;
  const missing = Math.min(spec.parallelism, room) - active.length;
  if (missing < 0)
    return { actions: goFirst(active).slice(0, -missing).flatMap(takenBack), ...earliest(deadline) };
  const resume = missing === 0 ? 0 : resumeAt(pods);
  if (resume > now) return { actions: [], ...earliest(deadline, resume) };
  const width = Math.min(missing, BURST);
  const indexes =
    spec.completionMode === 'Indexed'
      ? missingIndexes(spec.completions ?? 0, active, succeeded(pods, status), width)
      : Array.from({ length: width }, () => undefined);
  return {
    actions: indexes.map((index) => ({
      do: 'create',
      resource: podResource,
      object: podOfJob(job, index),
    })),
    ...earliest(deadline),
  };
}

function decide(job: Job, status: JobStatus, active: readonly Pod[], now: number): End | undefined {
  const { spec } = job;
  const failed = failedNow(status);
  const restarts =
    spec.template.spec.restartPolicy === 'OnFailure'
      ? active.reduce((sum, pod) => sum + restartsOf(pod), 0)
      : 0;
  if (failed > spec.backoffLimit || (restarts > 0 && restarts >= spec.backoffLimit))
    return {
      type: 'Failed',
      reason: 'BackoffLimitExceeded',
      message: `Job has reached the specified backoff limit: ${failed + restarts} failures, limit ${spec.backoffLimit}`,
    };
  const late = spec.activeDeadlineSeconds ?? Number.POSITIVE_INFINITY;
  if (now >= Date.parse(status.startTime ?? '') + late * 1000)
    return {
      type: 'Failed',
      reason: 'DeadlineExceeded',
      message: `Job was active longer than specified deadline: ${late} s`,
    };
  const done = succeededNow(status);
  const complete =
    spec.completions === undefined ? done > 0 && active.length === 0 : done >= spec.completions;
  return complete
    ? { type: 'Complete', reason: 'CompletionsReached', message: 'Reached expected number of succeeded pods' }
    : undefined;
}

const endedAt = (pod: Pod): number =>
  Date.parse(
    pod.status?.containerStatuses?.[0]?.state?.terminated?.finishedAt ??
      pod.metadata.deletionTimestamp ??
      pod.metadata.creationTimestamp ??
      '',
  ) || 0;

/** When the next pod may be made: after the newest failure, longer with each since the last success. */
function resumeAt(pods: readonly Pod[]): number {
  const successes = pods.filter((pod) => pod.status?.phase === 'Succeeded').map(endedAt);
  const failures = pods.filter((pod) => pod.status?.phase === 'Failed').map(endedAt);
  const since = Math.max(0, ...successes);
  const recent = failures.filter((at) => at >= since);
  if (recent.length === 0) return 0;
  return Math.max(...recent) + Math.min(FIRST_PAUSE_MS * 2 ** (recent.length - 1), LAST_PAUSE_MS);
}

/** Completed indexes: of the existing pods, and of the status. */
function succeeded(pods: readonly Pod[], status: JobStatus): Set<number> {
  const done = new Set<number>();
  for (const range of (status.completedIndexes ?? '').split(',').filter(Boolean)) {
    const [from, to = from] = range.split('-').map(Number) as [number, number?];
    for (let index = from; index <= to; index++) done.add(index);
  }
  for (const pod of pods) {
    const index = indexOf(pod);
    if (pod.status?.phase === 'Succeeded' && index !== undefined) done.add(index);
  }
  return done;
}
