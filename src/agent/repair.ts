// Repairs the kernel's state after changes by others: at once where the kernel notifies, within seconds for settings
// without notification, and everything at an interval. Invariant: it waits for the kernel only, never for IMDS or EC2.
// A failure is kept as `broken` until a full comparison succeeds; it never stops the loop, and is retried soon.
import { systemClock } from '../base/clock.ts';
import { asPodwayError, type PodwayError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import type { Datapath } from '../datapath/datapath.ts';
import { ALL_PARTS, type Part } from '../datapath/parts.ts';
import type { SyncReport } from '../datapath/types.ts';
import type { LostLinks } from './lost-links.ts';
import type { NodeState } from './node-state.ts';
import type { Tell } from './tell.ts';

/** Ms between comparisons of settings that change without notification (arp_ignore, src_valid_mark, accept_ra, …). */
const SILENT_INTERVAL_MS = 5_000;
/** A full comparison runs every this many settings intervals, even without a notification. */
const FULL_EVERY = 6;
/** After a failure; each next one doubles it, up to RETRY_MOST_MS. */
const RETRY_MS = 50;
const RETRY_MOST_MS = 1_000;

export type RepairOptions = {
  node: NodeState;
  datapath: Datapath;
  lostLinks: LostLinks;
  log: Log;
  tell: Tell;
  /** A link has come that is neither a pod's nor a known ENI's. */
  onStrangeLink: () => void;
};

export class Repair {
  readonly #o: RepairOptions;
  readonly #stop: AbortSignal;
  readonly #pending = new Set<Part>();
  #isLooking = false;
  /** When the requested full comparison is due (ms, monotonic). */
  #laterAt = Number.POSITIVE_INFINITY;
  #broken: PodwayError | null = null;
  /** In a row. */
  #failures = 0;

  /** Watches the kernel until `signal` aborts. */
  constructor(options: RepairOptions, signal: AbortSignal) {
    this.#o = options;
    this.#stop = signal;
    const watch = options.datapath.watch((parts) => this.soon(parts), options.onStrangeLink);
    signal.addEventListener('abort', () => watch.close(), { once: true });
  }

  /** The last failure to repair the datapath, or null. */
  get broken(): PodwayError | null {
    return this.#broken;
  }

  /** Makes the kernel as the node's present state says. */
  async now(): Promise<void> {
    if (await this.#look(() => this.#o.node.sync())) this.#broken = null;
  }

  /** Compares these parts on the next turn; requests that come while one runs share the next one. */
  soon(parts: Iterable<Part>): void {
    for (const part of parts) this.#pending.add(part);
    if (this.#isLooking || this.#pending.size === 0) return;
    this.#isLooking = true;
    void this.#lookAtPending();
  }

  /** Compares at intervals until `signal` aborts. */
  async keep(signal: AbortSignal): Promise<void> {
    for (let turn = 1; ; turn++) {
      void this.#learnVpc(turn, signal);
      await systemClock.sleep(SILENT_INTERVAL_MS, signal).catch(() => undefined);
      if (signal.aborted) return;
      if (turn % FULL_EVERY === 0) await this.now();
      else this.soon(['sysctls']);
      await this.#lookAround(turn);
    }
  }

  /** Runs beside the repairs, which do not wait for it: IMDS may be slow. */
  async #learnVpc(turn: number, signal: AbortSignal): Promise<void> {
    if (turn % FULL_EVERY === 1 && (await this.#o.node.learnVpc(signal)) && !signal.aborted) await this.now();
  }

  /** Reads pods' ends and reports obstacles (foreign chains and programs); no repair waits for it. Never rejects. */
  async #lookAround(turn: number): Promise<void> {
    const { datapath, lostLinks, tell, log } = this.#o;
    try {
      if (turn % FULL_EVERY === 1)
        for (const text of await datapath.obstacles()) tell({ kind: 'obstacle', object: text, text });
      await lostLinks.learn();
    } catch (error) {
      if (!this.#stop.aborted)
        log.warn({ error: (error as Error).message }, 'the node could not be looked at in full');
    }
  }

  async #lookAtPending(): Promise<void> {
    while (this.#pending.size > 0 && !this.#stop.aborted) {
      const parts = [...this.#pending];
      this.#pending.clear();
      const isWhole = parts.length === ALL_PARTS.length;
      if ((await this.#look(() => this.#o.node.repair(parts))) && isWhole) this.#broken = null;
    }
    this.#isLooking = false;
  }

  /** False when it failed. Never rejects. */
  async #look(sync: () => Promise<SyncReport>): Promise<boolean> {
    const { lostLinks, log } = this.#o;
    try {
      const report = await sync();
      const again = await lostLinks.restore(report.missingPods);
      for (const at of [report.retryAt, again]) if (at !== null) this.#later(at - performance.now());
      this.#failures = 0;
      return true;
    } catch (thrown) {
      if (this.#stop.aborted) return false;
      this.#broken = asPodwayError(thrown);
      log.error({ error: this.#broken.message }, 'the datapath is not as it should be');
      this.#later(Math.min(RETRY_MS * 2 ** this.#failures++, RETRY_MOST_MS));
      return false;
    }
  }

  /** Schedules a full comparison after `ms`, unless one is due earlier. */
  #later(ms: number): void {
    const at = performance.now() + Math.max(0, ms);
    if (at >= this.#laterAt) return;
    this.#laterAt = at;
    const look = () => {
      if (this.#laterAt !== at) return;
      this.#laterAt = Number.POSITIVE_INFINITY;
      this.soon(ALL_PARTS);
    };
    systemClock.sleep(Math.max(0, ms), this.#stop).then(look, () => undefined);
  }
}
