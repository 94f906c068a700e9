// Composes a node's agent from parts (opened resources), sockets and routes (its interfaces), start (the node's
// identity and pool), gate and status (readiness) and repair (the loop that undoes foreign changes).
// Invariant: the sockets answer from the first moment; with a journal, ADD is served before EC2 or the Kubernetes API
// answers; stopping changes nothing in the kernel. At rest nothing is logged.
import { flushCompileCache } from 'node:module';
import type { Server } from 'node:net';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { systemClock } from '../base/clock.ts';
import { shareArenas, trimMalloc } from '../kernel/malloc.ts';
import type { AgentConfig } from './config.ts';
import { watchConfiguration } from './configuration-watch.ts';
import { Gate } from './gate.ts';
import { openParts } from './parts.ts';
import type { Rehearsal } from './rehearsal.ts';
import { openSockets } from './sockets.ts';
import { startNode } from './start.ts';

/** Ms between two trims of memory while requests come; each returns a few MB freed by the compiler and nftables. */
const TRIM_INTERVAL_MS = 2_000;

/**
 * Gives freed memory back to the kernel while requests come. At the first rest it writes the compile cache, so that the
 * next start finds it even after a kill; without the cache a start compiles everything again (100 ms, 20 MiB).
 */
async function keepTrimmed(requests: () => number, signal: AbortSignal): Promise<void> {
  let isKept = false;
  for (let seen = -1; !signal.aborted; ) {
    const isResting = requests() === seen;
    if (isResting && !isKept) flushCompileCache();
    if (!isResting || !isKept) trimMalloc();
    isKept ||= isResting;
    seen = requests();
    await systemClock.sleep(TRIM_INTERVAL_MS, signal).catch(() => undefined);
  }
}

/** Runs until `signal` aborts. Rejects with the error when something else ends it. */
export async function runAgent(config: AgentConfig, signal: AbortSignal): Promise<void> {
  shareArenas();
  const parts = openParts(config);
  const gate = new Gate(config.nodeName);
  const servers: Server[] = [];
  let rehearsal: Rehearsal | null = null;
  try {
    servers.push(...(await openSockets(parts, gate, signal)));
    const serving = await startNode(parts, signal);
    rehearsal = serving.rehearsal;
    parts.metrics.servingSince.set((performance.timeOrigin + performance.now()) / 1000);
    gate.open(serving);
    // Calls that waited at the gate are served before the first call to EC2.
    await nextTurn();
    void rehearsal?.finish(parts.load, signal);
    const { identity, pool, configuration, repair, quarantine } = serving;
    // Repairs go on whether or not EC2 answers.
    const repairing = repair.keep(signal);
    const { api, log } = parts;
    const configuring = [configuration.keep(signal), watchConfiguration(api, configuration, log, signal)];
    await pool.start(signal);
    await repair.now();
    parts.log.info(
      { instance: identity.instanceId, enis: pool.enis().length, ...pool.counts() },
      'the agent is ready',
    );
    void keepTrimmed(() => parts.load.requests, signal);
    await Promise.all([repairing, quarantine.keep(signal), ...configuring]);
    await pool.stopped();
  } catch (error) {
    if (!signal.aborted) throw error;
  } finally {
    rehearsal?.close();
    for (const server of servers) server.close();
    await parts.close();
  }
}
