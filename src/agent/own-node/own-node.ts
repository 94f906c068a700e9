// Keeps the node's PodwayNode as its agent is. Lazily and at a bounded rate: what the scheduler must hear at once, counts
// once a minute; nothing at rest. Never on the way of an ADD. A cluster without the CustomResourceDefinition hears nothing
// and is asked again seldom. An object that somebody deleted comes again. Never throws.
import { isDeepStrictEqual } from 'node:util';
import { type Clock, systemClock } from '../../base/clock.ts';
import type { Log } from '../../base/log.ts';
import type { GrantedCalls, KubeClient, PodwayNode, PodwayNodeSpec } from '../../kube/index.ts';
import { type Report, statusOf, type Urgency, urgencyOf } from './report.ts';

type Kube = Pick<typeof import('../../kube/index.ts'), 'podwayNodes' | 'isNotFound' | 'follow' | 'KubeError'>;

/** Between two looks at the pool (ms). */
const LOOK_MS = 1_000;
/** Since the last write, by urgency (ms); `seldom` is up to half longer. */
const AFTER: Readonly<Record<Urgency, number>> = {
  'at once': 0,
  soon: 5_000,
  seldom: 60_000,
  never: Number.POSITIVE_INFINITY,
};
/** Writes at once, and how long (ms) until one more: a node that flaps is heard later, not never. */
const BURST = 6;
const REFILL_MS = 3_000;
/** How long a first word waits for the API to tell which Node this is (ms): without it a second one follows at once. */
const NODE_MS = 5_000;
/** Without the definition or the right to write (ms, up to half longer). */
const ABSENT_MS = 600_000;
/** After a failure (ms): the first pause, doubled up to the last; each up to half longer. */
const FIRST_WAIT = 1_000;
const LAST_WAIT = 60_000;
const MOST_FORMER = 16;

export type OwnNodeOptions = {
  nodeName: string;
  client: KubeClient;
  kube: Kube;
  /** Null while there is nothing to say. */
  report: () => Report | null;
  /** What the controller grants; null: nothing. */
  onGranted: (granted: GrantedCalls | null) => void;
  log: Log;
  clock?: Clock;
};

export class OwnNode {
  readonly #o: OwnNodeOptions;
  readonly #clock: Clock;
  /** As it was last read or written; null: not known to exist. */
  #known: PodwayNode | null = null;
  #said: Report | null = null;
  #tokens = BURST;
  #filledAt = 0;
  #wroteAt = Number.NEGATIVE_INFINITY;
  #beganAt = 0;
  #late = 1;
  #blockedUntil = Number.NEGATIVE_INFINITY;
  #wait = FIRST_WAIT;
  #isFollowing = false;

  constructor(options: OwnNodeOptions) {
    this.#o = options;
    this.#clock = options.clock ?? systemClock;
  }

  async keep(signal: AbortSignal): Promise<void> {
    this.#beganAt = this.#clock.now();
    while (!signal.aborted) {
      const report = this.#o.report();
      if (report && this.#isDue(report)) await this.#write(report, signal);
      await this.#clock.sleep(LOOK_MS, signal).catch(() => undefined);
    }
  }

  #isDue(report: Report): boolean {
    const now = this.#clock.now();
    if (now < this.#blockedUntil) return false;
    if (this.#said === null && report.nodeUID === null && now - this.#beganAt < NODE_MS) return false;
    this.#tokens = Math.min(BURST, this.#tokens + (now - this.#filledAt) / REFILL_MS);
    this.#filledAt = now;
    const urgency = urgencyOf(this.#known === null ? null : this.#said, report);
    const after = AFTER[urgency] * (urgency === 'seldom' ? this.#late : 1);
    return this.#tokens >= 1 && now - this.#wroteAt >= after;
  }

  async #write(report: Report, signal: AbortSignal): Promise<void> {
    const { kube, log } = this.#o;
    this.#tokens -= 1;
    this.#wroteAt = this.#clock.now();
    this.#late = 1 + Math.random() / 2;
    try {
      await this.#put(report, signal);
      this.#said = report;
      this.#wait = FIRST_WAIT;
      this.#follow(signal);
    } catch (error) {
      if (signal.aborted) return;
      this.#known = null;
      const code = error instanceof kube.KubeError ? error.code : 0;
      // No definition, or no right: a cluster whose operator wants none of it.
      const pause = code === 404 || code === 403 ? ABSENT_MS : this.#wait;
      if (pause === this.#wait) this.#wait = Math.min(this.#wait * 2, LAST_WAIT);
      this.#blockedUntil = this.#clock.now() + pause * (1 + Math.random() / 2);
      log.debug({ error: String(error) }, 'the PodwayNode is not written');
    }
  }

  async #put(report: Report, signal: AbortSignal): Promise<void> {
    const { client, kube, nodeName } = this.#o;
    const { podwayNodes } = kube;
    if (this.#known === null) {
      try {
        this.#known = await client.get(podwayNodes, nodeName, undefined, signal);
      } catch (error) {
        if (!kube.isNotFound(error)) throw error;
        const metadata = { name: nodeName };
        this.#known = await client.create(podwayNodes, { metadata, spec: report.spec }, undefined, signal);
      }
    }
    const before = this.#known.spec;
    if (before !== undefined && before.instanceId !== report.spec.instanceId) {
      // Whoever had the name before: its ENIs are looked for until they are seen gone.
      const { instanceId, cluster = '' } = before;
      const former = [...(before.former ?? []), { instanceId, cluster }]
        .filter((one) => one.instanceId !== report.spec.instanceId)
        .slice(-MOST_FORMER);
      const next = { ...this.#known, spec: { ...report.spec, former } };
      this.#known = await client.update(podwayNodes, next, signal);
    } else if (!isSame(before, report.spec)) {
      const patch = { spec: report.spec };
      this.#known = await client.patch(podwayNodes, nodeName, undefined, patch, {}, signal);
    }
    const status = statusOf(report, this.#known.status, this.#clock.now());
    const options = { subresource: 'status' } as const;
    this.#known = await client.patch(podwayNodes, nodeName, undefined, { status }, options, signal);
  }

  /** From the first write on: what the controller grants, and whether the object is still there. */
  #follow(signal: AbortSignal): void {
    if (this.#isFollowing) return;
    this.#isFollowing = true;
    const { client, kube, nodeName, onGranted } = this.#o;
    void kube.follow(
      client,
      kube.podwayNodes,
      {
        fieldSelector: `metadata.name=${nodeName}`,
        keep: ({ status }) => status?.ec2?.granted ?? null,
        onAway: () => {},
        onChange: (kept) => {
          const granted = kept.get(nodeName);
          if (granted === undefined) this.#known = null;
          onGranted(granted ?? null);
        },
      },
      signal,
    );
  }
}

/** Whether the object says what is to be said: the API answers fields in an order of its own. */
function isSame({ former: _, ...before }: Partial<PodwayNodeSpec> = {}, spec: PodwayNodeSpec): boolean {
  return isDeepStrictEqual(before, spec);
}
