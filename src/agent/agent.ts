// The composition of a node's agent. Its rooms: parts (what is opened), sockets and routes (who asks), start (the node),
// gate and status (whether it serves), repair (the loop that puts right what others changed).
// Invariant: the sockets answer from the first moment; ADD is served from the journal before EC2 or the Kubernetes API
// answer; stopping changes nothing in the kernel. At rest nothing is logged.
import { flushCompileCache } from 'node:module';
import type { Server } from 'node:net';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { systemClock } from '../base/clock.ts';
import { shareArenas, trimMalloc } from '../kernel/malloc.ts';
import type { AgentConfig } from './config.ts';
import { Gate } from './gate.ts';
import { openParts } from './parts.ts';
import type { Rehearsal } from './rehearsal.ts';
import { openSockets } from './sockets.ts';
import { startNode } from './start.ts';

/** Between the trims of memory while requests come: what the compiler and nftables freed is a few MB each time. */
const TRIM_INTERVAL_MS = 2_000;

/**
 * Gives freed memory back to the kernel; at rest there is none. At the first rest it writes what was compiled so far where
 * the next start finds it, also when this agent is killed: without that, a start compiles anew (100 ms, 20 MiB).
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

/** Runs until `signal` aborts. Rejects with what stopped it otherwise. */
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
    // Whoever waited at the gate is served before the node turns to EC2.
    await nextTurn();
    void rehearsal?.finish(parts.load, signal);
    const { identity, pool, repair, quarantine } = serving;
    // Repairs go on whether or not EC2 answers.
    const repairing = repair.keep(signal);
    await pool.start(signal);
    await repair.now();
    parts.log.info(
      { instance: identity.instanceId, enis: pool.enis().length, ...pool.counts() },
      'the agent is ready',
    );
    void keepTrimmed(() => parts.load.requests, signal);
    await Promise.all([repairing, quarantine.keep(signal)]);
    await pool.stopped();
  } catch (error) {
    if (!signal.aborted) throw error;
  } finally {
    rehearsal?.close();
    for (const server of servers) server.close();
    await parts.close();
  }
}
