// By which interface a connection leaves and comes in, for `policy trace`: the pod's branch and conntrack zone, its
// address's ENI, the primary ENI with the node's address, or none where the node itself carries it. From what the
// nodes' agents show. Pure.
import type { BranchMode } from '../base/branch-words.ts';
import { type Cidr, cidrContains, parseCidr, parseIp } from '../base/ip.ts';
import type { IpamNode } from '../lab/daemon/protocol.ts';
import type { Direction } from '../policy/model.ts';

export type Way = {
  direction: Direction;
  pod: string;
  node: string;
  /** Null: the packets stay on the node. */
  interface: By | null;
  /** Of connection tracking, a strict pod's own: a flow between two of a node is in two of them. 0: none. */
  zone: number;
  mode?: BranchMode;
  /** The packets leave with the node's address. */
  source?: 'node';
};

/** One end of the question; `pod` is NAMESPACE/NAME, absent for an address outside and for a node. */
export type WayEnd = { node?: string | null; pod?: string; ips?: readonly string[] };

type By = { eniId: string; ifname: string | null; vlanId?: number };
type Found = By & { mode?: BranchMode };

/** What pods reach with the node's address alone, beside what is on the node. */
const SERVICES = ['169.254.0.0/16', 'fd00:ec2::/32'].map((text) => parseCidr(text));

export function waysOf(shown: readonly IpamNode[], asker: WayEnd, asked: WayEnd): Way[] {
  const [from, to] = [placed(shown, asker, asked), placed(shown, asked, asker)];
  const [here, there] = [find(shown, from), find(shown, to)];
  const isLocal = Boolean(from.node) && from.node === to.node;
  /** Strict ends meet in the VPC, unless the node itself asks. */
  const stays = isLocal && (from.pod === undefined || (here?.mode !== 'strict' && there?.mode !== 'strict'));
  const leaves = stays ? null : leaving(shown, from, to, here);
  const way = (direction: Direction, { pod, node }: WayEnd, found: Found | undefined): Way[] => {
    if (pod === undefined || !node || !found) return [];
    const { mode, ...own } = found;
    // Of strict pods, also for what the node itself begins.
    const isZoned = mode === 'strict' && (stays || direction === 'ingress' || leaves === undefined);
    const by = stays ? null : direction === 'egress' && leaves !== undefined ? leaves : own;
    return [
      {
        ...{ direction, pod, node, interface: by, zone: isZoned ? (own.vlanId ?? 0) : 0 },
        ...(mode === undefined ? {} : { mode }),
        ...(by !== null && by === leaves ? { source: 'node' as const } : {}),
      },
    ];
  };
  return [...way('egress', from, here), ...way('ingress', to, there)];
}

/** An address that is on the other end's node is that node. */
function placed(shown: readonly IpamNode[], end: WayEnd, other: WayEnd): WayEnd {
  if (end.node || end.pod !== undefined || other.pod === undefined) return end;
  const own = shown.find(({ node }) => node === other.node);
  return own && end.ips?.some((ip) => own.ways?.onNode.includes(ip)) ? { ...end, node: own.node } : end;
}

/** Where not by the pod's own interface: null on the node itself, else by the primary ENI with the node's address. */
function leaving(
  shown: readonly IpamNode[],
  from: WayEnd,
  to: WayEnd,
  here: Found | undefined,
): By | null | undefined {
  const own = shown.find(({ node }) => node === from.node);
  const six = (ip: string) => ip.includes(':');
  const ip = to.ips?.find((one) => from.ips?.some((each) => six(each) === six(one))) ?? to.ips?.[0];
  if (!own || !here || ip === undefined) return undefined;
  const isIn = (cidr: Cidr) => cidrContains(cidr, parseIp(ip));
  const { ways } = own;
  const isService = SERVICES.some(isIn);
  if (ways?.onNode.includes(ip) && (isService || ways.nodeLocal.includes(ip))) return null;
  const snat = six(ip) ? ways?.snat6 : ways?.snat;
  const isSnat = ways !== undefined && snat !== 'none' && !ways.exempt.some((text) => isIn(parseCidr(text)));
  if (!isService && (here.mode === 'strict' || !isSnat)) return undefined;
  const primary = own.enis.find(({ deviceIndex, networkCard }) => deviceIndex === 0 && networkCard === 0);
  return primary && { eniId: primary.id, ifname: primary.ifname ?? null };
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

export function wayText({ direction, node, interface: by, zone, mode, source }: Way): string {
  const tracked = zone === 0 ? '' : `; tracked in zone ${zone}`;
  if (by === null) return `${direction}: on ${node} itself, by no interface of the VPC${tracked}`;
  const link = by.ifname === null ? '' : ` (${by.ifname})`;
  const as = source === 'node' ? ", with the node's address" : '';
  if (by.vlanId === undefined) return `${direction}: by ${by.eniId}${link} of ${node}${as}`;
  return `${direction}: by the pod's branch ${by.eniId}, VLAN ${by.vlanId} on the trunk${link} of ${node}, ${mode}${tracked}`;
}
