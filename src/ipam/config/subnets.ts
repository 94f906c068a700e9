// Which subnets of the node's VPC and zone new ENIs may stand in, by the tags that the AWS VPC CNI reads too:
// `kubernetes.io/role/cni` (0: not this one; anything else: this one too) and `cni.networking.k8s.aws/cluster/NAME` (a
// subnet of that cluster; without such a tag it is of every cluster). Best first: most free addresses. Pure.
import type { SubnetDescription } from '../../cloud/port.ts';

const ROLE = 'kubernetes.io/role/cni';
const CLUSTER = 'cni.networking.k8s.aws/cluster/';

export type SubnetOffer = {
  readonly eligible: readonly string[];
  /** ENIs there give no address to new pods. */
  readonly excluded: readonly string[];
};

const mostFreeFirst = (subnets: readonly SubnetDescription[]): SubnetDescription[] =>
  subnets.toSorted((a, b) => b.availableIps - a.availableIps);

/** True when the tags say that the subnet is not for this cluster's pods. Null `cluster`: every cluster's count. */
function isExcluded({ tags }: SubnetDescription, cluster: string | null): boolean {
  const role = tags[ROLE];
  if (role === '0') return true;
  if (!role) return false;
  const owners = Object.keys(tags).filter((key) => key.startsWith(CLUSTER));
  return cluster !== null && owners.length > 0 && !owners.includes(`${CLUSTER}${cluster}`);
}

/** Without discovery only the node's own subnet is offered, and none is excluded for ENIs that exist. */
export function offeredSubnets(
  subnets: readonly SubnetDescription[],
  own: string,
  { cluster, discovery }: { cluster: string | null; discovery: boolean },
): SubnetOffer {
  if (!discovery) {
    const isBarred = subnets.find(({ id }) => id === own)?.tags[ROLE] === '0';
    return { eligible: isBarred ? [] : [own], excluded: [] };
  }
  const excluded = subnets.filter((subnet) => isExcluded(subnet, cluster)).map(({ id }) => id);
  const eligible = mostFreeFirst(subnets)
    .filter(({ id, tags }) => !excluded.includes(id) && (id === own || Boolean(tags[ROLE])))
    .map(({ id }) => id);
  // A subnet of another account may not be listed: the node's own is one all the same.
  const known = subnets.some(({ id }) => id === own);
  return { eligible: known ? eligible : [...eligible, own], excluded };
}

/** Those of `subnets` that have one of the ids, or all of the tags. */
export function chosenSubnets(
  subnets: readonly SubnetDescription[],
  choice: { readonly ids: readonly string[] } | { readonly tags: Readonly<Record<string, string>> },
): string[] {
  const isChosen = ({ id, tags }: SubnetDescription): boolean =>
    'ids' in choice
      ? choice.ids.includes(id)
      : Object.entries(choice.tags).every(([key, value]) => tags[key] === value);
  return mostFreeFirst(subnets.filter(isChosen)).map(({ id }) => id);
}
