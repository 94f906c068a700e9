// Time that a simulation moves: from one due piece of work to the next, without waiting in between. What the pool starts
// by promises and `defer` runs before time moves on.
import type { Clock } from '../base/clock.ts';
import { TimeHeap } from './heap.ts';

/** Turns without a move of time: more than any step of a pool takes. */
const MOST_TURNS = 10_000;
/** Steps without a turn of the event loop, which costs as much as a few of them: signals and messages wait for one. */
const BREATH = 256;

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
      const at = this.#now + Math.max(0, ms);
      if (!signal) {
        this.#due.push(at, { run: resolve });
        return;
      }
      if (signal.aborted) return reject(signal.reason);
      const item = {
        run: () => {
          signal.removeEventListener('abort', onAbort);
          resolve();
        },
      } as { run: (() => void) | null };
      const onAbort = () => {
        item.run = null;
        reject(signal.reason);
      };
      signal.addEventListener('abort', onAbort, { once: true });
      this.#due.push(at, item);
    });

  /** Runs what is due until `end` (ms), in order of time. */
  run(end: number): Promise<void> {
    return new Promise((resolve, reject) => {
      let turns = 0;
      let steps = 0;
      const step = () => {
        try {
          if (this.#deferred.length === 0) {
            turns = 0;
            if (!this.#runNext(end)) {
              this.#now = end;
              resolve();
              return;
            }
          } else this.#runDeferred(turns++);
        } catch (error) {
          reject(error);
          return;
        }
        // A tick that a microtask asks for comes after all microtasks: every promise that can run has run by then.
        if (++steps % BREATH === 0) setImmediate(step);
        else queueMicrotask(() => process.nextTick(step));
      };
      step();
    });
  }

  /** Runs every promise that can run, and what they defer. */
  async settle(): Promise<void> {
    for (let turns = 0; ; turns++) {
      await new Promise((resolve) => setImmediate(resolve));
      if (this.#deferred.length === 0) return;
      this.#runDeferred(turns);
    }
  }

  /** False when nothing is due until `end`. */
  #runNext(end: number): boolean {
    while (this.#due.nextAt <= end) {
      this.#now = this.#due.nextAt;
      const { run } = this.#due.pop()!;
      if (!run) continue;
      run();
      return true;
    }
    return false;
  }

  #runDeferred(turns: number): void {
    if (turns > MOST_TURNS) throw new Error(`${turns} turns at ${this.#now} ms: something spins`);
    const deferred = this.#deferred;
    this.#deferred = [];
    for (const run of deferred) run();
  }
}
