// What the API server adds to a Pod, and what it refuses.
import { isDeepStrictEqual } from 'node:util';
import type { Container, Pod, PodStatus } from '../../../kube/types.ts';
import { invalidValue, required, type StatusCause } from './errors.ts';
import type { Any, HookContext } from './kinds.ts';

type FullContainer = Container & Record<string, unknown>;

/** Defaults of core/v1 and of the admission plugins that every cluster runs (service account, tolerations). */
export function completePod(object: Any, _context: HookContext, before: Any | null): void {
  const pod = object as Any & Pod;
  const spec = pod.spec as Pod['spec'] & Record<string, unknown>;
  if (spec === null || typeof spec !== 'object') return;
  spec.restartPolicy ??= 'Always';
  spec['dnsPolicy'] ??= 'ClusterFirst';
  spec['schedulerName'] ??= 'default-scheduler';
  spec['securityContext'] ??= {};
  spec['enableServiceLinks'] ??= true;
  spec.terminationGracePeriodSeconds ??= 30;
  spec.serviceAccountName ??= 'default';
  spec['serviceAccount'] = spec.serviceAccountName;
  spec.priority ??= 0;
  spec['preemptionPolicy'] ??= 'PreemptLowerPriority';
  for (const list of [spec.containers, spec.initContainers]) {
    if (!Array.isArray(list)) continue;
    for (const container of list as FullContainer[]) {
      if (container === null || typeof container !== 'object') continue;
      container.resources ??= {};
      container['terminationMessagePath'] ??= '/dev/termination-log';
      container['terminationMessagePolicy'] ??= 'File';
      container['imagePullPolicy'] ??= /:(?!latest$)[^/]+$|@/.test(container.image ?? '')
        ? 'IfNotPresent'
        : 'Always';
      for (const port of container.ports ?? []) {
        port.protocol ??= 'TCP';
        if (spec.hostNetwork) port.hostPort ??= port.containerPort;
      }
    }
  }
  if (before !== null) return;
  const tolerations = Array.isArray(spec.tolerations) ? spec.tolerations : [];
  for (const key of ['node.kubernetes.io/not-ready', 'node.kubernetes.io/unreachable']) {
    if (tolerations.some((t) => (!t.key || t.key === key) && (!t.effect || t.effect === 'NoExecute')))
      continue;
    tolerations.push({ key, operator: 'Exists', effect: 'NoExecute', tolerationSeconds: 300 });
  }
  spec.tolerations = tolerations;
  const status: PodStatus = { phase: 'Pending', qosClass: qosClassOf(pod) };
  pod.status = status;
}

/** https://kubernetes.io/docs/concepts/workloads/pods/pod-qos/ */
export function qosClassOf(pod: Pod): string {
  const containers = [...(pod.spec.containers ?? []), ...(pod.spec.initContainers ?? [])];
  const any = containers.some(
    (c) =>
      Object.keys(c.resources?.requests ?? {}).length + Object.keys(c.resources?.limits ?? {}).length > 0,
  );
  if (!any) return 'BestEffort';
  const guaranteed = containers.every((c) =>
    ['cpu', 'memory'].every((name) => {
      const limit = c.resources?.limits?.[name];
      const request = c.resources?.requests?.[name] ?? limit;
      return limit !== undefined && String(limit) === String(request);
    }),
  );
  return guaranteed ? 'Guaranteed' : 'Burstable';
}

/** An unscheduled or finished pod has no node agent that would end it gracefully. */
export function graceOfPod(object: Any): number {
  const pod = object as Any & Pod;
  if (!pod.spec?.nodeName || pod.status?.phase === 'Succeeded' || pod.status?.phase === 'Failed') return 0;
  return pod.spec.terminationGracePeriodSeconds ?? 30;
}

export function checkPod(object: Any, before: Any | null): StatusCause[] {
  const causes: StatusCause[] = [];
  const pod = object as Any & Pod;
  const containers = pod.spec?.containers;
  if (!Array.isArray(containers) || containers.length === 0) return [required('spec.containers')];
  const seen = new Set<string>();
  const lists = [
    ['spec.initContainers', pod.spec.initContainers ?? []],
    ['spec.containers', containers],
  ] as const;
  for (const [path, list] of lists) {
    list.forEach((container, i) => {
      const at = `${path}[${i}]`;
      if (!container?.name) causes.push(required(`${at}.name`));
      else if (!/^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/.test(container.name)) {
        causes.push(invalidValue(`${at}.name`, container.name, 'must be a lowercase RFC 1123 label'));
      } else if (seen.has(container.name)) {
        causes.push({
          reason: 'FieldValueDuplicate',
          message: `Duplicate value: "${container.name}"`,
          field: `${at}.name`,
        });
      }
      seen.add(container?.name);
      if (!container?.image) causes.push(required(`${at}.image`));
    });
  }
  if (!['Always', 'OnFailure', 'Never'].includes(pod.spec.restartPolicy ?? '')) {
    causes.push({
      reason: 'FieldValueNotSupported',
      message: `Unsupported value: ${JSON.stringify(pod.spec.restartPolicy)}: supported values: "Always", "Never", "OnFailure"`,
      field: 'spec.restartPolicy',
    });
  }
  const old = (before as (Any & Pod) | null)?.spec;
  if (old && !isDeepStrictEqual(fixedSpec(pod.spec, old), fixedSpec(old, old))) {
    causes.push({
      reason: 'FieldValueForbidden',
      message:
        'Forbidden: pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)',
      field: 'spec',
    });
  }
  return causes;
}

/** The part of a spec that an update must leave alone. A pod without a node may be given one. */
function fixedSpec(spec: Pod['spec'], before: Pod['spec']): unknown {
  const free = new Set([
    'activeDeadlineSeconds',
    'tolerations',
    'terminationGracePeriodSeconds',
    'schedulingGates',
  ]);
  if (!before.nodeName) free.add('nodeName');
  const images = (list: readonly Container[]) =>
    list.map(({ image: _, imagePullPolicy: _p, ...rest }: FullContainer) => rest);
  const out: Record<string, unknown> = {};
  for (const [key, value] of Object.entries(spec)) {
    if (free.has(key)) continue;
    out[key] = key === 'containers' || key === 'initContainers' ? images(value as Container[]) : value;
  }
  return out;
}
