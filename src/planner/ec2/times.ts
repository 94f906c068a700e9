// How long the modelled EC2 takes, and how often it may be called: medians and buckets of the order that AWS publishes.
// Source of the times: EKS best practices (an address in under a second, a new ENI in up to ten); of the buckets: EC2
// Developer Guide, "Request throttling for the Amazon EC2 API". All are of one account and region.
import { lognormal, type Random } from '../random.ts';

/** Milliseconds in the median; `spread` as in `lognormal`. */
type Time = { median: number; spread: number };

const READ: Time = { median: 90, spread: 0.4 };
const CHANGE: Time = { median: 250, spread: 0.5 };
/** From the answer to the end of the change. */
const ATTACHING: Time = { median: 2_500, spread: 0.4 };
const DETACHING: Time = { median: 6_000, spread: 0.4 };
/** From an attachment's end until the instance metadata service lists the ENI with its addresses. */
const METADATA: Time = { median: 1_500, spread: 0.4 };

const draw = (random: Random, { median, spread }: Time): number =>
  Math.min(4 * median, lognormal(random, median, spread));

export const isReading = (action: string): boolean => action.startsWith('Describe');
export const answerTime = (random: Random, action: string): number =>
  draw(random, isReading(action) ? READ : CHANGE);
export const attachTime = (random: Random): number => draw(random, ATTACHING);
export const detachTime = (random: Random): number => draw(random, DETACHING);
export const metadataTime = (random: Random): number => draw(random, METADATA);

type Rate = { burst: number; perSecond: number };
const READING: Rate = { burst: 100, perSecond: 20 };
/** Describes of all objects, or of some by id, without filter and page size. */
const UNFILTERED: Rate = { burst: 50, perSecond: 10 };
const CHANGING: Rate = { burst: 50, perSecond: 5 };
const OF_ITS_OWN: Rate = { burst: 100, perSecond: 5 };
const WITH_ITS_OWN = new Set([
  'AssignPrivateIpAddresses',
  'UnassignPrivateIpAddresses',
  'CreateNetworkInterface',
  'DeleteNetworkInterface',
  'ModifyNetworkInterfaceAttribute',
]);

class Bucket {
  readonly #rate: Rate;
  #tokens: number;
  #filledAt = 0;

  constructor(rate: Rate) {
    this.#rate = rate;
    this.#tokens = rate.burst;
  }

  take(now: number): boolean {
    const { burst, perSecond } = this.#rate;
    this.#tokens = Math.min(burst, this.#tokens + ((now - this.#filledAt) / 1000) * perSecond);
    this.#filledAt = now;
    if (this.#tokens < 1) return false;
    this.#tokens--;
    return true;
  }
}

/** The account's buckets, one for each action. */
export class Buckets {
  readonly #buckets = new Map<string, Bucket>();

  /** False when the request is throttled; it then costs no token. */
  take(action: string, unfiltered: boolean, now: number): boolean {
    const key = unfiltered ? `${action} unfiltered` : action;
    let bucket = this.#buckets.get(key);
    if (!bucket) {
      const ofChange = WITH_ITS_OWN.has(action) ? OF_ITS_OWN : CHANGING;
      bucket = new Bucket(!isReading(action) ? ofChange : unfiltered ? UNFILTERED : READING);
      this.#buckets.set(key, bucket);
    }
    return bucket.take(now);
  }
}
