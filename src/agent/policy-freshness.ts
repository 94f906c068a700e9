// Whether the node's policies go by what the cluster's pods are now. An address that is given again must have left the sets
// of all nodes: that holds while each hears of pods more often than the cooldown is long. A node that does not says so, in
// its condition, its log and an Event, and is outside that bound until it hears again. Never throws.
import { type Clock, systemClock } from '../base/clock.ts';
import type { NodeCondition } from './node-condition.ts';

export const POLICY_CURRENT = 'PodwayPolicyCurrent';

/** No cooldown is so short that a watch could be heard more often (ms). */
const LEAST_MS = 5_000;
/** Between two looks, at most (ms). */
const LOOK_MS = 1_000;

export type FreshnessOptions = {
  /** Of addresses now (ms): a NodeNetwork may change it. */
  cooldownMs: () => number;
  say: (condition: NodeCondition) => void;
  /** With each beginning of a silence that is too long. */
  onSilent: (text: string) => void;
};

export class PolicyFreshness {
  readonly #o: FreshnessOptions;
  readonly #clock: Clock;
  /** Ms; null before the first word. */
  #heardAt: number | null = null;
  #isCurrent: boolean | null = null;

  constructor(options: FreshnessOptions, clock: Clock = systemClock) {
    this.#o = options;
    this.#clock = clock;
  }

  get #boundMs(): number {
    return Math.max(LEAST_MS, this.#o.cooldownMs());
  }

  /** After so long (ms) without a word a watch is begun anew. */
  get idleMs(): number {
    return this.#boundMs / 2;
  }

  heard = (): void => {
    this.#heardAt = this.#clock.now();
    this.#look();
  };

  /** Ms since the last word of pods; 0 before the first one, when nothing is judged yet. */
  get silentMs(): number {
    return this.#heardAt === null ? 0 : this.#clock.now() - this.#heardAt;
  }

  get isCurrent(): boolean {
    return this.silentMs <= this.#boundMs;
  }

  /** Ends when `signal` aborts. */
  keep = async (signal: AbortSignal): Promise<void> => {
    while (!signal.aborted) {
      this.#look();
      await this.#clock.sleep(LOOK_MS, signal).catch(() => undefined);
    }
  };

  #look(): void {
    if (this.#heardAt === null || this.isCurrent === this.#isCurrent) return;
    this.#isCurrent = this.isCurrent;
    const condition = freshnessCondition(
      this.#isCurrent ? null : this.#heardAt,
      this.#boundMs,
      this.#clock.now(),
    );
    this.#o.say(condition);
    if (!this.#isCurrent) this.#o.onSilent(condition.message);
  }
}

/** `silentSince` (ms): null while pods are heard of. */
function freshnessCondition(silentSince: number | null, boundMs: number, now: number): NodeCondition {
  const type = POLICY_CURRENT;
  if (silentSince === null)
    return { type, status: 'True', reason: 'Hearing', message: 'policies follow the cluster', since: now };
  const bound = `${boundMs / 1000} s`;
  const message = `nothing is heard of the cluster's pods since ${new Date(silentSince).toISOString()}, longer than addresses rest (${bound}): a pod that was given another's address meanwhile has that one's rights here`;
  return { type, status: 'False', reason: 'WatchSilent', message, since: now };
}
