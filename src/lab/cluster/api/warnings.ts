// What a caller is told besides the answer, in Warning headers: what runs for a container whose image is not pulled,
// which fields have no effect, and which kinds are stored and neither run nor enforced. Pure; said at create, and at an
// update that changes what is wished for.
import type { Container } from '../../../kube/types.ts';
import { BUILT_IN_IMAGE, COMMAND_IMAGE, commandOf } from '../command.ts';
import { OWN_SCHEDULER } from '../fits.ts';
import { isExtended } from '../nodes/requests.ts';
import type { PodTemplate } from '../workloads.ts';
import type { Any } from './kinds.ts';

/** Fields of a container that nothing reads here. */
const IDLE_FIELDS = [
  'volumeMounts',
  'envFrom',
  'livenessProbe',
  'readinessProbe',
  'startupProbe',
  'lifecycle',
  'workingDir',
] as const;

/** Fields of a pod that nothing reads here. A container's own may hold the same names. */
const IDLE_POD_FIELDS = [
  'securityContext',
  'activeDeadlineSeconds',
  'topologySpreadConstraints',
  'dnsConfig',
  'hostAliases',
  'hostname',
  'subdomain',
  'runtimeClassName',
  'priorityClassName',
  'hostPID',
  'hostIPC',
  'shareProcessNamespace',
  'readinessGates',
] as const;

/** Of `affinity`, the required one to nodes alone is honoured. */
const IDLE_AFFINITY = [
  ['podAffinity'],
  ['podAntiAffinity'],
  ['nodeAffinity', 'preferredDuringSchedulingIgnoredDuringExecution'],
] as const;

/** A long command is cut: a header line has bounds at the client. */
const SHOWN_COMMAND = 120;

const ENDLESS = 'which never ends: a Job needs a command to complete';

export const podWarnings = (object: Any): string[] => specWarnings(object['spec'], 'spec');

export const templateWarnings = (object: Any): string[] =>
  specWarnings(templateOf(object)?.spec, 'spec.template.spec');

export const jobWarnings = (object: Any): string[] => [
  ...specWarnings(templateOf(object)?.spec, 'spec.template.spec', ENDLESS),
  ...['podFailurePolicy', 'successPolicy', 'backoffLimitPerIndex', 'maxFailedIndexes']
    .filter((field) => (object['spec'] as Record<string, unknown>)[field] !== undefined)
    .map((field) => `spec.${field} has no effect here`),
];

const templateOf = (object: Any): PodTemplate | undefined =>
  (object['spec'] as { template?: PodTemplate } | undefined)?.template;

type Fields = Readonly<Record<string, unknown>>;

function specWarnings(spec: unknown, path: string, endless = ''): string[] {
  const fields = (spec ?? {}) as Fields & {
    containers?: (Container & Fields)[];
    schedulerName?: string;
  };
  const containers = (fields.containers ?? []).flatMap((container, i) => {
    const at = `${path}.containers[${i}]`;
    return [...whatRuns(container, at, endless), ...noEffect(at, idleOf(container))];
  });
  const { schedulerName = OWN_SCHEDULER } = fields;
  const waits =
    schedulerName === OWN_SCHEDULER
      ? []
      : [`${path}.schedulerName "${schedulerName}" does not run here: the pod waits until somebody binds it`];
  return [...containers, ...noEffect(path, idleOfPod(fields)), ...waits];
}

const noEffect = (at: string, idle: readonly string[]): string[] =>
  idle.length === 0 ? [] : [`${at}: ${idle.join(', ')} ${idle.length === 1 ? 'has' : 'have'} no effect here`];

function idleOf(container: Container & Fields): string[] {
  const idle: string[] = IDLE_FIELDS.filter((field) => container[field] !== undefined);
  const { requests, limits } = container.resources ?? {};
  // Extended resources are counted (nodes/requests.ts).
  if (Object.keys({ ...requests, ...limits }).some((name) => !isExtended(name))) idle.push('resources');
  if (says(container['securityContext'])) idle.push('securityContext');
  if (container.env?.some(({ valueFrom }) => valueFrom !== undefined && !valueFrom.fieldRef))
    idle.push('env.valueFrom of anything but a fieldRef');
  return idle;
}

function idleOfPod(spec: Fields): string[] {
  const idle: string[] = IDLE_POD_FIELDS.filter((field) => says(spec[field]));
  for (const path of IDLE_AFFINITY) {
    const value = path.reduce((at: unknown, key) => (at as Fields | undefined)?.[key], spec['affinity']);
    if (says(value)) idle.push(`affinity.${path.join('.')}`);
  }
  return idle;
}

/** False for what asks for nothing. */
const says = (value: unknown): boolean =>
  value !== undefined && value !== false && value !== null && JSON.stringify(value) !== '{}';

function whatRuns(container: Container, at: string, endless: string): string[] {
  const command = commandOf(container);
  const { image = '' } = container;
  if (image === COMMAND_IMAGE || (image === BUILT_IN_IMAGE && endless === '')) return [];
  const text = command.join(' ');
  const shown = text.length > SHOWN_COMMAND ? `${text.slice(0, SHOWN_COMMAND)}...` : text;
  const runs =
    command.length > 0
      ? `the command "${shown}" runs in the machine's own file system`
      : `the lab's built-in server on TCP and UDP 8080 runs${endless === '' ? '' : `, ${endless}`}`;
  return command.length > 0 && image === BUILT_IN_IMAGE
    ? []
    : [`${at}.image "${image}" is not pulled here: ${runs}`];
}

/** Kinds that clients may store and that nobody acts on. Keys: plural and group, as collections are named. */
const idleKinds: Record<string, string> = {
  persistentvolumes: 'is stored; there are no volumes here',
  persistentvolumeclaims: 'is stored; there are no volumes here, and it stays unbound',
  replicationcontrollers: 'is stored; nobody runs it here: take a Deployment',
  resourcequotas: 'is stored; it is not enforced here',
  limitranges: 'is stored; it is not enforced here',
  services: 'is stored with its addresses; nobody forwards them to pods here yet',
  'statefulsets.apps': 'is stored; nobody runs it here and it makes no pods: take a Deployment',
  'cronjobs.batch': 'is stored; nobody runs it here: create a Job',
  'ingresses.networking.k8s.io': 'is stored; nobody serves it here',
  'ingressclasses.networking.k8s.io': 'is stored; nobody serves it here',
  'poddisruptionbudgets.policy': 'is stored; evictions do not ask it here',
  'horizontalpodautoscalers.autoscaling': 'is stored; nobody scales by it here: kubectl scale works',
  'priorityclasses.scheduling.k8s.io': 'is stored; no pod is preempted here',
  'storageclasses.storage.k8s.io': 'is stored; there are no volumes here',
  'csidrivers.storage.k8s.io': 'is stored; there are no volumes here',
  'volumeattachments.storage.k8s.io': 'is stored; there are no volumes here',
  'runtimeclasses.node.k8s.io': 'is stored; pods have one runtime here',
  'certificatesigningrequests.certificates.k8s.io': 'is stored; nobody signs it here',
};

/** Undefined for a kind that works. */
export function idleKindWarning(collection: string, kind: string): (() => string[]) | undefined {
  const text = idleKinds[collection];
  return text === undefined ? undefined : () => [`${kind} ${text}`];
}
