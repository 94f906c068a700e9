// Keys that wait to be looked at: each once, one per turn of the event loop, so that requests and packets' business come
// between. A key may also be woken at a moment, and one whose look throws comes again after a growing pause. Bounded by
// the keys themselves: one entry and at most one timer each.

const FIRST_PAUSE_MS = 200;
const LAST_PAUSE_MS = 30_000;
/** A moment that has passed still leaves a pause: a plan that asks for it again and again must not spin. */
const MIN_WAKE_MS = 20;
/** Longest that a timer is set for; what lies further ahead is looked at again then. */
const MAX_WAKE_MS = 3_600_000;

/** One that has to wait for others answers a promise: its key is left alone until then. */
type Look = (key: string, failure: string | undefined) => void | Promise<void>;
type Failure = { message: string; pause: number; at: number };

export class WorkQueue {
  readonly #look: Look;
  readonly #failed: (key: string, error: unknown, repeated: boolean) => void;
  readonly #dirty = new Set<string>();
  readonly #timers = new Map<string, NodeJS.Timeout>();
  readonly #failures = new Map<string, Failure>();
  /** Keys whose look still waits, and whether they were marked meanwhile. */
  readonly #busy = new Map<string, boolean>();
  #turn: NodeJS.Immediate | undefined;
  #closed = false;

  /** `failed` hears of each look that threw; `repeated`: with the same words as the time before. */
  constructor(look: Look, failed: (key: string, error: unknown, repeated: boolean) => void) {
    this.#look = look;
    this.#failed = failed;
  }

  mark(key: string): void {
    if (this.#closed) return;
    if (this.#busy.has(key)) {
      this.#busy.set(key, true);
      return;
    }
    this.#dirty.add(key);
    this.#turn ??= setImmediate(() => this.#next());
  }

  wake(key: string, ms: number): void {
    if (this.#closed) return;
    clearTimeout(this.#timers.get(key));
    const pause = Math.min(Math.max(ms, MIN_WAKE_MS), MAX_WAKE_MS);
    const timer = setTimeout(() => {
      this.#timers.delete(key);
      this.mark(key);
    }, pause);
    timer.unref();
    this.#timers.set(key, timer);
  }

  close(): void {
    this.#closed = true;
    clearImmediate(this.#turn);
    for (const timer of this.#timers.values()) clearTimeout(timer);
  }

  #next(): void {
    this.#turn = undefined;
    const [key] = this.#dirty;
    if (key === undefined || this.#closed) return;
    this.#dirty.delete(key);
    clearTimeout(this.#timers.get(key));
    this.#timers.delete(key);
    const failure = this.#failures.get(key);
    const early = failure ? failure.at + FIRST_PAUSE_MS - performance.now() : 0;
    // What the failure itself changed brings the key back at once.
    if (early > 0) this.wake(key, early);
    else this.#lookAt(key, failure);
    if (this.#dirty.size > 0) this.#turn ??= setImmediate(() => this.#next());
  }

  #lookAt(key: string, failure: Failure | undefined): void {
    let later: void | Promise<void>;
    try {
      later = this.#look(key, failure?.message);
    } catch (error) {
      this.#fail(key, failure, error);
      return;
    }
    if (later === undefined) {
      this.#succeed(key, failure);
      return;
    }
    this.#busy.set(key, false);
    const over = (told: () => void) => {
      const again = this.#busy.get(key);
      this.#busy.delete(key);
      if (this.#closed) return;
      told();
      if (again) this.mark(key);
    };
    later.then(
      () => over(() => this.#succeed(key, failure)),
      (error: unknown) => over(() => this.#fail(key, failure, error)),
    );
  }

  #succeed(key: string, failure: Failure | undefined): void {
    // Once more without the failure, so that nothing goes on telling of it.
    if (failure && this.#failures.delete(key)) this.mark(key);
  }

  #fail(key: string, failure: Failure | undefined, error: unknown): void {
    const message = error instanceof Error ? error.message : String(error);
    const pause = failure === undefined ? FIRST_PAUSE_MS : Math.min(failure.pause * 2, LAST_PAUSE_MS);
    this.#failures.set(key, { message, pause, at: performance.now() });
    this.wake(key, pause);
    this.#failed(key, error, failure?.message === message);
  }
}
