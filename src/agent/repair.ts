// Makes the kernel what the node's state says, when asked and at an interval, and gives up what sandboxes left that are
// gone. A failure is kept as `broken` until a later repair succeeds; it never stops the loop.
import { systemClock } from '../base/clock.ts';
import { asPodwayError, type PodwayError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import type { Attachments } from './attachments.ts';
import type { NodeState } from './node-state.ts';

/** How often the kernel is compared with what should be there when nothing says that it changed. */
const REPAIR_INTERVAL_MS = 30_000;

export class Repair {
  readonly #o: { node: NodeState; attachments: Attachments; log: Log };
  #broken: PodwayError | null = null;

  constructor(options: { node: NodeState; attachments: Attachments; log: Log }) {
    this.#o = options;
  }

  /** Why the datapath is not as it should be, or null. */
  get broken(): PodwayError | null {
    return this.#broken;
  }

  async now(): Promise<void> {
    const { node, attachments, log } = this.#o;
    try {
      const report = await node.sync();
      this.#broken = null;
      for (const lease of await attachments.releaseVanished(new Set(report.missingPods))) {
        log.info({ ...lease.owner }, 'released the addresses of a sandbox that is gone');
      }
    } catch (thrown) {
      this.#broken = asPodwayError(thrown);
      log.error({ error: this.#broken.message }, 'the datapath is not as it should be');
    }
  }

  /** Until `signal` aborts. */
  async keep(signal: AbortSignal): Promise<void> {
    for (;;) {
      await systemClock.sleep(REPAIR_INTERVAL_MS, signal).catch(() => undefined);
      if (signal.aborted) return;
      await this.#o.node.learnVpc(signal);
      await this.now();
    }
  }
}
