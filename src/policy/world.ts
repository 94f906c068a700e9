// The objects that policies are judged by, read once from the Kubernetes API: for commands that explain. Fails with
// KubeError.

import { AddressError, type Ip, parseIp } from '../base/ip.ts';
import type { KubeClient } from '../kube/client.ts';
import { namespaces, networkPolicies, nodes, pods, type Resource } from '../kube/resources.ts';
import type { KubeObject } from '../kube/types.ts';
import { type Decoded, decodeNetworkPolicy } from './decode.ts';
import type { Namespaces, PodView } from './model.ts';
import { namespaceLabels, podView } from './objects.ts';

export type ReadWorld = {
  readonly decoded: readonly (Decoded & {
    readonly namespace: string;
    readonly name: string;
    readonly source: KubeObject;
  })[];
  readonly namespaces: Namespaces;
  readonly pods: readonly PodView[];
  /** Addresses by name of the node. */
  readonly nodes: ReadonlyMap<string, readonly Ip[]>;
};

const PAGE = 500;

async function all<T extends KubeObject>(client: KubeClient, kind: Resource<T>): Promise<T[]> {
  const found: T[] = [];
  for (let next: string | undefined; ; ) {
    const page = await client.list(kind, { limit: PAGE, ...(next === undefined ? {} : { continue: next }) });
    found.push(...page.items);
    next = page.metadata.continue || undefined;
    if (next === undefined) return found;
  }
}

const isAddress = (text: string): boolean => {
  try {
    parseIp(text);
    return true;
  } catch (error) {
    if (error instanceof AddressError) return false;
    throw error;
  }
};

export async function readWorld(client: KubeClient): Promise<ReadWorld> {
  const [policyObjects, namespaceObjects, podObjects, nodeObjects] = await Promise.all([
    all(client, networkPolicies),
    all(client, namespaces),
    all(client, pods),
    all(client, nodes),
  ]);
  return {
    decoded: policyObjects.map((source) => ({
      ...decodeNetworkPolicy(source),
      source,
      namespace: source.metadata.namespace ?? 'default',
      name: source.metadata.name ?? '',
    })),
    namespaces: new Map(namespaceObjects.map((one) => [one.metadata.name!, namespaceLabels(one)])),
    pods: podObjects.map(podView),
    nodes: new Map(
      nodeObjects.map(({ metadata, status }) => [
        metadata.name!,
        (status?.addresses ?? [])
          .filter(({ address }) => isAddress(address))
          .map(({ address }) => parseIp(address)),
      ]),
    ),
  };
}
