// Reads this node's pods from the kernel, without the journal: their links, and each link's address from its route,
// else its element, else the pod's end. Reads only; finds objects by their marks.
import { bitsOf, familyOf, type Ip } from '../base/ip.ts';
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
  const elements4 = listElements(kernel, links, 4);
  const elements6 = listElements(kernel, links, 6);
  const elements = [...(elements4 ?? []), ...(elements6 ?? [])];
  const any6 = elements6 !== null;
  const routed = grouped(routes, (route) => route.oif);
  const mapped = grouped(elements, (element) => element.ifindex);
  const pods: StandingPod[] = [];
  for (const link of links) {
    const attachment = readAlias(link.alias, link.name);
    if (!isStanding(link, attachment)) continue;
    const of = { hostIfname: link.name, attachment, up: link.up };
    const byRoute = (routed.get(link.index) ?? []).map((route) => route.dst.ip);
    const byElement = (mapped.get(link.index) ?? []).map((element) => element.ip);
    const ips = bothFamilies(byRoute, byElement);
    // A pod may lack a family. Its own end is read only where one is missing that pods of this node can have.
    const isWhole = ips.length > 0 && (!any6 || new Set(ips.map(familyOf)).size === 2);
    const all = isWhole ? ips : bothFamilies(ips, addressesOfPeer(kernel, link));
    const by =
      byRoute.length > 0 ? 'route' : byElement.length > 0 ? 'element' : all.length > 0 ? 'pod' : 'none';
    pods.push({ ...of, ips: all, by });
  }
  const named = new Set([
    ...pods.flatMap((pod) => pod.ips),
    ...routes.map((route) => route.dst.ip),
    ...elements.map((element) => element.ip),
  ]);
  const hasRules = () => kernel.rt.rules().some((rule) => rule.protocol === PROTOCOL);
  return { pods, named, any: links.length > 0 || elements4 !== null || routes.length > 0 || hasRules() };
}

/** The addresses of the surer source, and of the other one those of the families that it lacks. */
const bothFamilies = (surer: readonly Ip[], other: readonly Ip[]): Ip[] => {
  const has = new Set(surer.map(familyOf));
  return [...surer, ...other.filter((ip) => !has.has(familyOf(ip)))];
};

/** What wirePod gives: global host addresses. */
function addressesOfPeer(kernel: Kernel, link: Link): Ip[] {
  if (link.peerIndex === 0 || link.peerNetnsId === null) return [];
  return kernel.rt
    .addresses(link.peerIndex, link.peerNetnsId)
    .filter(({ ip, length, scope }) => length === bitsOf(familyOf(ip)) && scope === 0)
    .map((address) => address.ip);
}

function grouped<K, V>(values: readonly V[], keyOf: (value: V) => K): Map<K, V[]> {
  const groups = new Map<K, V[]>();
  for (const value of values) groups.set(keyOf(value), [...(groups.get(keyOf(value)) ?? []), value]);
  return groups;
}
