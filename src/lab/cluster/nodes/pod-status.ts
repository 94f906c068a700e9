// The status of a pod as pure functions of what its runner knows. Times are RFC 3339 to the second, as Kubernetes writes
// them; a condition keeps its transition time while it does not change.
import { rfc3339 } from '../../../base/clock.ts';
import type { Condition, ContainerState, Pod, PodPhase, PodStatus } from '../../../kube/types.ts';
import type { SandboxRecord } from './sandbox-journal.ts';

/** Why a pod has no network yet. `cause` is a name of base/causes or one of a foreign plugin. */
export type PodFailure = { cause: string; text: string; transient: boolean };

export function condition(
  before: Condition[] | undefined,
  now: number,
  next: Omit<Condition, 'lastTransitionTime'>,
): Condition {
  const old = before?.find((each) => each.type === next.type);
  const since = old?.status === next.status && old.lastTransitionTime ? old.lastTransitionTime : rfc3339(now);
  return { ...next, lastTransitionTime: since };
}

type Inputs = { pod: Pod; hostIps: readonly string[]; now: number };

/** A pod whose sandbox is being made, or could not be made. `restarts`: count for the next process, if known. */
export function waitingStatus(
  { pod, hostIps, now }: Inputs,
  failure?: PodFailure,
  restarts = restartsOf(pod),
): PodStatus {
  const reason = failure?.cause ?? 'ContainerCreating';
  const message = failure === undefined ? {} : { message: failure.text };
  const waiting = { reason, ...message };
  const status = assemble({ pod, hostIps, now }, 'Pending', [], false, { waiting }, failure);
  return {
    ...status,
    containerStatuses: status.containerStatuses!.map((each) => ({ ...each, restartCount: restarts })),
  };
}

/** A pod with a sandbox; its process runs, waits for its restart, or has ended for good. */
export function sandboxStatus(inputs: Inputs, sandbox: SandboxRecord): PodStatus {
  const { exit } = sandbox;
  if (sandbox.process !== undefined) {
    const startedAt = rfc3339(sandbox.startedAt ?? inputs.now);
    return assemble(inputs, 'Running', sandbox.ips, true, { running: { startedAt } }, undefined, sandbox);
  }
  if (exit !== undefined && isFinal(sandbox)) {
    const phase = exit.code === 0 ? 'Succeeded' : 'Failed';
    return assemble(inputs, phase, sandbox.ips, false, { terminated: terminated(exit) }, undefined, sandbox);
  }
  const waiting =
    exit === undefined
      ? { reason: 'ContainerCreating' }
      : { reason: 'CrashLoopBackOff', message: `exit code ${exit.code}` };
  return assemble(
    inputs,
    exit === undefined ? 'Pending' : 'Running',
    sandbox.ips,
    false,
    { waiting },
    undefined,
    sandbox,
  );
}

/** How often the pod's container was started again, by its last status: it outlives the sandbox. */
export const restartsOf = (pod: Pod): number => pod.status?.containerStatuses?.[0]?.restartCount ?? 0;

/** True when the pod's restart policy does not restart its ended process. */
export function isFinal(sandbox: SandboxRecord): boolean {
  if (sandbox.exit === undefined) return false;
  return (
    sandbox.restartPolicy === 'Never' || (sandbox.restartPolicy === 'OnFailure' && sandbox.exit.code === 0)
  );
}

/** True when the pod has ended for good. */
export const isOver = (pod: Pod): boolean =>
  pod.status?.phase === 'Failed' || pod.status?.phase === 'Succeeded';

/**
 * A pod whose node has no power: it waits for the next boot and has no address. One that is started once and was has
 * failed.
 */
export function powerOffStatus(
  { pod, now }: Omit<Inputs, 'hostIps'>,
  record: SandboxRecord | undefined,
  failure: PodFailure,
): PodStatus {
  if (record?.restartPolicy === 'Never' && record.startedAt !== undefined) return lostStatus({ pod, now });
  return waitingStatus({ pod, now, hostIps: hostIpsOf(pod) }, failure);
}

