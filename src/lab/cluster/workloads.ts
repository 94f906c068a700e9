// The workload kinds that the lab's controllers run, as their JSON is, and how each is reached. Only fields that the
// controllers read or write are named. Numbers may be absent in what clients send: the API fills them in.
import { resource } from '../../kube/resources.ts';
import type { KubeObject, LabelSelector, ObjectMeta, PodSpec } from '../../kube/types.ts';

export type PodTemplate = { metadata?: ObjectMeta; spec: PodSpec };

/** A number of pods, or a share of them as `25%`. */
type IntOrPercent = number | string;

/** `lastUpdateTime` is a Deployment's, `lastProbeTime` a Job's. */
export type WorkloadCondition = {
  type: string;
  status: 'True' | 'False' | 'Unknown';
  reason?: string;
  message?: string;
  lastTransitionTime?: string;
  lastUpdateTime?: string;
  lastProbeTime?: string;
};

export type DeploymentStatus = {
  observedGeneration?: number;
  replicas?: number;
  updatedReplicas?: number;
  readyReplicas?: number;
  availableReplicas?: number;
  unavailableReplicas?: number;
  conditions?: WorkloadCondition[];
};

export type Deployment = KubeObject & {
  spec: {
    replicas: number;
    selector: LabelSelector;
    template: PodTemplate;
    strategy: {
      type: 'RollingUpdate' | 'Recreate';
      rollingUpdate?: { maxSurge?: IntOrPercent; maxUnavailable?: IntOrPercent };
    };
    minReadySeconds?: number;
    revisionHistoryLimit: number;
    progressDeadlineSeconds: number;
    paused?: boolean;
  };
  status?: DeploymentStatus;
};

export type ReplicaSetStatus = {
  observedGeneration?: number;
  replicas: number;
  fullyLabeledReplicas?: number;
  readyReplicas?: number;
  availableReplicas?: number;
  conditions?: WorkloadCondition[];
};

export type ReplicaSet = KubeObject & {
  spec: { replicas: number; selector: LabelSelector; template: PodTemplate; minReadySeconds?: number };
  status?: ReplicaSetStatus;
};

export type DaemonSetStatus = {
  observedGeneration?: number;
  currentNumberScheduled: number;
  numberMisscheduled: number;
  desiredNumberScheduled: number;
  numberReady: number;
  updatedNumberScheduled?: number;
  numberAvailable?: number;
  numberUnavailable?: number;
};

export type DaemonSet = KubeObject & {
  spec: {
    selector: LabelSelector;
    template: PodTemplate;
    updateStrategy: {
      type: 'RollingUpdate' | 'OnDelete';
      rollingUpdate?: { maxSurge?: IntOrPercent; maxUnavailable?: IntOrPercent };
    };
    minReadySeconds?: number;
    revisionHistoryLimit: number;
  };
  status?: DaemonSetStatus;
};

export type ControllerRevision = KubeObject & { data?: unknown; revision: number };

export type JobStatus = {
  conditions?: WorkloadCondition[];
  startTime?: string;
  completionTime?: string;
  active?: number;
  ready?: number;
  terminating?: number;
  succeeded?: number;
  failed?: number;
  completedIndexes?: string;
  /** Pods that ended and are not in the counts yet: uids. */
  uncountedTerminatedPods?: { succeeded?: string[]; failed?: string[] };
};

export type Job = KubeObject & {
  spec: {
    parallelism: number;
    completions?: number;
    completionMode?: 'NonIndexed' | 'Indexed';
    backoffLimit: number;
    activeDeadlineSeconds?: number;
    ttlSecondsAfterFinished?: number;
    suspend?: boolean;
    manualSelector?: boolean;
    managedBy?: string;
    selector?: LabelSelector;
    template: PodTemplate;
  };
  status?: JobStatus;
};

export const deployments = resource<Deployment>('apps/v1', 'deployments', 'Deployment', 'Namespaced');
export const replicaSets = resource<ReplicaSet>('apps/v1', 'replicasets', 'ReplicaSet', 'Namespaced');
export const daemonSets = resource<DaemonSet>('apps/v1', 'daemonsets', 'DaemonSet', 'Namespaced');
export const controllerRevisions = resource<ControllerRevision>(
  'apps/v1',
  'controllerrevisions',
  'ControllerRevision',
  'Namespaced',
);
export const jobs = resource<Job>('batch/v1', 'jobs', 'Job', 'Namespaced');

/** Pods out of `total`; a share is rounded up or down. NaN for text that is neither. */
export function podsOf(value: IntOrPercent, total: number, round: 'up' | 'down'): number {
  if (typeof value === 'number') return value;
  const share = /^([0-9]+)%$/.exec(value)?.[1];
  if (share === undefined) return Number.NaN;
  const exact = (Number(share) * total) / 100;
  return round === 'up' ? Math.ceil(exact) : Math.floor(exact);
}
