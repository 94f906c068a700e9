// Reads this node's pods from the kernel, without the journal: their links, and each link's address from its route,
// else its element, else the pod's end. Reads only; finds objects by their marks.
import type { Ip } from '../base/ip.ts';
import type { Link } from '../kernel/rtnetlink.ts';
import { type LinkAttachment, readAlias } from './alias.ts';
import { GROUP_PODS, isCutGroup, isPodLinkName, PODS_TABLE, PROTOCOL } from './marks.ts';
import type { Kernel } from './memory.ts';
import { listElements } from './observe.ts';

/** Where a pod's address was found, most reliable first. */
export type AddressSource = 'route' | 'element' | 'pod' | 'none';

export type StandingPod = {
  readonly hostIfname: string;
  /** Null for a link without an alias of ours: made by an earlier version. */
  readonly attachment: LinkAttachment | null;
  readonly up: boolean;
  readonly ips: readonly Ip[];
  readonly by: AddressSource;
};

export type Standing = {
  readonly pods: readonly StandingPod[];
  /** All addresses that a link of ours, a route or an element names, also those of no pod. */
  readonly named: ReadonlySet<Ip>;
  /** Anything of ours is there at all: this is no first start. */
  readonly any: boolean;
};

/**
 * True for a pod's link: it is up in our group, or has our alias, which ADD sets together with up. A cut link has left
 * the group; a link whose ADD was killed before setting it up has neither.
 */
const isStanding = (link: Link, attachment: LinkAttachment | null): boolean =>
  !isCutGroup(link.group) && (attachment !== null || (link.up && link.group === GROUP_PODS));

export function observeStanding(kernel: Kernel): Standing {
  const links = kernel.rt.links().filter((link) => isPodLinkName(link.name));
  const routes = kernel.rt.routes({ table: PODS_TABLE, protocol: PROTOCOL });
  const elements = listElements(kernel, links);
  const routed = grouped(routes, (route) => route.oif);
  const mapped = grouped(elements ?? [], (element) => element.ifindex);
  const pods: StandingPod[] = [];
  for (const link of links) {
    const attachment = readAlias(link.alias, link.name);
    if (!isStanding(link, attachment)) continue;
    const of = { hostIfname: link.name, attachment, up: link.up };
    const byRoute = (routed.get(link.index) ?? []).map((route) => route.dst.ip);
    const byElement = (mapped.get(link.index) ?? []).map((element) => element.ip);
    if (byRoute.length > 0) pods.push({ ...of, ips: byRoute, by: 'route' });
    else if (byElement.length > 0) pods.push({ ...of, ips: byElement, by: 'element' });
    else {
      const ips = addressesOfPeer(kernel, link);
      pods.push({ ...of, ips, by: ips.length > 0 ? 'pod' : 'none' });
    }
  }
  const named = new Set([
    ...pods.flatMap((pod) => pod.ips),
    ...routes.map((route) => route.dst.ip),
    ...(elements ?? []).map((element) => element.ip),
  ]);
  const hasRules = () => kernel.rt.rules().some((rule) => rule.protocol === PROTOCOL);
  return { pods, named, any: links.length > 0 || elements !== null || routes.length > 0 || hasRules() };
}

/** What wirePod gives: global IPv4 addresses of one. */
function addressesOfPeer(kernel: Kernel, link: Link): Ip[] {
  if (link.peerIndex === 0 || link.peerNetnsId === null) return [];
  return kernel.rt
    .addresses(link.peerIndex, link.peerNetnsId)
    .filter((address) => typeof address.ip === 'number' && address.length === 32 && address.scope === 0)
    .map((address) => address.ip);
}

function grouped<K, V>(values: readonly V[], keyOf: (value: V) => K): Map<K, V[]> {
  const groups = new Map<K, V[]>();
  for (const value of values) groups.set(keyOf(value), [...(groups.get(keyOf(value)) ?? []), value]);
  return groups;
}
