// What the API server adds to a Pod, and what it refuses.
import { isDeepStrictEqual } from 'node:util';
import type { Container, KubeObject, Pod, PodStatus } from '../../../kube/types.ts';
import { OWN_SCHEDULER } from '../fits.ts';
import { forbidden, invalidValue, required, type StatusCause } from './errors.ts';
import type { Any, HookContext } from './kinds.ts';

type FullContainer = Container & Record<string, unknown>;

/** Defaults of core/v1 that templates get too. */
export function completePodSpec(spec: Pod['spec'] & Record<string, unknown>): void {
  spec.restartPolicy ??= 'Always';
  spec['dnsPolicy'] ??= 'ClusterFirst';
  spec['schedulerName'] ??= OWN_SCHEDULER;
  spec['securityContext'] ??= {};
  spec.terminationGracePeriodSeconds ??= 30;
  if (spec.serviceAccountName !== undefined) spec['serviceAccount'] = spec.serviceAccountName;
  for (const list of [spec.containers, spec.initContainers]) {
    if (!Array.isArray(list)) continue;
    for (const container of list as FullContainer[]) {
      if (container === null || typeof container !== 'object') continue;
      container.resources ??= {};
      const { limits, requests } = container.resources;
      if (limits) container.resources.requests = { ...limits, ...requests };
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
}

/** Defaults of core/v1 and of the admission plugins that every cluster runs (service account, tolerations). */
export function completePod(object: Any, context: HookContext, before: Any | null): void {
  const pod = object as Any & Pod;
  const spec = pod.spec as Pod['spec'] & Record<string, unknown>;
  if (spec === null || typeof spec !== 'object') return;
  spec.serviceAccountName ??= 'default';
  completePodSpec(spec);
  spec['enableServiceLinks'] ??= true;
  spec.priority ??= 0;
  spec['preemptionPolicy'] ??= 'PreemptLowerPriority';
  if (before !== null) return;
  checkAccount(pod, context);
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

/** As the ServiceAccount admission plugin: a pod's account has to be there. */
function checkAccount({ metadata, spec }: Pod, { list }: HookContext): void {
  const { name = '', namespace = '' } = metadata;
  const account = spec.serviceAccountName ?? '';
  const isIt = (each: KubeObject) => each.metadata.name === account && each.metadata.namespace === namespace;
  if (list('serviceaccounts').some(isIt)) return;
  throw forbidden(
    { group: '', plural: 'pods', kind: 'Pod' },
    name,
    `error looking up service account ${namespace}/${account}: serviceaccount "${account}" not found`,
  );
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
  const pod = object as Any & Pod;
  const causes = checkPodSpec(pod.spec, 'spec', RESTART_POLICIES, before === null);
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

const RESTART_POLICIES = ['Always', 'OnFailure', 'Never'] as const;

/** `path`: where the spec stands in its object. `fresh`: its containers were not there before. */
export function checkPodSpec(
  spec: Pod['spec'] | undefined,
  path: string,
  restartPolicies: readonly string[],
  fresh: boolean,
): StatusCause[] {
  const containers = spec?.containers;
  if (!Array.isArray(containers) || containers.length === 0) return [required(`${path}.containers`)];
  const causes: StatusCause[] = [];
  const seen = new Set<string>();
  const lists = [
    [`${path}.initContainers`, spec?.initContainers ?? []],
    [`${path}.containers`, containers],
  ] as const;
  for (const [where, list] of lists) {
    causes.push(...list.flatMap((container, i) => checkContainer(container, `${where}[${i}]`, seen)));
  }
  if (fresh) causes.push(...checkSingle(spec!, path));
  if (!restartPolicies.includes(spec?.restartPolicy ?? '')) {
    const supported = restartPolicies.map((each) => JSON.stringify(each)).sort();
    causes.push({
      reason: 'FieldValueNotSupported',
      message: `Unsupported value: ${JSON.stringify(spec?.restartPolicy)}: supported values: ${supported.join(', ')}`,
      field: `${path}.restartPolicy`,
    });
  }
  return causes;
}

function checkContainer(container: FullContainer, at: string, seen: Set<string>): StatusCause[] {
  if (container === null || typeof container !== 'object') return [required(at)];
  const causes: StatusCause[] = [];
  const { name } = container;
  if (!name) causes.push(required(`${at}.name`));
  else if (!/^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/.test(name)) {
    causes.push(invalidValue(`${at}.name`, name, 'must be a lowercase RFC 1123 label'));
  } else if (seen.has(name)) {
    causes.push({
      reason: 'FieldValueDuplicate',
      message: `Duplicate value: "${name}"`,
      field: `${at}.name`,
    });
  }
  seen.add(name);
  if (!container.image) causes.push(required(`${at}.image`));
  const texts: [string, string | undefined][] = [
    ...(container.command ?? []).map((text, i): [string, string] => [`command[${i}]`, text]),
    ...(container.args ?? []).map((text, i): [string, string] => [`args[${i}]`, text]),
    ...(container.env ?? []).flatMap((each, i): [string, string | undefined][] => [
      [`env[${i}].name`, each?.name],
      [`env[${i}].value`, each?.value],
    ]),
  ];
  // The kernel ends a text at NUL: what stands behind it would be lost without a word.
  for (const [field, text] of texts)
    if (text?.includes('\0')) causes.push(invalidValue(`${at}.${field}`, text, 'must not contain NUL'));
  return causes;
}

/** A pod is one process in one namespace here, and nothing runs before it. */
function checkSingle(spec: Pod['spec'], path: string): StatusCause[] {
  const refuse = (field: string, what: string, name: string | undefined): StatusCause => ({
    reason: 'FieldValueForbidden',
    message: `Forbidden: ${what} "${name ?? ''}" cannot run here: the lab's own Kubernetes runs one container in a pod`,
    field,
  });
  return [
    ...(spec.initContainers ?? []).map((each, i) =>
      refuse(`${path}.initContainers[${i}]`, 'init container', each?.name),
    ),
    ...spec.containers
      .slice(1)
      .map((each, i) => refuse(`${path}.containers[${i + 1}]`, 'container', each?.name)),
  ];
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
