// A token bucket: full at first, refilled steadily, one token per request. Pure but for its own two numbers.

export type Rate = {
  /** Tokens that come back per second. */
  perSecond: number;
  /** Tokens that it holds at most. */
  burst: number;
};

export class Bucket {
  readonly rate: Rate;
  #tokens: number;
  #filledAt: number | undefined;

  constructor(rate: Rate) {
    this.rate = rate;
    this.#tokens = rate.burst;
  }

  /** Takes `count` tokens at `now` (ms), or none and answers false. */
  take(now: number, count = 1): boolean {
    const passed = Math.max(0, now - (this.#filledAt ?? now)) / 1000;
    this.#tokens = Math.min(this.rate.burst, this.#tokens + passed * this.rate.perSecond);
    this.#filledAt = now;
    if (this.#tokens + EPSILON < count) return false;
    this.#tokens -= count;
    return true;
  }

  /** Sets the tokens as of `now` (ms). */
  level(tokens: number, now: number): void {
    this.#tokens = Math.min(this.rate.burst, tokens);
    this.#filledAt = now;
  }

  /** Tokens as of the last call. */
  get left(): number {
    return this.#tokens;
  }
}

/** Ten refills of a tenth are one token. */
const EPSILON = 1e-9;
