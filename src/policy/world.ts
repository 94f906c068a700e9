// The objects that policies are judged by, read once from the Kubernetes API: for commands that explain. Fails with
// KubeError.

import type { Ip } from '../base/ip.ts';
import type { KubeClient } from '../kube/client.ts';
import { isNotFound, KubeError } from '../kube/errors.ts';
import {
  clusterNetworkPolicies,
  namespaces,
  networkPolicies,
  nodes,
  pods,
  type Resource,
  services,
} from '../kube/resources.ts';
import type { KubeObject } from '../kube/types.ts';
import { type Called, readCalled } from './called.ts';
import { decodeNetworkPolicy } from './decode.ts';
import { decodeClusterNetworkPolicy } from './decode-cluster.ts';
import type { Decoded } from './fields.ts';
import type { Namespaces, Nodes, PodView } from './model.ts';
import { namespaceLabels, nodePeer, podView } from './objects.ts';
import { type Translated, translated } from './translated.ts';

export type ReadWorld = {
  readonly decoded: readonly (Decoded & {
    /** Null: of the cluster. */
    readonly namespace: string | null;
    readonly name: string;
    readonly source: KubeObject;
  })[];
  readonly namespaces: Namespaces;
  readonly pods: readonly PodView[];
  /** Addresses by name of the node. */
  readonly nodes: ReadonlyMap<string, readonly Ip[]>;
  /** The same as policies see them. */
  readonly nodePeers?: Nodes;
  readonly translated?: Translated;
  readonly called?: Called;
};

const PAGE = 500;

/** A client, or what stands for one. */
type Lister = Pick<KubeClient, 'list'>;

async function all<T extends KubeObject>(client: Lister, kind: Resource<T>): Promise<T[]> {
  const found: T[] = [];
  for (let next: string | undefined; ; ) {
    const page = await client.list(kind, { limit: PAGE, ...(next === undefined ? {} : { continue: next }) });
    found.push(...page.items);
    next = page.metadata.continue || undefined;
    if (next === undefined) return found;
  }
}

/** In the latest version that is served; none where the cluster has no definition of them. */
async function allClusterPolicies(client: Lister): Promise<KubeObject[]> {
  for (const kind of clusterNetworkPolicies) {
    try {
      return await all(client, kind);
    } catch (error) {
      if (!isNotFound(error)) throw error;
    }
  }
  return [];
}

/** None where the caller may not list them, or a dump has none. */
async function allServices(client: Lister) {
  try {
    return await all(client, services);
  } catch (error) {
    if (error instanceof KubeError && [403, 404].includes(error.code)) return [];
    throw error;
  }
}

export async function readWorld(client: Lister): Promise<ReadWorld> {
  const [policyObjects, clusterPolicyObjects, namespaceObjects, podObjects, nodeObjects, serviceObjects] =
    await Promise.all([
      all(client, networkPolicies),
      allClusterPolicies(client),
      all(client, namespaces),
      all(client, pods),
      all(client, nodes),
      allServices(client),
    ]);
  const peers = new Map(nodeObjects.map((one) => [one.metadata.name!, nodePeer(one)]));
  return {
    decoded: [
      ...policyObjects.map((source) => ({
        ...decodeNetworkPolicy(source),
        source,
        namespace: source.metadata.namespace ?? 'default',
        name: source.metadata.name ?? '',
      })),
      ...clusterPolicyObjects.map((source) => ({
        ...decodeClusterNetworkPolicy(source),
        source,
        namespace: null,
        name: source.metadata.name ?? '',
      })),
    ],
    namespaces: new Map(namespaceObjects.map((one) => [one.metadata.name!, namespaceLabels(one)])),
    pods: podObjects.map(podView),
    nodes: new Map([...peers].map(([name, { ips }]) => [name, ips])),
    nodePeers: peers,
    translated: translated(serviceObjects, podObjects),
  };
}

/** The same, with what lint looks at beside. */
export async function readWorldForLint(client: Lister): Promise<ReadWorld> {
  const [world, called] = await Promise.all([readWorld(client), readCalled((kind) => all(client, kind))]);
  return { ...world, called };
}
