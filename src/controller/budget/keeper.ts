// Grants nodes their part of the account's EC2 calls while they ask for more than there is, by their PodwayNodes. A grant
// ends by itself, so a controller that dies leaves each node its own share again. Nothing is written while the asks fit.
// Never throws.
import { type Clock, systemClock } from '../../base/clock.ts';
import type { Log } from '../../base/log.ts';
import {
  type AskedCalls,
  type GrantedCalls,
  isNotFound,
  type KubeClient,
  type PodwayNode,
  podwayNodes,
} from '../../kube/index.ts';
import type { ControllerMetrics } from '../metrics.ts';
import type { ClusterView } from '../view.ts';
import { share } from './share.ts';

/** Between two looks (ms). */
const LOOK_MS = 2_000;
/** How long a grant holds, and after how long (ms) it is given again. */
const HOLDS_SECONDS = 90;
const AGAIN_MS = 40_000;
/** A grant that would change by less than this share is left. */
const CHANGE = 0.25;
const AT_ONCE = 8;

export type Rates = { readonly reads: number; readonly changes: number };

/** Calls that the controller itself makes for nodes, for which no PodwayNode asks. */
export type OwnCalls = {
  /** Calls a second, and on how many nodes pods wait for them; null: none. */
  asked(): (Rates & { nodesWaiting: number }) | null;
  /** At most this for `ms`; null: no bound. */
  grant(rates: Rates | null, ms: number): void;
};

export type BudgetKeeperOptions = {
  view: Pick<ClusterView, 'isWhole' | 'podwayNodes'>;
  client: Pick<KubeClient, 'patch'>;
  /** Of the account, for all nodes together (calls per second). */
  budget: Rates;
  own: OwnCalls;
  isLeading: () => boolean;
  metrics: Pick<ControllerMetrics, 'asked' | 'granted'>;
  log: Log;
  clock?: Clock;
};

export class BudgetKeeper {
  readonly #o: BudgetKeeperOptions;
  readonly #clock: Clock;
  /** When each node's grant was written (ms). */
  readonly #wroteAt = new Map<string, number>();
  #round = 0;

  constructor(options: BudgetKeeperOptions) {
    this.#o = options;
    this.#clock = options.clock ?? systemClock;
  }

  /** Ends when `signal` aborts. */
  async keep(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      await this.#look(signal).catch((error: unknown) => {
        if (!signal.aborted) this.#o.log.warn({ error: String(error) }, 'EC2 calls are not shared out');
      });
      await this.#clock.sleep(LOOK_MS, signal).catch(() => undefined);
    }
  }

  async #look(signal: AbortSignal): Promise<void> {
    const { view, budget, own, isLeading, metrics } = this.#o;
    if (!view.isWhole || !isLeading()) return;
    const asks = [...asksOf(view.podwayNodes), ...ownAsks(own.asked())];
    const wanted = grantsOf(asks, budget);
    const ours = [...wanted].filter(([name]) => isOwn(name)).map(([, rates]) => rates);
    own.grant(ours.length > 0 ? sumOf(ours) : null, HOLDS_SECONDS * 1_000);
    const now = this.#clock.now();
    const due: [string, Rates | null][] = [];
    for (const [name, { status }] of view.podwayNodes) {
      const granted = status?.ec2?.granted ?? null;
      const next = wanted.get(name) ?? null;
      if (next === null) this.#wroteAt.delete(name);
      const isOld = now - (this.#wroteAt.get(name) ?? Number.NEGATIVE_INFINITY) >= AGAIN_MS;
      if (next === null ? granted !== null : isOld || isOther(granted, next)) due.push([name, next]);
    }
    const [asked, granted] = [sumOf(asks.map(([, ask]) => ask)), sumOf([...wanted.values()])];
    for (const kind of ['reads', 'changes'] as const) {
      metrics.asked.set({ kind }, asked[kind]);
      metrics.granted.set({ kind }, granted[kind]);
    }
    if (due.length > 0) this.#round++;
    for (let at = 0; at < due.length && !signal.aborted; at += AT_ONCE)
      await Promise.all(due.slice(at, at + AT_ONCE).map(([name, next]) => this.#write(name, next, signal)));
  }

  async #write(name: string, rates: Rates | null, signal: AbortSignal): Promise<void> {
    const granted = rates && { ...rates, seconds: HOLDS_SECONDS, round: this.#round };
    const options = { subresource: 'status' } as const;
    try {
      const patch = { status: { ec2: { granted } } };
      await this.#o.client.patch(podwayNodes, name, undefined, patch, options, signal);
      this.#wroteAt.set(name, this.#clock.now());
    } catch (error) {
      if (!isNotFound(error)) throw error;
    }
  }
}

function asksOf(owns: ReadonlyMap<string, PodwayNode>): Map<string, AskedCalls> {
  const asks = new Map<string, AskedCalls>();
  for (const [name, { status }] of owns) {
    const asked = status?.ec2?.asked;
    if (asked) asks.set(name, asked);
  }
  return asks;
}

/** Below this (calls a second) the controller asks for nothing, as a node. */
const LEAST_ASKED = 0.5;
const OWN = 'controller/';
const isOwn = (name: string): boolean => name.startsWith(OWN);

/** The controller works for as many nodes as have pods that wait: it asks as they would. */
export function ownAsks(asked: ReturnType<OwnCalls['asked']>): [string, AskedCalls][] {
  if (!asked || Math.max(asked.reads, asked.changes) < LEAST_ASKED) return [];
  const count = Math.max(1, asked.nodesWaiting);
  const part = {
    reads: asked.reads / count,
    changes: asked.changes / count,
    waiting: Math.min(1, asked.nodesWaiting),
  };
  return Array.from({ length: count }, (_, index) => [`${OWN}${index}`, part]);
}

const sumOf = (all: readonly Rates[]): Rates => ({
  reads: all.reduce((sum, { reads }) => sum + reads, 0),
  changes: all.reduce((sum, { changes }) => sum + changes, 0),
});

/** Empty while the asks fit. A kind that fits is bounded by what the node asks, so that it cannot grow unseen. */
export function grantsOf(
  given: readonly (readonly [string, AskedCalls])[],
  budget: Rates,
): Map<string, Rates> {
  const asks = given.map(([node, ask]) => ({ node, ...ask }));
  const of = (kind: 'reads' | 'changes') =>
    share(
      asks.map(({ node, waiting, ...rates }) => ({ node, waiting, rate: rates[kind] })),
      budget[kind],
    );
  const [reads, changes] = [of('reads'), of('changes')];
  if (reads === null && changes === null) return new Map();
  const rounded = (rate: number) => Math.round(rate * 1000) / 1000;
  return new Map(
    asks.map(({ node, ...ask }) => [
      node,
      {
        reads: rounded(reads?.get(node) ?? Math.max(1, ask.reads)),
        changes: rounded(changes?.get(node) ?? Math.max(1, ask.changes)),
      },
    ]),
  );
}

const isOther = (granted: GrantedCalls | null, next: Rates): boolean =>
  granted === null ||
  (['reads', 'changes'] as const).some(
    (kind) => Math.abs(granted[kind] - next[kind]) > CHANGE * Math.max(granted[kind], next[kind]),
  );
