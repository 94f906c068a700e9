// Trunks that were made for a node and never attached, because the node or its leader went in between: deleted when
// ORPHAN_LOOKS describes in a row have shown them loose while no Node of the cluster is that instance. One without our
// cluster's name may be another cluster's, and stays.
import type { EniDescription, EniId } from '../../cloud/port.ts';
import { ORPHAN_LOOKS } from './plan.ts';
import { clusterOf, instanceOfTrunk } from './tags.ts';

/** How often each was seen loose. */
export type Seen = ReadonlyMap<EniId, number>;

/** `instances`: of the cluster's Nodes; null: one does not say which it is, and nothing is concluded. Pure. */
export function looseTrunks(
  before: Seen,
  enis: readonly EniDescription[],
  instances: ReadonlySet<string> | null,
  clusters: ReadonlySet<string>,
): { seen: Seen; over: EniId[] } {
  const loose = enis.filter(({ attachment, status, interfaceType, tags }) => {
    const [instance, cluster] = [instanceOfTrunk(tags), clusterOf(tags)];
    if (interfaceType !== 'trunk' || attachment !== null || status !== 'available') return false;
    if (instance === undefined || cluster === undefined || instances === null) return false;
    return clusters.has(cluster) && !instances.has(instance);
  });
  const seen = new Map(loose.map(({ id }) => [id, (before.get(id) ?? 0) + 1]));
  return { seen, over: [...seen].filter(([, times]) => times >= ORPHAN_LOOKS).map(([id]) => id) };
}
