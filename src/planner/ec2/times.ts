// How long the modelled EC2 takes, and how often it may be called: the times and request limits of the lab's EC2.

import { Bucket } from '../../lab/vpc/faults/bucket.ts';
import { spread } from '../../lab/vpc/faults/chance.ts';
import { drawAnswerTime, drawLatencies } from '../../lab/vpc/faults/latency.ts';
import { isReading, publishedDraws } from '../../lab/vpc/faults/published.ts';

/** Ms from an attachment's end until the instance metadata service lists the ENI with its addresses. */
const METADATA = { median: 1_500, spread: 0.4 };

/** Times in ms, each drawn anew. */
export class Times {
  readonly #seed: number;
  #drawn = 0;

  constructor(seed: number) {
    this.#seed = seed;
  }

  answer = (action: string): number => drawAnswerTime(isReading(action), this.#seed, this.#drawn++);
  attach = (): number => drawLatencies(this.#seed, this.#drawn++).attach;
  detach = (): number => drawLatencies(this.#seed, this.#drawn++).detach;
  metadata = (): number => spread(METADATA.median, METADATA.spread, this.#seed, this.#drawn++);
}

/** The account's request limits. */
export interface Gate {
  /** A request is sent at `now`; what it answers tells, when EC2's answer is due, whether EC2 took it. */
  ask(action: string, now: number): () => boolean;
}

const taken = (): boolean => true;
const throttled = (): boolean => false;

/** The account's buckets. No request of an allocator is unfiltered. */
export class Buckets implements Gate {
  readonly #buckets = new Map<string, Bucket>();

  ask(action: string, now: number): () => boolean {
    const isAllowed = publishedDraws(action, { MaxResults: 1_000 }).every(({ bucket: name, rate, count }) => {
      let bucket = this.#buckets.get(name);
      if (!bucket) {
        bucket = new Bucket(rate);
        this.#buckets.set(name, bucket);
      }
      return bucket.take(now, count);
    });
    return isAllowed ? taken : throttled;
  }
}
