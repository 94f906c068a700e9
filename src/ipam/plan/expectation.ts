// What the pool is asked for: pods that wait now, and those that the forecast expects from the node's own use and from the
// pods bound to it. Invariant: a bound pod is expected once, until it asks for its address or comes no more.

import type { Core } from '../core.ts';
import type { Demand } from '../policy.ts';
import type { Owner } from '../state.ts';
import { slotsPerEni } from './aim.ts';
import { censusOf, givingNow, usesPrefixes } from './census.ts';
import { expectedFree, expectedRoom, type Forecast, nextSlot, observe } from './forecast.ts';

const nameOf = ({ pod }: Owner): string => (pod ? `${pod.namespace}/${pod.name}` : '');

export class Expectation {
  readonly #core: Core;
  #forecast: Forecast | null = null;
  /** Pods that are bound to the node and have not asked for an address yet, as NAMESPACE/NAME. */
  readonly #bound = new Set<string>();

  constructor(core: Core) {
    this.#core = core;
  }

  expectPod(pod: string): void {
    if (this.#bound.has(pod)) return;
    for (const { owner } of this.#core.leases.values()) if (nameOf(owner) === pod) return;
    this.#bound.add(pod);
    this.#core.kick();
  }

  expectNoMore(pod: string): void {
    if (this.#bound.delete(pod)) this.#core.kick();
  }

  /** Pods that are bound to the node and have not asked yet. */
  get coming(): number {
    return this.#bound.size;
  }

  /** The owner asks now. */
  noteCame(owner: Owner): void {
    if (this.#bound.size > 0) this.#bound.delete(nameOf(owner));
  }

  /** Looking is what the forecast learns from. */
  demand(waiting: number, now: number): Demand {
    const { state, policy, limits } = this.#core;
    const { targets } = policy;
    // Before the first describe the pool's size is not known.
    if (targets.kind !== 'forecast' || state.enis.size === 0) return { waiting };
    const { totals, counted } = censusOf(state, now, givingNow(this.#core));
    const { held, cooling, incoming } = totals;
    const usage = { held, cooling, waiting, available: counted + incoming };
    this.#forecast = observe(this.#forecast, usage, now);
    const perEni = slotsPerEni(limits);
    const context = { bound: this.#bound.size, goals: targets, perEni, now };
    const expected = expectedFree(this.#forecast, usage, context);
    // A slot with a prefix has room for sixteen pods.
    if (usesPrefixes(policy, limits)) return { waiting, expected };
    return {
      waiting,
      expected,
      room: Math.min(policy.podLimit, expectedRoom(this.#forecast, usage, perEni)),
    };
  }

  /** When the forecast changes by time alone. */
  dueAt(): number {
    if (!this.#forecast || this.#core.policy.targets.kind !== 'forecast') return Number.POSITIVE_INFINITY;
    return nextSlot(this.#forecast);
  }
}
