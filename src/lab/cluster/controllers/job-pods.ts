// The pods of a Job: made from its template, with an index each in an Indexed one (annotation, label, environment). Pure.
import type { Pod } from '../../../kube/types.ts';
import type { Job } from '../workloads.ts';
import { ownedBy } from './plan.ts';
import { podFrom } from './pods.ts';

/** Finalizer of a pod that its Job has not counted yet. */
export const TRACKING = 'batch.kubernetes.io/job-tracking';
const INDEX = 'batch.kubernetes.io/job-completion-index';

export const indexOf = (pod: Pod): number | undefined => {
  const text = pod.metadata.annotations?.[INDEX];
  return text === undefined ? undefined : Number(text);
};

export function podOfJob(job: Job, index: number | undefined): Pod {
  const { name } = job.metadata;
  const pod = podFrom(job.spec.template, {
    object: job,
    reference: ownedBy(job, { apiVersion: 'batch/v1', kind: 'Job' }),
    ...(index === undefined ? {} : { generateName: `${name}-${index}-` }),
  });
  pod.metadata.finalizers = [...(pod.metadata.finalizers ?? []), TRACKING];
  if (index === undefined) return pod;
  const mark = { [INDEX]: String(index) };
  pod.metadata.annotations = { ...pod.metadata.annotations, ...mark };
  pod.metadata.labels = { ...pod.metadata.labels, ...mark };
  for (const container of pod.spec.containers)
    container.env = [...(container.env ?? []), { name: 'JOB_COMPLETION_INDEX', value: String(index) }];
  return pod;
}

/** The lowest indexes that no pod works on and none has done. */
export function missingIndexes(
  completions: number,
  active: readonly Pod[],
  done: ReadonlySet<number>,
  width: number,
): number[] {
  const taken = new Set(active.map(indexOf));
  const free: number[] = [];
  for (let index = 0; index < completions && free.length < width; index++)
    if (!taken.has(index) && !done.has(index)) free.push(index);
  return free;
}

/** `0-2,4`: as status.completedIndexes has it. */
export function indexRanges(done: ReadonlySet<number>): string {
  const sorted = [...done].sort((a, b) => a - b);
  const ranges: string[] = [];
  for (let i = 0; i < sorted.length; ) {
    let end = i;
    while (sorted[end + 1] === sorted[end]! + 1) end += 1;
    ranges.push(end === i ? `${sorted[i]}` : `${sorted[i]}-${sorted[end]}`);
    i = end + 1;
  }
  return ranges.join(',');
}
