// Puts our taints and the condition on Nodes as `plan.ts` decides, one node at a time, at a bounded rate. A write names the
// version of the Node that was read, so that nobody else's taint is lost; what is refused is looked at again when the API
// tells of the node. Everything is decided anew at the start of each term, so a taint that was true when a leader died is
// wrong no longer than until the next one leads. Never throws.
import { type Clock, rfc3339, systemClock } from '../../base/clock.ts';
import type { Log } from '../../base/log.ts';
import {
  type EventRecorder,
  isConflict,
  isNotFound,
  type KubeClient,
  NO_ADDRESS_TAINT,
  NOT_READY_TAINT,
  nodes,
  type Taint,
} from '../../kube/index.ts';
import type { ControllerMetrics } from '../metrics.ts';
import type { ClusterView, NodeView } from '../view.ts';
import { decide, LASTING_MS, type Word } from './plan.ts';

/** Of all nodes together: what a cluster's API takes from a controller without noticing. */
const AT_ONCE = 8;
/** Of one node: writes at once, and how long (ms) until one more. */
const BURST = 12;
const REFILL_MS = 3_000;
/** After a write that failed (ms). */
const AGAIN_MS = 1_000;

type Kept = { outSince: number | null; tokens: number; filledAt: number };

export type TaintKeeperOptions = {
  view: Pick<ClusterView, 'nodes' | 'podwayNodes' | 'onChange'>;
  client: Pick<KubeClient, 'patch'>;
  events: Pick<EventRecorder, 'record'>;
  isLeading: () => boolean;
  /** True while EC2 has said that the node's subnet has an address again, and the agent has not tried yet. */
  hasChance: (name: string) => boolean;
  metrics: Pick<ControllerMetrics, 'taints'>;
  log: Log;
  clock?: Clock;
};

export class TaintKeeper {
  readonly #o: TaintKeeperOptions;
  readonly #clock: Clock;
  readonly #kept = new Map<string, Kept>();
  /** Names to look at, and when (ms). */
  readonly #due = new Map<string, number>();
  readonly #busy = new Set<string>();
  #wake: () => void = () => {};

  constructor(options: TaintKeeperOptions) {
    this.#o = options;
    this.#clock = options.clock ?? systemClock;
    options.view.onChange((names) => {
      for (const name of names) this.look(name);
    });
  }

  /** Decides on this node again. */
  look(name: string, at = this.#clock.now()): void {
    const known = this.#due.get(name);
    if (known === undefined || at < known) this.#due.set(name, at);
    this.#wake();
  }

  /** Ends when `signal` aborts. */
  async keep(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      const now = this.#clock.now();
      for (const [name, at] of this.#due) {
        if (at > now || this.#busy.has(name)) continue;
        if (this.#busy.size >= AT_ONCE) break;
        this.#due.delete(name);
        this.#busy.add(name);
        void this.#settle(name, signal).finally(() => {
          this.#busy.delete(name);
          this.#wake();
        });
      }
      await this.#rest(signal);
    }
  }

  /** Until something is due or has changed. */
  async #rest(signal: AbortSignal): Promise<void> {
    const free = this.#busy.size < AT_ONCE;
    const waiting = [...this.#due].filter(([name]) => free && !this.#busy.has(name)).map(([, at]) => at);
    const ms = Math.min(60_000, ...waiting.map((at) => at - this.#clock.now()));
    if (ms <= 0) return;
    const woken = new AbortController();
    this.#wake = () => woken.abort();
    await this.#clock.sleep(ms, AbortSignal.any([signal, woken.signal])).catch(() => undefined);
    this.#wake = () => {};
  }

  async #settle(name: string, signal: AbortSignal): Promise<void> {
    const { view, isLeading, hasChance } = this.#o;
    const node = view.nodes.get(name);
    if (!node) {
      this.#kept.delete(name);
      return;
    }
    const now = this.#clock.now();
    const kept = this.#kept.get(name) ?? { outSince: null, tokens: BURST, filledAt: now };
    this.#kept.set(name, kept);
    const own = view.podwayNodes.get(name);
    const context = { outSince: kept.outSince, hasChance: hasChance(name), now };
    const { taints, condition, isOut } = decide(node, own, context);
    if (isOut && kept.outSince === null) this.look(name, now + LASTING_MS);
    kept.outSince = isOut ? (kept.outSince ?? now) : null;
    if (taints === null && condition === null) return;
    kept.tokens = Math.min(BURST, kept.tokens + (now - kept.filledAt) / REFILL_MS);
    kept.filledAt = now;
    if (kept.tokens < 1) return this.look(name, now + REFILL_MS);
    kept.tokens -= 1;
    if (!isLeading()) return;
    try {
      if (taints) await this.#taint(name, node, taints, signal);
      if (condition) await this.#say(name, node, condition, signal);
    } catch (error) {
      if (signal.aborted || isNotFound(error)) return;
      const level = isConflict(error) ? 'debug' : 'warn';
      this.#o.log[level]({ node: name, error: (error as Error).message }, 'a taint is not written yet');
      this.look(name, this.#clock.now() + AGAIN_MS);
    }
  }

  async #taint(name: string, node: NodeView, taints: readonly Taint[], signal: AbortSignal): Promise<void> {
    const { client, log, metrics } = this.#o;
    const { resourceVersion } = node.metadata;
    const patch = { metadata: { resourceVersion }, spec: { taints: taints.length > 0 ? taints : null } };
    const written = await client.patch(nodes, name, undefined, patch, {}, signal);
    // What comes next is decided on what was written, also before the watch tells it.
    node.metadata.resourceVersion = written.metadata.resourceVersion!;
    const before = node.spec?.taints ?? [];
    node.spec = { ...node.spec, taints: [...taints] };
    for (const taint of [NOT_READY_TAINT, NO_ADDRESS_TAINT]) {
      const [was, is] = [before, taints].map((list) => list.some(({ key }) => key === taint));
      if (was === is) continue;
      metrics.taints.inc({ taint, change: is ? 'on' : 'off' });
      log.info({ node: name, taint }, is ? 'put a taint on a node' : 'took a taint off a node');
    }
  }

  async #say(name: string, node: NodeView, word: Word, signal: AbortSignal): Promise<void> {
    const { client, events } = this.#o;
    const known = node.conditions.find(({ type }) => type === word.type);
    const now = rfc3339(this.#clock.now());
    const since = known?.status === word.status ? (known.lastTransitionTime ?? now) : now;
    const condition = { ...word, lastHeartbeatTime: now, lastTransitionTime: since };
    const options = { type: 'strategic', subresource: 'status' } as const;
    const patch = { status: { conditions: [condition] } };
    const written = await client.patch(nodes, name, undefined, patch, options, signal);
    node.metadata.resourceVersion = written.metadata.resourceVersion!;
    node.conditions = [...node.conditions.filter(({ type }) => type !== word.type), condition];
    const isOut = word.status === 'False';
    const regarding = { apiVersion: 'v1', kind: 'Node', name, uid: name };
    events.record(
      regarding,
      isOut ? 'Warning' : 'Normal',
      isOut ? 'NoAddress' : 'AddressAvailable',
      word.message,
    );
  }
}
