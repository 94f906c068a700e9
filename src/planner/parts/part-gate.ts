// The account's request buckets for a simulation in parts, which run on threads of their own. Each part has its share of each
// bucket's size and rate; at the end of each epoch all parts meet and level their tokens. So all together are never given
// more than the account is, and tokens that one part leaves another has an epoch later; within an epoch a part may be
// throttled although another has tokens left. Invariant: the same parts give the same answers, however fast they run.
import { Bucket } from '../../lab/vpc/faults/bucket.ts';
import { publishedDraws } from '../../lab/vpc/faults/published.ts';
import type { Gate } from '../ec2/times.ts';

/** Ms between two meetings. */
export const EPOCH = 10_000;

/** All that an allocator asks of the modelled EC2; none of it is unfiltered or of many instances. */
const ACTIONS: readonly string[] = [
  'AssignPrivateIpAddresses',
  'AttachNetworkInterface',
  'CreateNetworkInterface',
  'CreateTags',
  'DeleteNetworkInterface',
  'DescribeInstances',
  'DescribeInstanceTypes',
  'DescribeNetworkInterfaces',
  'DescribeSecurityGroups',
  'DescribeSubnets',
  'DetachNetworkInterface',
  'ModifyNetworkInterfaceAttribute',
  'UnassignPrivateIpAddresses',
];

const taken = (): boolean => true;
const throttled = (): boolean => false;

/** `met`: how many epochs each part has ended. `tokens`: of each part at the ends of the last two, by action. */
export type Shared = { readonly met: SharedArrayBuffer; readonly tokens: SharedArrayBuffer };

export const shareBetween = (parts: number): Shared => ({
  met: new SharedArrayBuffer(4 * parts),
  tokens: new SharedArrayBuffer(8 * 2 * parts * ACTIONS.length),
});

export class PartGate implements Gate {
  readonly #part: number;
  readonly #met: Int32Array;
  readonly #tokens: Float64Array;
  readonly #buckets: ReadonlyMap<string, Bucket>;
  #epoch = 0;

  constructor({ met, tokens }: Shared, part: number) {
    this.#part = part;
    this.#met = new Int32Array(met);
    this.#tokens = new Float64Array(tokens);
    const parts = this.#met.length;
    this.#buckets = new Map(
      ACTIONS.map((action) => {
        const { perSecond, burst } = publishedDraws(action, { MaxResults: 1_000 })[0]!.rate;
        return [action, new Bucket({ perSecond: perSecond / parts, burst: burst / parts })];
      }),
    );
  }

  ask(action: string, now: number): () => boolean {
    const bucket = this.#buckets.get(action);
    if (!bucket) throw new Error(`${action} has no bucket in a part of a simulation`);
    return bucket.take(now) ? taken : throttled;
  }

  /** Ends the epoch; blocks the thread until all parts have. */
  meet(): void {
    this.offer();
    this.level();
  }

  /** Writes down the part's tokens at the end of its epoch. */
  offer(): void {
    this.#epoch++;
    let place = this.#place(this.#part);
    for (const bucket of this.#buckets.values()) {
      bucket.take(this.#epoch * EPOCH, 0);
      this.#tokens[place++] = bucket.left;
    }
    Atomics.store(this.#met, this.#part, this.#epoch);
    Atomics.notify(this.#met, this.#part);
  }

  /** Waits for all others' tokens and takes the mean. */
  level(): void {
    for (let part = 0; part < this.#met.length; part++)
      for (let met = Atomics.load(this.#met, part); met < this.#epoch; met = Atomics.load(this.#met, part))
        Atomics.wait(this.#met, part, met);
    const sums = Array.from({ length: ACTIONS.length }, (_, action) => {
      let sum = 0;
      for (let part = 0; part < this.#met.length; part++) sum += this.#tokens[this.#place(part) + action]!;
      return sum;
    });
    [...this.#buckets.values()].forEach((bucket, action) => {
      bucket.level(sums[action]! / this.#met.length, this.#epoch * EPOCH);
    });
  }

  /** A part may offer its next tokens before all have read these: two epochs have places of their own. */
  #place = (part: number): number => (2 * part + (this.#epoch & 1)) * ACTIONS.length;
}
