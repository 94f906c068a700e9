// What the leader knows of the cluster: Nodes and PodwayNodes, by name, as the API last said. Tells which names changed.
// Until both were listed once nothing is known, and nothing may be concluded from an absence (`isWhole`).
import type { Log } from '../base/log.ts';
import {
  followEach,
  type KubeClient,
  type KubeObject,
  NO_ADDRESS_TAINT,
  type Node,
  nodes,
  POD_ENI,
  type PodwayNode,
  podwayNodes,
  type Sink,
} from '../kube/index.ts';

/** What is kept of a Node. */
export type NodeView = Pick<Node, 'metadata' | 'spec'> & {
  conditions: NonNullable<NonNullable<Node['status']>['conditions']>;
  /** Branches that its status says it takes: capacity, and what of it pods may have. */
  podEni: readonly [string | undefined, string | undefined];
};

export class ClusterView {
  readonly nodes = new Map<string, NodeView>();
  readonly podwayNodes = new Map<string, PodwayNode>();
  readonly #listed = new Set<string>();
  readonly #listeners: ((names: readonly string[]) => void)[] = [];

  /** Nodes that are kept from pods for want of addresses. */
  get withoutAddress(): number {
    const isOut = ({ spec }: NodeView) => spec?.taints?.some(({ key }) => key === NO_ADDRESS_TAINT) === true;
    return [...this.nodes.values()].filter(isOut).length;
  }

  get isWhole(): boolean {
    return this.#listed.size === 2;
  }

  onChange(listener: (names: readonly string[]) => void): void {
    this.#listeners.push(listener);
  }

  /** Ends when `signal` aborts. */
  async follow(client: KubeClient, log: Log, signal: AbortSignal): Promise<void> {
    const onAway = (error: Error) => log.warn({ error: error.message }, 'the Kubernetes API does not answer');
    const keepNode = ({ metadata, spec, status }: Node): NodeView => ({
      metadata: withoutFields(metadata),
      ...(spec === undefined ? {} : { spec }),
      conditions: status?.conditions ?? [],
      podEni: [status?.capacity?.[POD_ENI], status?.allocatable?.[POD_ENI]],
    });
    const keepOwn = (object: PodwayNode): PodwayNode => ({
      ...object,
      metadata: withoutFields(object.metadata),
    });
    await Promise.all([
      followEach(client, nodes, { sink: this.#sink('nodes', this.nodes, keepNode), onAway }, signal),
      followEach(
        client,
        podwayNodes,
        { sink: this.#sink('podwayNodes', this.podwayNodes, keepOwn), onAway },
        signal,
      ),
    ]);
  }

  #sink<T extends KubeObject, V>(what: string, kept: Map<string, V>, keep: (object: T) => V): Sink<T> {
    const tell = (names: readonly string[]) => {
      if (this.isWhole) for (const listener of this.#listeners) listener(names);
    };
    return {
      replace: (objects) => {
        const gone = new Set(kept.keys());
        kept.clear();
        for (const object of objects) kept.set(object.metadata.name!, keep(object));
        this.#listed.add(what);
        tell([...new Set([...gone, ...this.nodes.keys(), ...this.podwayNodes.keys()])]);
      },
      put: (object) => {
        kept.set(object.metadata.name!, keep(object));
        tell([object.metadata.name!]);
      },
      remove: (object) => {
        kept.delete(object.metadata.name!);
        tell([object.metadata.name!]);
      },
    };
  }
}

/** Who wrote which field is half of an object, and nobody here asks. */
function withoutFields(metadata: KubeObject['metadata']): KubeObject['metadata'] {
  const { managedFields: _, ...rest } = metadata as KubeObject['metadata'] & { managedFields?: unknown };
  return rest;
}
