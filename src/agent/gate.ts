// Holds calls until the node serves: the sockets answer from the first moment, the node a little later. A restart is
// much shorter than the wait, so its callers need not retry. Fails with AGENT_STARTING.
import { systemClock } from '../base/clock.ts';
import { PodwayError } from '../base/errors.ts';
import type { Installation } from './install/keep.ts';
import type { Serving } from './start.ts';

/** How long ADD, DEL, CHECK and GC wait for an agent that has just started. */
const START_WAIT_MS = 5_000;
/** While the agent before hands over, which takes as long as the calls that it is serving. */
const HANDOVER_WAIT_MS = 25_000;

export class Gate {
  readonly #nodeName: string;
  readonly #opened = Promise.withResolvers<void>();
  #serving: Serving | null = null;
  /** EC2 has told what the node has, in this agent's life. */
  hasStarted = false;
  /** What is installed on the host; null where nothing is to be. */
  installation: Installation | null = null;
  /** The agent before is handing over: it is a matter of moments, so STATUS waits too. */
  isTakingOver = false;

  constructor(nodeName: string) {
    this.#nodeName = nodeName;
  }

  open(serving: Serving): void {
    this.#serving = serving;
    this.#opened.resolve();
  }

  /** Null while the agent starts. */
  get serving(): Serving | null {
    return this.#serving;
  }

  /** The node at once. Throws AGENT_STARTING. */
  now(): Serving {
    if (!this.#serving) throw this.starting();
    return this.#serving;
  }

  /** The node, waiting a moment for it. Throws AGENT_STARTING when that takes longer. */
  async pass(signal: AbortSignal): Promise<Serving> {
    if (!this.#serving) {
      const wait = this.isTakingOver ? HANDOVER_WAIT_MS : START_WAIT_MS;
      await Promise.race([this.#opened.promise, systemClock.sleep(wait, signal).catch(() => {})]);
    }
    return this.now();
  }

  starting(): PodwayError {
    return new PodwayError(
      'AGENT_STARTING',
      `the agent of ${this.#nodeName} waits for the instance's identity`,
      { object: this.#nodeName, since: Math.round(performance.timeOrigin) },
    );
  }
}
