// How often this node calls EC2: a storm on one node must not eat the account's allowance, which all nodes share.
// Reads and changes have a bucket each, as EC2 counts them apart. A call is as urgent as what waits for it: a pod before
// the warm pool before clean-up; the less urgent leave a part of each bucket to the more urgent. A call that finds no
// token within its bound fails with CLOUD_THROTTLED, code `Budget`, before anything was sent. Where nodes together would pass
// the account's allowance the cluster's controller grants this node less for a while; without its word the own share counts.
import type { Clock } from '../base/clock.ts';
import { type Cloud, CloudError, type TrunkCloud } from './port.ts';

/** What waits for a call, most urgent first. */
type Urgency = 'pod' | 'warm' | 'clean';
type Action = keyof Cloud | keyof TrunkCloud;
type Call = (...args: unknown[]) => Promise<unknown>;
type Bucket = { readonly perSecond: number; readonly burst: number };

/** Calls per second and at once. The largest type is filled with 15 ENIs by about 60 changes. */
const READS: Bucket = { perSecond: 5, burst: 40 };
const CHANGES: Bucket = { perSecond: 5, burst: 40 };
/** Share of a bucket that is reserved for more urgent calls. */
const LEFT_TO_OTHERS: Readonly<Record<Urgency, number>> = { pod: 0, warm: 0.25, clean: 0.5 };
const RANK: Readonly<Record<Urgency, number>> = { pod: 0, warm: 1, clean: 2 };
/** Longest wait for a token (ms). */
const LONGEST_WAIT = 30_000;
/** A waiting call looks again this often (ms): what waits for it may have changed. */
const LOOK_AGAIN = 100;

const BUCKET_OF: Readonly<Record<Action, 'reads' | 'changes'>> = {
  describeNetworkInterfaces: 'reads',
  describeSubnets: 'reads',
  describeVpcSubnets: 'reads',
  describeSecurityGroups: 'reads',
  describeGroupsOf: 'reads',
  describeIngressRules: 'reads',
  describeMembers: 'reads',
  describeInstanceType: 'reads',
  describeTrunkAssociations: 'reads',
  probeTrunking: 'reads',
  createNetworkInterface: 'changes',
  attachNetworkInterface: 'changes',
  detachNetworkInterface: 'changes',
  deleteNetworkInterface: 'changes',
  setDeleteOnTermination: 'changes',
  setSecurityGroups: 'changes',
  createTags: 'changes',
  assignPrivateIps: 'changes',
  assignTheseIps: 'changes',
  assignPrefixes: 'changes',
  assignThesePrefixes: 'changes',
  assignIpv6Prefixes: 'changes',
  assignTheseIpv6Prefixes: 'changes',
  unassign: 'changes',
  associateTrunk: 'changes',
  disassociateTrunk: 'changes',
};
const CLEAN_UP: ReadonlySet<Action> = new Set([
  'detachNetworkInterface',
  'deleteNetworkInterface',
  'unassign',
  'createTags',
  'disassociateTrunk',
]);

/** Calls that the node may make at once, now. */
export type CallsLeft = { reads: number; changes: number };
/** Calls per second. */
export type CallRates = { reads: number; changes: number };
export type Budget = {
  callsLeft(): CallsLeft;
  /** What the node would call now: of the last seconds, and what waits for a token. */
  rates(): CallRates;
  /** At most this much for `ms`, then the node's own share again; null: that at once. */
  grant(rates: CallRates | null, ms?: number): void;
};

/** `isPodWaiting` is asked while a call waits: what began for the warm pool becomes a pod's when one comes. */
export function withBudget<C extends Cloud>(
  cloud: C,
  clock: Clock,
  isPodWaiting: () => boolean,
  /** Other than one node's. */
  own: Partial<CallRates> = {},
): C & Budget {
  const bucket = (usual: Bucket, perSecond = usual.perSecond) =>
    new TokenBucket({ ...usual, perSecond }, clock);
  const buckets = { reads: bucket(READS, own.reads), changes: bucket(CHANGES, own.changes) };
  const urgencyOf = (action: Action): Urgency =>
    CLEAN_UP.has(action) ? 'clean' : isPodWaiting() ? 'pod' : 'warm';
  const wrapped: Record<string, unknown> = {};
  for (const [action, kind] of Object.entries(BUCKET_OF) as [Action, keyof typeof buckets][]) {
    const call = (cloud as Partial<Record<Action, Call>>)[action]?.bind(cloud);
    if (!call) continue;
    wrapped[action] = async (...args: unknown[]) => {
      const signal = args.find((arg) => arg instanceof AbortSignal);
      await buckets[kind].take(action, () => urgencyOf(action), signal);
      return call(...args);
    };
  }
  const budget: Budget = {
    callsLeft: () => ({ reads: buckets.reads.left(), changes: buckets.changes.left() }),
    rates: () => ({ reads: buckets.reads.rate(), changes: buckets.changes.rate() }),
    grant(rates, ms = 0) {
      for (const kind of ['reads', 'changes'] as const) buckets[kind].limit(rates?.[kind] ?? null, ms);
    },
  };
  return Object.assign(wrapped, budget) as unknown as C & Budget;
}

