// The line of pods that wait for an address: first come, first served, each with a deadline and its caller's signal.
// Every waiting pod gets an address or a typed cause. Bounded.

import type { Cause } from '../base/causes.ts';
import type { Clock } from '../base/clock.ts';
import { PodwayError } from '../base/errors.ts';
import { type GivenLease, type Owner, type OwnerKey, ownerKey } from './state.ts';

/** More than any instance type's pods: a longer line means that a runtime asks in a loop. */
const MAX_WAITING = 1024;
/** Causes that only a DEL or an operator ends, so that waiting is of no use. */
const HOPELESS: readonly Cause[] = ['ADDRESS_LIMIT', 'ENI_LIMIT'];

/**
 * True when the pool's own count is at the limit (`limit` is set) and no address is in a quarantine that may end
 * (`nextAt`). When only EC2 reports the limit, EC2 has addresses that the pool does not know (a kill between a call and
 * its record), and the next describe brings them.
 */
const isHopeless = ({ code, details }: PodwayError): boolean =>
  HOPELESS.includes(code) && details.limit !== undefined && details.nextAt === undefined;

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
      throw new PodwayError('POOL_GROWING', message, {
        object: ownerKey(owner),
        has: this.#waiters.length,
        limit: MAX_WAITING,
      });
    }
    const since = this.#clock.now();
    return new Promise((resolve, reject) => {
      const onAbort = () => this.leave(ownerKey(owner), signal?.reason);
      const detach = () => signal?.removeEventListener('abort', onAbort);
      signal?.addEventListener('abort', onAbort, { once: true });
      this.#waiters.push({ owner, since, deadline: since + waitMs, resolve, reject, detach });
    });
  }

  /** Removes a pod from the line and rejects its wait with `reason`. */
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
   * Refuses pods that wait in vain: at once at a limit; after `lastingWaitMs` when a lasting cause was met again since
   * they came; at their deadline with the cause at that time.
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
