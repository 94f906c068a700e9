// By which interface a connection leaves and comes in, for `policy trace`: the pod's branch and conntrack zone, its
// address's ENI, or none where the node itself carries it. From what the nodes' agents show. Pure.
import type { BranchMode } from '../base/branch-words.ts';
import type { IpamNode } from '../lab/daemon/protocol.ts';
import type { Direction } from '../policy/model.ts';

export type Way = {
  direction: Direction;
  pod: string;
  node: string;
  /** Null: the packets stay on the node. */
  interface: { eniId: string; ifname: string | null; vlanId?: number } | null;
  /** Of connection tracking: a flow between pods of one node is in two of them. */
  zone: number;
  mode?: BranchMode;
};

/** One end of the question; `pod` is NAMESPACE/NAME, absent for an address outside and for a node. */
export type WayEnd = { node?: string | null; pod?: string; ips?: readonly string[] };

type Found = { eniId: string; ifname: string | null; vlanId?: number; mode?: BranchMode };

export function waysOf(shown: readonly IpamNode[], from: WayEnd, to: WayEnd): Way[] {
  const [here, there] = [find(shown, from), find(shown, to)];
  const isLocal = Boolean(from.node) && from.node === to.node;
  /** Strict ends meet in the VPC, unless the node itself asks. */
  const stays = isLocal && (from.pod === undefined || (here?.mode !== 'strict' && there?.mode !== 'strict'));
  const way = (direction: Direction, { pod, node }: WayEnd, found: Found | undefined): Way[] => {
    if (pod === undefined || !node || !found) return [];
    const { mode, ...by } = found;
    return [
      {
        ...{ direction, pod, node, interface: stays ? null : by, zone: stays ? 0 : (by.vlanId ?? 0) },
        ...(mode === undefined ? {} : { mode }),
      },
    ];
  };
  return [...way('egress', from, here), ...way('ingress', to, there)];
}

function find(shown: readonly IpamNode[], { node, pod, ips = [] }: WayEnd): Found | undefined {
  const own = shown.find((one) => one.node === node);
  if (!own || pod === undefined) return undefined;
  for (const { branches = [], ifname } of own.enis)
    for (const one of branches)
      if (one.pod === pod)
        return { eniId: one.id, ifname: ifname ?? null, vlanId: one.vlanId, mode: one.mode ?? 'strict' };
  for (const { id, ifname, addresses } of own.enis)
    if (addresses.some((one) => one.pod === pod || ips.includes(one.ip)))
      return { eniId: id, ifname: ifname ?? null };
  return undefined;
}

export function wayText({ direction, node, interface: by, zone, mode }: Way): string {
  if (by === null) return `${direction}: on ${node} itself, by no interface of the VPC`;
  const link = by.ifname === null ? '' : ` (${by.ifname})`;
  if (by.vlanId === undefined) return `${direction}: by ${by.eniId}${link} of ${node}`;
  return `${direction}: by the pod's branch ${by.eniId}, VLAN ${by.vlanId} on the trunk${link} of ${node}, ${mode}; tracked in zone ${zone}`;
}
