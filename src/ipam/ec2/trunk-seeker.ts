// Asks EC2 at once whether the node's trunk has come, when something says so: a new link, a pod's branch. Bounded: one
// describe at a time, the next after 0.5 s, doubled up to 8 s while none is found; a minute without a question forgets
// that.
import { Alarm } from '../../base/alarm.ts';
import type { Core } from '../core.ts';
import { type Trunk, trunkOf } from '../state.ts';
import type { Reconciler } from './reconcile.ts';

/** Between two describes (ms): the first pause, and the longest. */
const FIRST_PAUSE = 500;
const LAST_PAUSE = 8_000;
const FORGET = 60_000;
/** After a question it goes on looking so long (ms): EC2's describes lag. */
const GOES_ON = 10_000;

export class TrunkSeeker {
  readonly #core: Core;
  readonly #reconciler: Pick<Reconciler, 'now'>;
  /** Rung when the trunk is there. */
  readonly #found = new Alarm();
  #pause = FIRST_PAUSE;
  #notBefore = 0;
  #until = 0;
  #running: Promise<void> | null = null;

  constructor(core: Core, reconciler: Pick<Reconciler, 'now'>) {
    this.#core = core;
    this.#reconciler = reconciler;
  }

  /** Null while it looks for none. */
  get running(): Promise<void> | null {
    return this.#running;
  }

  /** `other`: the one that is known may be another by now. */
  seek(other = false): void {
    const { clock, state, signal } = this.#core;
    if ((trunkOf(state) !== null && !other) || signal.aborted) return;
    this.#until = clock.now() + GOES_ON;
    this.#running ??= this.#look().finally(() => {
      this.#running = null;
    });
  }

  /** The trunk, as soon as EC2 tells of it; null after `ms`. Throws the reason of `signal`. */
  async within(ms: number, signal: AbortSignal): Promise<Trunk | null> {
    const { clock } = this.#core;
    const end = clock.now() + ms;
    for (;;) {
      signal.throwIfAborted();
      const trunk = trunkOf(this.#core.state);
      if (trunk !== null || clock.now() >= end || this.#core.signal.aborted) return trunk;
      this.seek();
      const woken = AbortSignal.any([signal, this.#found.signal]);
      await clock.sleep(Math.min(end - clock.now(), GOES_ON), woken).catch(() => undefined);
    }
  }

  async #look(): Promise<void> {
    const { clock, signal } = this.#core;
    if (clock.now() > this.#notBefore + FORGET) this.#pause = FIRST_PAUSE;
    while (!signal.aborted) {
      const rest = this.#notBefore - clock.now();
      if (rest > 0) await clock.sleep(rest, signal).catch(() => undefined);
      if (signal.aborted) return;
      await this.#reconciler.now();
      this.#notBefore = clock.now() + this.#pause;
      this.#pause = Math.min(this.#pause * 2, LAST_PAUSE);
      if (trunkOf(this.#core.state) !== null) {
        this.#pause = FIRST_PAUSE;
        this.#found.ring();
        return;
      }
      if (clock.now() >= this.#until) return;
    }
  }
}