/** The addresses of the pod's node, as the pod's status last had them. */
export const hostIpsOf = ({ status }: Pod): string[] =>
  status?.hostIPs?.map(({ ip }) => ip) ?? [status?.hostIP ?? ''];

function lostStatus({ pod, now }: Omit<Inputs, 'hostIps'>): PodStatus {
  const before = pod.status?.conditions;
  const { podIP: _ip, podIPs: _ips, ...status } = pod.status ?? {};
  return {
    ...status,
    phase: 'Failed',
    reason: 'Terminated',
    message: `node ${pod.spec.nodeName ?? ''} was stopped`,
    conditions: (before ?? []).map((each) =>
      each.type === 'PodScheduled' || each.type === 'Initialized'
        ? each
        : condition(before, now, { ...each, status: 'False', reason: 'Terminated' }),
    ),
    containerStatuses: (status.containerStatuses ?? []).map((each) => ({
      ...each,
      ready: false,
      started: false,
      state: { terminated: { exitCode: 137, reason: 'NodeStopped', finishedAt: rfc3339(now) } },
    })),
  };
}

const terminated = (exit: NonNullable<SandboxRecord['exit']>) => ({
  exitCode: exit.code,
  ...(exit.signal === undefined ? {} : { signal: exit.signal }),
  reason: exit.code === 0 ? 'Completed' : 'Error',
  ...(exit.startedAt === undefined ? {} : { startedAt: rfc3339(exit.startedAt) }),
  finishedAt: rfc3339(exit.at),
});

const OWN_CONDITIONS = [
  'PodReadyToStartContainers',
  'Initialized',
  'Ready',
  'ContainersReady',
  'PodScheduled',
];

function assemble(
  inputs: Inputs,
  phase: PodPhase,
  ips: string[],
  ready: boolean,
  state: ContainerState,
  failure?: PodFailure,
  sandbox?: SandboxRecord,
): PodStatus {
  const { pod, hostIps, now } = inputs;
  const before = pod.status?.conditions;
  const ended = phase === 'Succeeded' || phase === 'Failed';
  const say = (type: string, yes: boolean, why: { reason?: string; message?: string } = {}) =>
    condition(before, now, { type, status: yes ? 'True' : 'False', ...why });
  const why = ended
    ? { reason: phase === 'Succeeded' ? 'PodCompleted' : 'PodFailed' }
    : failure === undefined
      ? {}
      : { reason: failure.cause, message: failure.text };
  const notReady = ready ? {} : ended ? why : { reason: 'ContainersNotReady' };
  return {
    phase,
    conditions: [
      say('PodReadyToStartContainers', ips.length > 0 && !ended, ips.length > 0 && !ended ? {} : why),
      say('Initialized', true),
      say('Ready', ready, notReady),
      say('ContainersReady', ready, notReady),
      say('PodScheduled', true),
      // Conditions that others set, such as the agent, are kept.
      ...(before ?? []).filter((each) => !OWN_CONDITIONS.includes(each.type)),
    ],
    hostIP: hostIps[0] ?? '',
    hostIPs: hostIps.map((ip) => ({ ip })),
    ...(ips.length === 0 ? {} : { podIP: ips[0]!, podIPs: ips.map((ip) => ({ ip })) }),
    startTime: pod.status?.startTime ?? rfc3339(now),
    // The API server's, from the spec.
    qosClass: pod.status?.qosClass ?? 'BestEffort',
    containerStatuses: pod.spec.containers.map((container) => ({
      name: container.name,
      ready,
      started: ready,
      restartCount: sandbox?.restarts ?? 0,
      image: container.image ?? '',
      imageID: '',
      ...(sandbox === undefined ? {} : { containerID: `podway://${sandbox.containerId}` }),
      state,
      lastState: sandbox?.exit !== undefined && !ended ? { terminated: terminated(sandbox.exit) } : {},
    })),
  };
}
