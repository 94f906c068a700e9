// The Kubernetes API's part of a dump: the lists that Podway reads, each object bare (scrub.ts), and the Events of ours; and
// the same lists read from a dump. No Secret, no ConfigMap and no token is ever asked for. A kind that the cluster does not
// have is not in the dump.

import type { KubeClient, KubeEvent, KubeObject, Resource } from '../../kube/index.ts';
import * as kube from '../../kube/index.ts';
import { errorBody } from '../../lab/daemon/errors.ts';
import { apiFile, type Dump } from './dump.ts';
import { bareObject } from './scrub.ts';

/** What a command asks of the API: a client, or a dump. */
export type Lister = Pick<KubeClient, 'list'>;

const PAGE = 500;
/** Objects of one kind. */
const MOST = 100_000;
/** Newest Events of ours. */
const MOST_EVENTS = 5_000;

const podwayNodes = kube.resource('podway.dev/v1alpha1', 'podwaynodes', 'PodwayNode', 'Cluster');
const daemonSets = kube.resource('apps/v1', 'daemonsets', 'DaemonSet', 'Namespaced');
const KINDS: readonly Resource[] = [
  kube.nodes,
  kube.pods,
  kube.namespaces,
  kube.networkPolicies,
  ...kube.clusterNetworkPolicies,
  kube.nodeNetworks,
  kube.eniConfigs,
  kube.services,
  kube.securityGroupPolicies,
  kube.cniNodes,
  kube.serviceAccounts,
  podwayNodes,
  daemonSets,
  kube.events,
];

const fileOf = ({ group, version, plural }: Resource): string => apiFile(group, version, plural);

/** Values by file name; a kind that cannot be listed is its error. */
export async function apiPart(client: KubeClient): Promise<Record<string, unknown>> {
  const files: Record<string, unknown> = {};
  for (const kind of KINDS) {
    try {
      files[fileOf(kind)] = { items: wanted(kind, await all(client, kind)).map(bareObject) };
    } catch (error) {
      if (!kube.isNotFound(error)) files[fileOf(kind)] = { error: errorBody(error) };
    }
  }
  return files;
}

async function all(client: KubeClient, kind: Resource): Promise<KubeObject[]> {
  const found: KubeObject[] = [];
  for (let next: string | undefined; ; ) {
    const page = await client.list(kind, { limit: PAGE, ...(next === undefined ? {} : { continue: next }) });
    found.push(...page.items);
    next = page.metadata.continue || undefined;
    if (next === undefined || found.length >= MOST) return found;
  }
}

function wanted(kind: Resource, found: KubeObject[]): KubeObject[] {
  // Of accounts the labels count; the names of their secrets are nobody's business.
  if (kind === kube.serviceAccounts) return found.map(({ metadata }) => ({ metadata }));
  if (kind === daemonSets) return found.filter(({ metadata }) => metadata.name?.startsWith('podway'));
  if (kind !== kube.events) return found;
  return (found as KubeEvent[])
    .filter(({ source, reportingComponent }) =>
      (reportingComponent || source?.component || '').startsWith('podway'),
    )
    .slice(-MOST_EVENTS);
}

/** The lists of a dump. A kind that it lacks is not found, as a cluster answers that has no definition of it. */
export const apiOf = (dump: Dump): Lister => ({
  async list<T extends KubeObject>(kind: Resource<T>) {
    const file = fileOf(kind);
    if (!dump.has(file)) {
      const cause = dump.lacks(kind.plural);
      throw new kube.KubeError(404, 'NotFound', cause.message, undefined, { cause });
    }
    return { metadata: {}, ...dump.answer<{ items: T[] }>(file) };
  },
});
