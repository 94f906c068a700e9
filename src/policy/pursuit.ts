// Runs a piece of work until all that was asked for is done. What is asked for during a run belongs to the next run.
// Removing what a run leaves behind is work of its own, so that the next change does not wait for it. A run that fails
// is told and tried again, with growing pauses. Never rejects.
import type { Log } from '../base/log.ts';

/** Ms after a failure; each next one doubles it. */
const RETRY_MS = 50;
const RETRY_MOST_MS = 2_000;
/** Ms that what nothing refers to is left, at most: one transaction removes what many changes left behind. */
const SWEEP_MS = 200;

/** Removes what a run and those before it have left behind. */
export type Sweep = () => Promise<void>;

export type PursuitOptions = {
  log: Log;
  /** False: it is not known yet what to bring. */
  isReady: () => boolean;
  bring: () => Promise<Sweep | null>;
  /** What is there is in doubt. */
  onFailure: () => void;
  /** Something has changed, for those who wait. */
  note: () => void;
};

export class Pursuit {
  readonly #o: PursuitOptions;
  /** Changes so far, and those that are in force. */
  #asked = 0;
  #done = 0;
  #isRunning = false;
  #closed = false;
  #broken: string | null = null;
  #failures = 0;
  #left: Sweep | null = null;
  #sweepTimer: NodeJS.Timeout | null = null;
  #isSweepDue = false;

  constructor(options: PursuitOptions) {
    this.#o = options;
  }

  /** All that was asked is done. */
  get isDone(): boolean {
    return this.#done >= this.#asked;
  }

  get isRunning(): boolean {
    return this.#isRunning;
  }

  /** The last failure; null when all is as it should be. */
  get broken(): string | null {
    return this.#broken;
  }

  ask(): void {
    this.#asked++;
    this.#o.note();
    this.#start();
  }

  /** What runs goes on to its end; nothing is begun. */
  close(): void {
    this.#closed = true;
    if (this.#sweepTimer) clearTimeout(this.#sweepTimer);
  }

  get #hasWork(): boolean {
    return !this.#closed && this.#o.isReady() && (!this.isDone || this.#isSweepDue);
  }

  #start(): void {
    if (this.#isRunning || this.#closed) return;
    this.#isRunning = true;
    setImmediate(() => void this.#run());
  }

  async #run(): Promise<void> {
    const { log, onFailure, note } = this.#o;
    while (this.#hasWork) {
      try {
        if (this.isDone) await this.#sweep();
        else await this.#bring();
      } catch (error) {
        onFailure();
        if (this.isDone) this.#asked++;
        this.#broken = (error as Error).message;
        log.error({ error: this.#broken }, 'the policy table is not as it should be');
        const pause = Math.min(RETRY_MS * 2 ** this.#failures++, RETRY_MOST_MS);
        await new Promise((resolve) => setTimeout(resolve, pause).unref());
      }
    }
    this.#isRunning = false;
    note();
    if (this.#hasWork) this.#start();
  }

  async #bring(): Promise<void> {
    const asked = this.#asked;
    this.#left = await this.#o.bring();
    this.#done = asked;
    this.#failures = 0;
    this.#broken = null;
    this.#o.note();
    if (!this.#left) return;
    this.#sweepTimer ??= setTimeout(() => {
      this.#sweepTimer = null;
      this.#isSweepDue = true;
      this.#start();
    }, SWEEP_MS).unref();
  }

  async #sweep(): Promise<void> {
    const left = this.#left;
    this.#left = null;
    this.#isSweepDue = false;
    await left?.();
  }
}
