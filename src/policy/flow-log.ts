// The connections that the kernel tells, as events, the last thousand of them: for `podway observe`. Invariant: an event
// has the number after the one before it; what a slow reader misses, it can count. Loaded where policies are in force and
// something is to be told. Never throws.
import type { Log } from '../base/log.ts';
import { NetlinkError } from '../kernel/errors.ts';
import type { Netns } from '../kernel/netns.ts';
import { watchPacketLog } from '../kernel/packet-log.ts';
import { FLOW_BYTES, FLOW_GROUP } from './end-chains.ts';
import { type FlowContext, type FlowEvent, flowEvent } from './flows.ts';

/** Events that are kept. */
const KEPT = 1_000;
/** Ms until the group is asked for again: the agent before may still have it. */
const AGAIN_MS = 1_000;

export type FlowLogOptions = {
  readonly netns: Netns;
  readonly log: Log;
  readonly context: () => FlowContext;
  /** Default FLOW_GROUP; tests have others. */
  readonly group?: number;
};

/** One more than the event before it, of this agent. */
export type NumberedFlow = FlowEvent & { number: number };

/** What `/v1/flows` answers. */
export type FlowPage = {
  events: NumberedFlow[];
  /** Number of the last event so far; ask for those after it. */
  last: number;
  /** Events between the asked number and the first one here that are kept no more. */
  missed: number;
};

export class FlowLog {
  readonly #o: FlowLogOptions;
  readonly #events: NumberedFlow[] = [];
  #last = 0;
  #overrun = 0;
  #watch: { close(): void } | null = null;
  #timer: NodeJS.Timeout | null = null;
  #closed = false;
  #more = Promise.withResolvers<void>();

  constructor(options: FlowLogOptions) {
    this.#o = options;
    this.#open();
  }

  /** Events so far, and times that the socket's buffer was full. */
  get counts(): { told: number; overrun: number } {
    return { told: this.#last, overrun: this.#overrun };
  }

  /** The events after number `after`; waits up to `waitMs` for the first one. */
  async after(after: number, waitMs: number): Promise<FlowPage> {
    // A reader of the agent before begins anew.
    const from = after > this.#last ? 0 : after;
    if (from === this.#last && waitMs > 0) {
      const late = Promise.withResolvers<void>();
      const timer = setTimeout(late.resolve, waitMs);
      await Promise.race([this.#more.promise, late.promise]);
      clearTimeout(timer);
    }
    const wanted = this.#last - from;
    const events = wanted === 0 ? [] : this.#events.slice(-wanted);
    return { events, last: this.#last, missed: Math.max(0, wanted - events.length) };
  }

  #open(): void {
    const { netns, log, context, group = FLOW_GROUP } = this.#o;
    try {
      this.#watch = watchPacketLog(
        netns,
        { group, bytes: FLOW_BYTES },
        (packet) => {
          const event = flowEvent(packet, context());
          if (event) this.#put(event);
        },
        () => {
          this.#overrun++;
        },
      );
    } catch (error) {
      if (!(error instanceof NetlinkError && error.code === 'EBUSY'))
        log.warn({ error: (error as Error).message }, 'connections are not told: again soon');
      if (!this.#closed) this.#timer = setTimeout(() => this.#open(), AGAIN_MS).unref();
    }
  }

  #put(event: FlowEvent): void {
    this.#last++;
    this.#events.push({ number: this.#last, ...event });
    // In one piece, seldom: a shift for each event would move all others.
    if (this.#events.length > KEPT * 2) this.#events.splice(0, this.#events.length - KEPT);
    const { resolve } = this.#more;
    this.#more = Promise.withResolvers();
    resolve();
  }

  close(): void {
    this.#closed = true;
    if (this.#timer) clearTimeout(this.#timer);
    this.#watch?.close();
    this.#more.resolve();
  }
}
