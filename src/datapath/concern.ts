// Decides whether a kernel notification reports a foreign change of our objects, and which part of a sync checks it.
// Pure. Our own changes of routes, rules, addresses and elements are filtered out earlier, by the port that made them.
// For links and settings the kernel gives no port: their values are compared. A wrong yes costs one comparison.
import { bitsOf, cidrContains, familyOf, type Ip } from '../base/ip.ts';
import type { KernelEvent } from '../kernel/monitor.ts';
import { MAIN_TABLE, type Route } from '../kernel/rtnetlink.ts';
import { has6, isV6, POD_GATEWAY, POD_GATEWAY6 } from './desired.ts';
import {
  ARRIVAL_TABLE,
  BRANCH_PODS_TABLE,
  GROUP_PODS,
  isBranchLink,
  isFarEnd,
  isOurTable,
  isPodLinkName,
  isStandInIndex,
  PODS_TABLE,
  PROTOCOL,
} from './marks.ts';
import type { Memory } from './memory.ts';
import { PODS_MAPS } from './nft.ts';
import type { Part } from './parts.ts';
import type { NodeDatapath } from './types.ts';

/** Table of the kernel's rule behind `main`. */
const DEFAULT_TABLE = 253;

type Known = Pick<Memory, 'node' | 'pods' | 'eniLinks' | 'podLinks' | 'standIns'>;

export function concernOf(event: KernelEvent, known: Known): Part | null {
  const { node } = known;
  if (!node) return null;
  switch (event.kind) {
    case 'link':
      return concernsLink(event, known, node) ? 'links' : null;
    case 'address':
      return concernOfAddress(event, known, node);
    case 'route':
      if (isOfCutPod(event, known) || isOfGoneBranch(event, node)) return null;
      if (isOurTable(event.route.table)) return 'routes';
      return isPodRouteOfOthers(event.route, known, node) ? 'addresses' : null;
    case 'rule': {
      const { protocol, table } = event.rule;
      const isKernels = event.change === 'del' && (table === MAIN_TABLE || table === DEFAULT_TABLE);
      return isKernels || protocol === PROTOCOL || isOurTable(table) ? 'rules' : null;
    }
    case 'neighbour': {
      const { index, state, proxy } = event.neighbour;
      const isFixed = state === 'permanent' || state === 'noarp';
      const isOurs = known.podLinks.has(index) || known.eniLinks.has(index) || isStandInIndex(index);
      return event.change === 'new' && isFixed && !proxy && isOurs ? 'neighbours' : null;
    }
    case 'netconf': {
      const { family, index, forwarding, rpFilter } = event.netconf;
      // A link's own forwarding means nothing in IPv6: that of the namespace counts.
      if (family === 6) return index < 0 && forwarding === 0 && has6(node) ? 'sysctls' : null;
      if (index < 0) return forwarding === 0 ? 'sysctls' : null;
      const isPods = known.podLinks.has(index);
      if (!isPods && !known.eniLinks.has(index)) return null;
      const isFilterRight = rpFilter === undefined || rpFilter === 2 || (isPods && rpFilter === 0);
      return forwarding === 0 || !isFilterRight ? 'sysctls' : null;
    }
    case 'nftables':
      return event.object === 'element' && PODS_MAPS.includes(event.set ?? '') ? 'elements' : 'table';
    default:
      return null;
  }
}

/** When a link goes down the kernel tells of its IPv6 routes, and of no other. */
function isOfCutPod(
  { change, route: { table, dst } }: KernelEvent & { kind: 'route' },
  known: Known,
): boolean {
  if (change !== 'del' || (table !== PODS_TABLE && table !== BRANCH_PODS_TABLE) || !isV6(dst.ip))
    return false;
  for (const { ips } of known.pods.values()) if (ips.includes(dst.ip)) return false;
  return true;
}

/** The same of a branch that is taken away. */
function isOfGoneBranch({ change, route }: KernelEvent & { kind: 'route' }, { branches = [] }: NodeDatapath) {
  const vlan = route.table - BRANCH_PODS_TABLE;
  const isBranchs = vlan > 0 && vlan < ARRIVAL_TABLE - BRANCH_PODS_TABLE;
  return change === 'del' && isBranchs && isV6(route.dst.ip) && !branches.some((one) => one.vlan === vlan);
}

function concernsLink(
  { change, link }: KernelEvent & { kind: 'link' },
  known: Known,
  node: NodeDatapath,
): boolean {
  const was = known.podLinks.get(link.index);
  if (known.pods.has(link.name)) {
    if (change === 'del') return true;
    // ADD makes its link down and then sets it up, so down counts only after the link was up.
    return was !== undefined && (!link.up || link.group !== GROUP_PODS || link.mac !== was.mac);
  }
  // A known pod link was renamed or moved away.
  if (was !== undefined) return known.pods.has(was.name);
  if (isPodLinkName(link.name)) return false;
  // As a pod's: made down, and set up then.
  if (isBranchLink(link) || isFarEnd(link))
    return isWanted(link.name, node) && (change === 'del' || (!link.up && known.standIns.has(link.index)));
  const eniLink = known.eniLinks.get(link.index);
  const eni = node.enis.find((one) => one.mac === link.mac);
  if (change === 'del' || !eni) return eniLink !== undefined;
  if (eniLink?.name !== link.name) return true;
  const isPrimary = eni.deviceIndex === 0 && eni.networkCard === 0;
  return !isPrimary && (!link.up || link.mtu !== node.eniMtu);
}

/** Of a link that is there for branches: some branch still needs it. */
function isWanted(name: string, { branches = [] }: NodeDatapath): boolean {
  const vlan = /^pwv(\d+)x?$/.exec(name)?.[1];
  return vlan === undefined ? branches.length > 0 : branches.some((branch) => branch.vlan === Number(vlan));
}

function concernOfAddress(
  { change, address }: KernelEvent & { kind: 'address' },
  known: Known,
  node: NodeDatapath,
): Part | null {
  if (address.ip === POD_GATEWAY) return 'addresses';
  if (address.ip === POD_GATEWAY6) {
    // The kernel tells our own change too. A cut pod's goes with its link.
    const name = known.podLinks.get(address.index)?.name;
    return change === 'del' && name !== undefined && known.pods.has(name) ? 'addresses' : null;
  }
  // IPv6 adds a link-local address to every link that goes up.
  if (address.scope !== 0) return null;
  return known.eniLinks.has(address.index) || isOfOurEnis(node, address.ip) ? 'addresses' : null;
}

/** As another network plugin makes one for a pod of its own; see sync-addresses.ts. */
function isPodRouteOfOthers({ table, dst, protocol, oif }: Route, known: Known, node: NodeDatapath): boolean {
  if (table !== MAIN_TABLE || protocol === PROTOCOL || oif === null || known.eniLinks.has(oif)) return false;
  return dst.length === bitsOf(familyOf(dst.ip)) && isOfOurEnis(node, dst.ip);
}

function isOfOurEnis(node: NodeDatapath, ip: Ip): boolean {
  return node.enis.some(
    (eni) => eni.addresses.includes(ip) || eni.prefixes.some((prefix) => cidrContains(prefix, ip)),
  );
}
