// When the pool takes its turns: one after each change, one when something is due, and none in between. Background work
// ends in a turn. Invariant: an unexpected error makes it rest, so that it cannot spin.
import { JournalError } from '../base/journal.ts';
import type { Core } from './core.ts';

/** Pause (ms) after a failure that nothing expected, and between two tries of a journal that cannot be written. */
export const REST = 1_000;
/** Abort reason that wakes the loop. One shared value: an abort without a reason creates an error with its stack. */
const WOKEN = new Error('the pool has changed');

export type LoopOptions = {
  /** One turn; synchronous. */
  turn: () => void;
  /** When the next turn is due (ms). */
  dueAt: (now: number) => number;
  /** Runs a function after the current task. */
  defer: (run: () => void) => void;
  /** It takes a turn at least this often (ms): a bound on what a missed wake could cost. */
  longestNapMs: number;
};

export class Loop {
  readonly #core: Pick<Core, 'clock' | 'signal' | 'log'>;
  readonly #options: LoopOptions;
  readonly #running = new Set<Promise<void>>();
  #wake: () => void = () => {};
  #kicked = false;
  #restUntil = 0;

  constructor(core: Pick<Core, 'clock' | 'signal' | 'log'>, options: LoopOptions) {
    this.#core = core;
    this.#options = options;
  }

  /** Takes a turn after the current task, so that an answer is sent before the next plan is made. */
  kick(): void {
    this.#kicked = true;
    this.#wake();
  }

  /** Resolves when the signal has aborted. */
  async run(): Promise<void> {
    const { clock, signal } = this.#core;
    const { defer, longestNapMs } = this.#options;
    while (!signal.aborted) {
      if (this.#restUntil > clock.now()) {
        await clock.sleep(this.#restUntil - clock.now(), signal).catch(() => {});
        continue;
      }
      this.#kicked = false;
      // What falls due during the turn is due after it.
      const began = clock.now();
      this.tryTurn();
      const until = this.#options.dueAt(began);
      const now = clock.now();
      if (this.#kicked || until <= now) {
        await new Promise<void>((resolve) => defer(resolve));
        continue;
      }
      const nap = new AbortController();
      this.#wake = () => {
        this.#wake = () => {};
        defer(() => nap.abort(WOKEN));
      };
      const onStop = () => nap.abort();
      signal.addEventListener('abort', onStop, { once: true });
      await clock.sleep(Math.min(until - now, longestNapMs), nap.signal).catch(() => {});
      signal.removeEventListener('abort', onStop);
      this.#wake = () => {};
    }
  }

  /** A turn at once. */
  tryTurn(): void {
    try {
      this.#options.turn();
    } catch (error) {
      this.#rest(error);
    }
  }

  /** Keeps work whose end is a change; null: there was nothing to do. */
  background(work: Promise<void> | null): void {
    if (!work) return;
    const watched = work
      .catch((error) => this.#rest(error))
      .finally(() => {
        this.#running.delete(watched);
        this.kick();
      });
    this.#running.add(watched);
  }

  /** Resolves when all background work has ended. */
  async ended(): Promise<void> {
    await Promise.all(this.#running);
  }

  #rest(error: unknown): void {
    if (this.#core.signal.aborted) return;
    this.#restUntil = this.#core.clock.now() + REST;
    // The failed write has logged it once.
    if (error instanceof JournalError) return;
    this.#core.log.error({ error: String(error) }, 'the pool failed unexpectedly and rests');
  }
}
