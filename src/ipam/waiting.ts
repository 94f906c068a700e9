// The line of pods that wait for an address: first come, first served, each with a deadline and its caller's signal.
// Whoever leaves gets an address or a typed cause, never silence. Bounded.

import type { Cause } from '../base/causes.ts';
import type { Clock } from '../base/clock.ts';
import { PodwayError } from '../base/errors.ts';
import { type GivenLease, type Owner, type OwnerKey, ownerKey } from './state.ts';

/** More than any instance type takes pods: beyond this a runtime is asking in a loop. */
const MAX_WAITING = 1024;
/** Causes at which waiting is of no use: only a DEL or an operator ends them. */
const HOPELESS: readonly Cause[] = ['ADDRESS_LIMIT', 'ENI_LIMIT'];

/**
 * The limit by the pool's own count, which it names. When it is EC2 alone that says so, EC2 has what the pool does not
 * know of (a kill fell between a call and its record), and the describe that follows brings it.
 */
const isHopeless = (error: PodwayError): boolean =>
  HOPELESS.includes(error.code) && error.details.limit !== undefined;

type Waiter = {
  owner: Owner;
  since: number;
  deadline: number;
  resolve: (lease: GivenLease) => void;
  reject: (error: unknown) => void;
  detach: () => void;
};

export class WaitingLine {
  #waiters: Waiter[] = [];
  /** When the next look for lasting causes is due. */
  #nextLook = Number.POSITIVE_INFINITY;
  readonly #clock: Clock;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  get size(): number {
    return this.#waiters.length;
  }

  has(key: OwnerKey): boolean {
    return this.#waiters.some((one) => ownerKey(one.owner) === key);
  }

  list(): { owner: Owner; since: number }[] {
    return this.#waiters.map(({ owner, since }) => ({ owner, since }));
  }

  join(owner: Owner, waitMs: number, signal?: AbortSignal): Promise<GivenLease> {
    if (this.#waiters.length >= MAX_WAITING) {
      const message = `${this.#waiters.length} pods of ${MAX_WAITING} wait for an address already`;
      throw new PodwayError('POOL_GROWING', message, { has: this.#waiters.length, limit: MAX_WAITING });
    }
    const since = this.#clock.now();
    return new Promise((resolve, reject) => {
      const onAbort = () => this.leave(ownerKey(owner), signal?.reason);
      const detach = () => signal?.removeEventListener('abort', onAbort);
      signal?.addEventListener('abort', onAbort, { once: true });
      this.#waiters.push({ owner, since, deadline: since + waitMs, resolve, reject, detach });
    });
  }

  /** Takes somebody out of the line, who gets `reason`. */
  leave(key: OwnerKey, reason: unknown): void {
    const waiter = this.#waiters.find((one) => ownerKey(one.owner) === key);
    if (waiter) this.#refuseOne(waiter, reason);
  }

  /** Gives addresses to the first in line until there are no more. */
  serve(give: (owner: Owner) => GivenLease | null): void {
    for (let first = this.#waiters[0]; first; first = this.#waiters[0]) {
      let lease: GivenLease | null;
      try {
        lease = give(first.owner);
      } catch (error) {
        this.#refuseOne(first, error);
        continue;
      }
      if (!lease) return;
      this.#waiters.shift();
      first.detach();
      first.resolve(lease);
    }
  }

  /**
   * Answers those who wait in vain: at a limit at once; after `lastingWaitMs` when a lasting cause has been met again
   * since they came; at their deadline with whatever the cause is then.
   */
  refuse(
    diagnose: (position: number, since: number) => PodwayError,
    lastFailure: (cause: Cause) => number | undefined,
    lastingWaitMs: number,
  ): void {
    const now = this.#clock.now();
    this.#nextLook = Number.POSITIVE_INFINITY;
    for (let position = 0; position < this.#waiters.length; ) {
      const waiter = this.#waiters[position]!;
      const error = diagnose(position, waiter.since);
      const patience = waiter.since + lastingWaitMs;
      const metAgain = (lastFailure(error.code) ?? 0) >= waiter.since && now >= patience;
      if (now >= waiter.deadline || isHopeless(error) || (!error.transient && metAgain)) {
        this.#refuseOne(waiter, error);
        continue;
      }
      if (!error.transient && patience > now) this.#nextLook = Math.min(this.#nextLook, patience);
      position++;
    }
  }

  nextDeadline(): number {
    return this.#waiters.reduce((least, one) => Math.min(least, one.deadline), this.#nextLook);
  }

  /** Refuses all. */
  dissolve(reason: unknown): void {
    for (const waiter of [...this.#waiters]) this.#refuseOne(waiter, reason);
  }

  #refuseOne(waiter: Waiter, reason: unknown): void {
    this.#waiters = this.#waiters.filter((one) => one !== waiter);
    waiter.detach();
    waiter.reject(reason);
  }
}
