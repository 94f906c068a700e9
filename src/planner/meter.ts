// What a run costs: how many addresses stand idle and for how long, calls by action, and how long pods wait. It is told
// of each change as it happens; the sums are exact to the millisecond.

export type Sample = { at: number; held: number; taken: number };

export type Wait = { p50: number; p90: number; p99: number; max: number };

export class Meter {
  readonly calls: Record<string, number> = {};
  /** Of the calls, those without effect: throttled, or refused by name. */
  readonly refused: Record<string, number> = {};
  throttled = 0;
  readonly failed: Record<string, number> = {};
  peakAddresses = 0;
  peakEnis = 0;
  /** Address-milliseconds of addresses that no pod holds. */
  #idle = 0;
  #pool = 0;
  #held = 0;
  #enis = 0;
  #addresses = 0;
  #eniTime = 0;
  #since = 0;
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
    this.peakAddresses = Math.max(this.peakAddresses, this.#addresses);
    this.peakEnis = Math.max(this.peakEnis, this.#enis);
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

  get idleMinutes(): number {
    this.#pass();
    return this.#idle / 60_000;
  }

  get eniMinutes(): number {
    this.#pass();
    return this.#eniTime / 60_000;
  }

  wait(): Wait {
    const sorted = Float64Array.from(this.#waits).sort();
    const at = (share: number) => Math.round(sorted[Math.max(0, Math.ceil(share * sorted.length) - 1)] ?? 0);
    return { p50: at(0.5), p90: at(0.9), p99: at(0.99), max: at(1) };
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
