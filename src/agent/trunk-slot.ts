// The node's word that it has an ENI slot for a trunk: the feature SecurityGroupsForPods of its CNINode, which whoever
// controls branches waits for on EKS. Only that entry is ours, written while nobody else changes the object (optimistic
// lock). A node without a slot says ENI_LIMIT with numbers, and asks once it has one. Never throws.
import { Alarm } from '../base/alarm.ts';
import { systemClock } from '../base/clock.ts';
import type { Log } from '../base/log.ts';
import type { AddressPool } from '../ipam/pool.ts';
import {
  asksForTrunk,
  type CniNode,
  cniNodes,
  isOurCniNode,
  type KubeClient,
  SECURITY_GROUPS_FOR_PODS,
} from '../kube/index.ts';

/** Between two looks whether a slot is free or the API takes the patch, and while nothing is open (ms). */
const AGAIN_MS = 5_000;
const AT_REST_MS = 600_000;

export type TrunkSlotOptions = {
  client: Pick<KubeClient, 'patch'>;
  pool: Pick<AddressPool, 'awaitsTrunk' | 'trunkLack'>;
  nodeName: string;
  log: Log;
  /** The trunk finds no slot. */
  onLack: (text: string) => void;
};

/** What is kept of a CNINode. */
export type CniNodeView = Pick<CniNode, 'spec'> & {
  resourceVersion: string;
  /** Podway's controller made it: the branches are its. */
  isOurs: boolean;
};

export const viewCniNode = ({ metadata, spec }: CniNode): CniNodeView => ({
  resourceVersion: metadata.resourceVersion ?? '',
  isOurs: isOurCniNode({ metadata }),
  spec: { features: spec?.features ?? [] },
});

export class TrunkSlot {
  readonly #o: TrunkSlotOptions;
  #cniNode: CniNodeView | null = null;
  readonly #news = new Alarm();

  constructor(options: TrunkSlotOptions) {
    this.#o = options;
  }

  /** The feature is there already, or our controller made the object. */
  get isAsked(): boolean {
    return this.#cniNode !== null && (this.#cniNode.isOurs || asksForTrunk(this.#cniNode));
  }

  /** Null: the node has none, since nobody controls branches. */
  note(cniNode: CniNodeView | null): void {
    this.#cniNode = cniNode;
    this.#news.ring();
  }

  /** Something has changed that says whether a trunk is awaited. */
  look(): void {
    this.#news.ring();
  }

  /** Ends when `signal` aborts. */
  async keep(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      // Taken before the question: what is told meanwhile counts.
      const news = this.#news.signal;
      const isOpen = await this.#ask(signal);
      const woken = AbortSignal.any([signal, news]);
      await systemClock.sleep(isOpen ? AGAIN_MS : AT_REST_MS, woken).catch(() => undefined);
    }
  }

  /** True when it is to be tried again soon. */
  async #ask(signal: AbortSignal): Promise<boolean> {
    const { client, pool, nodeName, log, onLack } = this.#o;
    if (!pool.awaitsTrunk) return false;
    const lack = pool.trunkLack();
    if (lack) {
      onLack(`${lack.code}: ${lack.message}`);
      return true;
    }
    const known = this.#cniNode;
    if (!known || asksForTrunk(known)) return false;
    const features = [...(known.spec?.features ?? []), { name: SECURITY_GROUPS_FOR_PODS, value: '' }];
    const { resourceVersion } = known;
    try {
      await client.patch(
        cniNodes,
        nodeName,
        undefined,
        { metadata: { resourceVersion }, spec: { features } },
        {},
        signal,
      );
      log.info({ cniNode: nodeName }, 'the node asks for a trunk');
      return false;
    } catch (error) {
      // After a conflict the watch tells what it is now.
      if (!signal.aborted) log.debug({ error: (error as Error).message }, 'the CNINode was not changed');
      return true;
    }
  }
}
