// The node runner: turns the pods bound to one node into sandboxes, as a kubelet and a container runtime would.
// Invariant: one task per pod at a time, driven by the newest object; a failed ADD is followed by DEL and a new sandbox
// after a pause; nothing of a pod outlives its record in the journal. Errors become the pod's status and an Event.
import type { Logger } from 'pino';
import type { Pod } from '../../../kube/types.ts';
import { netnsPath } from '../../daemon/paths.ts';
import { endAll, isAlive, processesInNamespaces } from '../../daemon/processes.ts';
import { limiter } from './limit.ts';
import { failureOf } from './network.ts';
import { isFinal, isOver, type PodFailure, restartsOf, sandboxStatus, waitingStatus } from './pod-status.ts';
import {
  type Exit,
  endLeft,
  endSandbox,
  makeSandbox,
  newRecord,
  type SandboxDeps,
  startProcess,
} from './sandbox.ts';
import type { SandboxRecord } from './sandbox-journal.ts';
import type { ClusterStore } from './store.ts';

/** Sandboxes that one node makes or ends at once. */
const WIDTH = 8;
// An address that becomes free reaches a waiting pod within 2 s, so the pause stays below it.
const FIRST_PAUSE_MS = 200;
const LAST_PAUSE_MS = 1500;
const RESTART_PAUSE_MS = 1000;
const MAX_RESTART_PAUSE_MS = 60_000;
const ADOPTED_POLL_MS = 500;
const EVENT_EVERY_MS = 10_000;
/** Longest wait (ms) of a stopping node for work in progress: its agent and its pods' processes have ended by then. */
const HALT_MS = 10_000;

type Entry = {
  pod: Pod | undefined;
  sandbox: SandboxRecord | undefined;
  busy: boolean;
  again: boolean;
  pause: number;
  timer: NodeJS.Timeout | undefined;
  lastEvent: { cause: string; at: number } | undefined;
  /** Process not our child: found after a restart of the daemon. */
  adopted: boolean;
  abort: AbortController | undefined;
  /** Starts of the pod's process in sandboxes before this one. */
  restarts: number;
};

export type PodRunnerDeps = SandboxDeps & { store: ClusterStore; log: Logger };

export class PodRunner {
  readonly #deps: PodRunnerDeps;
  readonly #entries = new Map<string, Entry>();
  readonly #limit = limiter(WIDTH);
  readonly #steps = new Set<Promise<void>>();
  #stopped = false;
  #poll: NodeJS.Timeout | undefined;

  constructor(deps: PodRunnerDeps) {
    this.#deps = deps;
  }

