// Asks EC2 whether full subnets have addresses again, while nodes are out of them and pods wait for a node: one describe
// for all. Nobody asks while no node is out, and seldom while no pod waits. Never throws.
import { type Clock, systemClock } from '../../base/clock.ts';
import type { Log } from '../../base/log.ts';
import type { FleetCloud } from '../../cloud/fleet.ts';
import { type KubeClient, NO_ADDRESS_TAINT, pods } from '../../kube/index.ts';
import type { ClusterView } from '../view.ts';
import { type Chances, fullSubnets, isOpen, nextChances, podsOf } from './chances.ts';

/** Between two looks while pods wait for a node, and while none does (ms). */
const LOOK_MS = 2_000;
const SELDOM_MS = 30_000;
/** After EC2 has not answered or refused (ms). */
const AGAIN_MS = 15_000;

export type SubnetWatchOptions = {
  view: Pick<ClusterView, 'nodes' | 'podwayNodes'>;
  client: Pick<KubeClient, 'list'>;
  cloud: Pick<FleetCloud, 'subnets'>;
  /** A node was opened, or its chance has ended. */
  onChange: (name: string) => void;
  log: Log;
  clock?: Clock;
};

export class SubnetWatch {
  readonly #o: SubnetWatchOptions;
  readonly #clock: Clock;
  #chances: Chances = new Map();
  #askedAt = Number.NEGATIVE_INFINITY;
  #isTold = false;

  constructor(options: SubnetWatchOptions) {
    this.#o = options;
    this.#clock = options.clock ?? systemClock;
  }

  hasChance(name: string): boolean {
    const own = this.#o.view.podwayNodes.get(name);
    return own !== undefined && isOpen(this.#chances.get(name), podsOf(own), this.#clock.now());
  }

  /** Ends when `signal` aborts. */
  async keep(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      let pause = LOOK_MS;
      try {
        await this.#look(signal);
        this.#isTold = false;
      } catch (error) {
        if (signal.aborted) return;
        if (!this.#isTold)
          this.#o.log.warn({ error: (error as Error).message }, 'full subnets are not looked at');
        this.#isTold = true;
        pause = AGAIN_MS;
      }
      await this.#clock.sleep(pause, signal).catch(() => undefined);
    }
  }

  async #look(signal: AbortSignal): Promise<void> {
    const { view, cloud } = this.#o;
    const isTainted = (name: string) =>
      this.#chances.has(name) ||
      view.nodes.get(name)?.spec?.taints?.some(({ key }) => key === NO_ADDRESS_TAINT) === true;
    const full = fullSubnets(view.podwayNodes, isTainted);
    const now = this.#clock.now();
    let free = new Map<string, number>();
    if (full.size > 0 && (now - this.#askedAt >= SELDOM_MS || (await this.#hasWaiting(signal)))) {
      this.#askedAt = now;
      const ids = new Set([...full.values()].flatMap(({ needs }) => needs.map(({ subnetId }) => subnetId)));
      const found = await cloud.subnets([...ids], signal);
      free = new Map(found.map(({ id, availableIps }) => [id, availableIps]));
    }
    const before = this.#chances;
    this.#chances = nextChances(before, full, free, this.#clock.now());
    for (const [name, { ends }] of this.#chances)
      if (before.get(name)?.ends !== ends || ends <= this.#clock.now()) this.#o.onChange(name);
  }

  /** True when a pod waits for a node: one is enough to know. */
  async #hasWaiting(signal: AbortSignal): Promise<boolean> {
    const fieldSelector = 'spec.nodeName=,status.phase=Pending';
    const { items } = await this.#o.client.list(pods, { fieldSelector, limit: 1 }, signal);
    return items.length > 0;
  }
}
