// What the API server adds to workloads and what it refuses: defaults of apps/v1 and batch/v1, pod templates like pods,
// selectors that fit their template and never change. `kubectl rollout` and `describe` rely on these fields.
import { isDeepStrictEqual } from 'node:util';
import { matchesRequirements, SelectorError, selectorRequirements } from '../../../kube/selectors.ts';
import type { LabelSelector } from '../../../kube/types.ts';
import { type DaemonSet, type Deployment, type Job, type PodTemplate, podsOf } from '../workloads.ts';
import { invalidValue, required, type StatusCause } from './errors.ts';
import type { Any, HookContext } from './kinds.ts';
import { metadataProblems } from './metadata.ts';
import { checkPodSpec, completePodSpec } from './pods.ts';

type Spec = Record<string, unknown> & { template?: PodTemplate; selector?: LabelSelector };

const JOB_LABELS = {
  uid: 'batch.kubernetes.io/controller-uid',
  name: 'batch.kubernetes.io/job-name',
} as const;

const specOf = (object: Any): Spec => {
  object['spec'] ??= {};
  return object['spec'] as Spec;
};

function completeTemplate(spec: Spec): void {
  const pod = spec.template?.spec;
  if (pod !== null && typeof pod === 'object') completePodSpec(pod as PodTemplate['spec'] & Spec);
}

export function completeDeployment(object: Any): void {
  const spec = specOf(object) as Spec & Partial<Deployment['spec']>;
  spec.replicas ??= 1;
  spec.strategy ??= { type: 'RollingUpdate' };
  spec.strategy.type ??= 'RollingUpdate';
  if (spec.strategy.type === 'RollingUpdate') {
    spec.strategy.rollingUpdate ??= {};
    spec.strategy.rollingUpdate.maxUnavailable ??= '25%';
    spec.strategy.rollingUpdate.maxSurge ??= '25%';
  }
  spec.revisionHistoryLimit ??= 10;
  spec.progressDeadlineSeconds ??= 600;
  completeTemplate(spec);
}

/** ReplicaSet, ReplicationController and StatefulSet. */
export function completeReplicas(object: Any): void {
  const spec = specOf(object);
  spec['replicas'] ??= 1;
  completeTemplate(spec);
}

export function completeDaemonSet(object: Any): void {
  const spec = specOf(object) as Spec & Partial<DaemonSet['spec']>;
  spec.updateStrategy ??= { type: 'RollingUpdate' };
  spec.updateStrategy.type ??= 'RollingUpdate';
  if (spec.updateStrategy.type === 'RollingUpdate') {
    spec.updateStrategy.rollingUpdate ??= {};
    spec.updateStrategy.rollingUpdate.maxUnavailable ??= 1;
    spec.updateStrategy.rollingUpdate.maxSurge ??= 0;
  }
  spec.revisionHistoryLimit ??= 10;
  completeTemplate(spec);
}

export function completeJob(object: Any, _context: HookContext, before: Any | null): void {
  const spec = specOf(object) as Spec & Partial<Job['spec']>;
  if (spec.completions === undefined && spec.parallelism === undefined) spec.completions = 1;
  spec.parallelism ??= 1;
  spec.backoffLimit ??= 6;
  spec.completionMode ??= 'NonIndexed';
  spec.suspend ??= false;
  spec['podReplacementPolicy'] ??= 'TerminatingOrFailed';
  completeTemplate(spec);
  if (before !== null || spec.manualSelector || !spec.template) return;
  // A job's pods are told from others by the uid of their job, in the names of before and after Kubernetes 1.27.
  const { uid = '', name = '' } = object.metadata;
  spec.selector ??= { matchLabels: { [JOB_LABELS.uid]: uid } };
  spec.template.metadata = {
    ...spec.template.metadata,
    labels: {
      ...spec.template.metadata?.labels,
      [JOB_LABELS.uid]: uid,
      [JOB_LABELS.name]: name,
      'controller-uid': uid,
      'job-name': name,
    },
  };
}

export const checkDeployment = (object: Any, before: Any | null): StatusCause[] => {
  const spec = specOf(object) as Spec & Deployment['spec'];
  const { strategy } = spec;
  return [
    ...checkWorkload(spec, before, ['Always']),
    ...counts(spec, ['replicas', 'minReadySeconds', 'revisionHistoryLimit', 'progressDeadlineSeconds']),
    ...checkStep('spec.strategy', strategy.type, ['Recreate', 'RollingUpdate'], strategy.rollingUpdate),
  ];
};

export const checkReplicaSet = (object: Any, before: Any | null): StatusCause[] => {
  const spec = specOf(object);
  return [...checkWorkload(spec, before, ['Always']), ...counts(spec, ['replicas', 'minReadySeconds'])];
};

