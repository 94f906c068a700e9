// One sandbox: its namespace, its attachment by the CNI chain, its process. Each step is recorded before it is done.
// Only `endSandbox` undoes them; it works on any part of a sandbox, also after a kill -9.
import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { closeSync, openSync, rmSync } from 'node:fs';
import { createNetns, deleteNetns, openNetns } from '../../../kernel/netns.ts';
import { RtNetlink } from '../../../kernel/rtnetlink.ts';
import type { Pod } from '../../../kube/types.ts';
import { MARK } from '../../daemon/mark.ts';
import { netnsPath } from '../../daemon/paths.ts';
import {
  endAll,
  endProcess,
  identify,
  processesInNamespaces,
  processesWith,
} from '../../daemon/processes.ts';
import { netnsName, podPlace } from '../../fabric/names.ts';
import { environmentOf, expandedCommand } from '../environment.ts';
import type { PodNetwork } from './network.ts';
import type { SandboxJournal, SandboxRecord } from './sandbox-journal.ts';

export type SandboxDeps = {
  lab: string;
  node: string;
  /** Namespace of the node, for pods on the host network. */
  nodeNetns: string;
  /** The node's, the primary family's first. */
  hostIps: readonly string[];
  network: PodNetwork;
  journal: SandboxJournal;
  /** The built-in server, run for a pod that names no command. */
  podServer: string;
  /** Environment that names what the pod calls the API with. */
  credentials(pod: Pod): Record<string, string>;
  now(): number;
};

const DEFAULT_GRACE_S = 30;

export function newRecord(deps: SandboxDeps, pod: Pod, restarts: number): SandboxRecord {
  const containerId = randomBytes(32).toString('hex');
  const hostNetwork = pod.spec.hostNetwork === true;
  return {
    containerId,
    podUid: pod.metadata.uid!,
    namespace: pod.metadata.namespace ?? 'default',
    name: pod.metadata.name!,
    node: deps.node,
    hostNetwork,
    netns: hostNetwork ? deps.nodeNetns : netnsName(deps.lab, podPlace(containerId)),
    state: 'making',
    ips: [],
    restarts,
    restartPolicy: pod.spec.restartPolicy ?? 'Always',
  };
}

/** Namespace, loopback, CNI chain; what the chain leaves without effect. Throws NetworkFailure: the caller ends the sandbox. */
export async function makeSandbox(
  deps: SandboxDeps,
  record: SandboxRecord,
  pod: Pod,
  signal: AbortSignal,
): Promise<string[]> {
  deps.journal.save(record);
  let without: string[] = [];
  if (record.hostNetwork) record.ips = [...deps.hostIps];
  else {
    // The name keeps the namespace alive; an open descriptor would keep it and its links after the pod's end.
    createNetns(record.netns).close();
    setLoopbackUp(record.netns);
    const made = await deps.network.add(
      { containerId: record.containerId, netnsPath: netnsPath(record.netns), pod },
      signal,
    );
    record.ips = made.ips;
    without = made.without;
  }
  record.state = 'made';
  deps.journal.save(record);
  return without;
}

function setLoopbackUp(name: string): void {
  using netns = openNetns(netnsPath(name));
  using netlink = RtNetlink.open(netns);
  netlink.apply([{ op: 'link-set', name: 'lo', up: true }]);
}

/** Environment variable that bears the container's id; every process of a pod hands it on to those it starts. */
const CONTAINER = 'PODWAY_CONTAINER';

export type Exit = { code: number; signal?: number };

/** Starts the pod's command in the sandbox; `onExit` is called once, unless this process dies first. */
export function startProcess(
  deps: SandboxDeps,
  record: SandboxRecord,
  pod: Pod,
  onExit: (exit: Exit) => void,
): void {
  const container = pod.spec.containers[0]!;
  const environment = environmentOf(container, { pod, ips: record.ips, hostIps: deps.hostIps });
  const given = expandedCommand(container, environment);
  const command = given.length > 0 ? given : [deps.podServer, '--name', record.name];
  const log = openSync(deps.journal.logFile(record.podUid), 'a', 0o600);
  try {
    const child = spawn('nsenter', [`--net=${netnsPath(record.netns)}`, '--', ...command], {
      cwd: '/',
      detached: true,
      stdio: ['ignore', log, log],
      env: processEnvironment(record, pod, { ...deps.credentials(pod), ...environment }),
    });
    child.once('error', () => onExit({ code: 127 }));
    child.once('exit', (code, signal) =>
      onExit(
        code === null
          ? { code: 128 + (SIGNALS[signal ?? ''] ?? 9), signal: SIGNALS[signal ?? ''] ?? 9 }
          : { code },
      ),
    );
    const id = child.pid === undefined ? undefined : identify(child.pid);
    if (id) record.process = id;
    record.startedAt = deps.now();
    deps.journal.save(record);
  } finally {
    closeSync(log);
  }
}

/** What the pod's process finds, and what `exec` runs in it finds. `own`: of its container (environment.ts). */
export const processEnvironment = (
  record: SandboxRecord,
  pod: Pod,
  own: Record<string, string>,
): NodeJS.ProcessEnv => ({
  PATH: process.env['PATH'] ?? '/usr/sbin:/usr/bin:/sbin:/bin',
  HOME: '/root',
  [MARK]: process.env[MARK],
  [CONTAINER]: record.containerId,
  // A container engine sets it: scripts read it. A pod on the host network has its host's.
  HOSTNAME: pod.spec.hostNetwork ? (pod.spec.nodeName ?? '') : record.name,
  POD_NAME: record.name,
  POD_NAMESPACE: record.namespace,
  POD_IP: record.ips[0] ?? '',
  ...own,
});

const SIGNALS: Record<string, number> = {
  SIGHUP: 1,
  SIGINT: 2,
  SIGQUIT: 3,
  SIGABRT: 6,
  SIGKILL: 9,
  SIGSEGV: 11,
  SIGPIPE: 13,
  SIGTERM: 15,
};

export async function stopProcess(record: SandboxRecord, graceSeconds = DEFAULT_GRACE_S): Promise<void> {
  if (record.process) await endProcess(record.process, graceSeconds * 1000);
  delete record.process;
}

/** Processes that a pod's process left behind; on the host network they are found by their environment. */
export async function endLeft(record: SandboxRecord): Promise<void> {
  const left = record.hostNetwork
    ? processesWith(CONTAINER, record.containerId)
    : processesInNamespaces([netnsPath(record.netns)]);
  await endAll(left, 0);
}

/** Ends what there is of a sandbox. Throws when DEL fails: the record stays and the caller tries again. */
export async function endSandbox(
  deps: SandboxDeps,
  record: SandboxRecord,
  graceSeconds?: number,
): Promise<void> {
  if (record.state !== 'ending') {
    record.state = 'ending';
    deps.journal.save(record);
  }
  await stopProcess(record, graceSeconds);
  await endLeft(record);
  if (record.hostNetwork) return;
  const { containerId, namespace, name, podUid: uid } = record;
  await deps.network.del({ containerId, netnsPath: netnsPath(record.netns), namespace, name, uid });
  dropNamespace(record.netns);
}

/** Ends the sandbox of a node without power, without DEL: no agent can answer before the next boot. */
export async function dropSandbox(record: SandboxRecord): Promise<void> {
  if (record.process) await endProcess(record.process, 0);
  if (record.hostNetwork) return;
  await endAll(processesInNamespaces([netnsPath(record.netns)]), 0);
  dropNamespace(record.netns);
}

function dropNamespace(name: string): void {
  deleteNetns(name);
  rmSync(netnsPath(name), { force: true });
}
