// The STATUS, READY and RESTARTS of a pod, as kubectl shows them; the rules are printPod's of kube-apiserver.
import type { ContainerStatus, Pod } from '../../../kube/types.ts';
import { age, ageColumn, column, nameColumn, wide } from './columns.ts';
import type { Any, Column } from './kinds.ts';

type Summary = { ready: number; total: number; reason: string; restarts: number; lastRestart: string };

const asPod = (object: Any): Pod => object as Any & Pod;

export function summarisePod(pod: Pod): Summary {
  const status = pod.status ?? {};
  const init = pod.spec?.initContainers ?? [];
  const restartable = new Set(
    init.filter((c) => (c as { restartPolicy?: string }).restartPolicy === 'Always').map((c) => c.name),
  );
  const conditions = status.conditions ?? [];
  const isTrue = (type: string) => conditions.some((c) => c.type === type && c.status === 'True');
  let reason: string = status.reason || status.phase || '';
  if (conditions.some((c) => c.type === 'PodScheduled' && c.reason === 'SchedulingGated'))
    reason = 'SchedulingGated';
  let ready = 0;
  const total = (pod.spec?.containers?.length ?? 0) + restartable.size;
  const tally = { all: 0, sidecars: 0, allLast: '', sidecarsLast: '' };
  let initializing = false;

  for (const [i, container] of (status.initContainerStatuses ?? []).entries()) {
    const sidecar = restartable.has(container.name);
    const finished = container.lastState?.terminated?.finishedAt ?? '';
    tally.all += container.restartCount;
    if (finished > tally.allLast) tally.allLast = finished;
    if (sidecar) {
      tally.sidecars += container.restartCount;
      if (finished > tally.sidecarsLast) tally.sidecarsLast = finished;
    }
    const { terminated, waiting } = container.state ?? {};
    if (terminated?.exitCode === 0) continue;
    if (sidecar && container.started) {
      if (container.ready) ready++;
      continue;
    }
    if (terminated) reason = `Init:${endOf(terminated)}`;
    else if (waiting?.reason && waiting.reason !== 'PodInitializing') reason = `Init:${waiting.reason}`;
    else reason = `Init:${i}/${init.length}`;
    initializing = true;
    break;
  }

  let restarts = tally.all;
  let lastRestart = tally.allLast;
  if (!initializing || isTrue('Initialized')) {
    restarts = tally.sidecars;
    lastRestart = tally.sidecarsLast;
    let running = false;
    let failure = '';
    for (const container of [...(status.containerStatuses ?? [])].reverse()) {
      restarts += container.restartCount;
      const finished = container.lastState?.terminated?.finishedAt ?? '';
      if (finished > lastRestart) lastRestart = finished;
      const { terminated, waiting, running: runs } = container.state ?? {};
      if (waiting?.reason) reason = waiting.reason;
      else if (terminated) {
        reason = endOf(terminated);
        if (terminated.exitCode !== 0) failure = reason;
      } else if (container.ready && runs) {
        running = true;
        ready++;
      }
    }
    if (reason === 'Completed') {
      if (running && isTrue('Ready')) reason = 'Running';
      else if (failure !== '') reason = failure;
      else if (running) reason = 'NotReady';
    }
  }
  if (pod.metadata.deletionTimestamp !== undefined) {
    if (status.reason === 'NodeLost') reason = 'Unknown';
    else if (status.phase !== 'Succeeded' && status.phase !== 'Failed') reason = 'Terminating';
  }
  return { ready, total, reason, restarts, lastRestart };
}

function endOf(terminated: NonNullable<NonNullable<ContainerStatus['state']>['terminated']>): string {
  if (terminated.reason) return terminated.reason;
  return terminated.signal ? `Signal:${terminated.signal}` : `ExitCode:${terminated.exitCode}`;
}

function readinessGates(pod: Pod): string {
  const gates = pod.spec?.readinessGates ?? [];
  if (gates.length === 0) return '<none>';
  const conditions = pod.status?.conditions ?? [];
  const met = gates.filter((gate) =>
    conditions.some((c) => c.type === gate.conditionType && c.status === 'True'),
  );
  return `${met.length}/${gates.length}`;
}

export const podColumns: readonly Column[] = [
  nameColumn,
  column('Ready', (object) => {
    const { ready, total } = summarisePod(asPod(object));
    return `${ready}/${total}`;
  }),
  column('Status', (object) => summarisePod(asPod(object)).reason),
  column('Restarts', (object, now) => {
    const { restarts, lastRestart } = summarisePod(asPod(object));
    return restarts > 0 && lastRestart !== ''
      ? `${restarts} (${age(lastRestart, now)} ago)`
      : String(restarts);
  }),
  ageColumn,
  wide('IP', (object) => asPod(object).status?.podIPs?.[0]?.ip || asPod(object).status?.podIP || '<none>'),
  wide('Node', (object) => asPod(object).spec?.nodeName || '<none>'),
  wide('Nominated Node', (object) => asPod(object).status?.nominatedNodeName || '<none>'),
  wide('Readiness Gates', (object) => readinessGates(asPod(object))),
];