export const checkDaemonSet = (object: Any, before: Any | null): StatusCause[] => {
  const spec = specOf(object) as Spec & DaemonSet['spec'];
  const { updateStrategy: step } = spec;
  return [
    ...checkWorkload(spec, before, ['Always']),
    ...counts(spec, ['minReadySeconds', 'revisionHistoryLimit']),
    ...checkStep('spec.updateStrategy', step.type, ['OnDelete', 'RollingUpdate'], step.rollingUpdate),
  ];
};

export const checkJob = (object: Any, before: Any | null): StatusCause[] => {
  const spec = specOf(object) as Spec & Job['spec'];
  const causes = [
    ...checkWorkload(spec, before, ['OnFailure', 'Never']),
    ...counts(spec, [
      'parallelism',
      'completions',
      'backoffLimit',
      'activeDeadlineSeconds',
      'ttlSecondsAfterFinished',
    ]),
  ];
  if (spec.completionMode === 'Indexed' && spec.completions === undefined)
    causes.push(required('spec.completions', 'when completion mode is Indexed'));
  const old = before === null ? undefined : (specOf(before) as Spec & Job['spec']);
  if (old === undefined) return causes;
  const fixed = ['completions', 'completionMode', 'template'] as const;
  for (const field of fixed)
    if (!isDeepStrictEqual(spec[field], old[field]))
      causes.push(invalidValue(`spec.${field}`, spec[field] ?? null, 'field is immutable'));
  return causes;
};

function checkWorkload(spec: Spec, before: Any | null, restartPolicies: readonly string[]): StatusCause[] {
  const causes: StatusCause[] = [];
  const { selector, template } = spec;
  if (selector === undefined) causes.push(required('spec.selector'));
  if (!template) return [...causes, required('spec.template')];
  const old = before === null ? undefined : specOf(before);
  const fresh = !isDeepStrictEqual(template.spec?.containers, old?.template?.spec?.containers);
  causes.push(...checkPodSpec(template.spec, 'spec.template.spec', restartPolicies, fresh));
  for (const { field, ...cause } of metadataProblems(template.metadata ?? {}))
    causes.push({ ...cause, field: `spec.template.${field}` });
  if (selector === undefined) return causes;
  if (old !== undefined && !isDeepStrictEqual(selector, old.selector))
    causes.push(invalidValue('spec.selector', selector, 'field is immutable'));
  try {
    const requirements = selectorRequirements(selector);
    const labels = template.metadata?.labels ?? {};
    if (requirements.length === 0)
      causes.push(invalidValue('spec.selector', selector, 'empty selector is invalid for a workload'));
    else if (!matchesRequirements(requirements, labels))
      causes.push(
        invalidValue('spec.template.metadata.labels', labels, '`selector` does not match template `labels`'),
      );
  } catch (error) {
    if (!(error instanceof SelectorError)) throw error;
    causes.push(invalidValue('spec.selector', selector, error.message));
  }
  return causes;
}

const counts = (spec: Spec, fields: readonly string[]): StatusCause[] =>
  fields
    .filter((field) => typeof spec[field] === 'number' && (spec[field] as number) < 0)
    .map((field) => invalidValue(`spec.${field}`, spec[field], 'must be greater than or equal to 0'));

function checkStep(
  path: string,
  type: string,
  types: readonly string[],
  rolling: NonNullable<Deployment['spec']['strategy']['rollingUpdate']> | undefined,
): StatusCause[] {
  if (!types.includes(type)) {
    const supported = types.map((each) => JSON.stringify(each)).join(', ');
    return [
      {
        reason: 'FieldValueNotSupported',
        message: `Unsupported value: ${JSON.stringify(type)}: supported values: ${supported}`,
        field: `${path}.type`,
      },
    ];
  }
  if (type !== 'RollingUpdate') {
    return rolling === undefined
      ? []
      : [
          {
            reason: 'FieldValueForbidden',
            message: `Forbidden: may not be specified when strategy \`type\` is '${type}'`,
            field: `${path}.rollingUpdate`,
          },
        ];
  }
  const { maxSurge = 0, maxUnavailable = 0 } = rolling ?? {};
  const causes: StatusCause[] = [];
  for (const [field, value] of Object.entries({ maxSurge, maxUnavailable })) {
    if (!(podsOf(value, 100, 'up') >= 0))
      causes.push(
        invalidValue(`${path}.rollingUpdate.${field}`, value, 'must be a whole number or a percentage'),
      );
  }
  // As a share of 100 what is above 0 stays above 0: whether the shares round to nothing is the controller's to mind.
  if (podsOf(maxSurge, 100, 'up') === 0 && podsOf(maxUnavailable, 100, 'up') === 0)
    causes.push(
      invalidValue(
        `${path}.rollingUpdate.maxUnavailable`,
        maxUnavailable,
        'may not be 0 when `maxSurge` is 0',
      ),
    );
  return causes;
}
