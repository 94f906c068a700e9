// Request throttling: decides whether a request finds its tokens. Sizes are the published ones when the setting
// `ec2Throttle` is `aws`; `lab throttle` sets those of one action, or of every action that has none of its own.
// A bucket is full when the lab's process starts. Fails with RequestLimitExceeded in EC2's words.
import { Ec2Error } from '../errors.ts';
import { Bucket, type Rate } from './bucket.ts';
import { publishedDraws } from './published.ts';

/** Names every action in an override. */
export const EVERY = '*';

export type Sizes = ReadonlyMap<string, Rate>;

export class Throttle {
  /** By action, or EVERY. */
  readonly #sizes: Map<string, Rate>;
  #buckets = new Map<string, Bucket>();

  constructor(sizes: Sizes) {
    this.#sizes = new Map(sizes);
  }

  get sizes(): Sizes {
    return this.#sizes;
  }

  set(action: string, size: Rate | undefined): void {
    if (size) this.#sizes.set(action, size);
    else this.#sizes.delete(action);
    // A changed bucket begins full, as one that AWS has raised.
    this.#buckets = new Map(
      [...this.#buckets].filter(([name]) => action !== EVERY && name.split(' ')[0] !== action),
    );
  }

  /** Throws RequestLimitExceeded when the account has no token for the request. */
  check(action: string, input: object, mode: 'none' | 'aws', now: number): void {
    const own = this.#sizes.get(action) ?? this.#sizes.get(EVERY);
    const draws = own
      ? [{ bucket: action, rate: own, count: 1 }]
      : mode === 'aws'
        ? publishedDraws(action, input)
        : [];
    for (const { bucket: name, rate, count } of draws) {
      let bucket = this.#buckets.get(name);
      if (
        bucket === undefined ||
        bucket.rate.burst !== rate.burst ||
        bucket.rate.perSecond !== rate.perSecond
      ) {
        bucket = new Bucket(rate);
        this.#buckets.set(name, bucket);
      }
      if (!bucket.take(now, count)) throw new Ec2Error('RequestLimitExceeded', 'Request limit exceeded.');
    }
  }
}