  /** Takes over the sandboxes that an earlier daemon left, then follows the pods given by `see`. */
  start(pods: Pod[]): void {
    for (const record of this.#deps.journal.list(this.#deps.node)) {
      const entry = this.#entry(record.podUid);
      entry.sandbox = record;
      entry.adopted = true;
    }
    for (const pod of pods) this.#entry(pod.metadata.uid!).pod = pod;
    for (const uid of this.#entries.keys()) this.#kick(uid);
    this.#poll = setInterval(() => this.#lookAtAdopted(), ADOPTED_POLL_MS);
  }

  see(type: 'ADDED' | 'MODIFIED' | 'DELETED', pod: Pod): void {
    const uid = pod.metadata.uid!;
    const known = this.#entries.get(uid);
    if (type === 'DELETED') {
      if (!known) return;
      known.pod = undefined;
      known.abort?.abort(new Error('the pod is gone'));
    } else {
      const before = known?.pod;
      const entry = this.#entry(uid);
      entry.pod = pod;
      if (pod.metadata.deletionTimestamp) entry.abort?.abort(new Error('the pod is being deleted'));
      // Our own status writes also arrive here; they change no field that the runner acts on.
      if (before && before.metadata.deletionTimestamp === pod.metadata.deletionTimestamp) return;
    }
    this.#kick(uid);
  }

  sandboxOf(uid: string): SandboxRecord | undefined {
    return this.#entries.get(uid)?.sandbox;
  }

  /** Lets go of everything and leaves it running: for the end of the daemon. */
  detach(): void {
    this.#stopped = true;
    clearInterval(this.#poll);
    for (const entry of this.#entries.values()) clearTimeout(entry.timer);
  }

  /** The instance stops: starts no new work and returns when work in progress has ended. */
  async halt(): Promise<void> {
    this.detach();
    for (const entry of this.#entries.values()) entry.abort?.abort(new Error('the node stops'));
    const own = [...this.#entries.values()].flatMap(({ sandbox }) =>
      sandbox && !sandbox.hostNetwork ? netnsPath(sandbox.netns) : [],
    );
    await endAll(processesInNamespaces(own), 0);
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, HALT_MS);
    });
    await Promise.race([Promise.allSettled(this.#steps), late]);
    clearTimeout(timer);
    this.#entries.clear();
  }

  #entry(uid: string): Entry {
    let entry = this.#entries.get(uid);
    if (!entry) {
      entry = {
        pod: undefined,
        sandbox: undefined,
        busy: false,
        again: false,
        pause: 0,
        timer: undefined,
        lastEvent: undefined,
        adopted: false,
        abort: undefined,
        restarts: 0,
      };
      this.#entries.set(uid, entry);
    }
    return entry;
  }

  #kick(uid: string): void {
    const entry = this.#entries.get(uid);
    if (!entry || this.#stopped) return;
    clearTimeout(entry.timer);
    entry.timer = undefined;
    if (entry.busy) {
      entry.again = true;
      return;
    }
    entry.busy = true;
    const step = this.#limit(() => this.#step(uid, entry))
      .catch((error: unknown) => {
        const { cause, text } = failureOf(error);
        const details = cause === 'INTERNAL' ? { err: error } : { cause };
        this.#deps.log.warn({ ...details, pod: podName(entry) }, `tried again: ${text}`);
        this.#later(uid, entry);
      })
      .finally(() => {
        this.#steps.delete(step);
        entry.busy = false;
        if (entry.again) {
          entry.again = false;
          this.#kick(uid);
        }
      });
    this.#steps.add(step);
  }

  #later(uid: string, entry: Entry, ms?: number): void {
    if (this.#stopped) return;
    entry.pause = Math.min(entry.pause === 0 ? FIRST_PAUSE_MS : entry.pause * 2, LAST_PAUSE_MS);
    const pause = ms ?? entry.pause * (0.75 + Math.random() / 4);
    entry.timer = setTimeout(() => this.#kick(uid), pause);
  }

  async #step(uid: string, entry: Entry): Promise<void> {
    if (this.#stopped) return;
    const { pod, sandbox } = entry;
    if (!pod || pod.metadata.deletionTimestamp) return this.#remove(uid, entry);
    if (sandbox?.state === 'making' || sandbox?.state === 'ending') {
      await endSandbox(this.#deps, sandbox, 0);
      this.#deps.journal.keepLogOnly(uid);
      entry.sandbox = undefined;
      entry.restarts = sandbox.startedAt === undefined ? sandbox.restarts : sandbox.restarts + 1;
    }
    if (entry.sandbox) return this.#tend(uid, entry, pod, entry.sandbox);
    if (!isOver(pod)) await this.#begin(uid, entry, pod);
  }

  async #remove(uid: string, entry: Entry): Promise<void> {
    const grace = entry.pod?.metadata.deletionGracePeriodSeconds ?? (entry.pod ? undefined : 0);
    if (entry.sandbox) await endSandbox(this.#deps, entry.sandbox, grace);
    if (this.#stopped) return;
    if (entry.pod) await this.#deps.store.removePod(entry.pod);
    this.#deps.journal.forget(uid);
    this.#entries.delete(uid);
  }

  async #begin(uid: string, entry: Entry, pod: Pod): Promise<void> {
    const deps = this.#deps;
    // The entry's count is lost with the daemon while no sandbox stands.
    entry.restarts = Math.max(entry.restarts, restartsOf(pod));
    const record = newRecord(deps, pod, entry.restarts);
    entry.sandbox = record;
    entry.adopted = false;
    const abort = new AbortController();
    entry.abort = abort;
    let without: string[];
    try {
      without = await makeSandbox(deps, record, pod, abort.signal);
    } catch (error) {
      const failure = failureOf(error);
      if (this.#stopped) return;
      await endSandbox(deps, record, 0);
      deps.journal.keepLogOnly(uid);
      entry.sandbox = undefined;
      if (abort.signal.aborted) return this.#later(uid, entry, 0);
      await this.#report(entry, pod, failure);
      return this.#later(uid, entry);
    } finally {
      entry.abort = undefined;
    }
    if (this.#stopped) return;
    entry.pause = 0;
    startProcess(deps, record, pod, (exit) => this.#exited(uid, entry, record, exit));
    await deps.store.setPodStatus(
      pod,
      sandboxStatus({ pod, hostIps: deps.hostIps, now: deps.now() }, record),
    );
    for (const message of without)
      await deps.store.recordEvent(pod, 'podway-node-runner', {
        type: 'Warning',
        reason: 'NetworkWithoutEffect',
        message,
      });
  }

  /** The sandbox stands: its process is running, or ended and is started again, or ended for good. */
  async #tend(uid: string, entry: Entry, pod: Pod, sandbox: SandboxRecord): Promise<void> {
    const deps = this.#deps;
    if (sandbox.process && !isAlive(sandbox.process)) {
      // The process ended while it was not our child, so its exit code is lost.
      if (entry.adopted) noteExit(deps, sandbox, { code: 137 });
      else return;
    }
    const status = () =>
      deps.store.setPodStatus(pod, sandboxStatus({ pod, hostIps: deps.hostIps, now: deps.now() }, sandbox));
    if (sandbox.process) return status();
    if (sandbox.exit) await endLeft(sandbox);
    if (isFinal(sandbox)) {
      await status();
      await endSandbox(deps, sandbox, 0);
      deps.journal.keepLogOnly(uid);
      entry.sandbox = undefined;
      return;
    }
    const wait = sandbox.exit ? restartPause(sandbox.restarts) - (deps.now() - sandbox.exit.at) : 0;
    if (wait > 0) {
      await status();
      return this.#later(uid, entry, wait);
    }
    if (sandbox.exit) sandbox.restarts += 1;
    entry.adopted = false;
    startProcess(deps, sandbox, pod, (exit) => this.#exited(uid, entry, sandbox, exit));
    await status();
  }

  #exited(uid: string, entry: Entry, sandbox: SandboxRecord, exit: Exit): void {
    if (this.#stopped || entry.sandbox !== sandbox || sandbox.state !== 'made') return;
    noteExit(this.#deps, sandbox, exit);
    this.#kick(uid);
  }

  async #report(entry: Entry, pod: Pod, failure: PodFailure): Promise<void> {
    const deps = this.#deps;
    const now = deps.now();
    const status = waitingStatus({ pod, hostIps: deps.hostIps, now }, failure, entry.restarts);
    await deps.store.setPodStatus(pod, status);
    const last = entry.lastEvent;
    if (last?.cause === failure.cause && now - last.at < EVENT_EVERY_MS) return;
    entry.lastEvent = { cause: failure.cause, at: now };
    const message = `${failure.cause}: ${failure.text}`;
    await deps.store.recordEvent(pod, 'podway-node-runner', {
      type: 'Warning',
      reason: 'FailedCreatePodSandBox',
      message,
    });
  }

  #lookAtAdopted(): void {
    for (const [uid, entry] of this.#entries) {
      const { sandbox } = entry;
      if (entry.adopted && sandbox?.process && !isAlive(sandbox.process)) this.#kick(uid);
    }
  }
}

function noteExit(deps: SandboxDeps, sandbox: SandboxRecord, exit: Exit): void {
  sandbox.exit = {
    ...exit,
    at: deps.now(),
    ...(sandbox.startedAt === undefined ? {} : { startedAt: sandbox.startedAt }),
  };
  delete sandbox.process;
  deps.journal.save(sandbox);
}

const restartPause = (restarts: number): number =>
  Math.min(RESTART_PAUSE_MS * 2 ** restarts, MAX_RESTART_PAUSE_MS);
const podName = (entry: Entry): string =>
  `${entry.pod?.metadata.namespace ?? entry.sandbox?.namespace}/${entry.pod?.metadata.name ?? entry.sandbox?.name}`;
