// The CNINodes of a cluster in which Podway makes the branches: one for each Node that names its instance, owned by the
// Node, so that it goes with it, and without a finaliser, so that nothing waits for us. Features are the node's to
// write: one that asks for a trunk has a slot free, and is told at once. What others made stays as it is. Never throws.
import { type Clock, systemClock } from '../../base/clock.ts';
import type { Log } from '../../base/log.ts';
import {
  asksForTrunk,
  type CniNode,
  cniNodes,
  followEach,
  isConflict,
  isNotFound,
  isOurCniNode,
  type KubeClient,
  MANAGED_BY,
  type Sink,
} from '../../kube/index.ts';
import { instanceOf } from '../node-view.ts';
import type { ClusterView, NodeView } from '../view.ts';

/** As EKS's controller names them. */
const TAG_CLUSTER = 'cluster.k8s.amazonaws.com/name';
const TAG_INSTANCE = 'node.k8s.amazonaws.com/instance_id';
const OS = 'kubernetes.io/os';

/** Between two looks at what is missing, and after one that failed (ms). */
const LOOK_MS = 500;
const AGAIN_MS = 10_000;

export type CniNodesParts = {
  client: KubeClient;
  view: Pick<ClusterView, 'isWhole' | 'nodes' | 'podwayNodes' | 'onChange'>;
  isLeading: () => boolean;
  /** The node asks for a trunk since now. */
  onAsked: (node: string) => void;
  log: Log;
  clock?: Clock;
};

export class CniNodes {
  readonly #p: CniNodesParts;
  readonly #clock: Clock;
  readonly #known = new Map<string, CniNode>();
  readonly #due = new Set<string>();
  #isWhole = false;

  constructor(parts: CniNodesParts) {
    this.#p = parts;
    this.#clock = parts.clock ?? systemClock;
    parts.view.onChange((names) => {
      for (const name of names) this.#due.add(name);
    });
  }

  /** Ends when `signal` aborts. */
  async keep(signal: AbortSignal): Promise<void> {
    const { client, view, log, isLeading } = this.#p;
    const onAway = (error: Error) => log.warn({ error: error.message }, 'CNINodes are not to be had');
    const followed = followEach(client, cniNodes, { sink: this.#sink, onAway }, signal);
    for (const name of view.nodes.keys()) this.#due.add(name);
    let isTold = false;
    while (!signal.aborted) {
      let rest = LOOK_MS;
      try {
        if (this.#isWhole && view.isWhole)
          for (const name of [...this.#due]) {
            if (signal.aborted || !isLeading()) break;
            await this.#ensure(name, signal);
            this.#due.delete(name);
          }
        isTold = false;
      } catch (error) {
        if (signal.aborted) break;
        if (!isTold) log.warn({ error: (error as Error).message }, 'a CNINode cannot be written');
        isTold = true;
        rest = AGAIN_MS;
      }
      await this.#clock.sleep(rest, signal).catch(() => undefined);
    }
    await followed;
  }

  readonly #sink: Sink<CniNode> = {
    replace: (objects) => {
      this.#known.clear();
      for (const object of objects) this.#put(object);
      this.#isWhole = true;
      for (const name of this.#p.view.nodes.keys()) this.#due.add(name);
    },
    put: (object) => this.#put(object),
    remove: ({ metadata }) => {
      this.#known.delete(metadata.name!);
      this.#due.add(metadata.name!);
    },
  };

  #put(object: CniNode): void {
    const name = object.metadata.name!;
    const former = this.#known.get(name);
    this.#known.set(name, object);
    this.#due.add(name);
    if (asksForTrunk(object) && !(former && asksForTrunk(former))) this.#p.onAsked(name);
  }

  async #ensure(name: string, signal: AbortSignal): Promise<void> {
    const { client, view } = this.#p;
    const node = view.nodes.get(name);
    const wanted = node && cniNodeOf(name, node, view.podwayNodes.get(name)?.spec?.cluster);
    if (!wanted) return;
    const known = this.#known.get(name);
    try {
      if (!known) this.#known.set(name, await client.create(cniNodes, wanted, undefined, signal));
      else if (isOurCniNode(known) && isOther(known, wanted)) {
        const { labels, ownerReferences } = wanted.metadata;
        const { resourceVersion } = known.metadata;
        const patch = {
          metadata: { resourceVersion, labels, ownerReferences },
          spec: { tags: wanted.spec!.tags },
        };
        await client.patch(cniNodes, name, undefined, patch, {}, signal);
      }
    } catch (error) {
      // Another was first, or took it away: the watch tells. A cluster without the definition has none.
      if (!isConflict(error) && !isNotFound(error)) throw error;
    }
  }
}

/** Null for a Node that does not say which instance it is. */
function cniNodeOf(name: string, node: NodeView, cluster: string | undefined): CniNode | null {
  const instanceId = instanceOf(node);
  const { uid, labels } = node.metadata;
  if (instanceId === null || uid === undefined) return null;
  const owner = { apiVersion: 'v1', kind: 'Node', name, uid, controller: true, blockOwnerDeletion: true };
  return {
    apiVersion: 'vpcresources.k8s.aws/v1alpha1',
    kind: 'CNINode',
    metadata: {
      name,
      labels: { ...MANAGED_BY, ...(labels?.[OS] === undefined ? {} : { [OS]: labels[OS] }) },
      ownerReferences: [owner],
    },
    spec: {
      tags: { ...(cluster === undefined ? {} : { [TAG_CLUSTER]: cluster }), [TAG_INSTANCE]: instanceId },
    },
  };
}

/** It is of a Node or an instance that had the name before, or somebody changed what we wrote. */
const isOther = (known: CniNode, { metadata, spec }: CniNode): boolean =>
  known.metadata.ownerReferences?.[0]?.uid !== metadata.ownerReferences![0]!.uid ||
  Object.entries(metadata.labels!).some(([key, value]) => known.metadata.labels?.[key] !== value) ||
  Object.entries(spec!.tags!).some(([key, value]) => known.spec?.tags?.[key] !== value);
