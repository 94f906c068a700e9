// Time that a simulation moves: from one due piece of work to the next, without waiting in between. What the pool starts
// by promises and `defer` runs before time moves on.
import type { Clock } from '../base/clock.ts';
import { TimeHeap } from './heap.ts';

/** Turns without a move of time: more than any step of a pool takes. */
const MOST_TURNS = 10_000;

export class SimClock implements Clock {
  readonly #due = new TimeHeap<{ run: (() => void) | null }>();
  #deferred: (() => void)[] = [];
  #now = 0;

  /** Milliseconds from the start of the trace. */
  now = (): number => this.#now;

  at(time: number, run: () => void): void {
    this.#due.push(Math.max(time, this.#now), { run });
  }

  in(ms: number, run: () => void): void {
    this.at(this.#now + ms, run);
  }

  /** Runs after the current piece of work, at the same time. */
  defer = (run: () => void): void => {
    this.#deferred.push(run);
  };

  sleep = (ms: number, signal?: AbortSignal): Promise<void> =>
    new Promise((resolve, reject) => {
      if (signal?.aborted) return reject(signal.reason);
      const item = {
        run: () => {
          signal?.removeEventListener('abort', onAbort);
          resolve();
        },
      } as { run: (() => void) | null };
      const onAbort = () => {
        item.run = null;
        reject(signal?.reason);
      };
      signal?.addEventListener('abort', onAbort, { once: true });
      this.#due.push(this.#now + Math.max(0, ms), item);
    });

  /** Runs what is due until `end` (ms), in order of time. */
  async run(end: number): Promise<void> {
    while (this.#due.nextAt <= end) {
      this.#now = this.#due.nextAt;
      const { run } = this.#due.pop()!;
      if (!run) continue;
      run();
      await this.settle();
    }
    this.#now = end;
    await this.settle();
  }

  async settle(): Promise<void> {
    for (let turns = 0; ; turns++) {
      // A turn of the event loop runs every promise that can run.
      await new Promise((resolve) => setImmediate(resolve));
      if (this.#deferred.length === 0) return;
      if (turns > MOST_TURNS) throw new Error(`${turns} turns at ${this.#now} ms: something spins`);
      const deferred = this.#deferred;
      this.#deferred = [];
      for (const run of deferred) run();
    }
  }
}
