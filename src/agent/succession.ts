// One agent serves a run directory: it holds the directory's lock. An agent that starts while another serves (an upgrade
// that brings the new one up first) takes the plugin's socket, asks the other to hand over, and goes on when the lock is
// free. The other ends what it has begun, hands the calls that wait to its successor, closes the journal, and stays only
// for what it relays. Invariant: no call finds no socket, and never do two agents write one journal.
import { connect } from 'node:net';
import { systemClock } from '../base/clock.ts';
import { PodwayError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import { type CniCall, decodeAnswer, encodeRequest } from '../cni/wire.ts';
import { type DirectoryLock, tryLockDirectory } from '../kernel/lock.ts';
import type { CniAnswer } from './cni-server.ts';

/** Loaded with require: an import reads every export, and behind those of node:http stand undici, http2 and TLS. */
const { request } = process.getBuiltinModule('node:http');

/** The path of the introspection socket on which a successor asks. */
export const HANDOVER = '/v1/handover';
/** An agent that serves answers its health at once; one that is ending takes up to DRAIN_MS. Ms. */
const HEALTH_MS = 10_000;
/** One question for it (ms), and the pause before the next. */
const HEALTH_ANSWER_MS = 2_000;
const HEALTH_AGAIN_MS = 50;
/** The other ends what it has begun within this time (ms). */
const HANDOVER_MS = 20_000;
/** Between two looks at the lock (ms), while it is about to be free. */
const LOOK_MS = 5;
/** Between two looks (ms) of an agent that has handed over: when its successor is gone, its place is free again. */
const LOOK_FOR_SUCCESSOR_MS = 500;
/** Calls that are being served may take this long (ms) when the agent stops. */
const DRAIN_MS = 5_000;

/**
 * Takes the run directory. `announce` is called when another agent is there and about to hand over: from then on the
 * plugin's calls should come here. Throws AGENT_UNREACHABLE when the other does not hand over.
 */
export async function takeOver(
  { runDir, apiSocket }: { runDir: string; apiSocket: string },
  announce: () => Promise<void>,
  log: Log,
  signal: AbortSignal,
  healthMs = HEALTH_MS,
): Promise<DirectoryLock> {
  const began = performance.now();
  for (;;) {
    const free = tryLockDirectory(runDir);
    if (free) return free;
    try {
      await ask(apiSocket, 'GET', '/healthz', HEALTH_ANSWER_MS, signal);
      break;
    } catch (error) {
      if (signal.aborted || performance.now() - began > healthMs) throw stuck(runDir, error);
      await systemClock.sleep(HEALTH_AGAIN_MS, signal);
    }
  }
  log.info({ runDir }, 'another agent serves here: taking over from it');
  await announce();
  const asked = ask(apiSocket, 'POST', HANDOVER, HANDOVER_MS, signal).catch((error: unknown) => error);
  for (;;) {
    const lock = tryLockDirectory(runDir);
    if (lock) {
      log.info({ ms: Math.round(performance.now() - began) }, 'took over from the agent before');
      return lock;
    }
    if (performance.now() - began > HANDOVER_MS) throw stuck(runDir, await asked);
    await systemClock.sleep(LOOK_MS, signal);
  }
}

function stuck(runDir: string, error: unknown): PodwayError {
  const why = error instanceof Error ? error.message : 'it holds on to the directory';
  const message = `another agent serves ${runDir} and does not hand over: ${why}`;
  return new PodwayError('AGENT_UNREACHABLE', message, { object: runDir, next: 'End the other agent.' });
}

function ask(
  socketPath: string,
  method: string,
  path: string,
  timeoutMs: number,
  signal: AbortSignal,
): Promise<void> {
  return new Promise((resolve, reject) => {
    const outgoing = request({ socketPath, method, path, signal, agent: false }, (answer) => {
      answer.resume();
      if (answer.statusCode === 200) answer.once('end', resolve);
      else reject(new Error(`${path} answers ${answer.statusCode}`));
    });
    outgoing.setTimeout(timeoutMs, () => outgoing.destroy(new Error(`no answer in ${timeoutMs} ms`)));
    outgoing.once('error', reject);
    outgoing.end();
  });
}

/** The end of an agent's service, because it is told to stop or because another one takes over. */
export class Succession {
  readonly #retire = new AbortController();
  readonly #free = Promise.withResolvers<void>();
  readonly #socket: string;
  /** Aborts when the agent ends its service. */
  readonly signal: AbortSignal;

  constructor(cniSocket: string, stop: AbortSignal) {
    this.#socket = cniSocket;
    this.signal = AbortSignal.any([stop, this.#retire.signal]);
  }

  get isHandedOver(): boolean {
    return this.#retire.signal.aborted;
  }

  /** Hands over; resolves when the run directory is free. */
  handOver(): Promise<void> {
    this.#retire.abort(new Error('another agent takes over'));
    return this.#free.promise;
  }

  /** How a call reaches the successor; null while there is none. */
  relay = () => (this.isHandedOver ? this.#relay : null);

  #relay = (call: CniCall, signal: AbortSignal): Promise<CniAnswer> =>
    new Promise((resolve, reject) => {
      const pieces: Buffer[] = [];
      const socket = connect(this.#socket, () => socket.write(encodeRequest(call.env, call.stdin)));
      const onAbort = () => socket.destroy();
      signal.addEventListener('abort', onAbort, { once: true });
      socket.on('data', (piece: Buffer) => pieces.push(piece));
      socket.once('error', reject);
      socket.once('close', () => {
        signal.removeEventListener('abort', onAbort);
        try {
          resolve(decodeAnswer(Buffer.concat(pieces)));
        } catch (error) {
          reject(error);
        }
      });
    });

  /** Waits until the calls in progress are served, at most a few seconds. */
  async drain(serving: () => number): Promise<void> {
    for (const end = performance.now() + DRAIN_MS; serving() > 0 && performance.now() < end; )
      await systemClock.sleep(LOOK_MS);
  }

  /** The run directory is free; its successor may begin. */
  freed(): void {
    this.#free.resolve();
  }

  /**
   * Waits until `stop` aborts or the successor is gone. A supervisor that starts this program again at its end would
   * otherwise have two agents take over from each other for ever.
   */
  async standBy(runDir: string, stop: AbortSignal): Promise<void> {
    // For a moment it is free, too, when the successor itself hands over: then it is not at the next look.
    for (let free = 0; free < 2 && !stop.aborted; ) {
      await systemClock.sleep(LOOK_FOR_SUCCESSOR_MS, stop).catch(() => undefined);
      const lock = tryLockDirectory(runDir);
      lock?.release();
      free = lock ? free + 1 : 0;
    }
  }
}
