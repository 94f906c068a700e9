// What a simulated node needs of an allocator, and the node's kubelet, which asks it for each pod's address and asks again
// when it fails, as kubelet does.
import { asPodwayError } from '../base/errors.ts';
import type { SimClock } from './clock.ts';
import type { Meter } from './meter.ts';
import type { Random } from './random.ts';

export interface Allocator {
  /** null: the pod has its address. A promise: it waits for one; a rejection is a PodwayError. */
  give(pod: string): Promise<unknown> | null;
  /** The pod will start here. */
  bound(pod: string): void;
  /** The pod has gone, whether it had an address, waited for one or was only bound. */
  remove(pod: string): void;
  /** The node is gone. */
  end(): void;
}

/**
 * After a sandbox that failed kubelet tries again 10 to 15 s later (backOffPeriod, workerBackOffPeriodJitterFactor in
 * kubernetes/kubernetes pkg/kubelet).
 */
const AGAIN_MS = 10_000;
const AGAIN_JITTER = 0.5;

type Waiting = { since: number; cause: string };

/** A node whose instance EC2 cannot start: its pods wait. */
export const notUp = (error: unknown): Allocator => ({
  give: () => Promise.reject(error),
  bound: () => {},
  remove: () => {},
  end: () => {},
});

export class Kubelet {
  readonly #held = new Set<string>();
  readonly #waiting = new Map<string, Waiting>();
  allocator: Allocator = notUp(new Error('the node does not run yet'));
  readonly #o: { clock: SimClock; meter: Meter; random: Random };

  constructor(options: { clock: SimClock; meter: Meter; random: Random }) {
    this.#o = options;
  }

  bound(pod: string): void {
    this.allocator.bound(pod);
  }

  start(pod: string): void {
    const waiting = { since: this.#o.clock.now(), cause: 'POOL_GROWING' };
    this.#waiting.set(pod, waiting);
    this.#ask(pod, waiting);
  }

  stop(pod: string): void {
    const { meter, clock } = this.#o;
    const waiting = this.#waiting.get(pod);
    if (waiting) {
      this.#waiting.delete(pod);
      meter.noteWait(clock.now() - waiting.since);
      meter.noteFailed(waiting.cause);
    }
    if (this.#held.delete(pod)) meter.noteHeld(-1);
    this.allocator.remove(pod);
  }

  /** Pods that still wait have failed. */
  end(): void {
    for (const pod of [...this.#waiting.keys()]) this.stop(pod);
    for (const _ of this.#held) this.#o.meter.noteHeld(-1);
    this.#held.clear();
    this.allocator.end();
  }

  #ask(pod: string, waiting: Waiting): void {
    const given = this.allocator.give(pod);
    if (given === null) this.#served(pod, waiting);
    given?.then(
      () => this.#served(pod, waiting),
      (error) => {
        if (this.#waiting.get(pod) !== waiting) return;
        waiting.cause = asPodwayError(error).code;
        const pause = AGAIN_MS * (1 + AGAIN_JITTER * this.#o.random());
        this.#o.clock.in(pause, () => this.#waiting.get(pod) === waiting && this.#ask(pod, waiting));
      },
    );
  }

  #served(pod: string, waiting: Waiting): void {
    const { meter, clock } = this.#o;
    // The pod has gone meanwhile: its address was released with it.
    if (this.#waiting.get(pod) !== waiting) return;
    this.#waiting.delete(pod);
    this.#held.add(pod);
    meter.noteHeld(1);
    meter.noteWait(clock.now() - waiting.since);
  }
}
