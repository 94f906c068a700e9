// Composes a node's agent from parts (opened resources), sockets and routes (its interfaces), start (the node's
// identity and pool), gate and status (readiness) and repair (the loop that undoes foreign changes).
// Invariant: the sockets answer from the first moment; with a journal, ADD is served before EC2 or the Kubernetes API
// answers; stopping changes nothing in the kernel. At rest nothing is logged.
import { flushCompileCache } from 'node:module';
import { join } from 'node:path';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { systemClock } from '../base/clock.ts';
import type { DirectoryLock } from '../kernel/lock.ts';
import { shareArenas, trimMalloc } from '../kernel/malloc.ts';
import { watchBoundPods } from './bound-pods.ts';
import type { AgentConfig } from './config.ts';
import { watchConfiguration } from './configuration-watch.ts';
import { Gate } from './gate.ts';
import { NodeConditions } from './node-condition.ts';
import { openParts, type Parts } from './parts.ts';
import type { RunDirectoryOptions } from './run-dir.ts';
import { API_SOCKET, CNI_SOCKET, createSockets } from './sockets.ts';
import { type Serving, startNode } from './start.ts';
import { canServe, nodeStatus } from './status.ts';
import { Succession, takeOver } from './succession.ts';

/** Ms that a node which has not started before waits for the Kubernetes API to tell its configuration. */
const KNOWN_MS = 2_000;

/** Ms between two trims of memory while requests come; each returns a few MB freed by the compiler and nftables. */
const TRIM_INTERVAL_MS = 2_000;

/** Ms that the first pod with a branch has for its ADD before what lets traffic in to it is loaded. */
const AFTER_ADD_MS = 1_000;
/** What the first pods do not need is loaded this long after the start (ms). */
const AFTER_START_MS = 2_000;
/** Connections that stood in the listener's backlog are accepted within this time (ms). */
const ACCEPT_MS = 20;

/** After so many requests the pages of Node's file that nobody uses are unmapped at the next rest. */
const REQUESTS_OF_A_BURST = 50;

/**
 * Gives freed memory back to the kernel while requests come, and at the rest after the start and after a burst what
 * they alone needed of Node's file. At the first rest it writes the compile cache, so that the next start finds it even
 * after a kill; without the cache a start compiles everything again (100 ms, 20 MiB).
 */
async function keepTrimmed(requests: () => number, signal: AbortSignal): Promise<void> {
  const { unmapUnusedCode } = await import('../kernel/code-pages.ts');
  let isKept = false;
  let unmapped = 0;
  for (let seen = -1; !signal.aborted; ) {
    const isResting = requests() === seen;
    if (isResting && !isKept) flushCompileCache();
    if (!isResting || !isKept) trimMalloc();
    if (isResting && (!isKept || seen - unmapped >= REQUESTS_OF_A_BURST)) {
      unmapUnusedCode();
      unmapped = seen;
    }
    isKept ||= isResting;
    seen = requests();
    await systemClock.sleep(TRIM_INTERVAL_MS, signal).catch(() => undefined);
  }
}

/** What the agent does beside serving, loaded when it begins: `lack` is logged when it fails. Never rejects. */
async function beside(
  log: Parts['log'],
  lack: string,
  signal: AbortSignal,
  work: () => Promise<unknown>,
  level: 'warn' | 'error' = 'error',
): Promise<void> {
  try {
    await work();
  } catch (error) {
    if (!signal.aborted) log[level]({ error: String(error) }, lack);
  }
}

/** Short turns on the CPU, where the kernel grants them. */
async function hurry(log: Parts['log']): Promise<void> {
  const { askForShortTurns } = await import('../kernel/turns.ts');
  const turns = askForShortTurns();
  log.debug({ before: String(turns?.before), now: String(turns?.now) }, 'turns on the CPU, in ns');
}

/** Runs until `signal` aborts, or until an agent that has taken over is gone. Rejects when something else ends it. */
export async function runAgent(config: AgentConfig, signal: AbortSignal): Promise<void> {
  shareArenas();
  const { runDir } = config;
  const parts = openParts(config);
  const gate = new Gate(config.nodeName);
  const succession = new Succession(join(runDir, CNI_SOCKET), signal);
  const sockets = createSockets(parts, gate, succession);
  let seat: { lock: DirectoryLock } | null = null;
  let serving: Serving | null = null;
  try {
    const announce = async () => {
      gate.isTakingOver = true;
      await sockets.openCni();
    };
    const apiSocket = join(runDir, API_SOCKET);
    seat = { lock: await takeOver({ runDir, apiSocket }, announce, parts.log, signal) };
    if (!gate.isTakingOver) await sockets.openCni();
    await sockets.openApi();
    const { signal: over } = succession;
    void beside(parts.log, 'the host is not looked after', over, () => lookAfterHost(parts, gate, over));
    serving = await startNode(parts, succession.signal);
    const keeping = { runDir, sockets, seat, handOver: () => void succession.handOver() };
    await serveNode(parts, gate, serving, keeping, succession.signal);
  } catch (error) {
    if (!succession.signal.aborted) throw error;
  } finally {
    // Calls that came to this socket before the successor's took its place are accepted by now.
    if (succession.isHandedOver) await systemClock.sleep(ACCEPT_MS);
    sockets.close();
    await succession.drain(() => parts.load.serving);
    serving?.rehearsal?.close();
    if (succession.signal.aborted) await serving?.pool.stopped();
    await parts.close();
    seat?.lock.release();
    succession.freed();
  }
  if (succession.isHandedOver) {
    parts.log.info('handed over to another agent');
    await succession.standBy(runDir, signal);
  }
}

