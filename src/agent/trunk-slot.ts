// The node's word that it has an ENI slot for a trunk: the feature SecurityGroupsForPods of its CNINode, which whoever
// controls branches waits for on EKS. Only that entry is ours, written while nobody else changes the object (optimistic
// lock). A node without a slot says ENI_LIMIT with numbers, and asks once it has one. Never throws.
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

/** Between two looks whether a slot is free or the API takes the patch (ms). */
const AGAIN_MS = 5_000;

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
  #wake: () => void = () => {};

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
    this.#wake();
  }

  /** Something has changed that says whether a trunk is awaited. */
  look(): void {
    this.#wake();
  }

  /** Ends when `signal` aborts. */
  async keep(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      const isOpen = await this.#ask(signal);
      await this.#nap(isOpen ? AGAIN_MS : null, signal);
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

  async #nap(ms: number | null, signal: AbortSignal): Promise<void> {
    const nap = new AbortController();
    const wake = () => nap.abort();
    this.#wake = wake;
    signal.addEventListener('abort', wake, { once: true });
    if (signal.aborted) wake();
    await systemClock.sleep(ms ?? FOREVER_MS, nap.signal).catch(() => undefined);
    signal.removeEventListener('abort', wake);
    this.#wake = () => {};
  }
}

/** A bound on what a missed wake could cost. */
const FOREVER_MS = 600_000;