type Waiter = { urgency: () => Urgency };

/** Over so long (ms) calls are counted; those that wait are to be through in half of it. */
const WINDOW = 10_000;
/** Of a granted rate: so many seconds' calls at once. */
const GRANTED_BURST = 4;

class TokenBucket {
  readonly #own: Bucket;
  #granted: { readonly bucket: Bucket; readonly until: number } | null = null;
  /** When calls were made in the last window (ms). */
  #made: number[] = [];
  readonly #clock: Clock;
  /** In order of arrival. */
  readonly #waiters = new Set<Waiter>();
  #tokens: number;
  #filledAt: number;

  constructor(bucket: Bucket, clock: Clock) {
    this.#own = bucket;
    this.#clock = clock;
    this.#tokens = bucket.burst;
    this.#filledAt = clock.now();
  }

  async take(action: Action, urgency: () => Urgency, signal?: AbortSignal): Promise<void> {
    const me: Waiter = { urgency };
    const deadline = this.#clock.now() + LONGEST_WAIT;
    this.#waiters.add(me);
    try {
      while (!this.#tryTake(me)) {
        if (this.#clock.now() >= deadline) {
          const { perSecond, burst } = this.#bucket();
          const text = `this node's budget of ${perSecond} calls a second (${burst} at once) is used up`;
          throw new CloudError(action, 'Budget', text);
        }
        await this.#clock.sleep(LOOK_AGAIN, signal);
      }
    } finally {
      this.#waiters.delete(me);
    }
  }

  left(): number {
    this.#fill();
    return Math.floor(this.#tokens);
  }

  rate(): number {
    this.#forget();
    return (this.#made.length + 2 * this.#waiters.size) / (WINDOW / 1000);
  }

  /** Never more than the own share. */
  limit(perSecond: number | null, ms: number): void {
    this.#fill();
    if (perSecond === null) {
      this.#granted = null;
      return;
    }
    const rate = Math.min(perSecond, this.#own.perSecond);
    const burst = Math.min(this.#own.burst, Math.max(1, rate * GRANTED_BURST));
    this.#granted = { bucket: { perSecond: rate, burst }, until: this.#clock.now() + ms };
    this.#tokens = Math.min(this.#tokens, burst);
  }

  #forget(): void {
    const since = this.#clock.now() - WINDOW;
    while (this.#made.length > 0 && this.#made[0]! <= since) this.#made.shift();
  }

  #bucket(): Bucket {
    if (this.#granted && this.#granted.until <= this.#clock.now()) this.#granted = null;
    return this.#granted?.bucket ?? this.#own;
  }

  #fill(): void {
    const now = this.#clock.now();
    const { perSecond, burst } = this.#bucket();
    this.#tokens = Math.min(burst, this.#tokens + (Math.max(0, now - this.#filledAt) / 1000) * perSecond);
    this.#filledAt = now;
  }

  #tryTake(me: Waiter): boolean {
    this.#fill();
    const { burst } = this.#bucket();
    const urgency = me.urgency();
    // Of a bucket of few tokens nothing can be left to others: who waits for a pod goes first all the same.
    const left = Math.min(LEFT_TO_OTHERS[urgency] * burst, Math.max(0, burst - 1));
    if (this.#tokens < 1 + left || this.#isBehind(me, RANK[urgency])) return false;
    this.#tokens -= 1;
    this.#forget();
    this.#made.push(this.#clock.now());
    return true;
  }

  #isBehind(me: Waiter, rank: number): boolean {
    let earlier = true;
    for (const other of this.#waiters) {
      if (other === me) earlier = false;
      else if (RANK[other.urgency()] < rank + (earlier ? 1 : 0)) return true;
    }
    return false;
  }
}
