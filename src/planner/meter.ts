// What a run costs: how many addresses stand idle and for how long, calls by action, and how long pods wait. It is told
// of each change as it happens; the sums are exact to the millisecond.

export type Sample = { at: number; held: number; taken: number };

/** What a meter has counted; sums in address-ms and ENI-ms. `times`, `taken`, `enis`: what was taken from each time on. */
export type Counts = {
  idle: number;
  eniTime: number;
  times: Float64Array;
  taken: Uint32Array;
  enis: Uint32Array;
  waits: Float64Array;
  calls: Record<string, number>;
  refused: Record<string, number>;
  throttled: number;
  failed: Record<string, number>;
  samples: Sample[];
};

export class Meter {
  readonly calls: Record<string, number> = {};
  /** Of the calls, those without effect: throttled, or refused by name. */
  readonly refused: Record<string, number> = {};
  throttled = 0;
  readonly failed: Record<string, number> = {};
  /** Address-milliseconds of addresses that no pod holds. */
  #idle = 0;
  #pool = 0;
  #held = 0;
  #enis = 0;
  #addresses = 0;
  #eniTime = 0;
  #since = 0;
  /** What was taken after each time at which it changed. */
  readonly #times: number[] = [];
  readonly #taken: number[] = [];
  readonly #enisThen: number[] = [];
  readonly #waits: number[] = [];
  readonly samples: Sample[] = [];
  readonly #sampleEvery: number;
  #nextSample = 0;
  readonly #now: () => number;

  /** `sampleEvery`: ms between two samples for a plot; infinity for none. */
  constructor(now: () => number, sampleEvery = Number.POSITIVE_INFINITY) {
    this.#now = now;
    this.#sampleEvery = sampleEvery;
    if (sampleEvery === Number.POSITIVE_INFINITY) this.#nextSample = sampleEvery;
  }

  /** Addresses that ENIs of the nodes got or lost; `pool`: those for pods, `enis`: ENIs, which have one of their own. */
  noteTaken(pool: number, enis: number): void {
    this.#pass();
    this.#pool += pool;
    this.#enis += enis;
    this.#addresses += pool + enis;
    const last = this.#times.length - 1;
    const at = this.#times[last] === this.#since ? last : last + 1;
    this.#times[at] = this.#since;
    this.#taken[at] = this.#addresses;
    this.#enisThen[at] = this.#enis;
  }

  noteHeld(change: 1 | -1): void {
    this.#pass();
    this.#held += change;
  }

  noteCall(action: string): void {
    this.calls[action] = (this.calls[action] ?? 0) + 1;
  }

  noteRefused(action: string): void {
    this.refused[action] = (this.refused[action] ?? 0) + 1;
  }

  /** A pod has its address after so many ms, or has given up after them. */
  noteWait(ms: number): void {
    this.#waits.push(ms);
  }

  noteFailed(cause: string): void {
    this.failed[cause] = (this.failed[cause] ?? 0) + 1;
  }

  /** All of it until now. */
  counts(): Counts {
    this.#pass();
    return {
      idle: this.#idle,
      eniTime: this.#eniTime,
      times: Float64Array.from(this.#times),
      taken: Uint32Array.from(this.#taken),
      enis: Uint32Array.from(this.#enisThen),
      waits: Float64Array.from(this.#waits),
      calls: this.calls,
      refused: this.refused,
      throttled: this.throttled,
      failed: this.failed,
      samples: this.samples,
    };
  }

  #pass(): void {
    const now = this.#now();
    while (this.#nextSample <= now) {
      this.samples.push({ at: this.#nextSample, held: this.#held, taken: this.#pool });
      this.#nextSample += this.#sampleEvery;
    }
    const passed = now - this.#since;
    if (passed === 0) return;
    this.#idle += (this.#pool - this.#held) * passed;
    this.#eniTime += this.#enis * passed;
    this.#since = now;
  }
}