/** What a pod of a DaemonSet does beside serving, once the start is over. */
async function lookAfterHost(parts: Parts, gate: Gate, signal: AbortSignal): Promise<void> {
  const { api, config, log } = parts;
  await gate.pass(signal).catch(() => undefined);
  if (signal.aborted) return;
  if (api.isConfigured) {
    const { tellNetwork } = await import('./network-condition.ts');
    const conditions = new NodeConditions(config.nodeName, api.connect, log, signal);
    void tellNetwork(
      () => nodeStatus(gate),
      (condition) => conditions.say(condition),
      signal,
    );
  }
  if (config.install) {
    const { Installation } = await import('./install/keep.ts');
    gate.installation = new Installation(parts, config.install, () => canServe(gate));
    void gate.installation.keep(signal);
  }
  if (config.criSocket !== undefined) await compareWithRuntime(parts, gate, config.criSocket, signal);
}

/** Loaded where a runtime's socket is named. */
async function compareWithRuntime(
  parts: Parts,
  gate: Gate,
  socket: string,
  signal: AbortSignal,
): Promise<void> {
  const { api, log, metrics, tell } = parts;
  const [{ listSandboxes }, { VanishedSandboxes }] = await Promise.all([
    import('./runtime/sandboxes.ts'),
    import('./runtime/vanished.ts'),
  ]);
  const vanished = new VanishedSandboxes({
    sandboxes: (stop) => listSandboxes(socket, stop),
    held: () => gate.serving?.pool.held() ?? [],
    end: async (lease) => {
      const { attachments } = gate.now();
      await attachments.whileHeld(lease, () => attachments.giveUp(lease));
    },
    ...{ api, log, tell },
    onEnded: () => metrics.vanished.inc(),
    now: () => systemClock.now(),
  });
  void vanished.keep(signal);
}

/** Security groups of pods. */
async function followGroups(parts: Parts, serving: Serving, signal: AbortSignal): Promise<void> {
  const { keepBranchLife } = await import('./branch-life.ts');
  await keepBranchLife(parts, serving, signal);
}

/** What the cluster's controller hears of this node. */
async function sayOwnNode(parts: Parts, gate: Gate, serving: Serving, signal: AbortSignal): Promise<void> {
  const { keepOwnNode } = await import('./own-node/keep.ts');
  await keepOwnNode(parts, gate, serving, signal);
}

/** From the first pod with a branch on. */
async function keepGates(
  { log, tell, datapath }: Parts,
  { pool, node, gates }: Serving,
  signal: AbortSignal,
): Promise<void> {
  await gates.firstAsked;
  await systemClock.sleep(AFTER_ADD_MS, signal);
  const { BranchGates } = await import('./branch-gates.ts');
  const all = new BranchGates({ pool, datapath, tell, log, sync: () => node.sync() });
  gates.of = (eniId) => all.of(eniId);
  await all.keep(signal);
}

function followApi(parts: Parts, gate: Gate, serving: Serving, signal: AbortSignal): void {
  const follow = (lack: string, work: () => Promise<void>) => void beside(parts.log, lack, signal, work);
  follow('nothing that arrives on the node reaches pods with branches', () =>
    keepGates(parts, serving, signal),
  );
  follow('the PodwayNode is not kept', () => sayOwnNode(parts, gate, serving, signal));
  follow('security groups of pods are not followed', () => followGroups(parts, serving, signal));
}

/** What is on the disk, once the first pods after the start have been served. */
async function keepPlace(options: RunDirectoryOptions, signal: AbortSignal): Promise<void> {
  await systemClock.sleep(AFTER_START_MS, signal).catch(() => undefined);
  const { keepRunDirectory } = await import('./run-dir.ts');
  await keepRunDirectory(options, signal);
}

async function serveNode(
  parts: Parts,
  gate: Gate,
  serving: Serving,
  place: Omit<RunDirectoryOptions, 'pool' | 'log' | 'events'>,
  signal: AbortSignal,
): Promise<void> {
  const { identity, pool, configuration, policies, repair, quarantine, rehearsal } = serving;
  const { api, log } = parts;
  parts.metrics.servingSince.set((performance.timeOrigin + performance.now()) / 1000);
  gate.open(serving);
  // Calls that waited at the gate are served before the first call to EC2.
  await nextTurn();
  void beside(log, 'the kernel is not asked for short turns', signal, () => hurry(log), 'warn');
  void rehearsal?.finish(parts.load, signal);
  // Repairs go on whether or not EC2 answers.
  const repairing = repair.keep(signal);
  const keeping = keepPlace({ ...place, pool, log, events: parts.events }, signal);
  // It may fail before it is awaited.
  keeping.catch(() => undefined);
  const configuring = [
    configuration.keep(signal),
    watchConfiguration(api, configuration, log, signal, parts.self),
    watchBoundPods(api, pool, log, signal, serving.branches),
    policies.keep(signal),
  ];
  if (api.isConfigured) await configuration.known(KNOWN_MS, signal);
  if (api.isConfigured) followApi(parts, gate, serving, signal);
  await pool.start(signal);
  signal.throwIfAborted();
  gate.hasStarted = true;
  await repair.now();
  log.info(
    { instance: identity.instanceId, enis: pool.enis().length, ...pool.counts() },
    'the agent is ready',
  );
  void keepTrimmed(() => parts.load.requests, signal);
  await Promise.all([repairing, keeping, quarantine.keep(signal), ...configuring]);
}
