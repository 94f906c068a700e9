// Addresses and neighbours of a sync. A pod's address that others put on a link of the node diverts the pod's packets:
// it is removed, at most once a minute, and only reported when it returns or when its removal would delete other
// addresses. This is the one exception to "ours is marked". A free address of ours on a link is not given out.
// Also here: the gateways' addresses (IPv4's on `lo`, by which the node answers ARP for it on every link; IPv6's on each
// link of a pod that has IPv6, which is also the source of the node's own questions for neighbours), and removal of
// permanent neighbours on links of ours that point to a wrong MAC.
import {
  bitsOf,
  cidrContains,
  cidrOf,
  familyOf,
  formatCidr,
  formatIp,
  hostCidr,
  type Ip,
} from '../base/ip.ts';
import { type Address, type Link, MAIN_TABLE } from '../kernel/rtnetlink.ts';
import { gatewayOf, isV6, POD_GATEWAY, POD_GATEWAY6 } from './desired.ts';
import { isPrimary, linkMacs, PROTOCOL, slotKey, standInIndex } from './marks.ts';
import type { Kernel, Memory } from './memory.ts';
import type { Pass } from './pass.ts';
import { applyChanges } from './sync-links.ts';
import type { NodeDatapath, Told } from './types.ts';
import { gateway6On } from './wire.ts';

/** Ms between two removals of one address. */
export const REMOVAL_PAUSE_MS = 60_000;
/** `lo` has this index in every namespace. */
const LO = 1;
/** RT_SCOPE_LINK: the kernel chooses no such address as the source of what the node sends. */
const SCOPE_LINK = 253;

export const gatewayAddress = {
  index: LO,
  ip: POD_GATEWAY,
  length: 32,
  noPrefixRoute: true,
  scope: SCOPE_LINK,
};

const isGateway = (address: Address): boolean =>
  address.index === LO && address.ip === POD_GATEWAY && address.length === 32;

export function syncAddresses(
  kernel: Kernel,
  memory: Memory,
  node: NodeDatapath,
  links: readonly Link[],
  pass: Pass,
  clock: { now: number; tell: (told: Told) => void },
): void {
  const addresses = kernel.rt.addresses();
  if (!addresses.some(isGateway)) {
    const text = formatCidr(hostCidr(POD_GATEWAY));
    const op = { op: 'addr-add', ...gatewayAddress } as const;
    applyChanges(kernel, [{ op, object: `address ${text} of lo`, text: `add address ${text} to lo` }], pass);
  }
  syncGateways6(kernel, memory, addresses, pass);
  const holders = new Map(
    [...memory.pods.values()].flatMap((pod) => pod.ips.map((ip) => [ip, pod.hostIfname])),
  );
  const primaries = new Set(node.enis.map((eni) => eni.primaryIp));
  const nameOf = (index: number) => links.find((link) => link.index === index)?.name ?? `link ${index}`;
  const onLinks = new Map<Ip, string>();
  for (const address of addresses) {
    const { ip, length, index } = address;
    if (primaries.has(ip) || isGateway(address)) continue;
    if (!holders.has(ip)) {
      if (isOfEnis(node, ip)) onLinks.set(ip, nameOf(index));
      continue;
    }
    const what = `address ${formatIp(ip)}/${length} of ${nameOf(index)}`;
    const object = `${what}, which a pod holds`;
    const removedAt = memory.removedAt.get(object);
    const dependents = dependentsOf(address, addresses);
    if (removedAt !== undefined && clock.now - removedAt < REMOVAL_PAUSE_MS) {
      clock.tell({
        kind: 'address',
        object,
        ip,
        text: `${what}, which a pod holds, is back after its removal: somebody puts it there`,
      });
    } else if (dependents.length > 0) {
      clock.tell({
        kind: 'address',
        object,
        ip,
        text: `${what} is held by a pod and stays: ${dependents.map(formatIp).join(', ')} would go with it`,
      });
    } else if (pass.may(object, `remove ${object}`)) {
      memory.removedAt.set(object, clock.now);
      kernel.rt.tryApply([{ op: 'addr-del', index, ip, length }]);
      pass.done(`remove ${object}`);
    }
  }
  for (const [ip, at] of memory.removedAt)
    if (clock.now - at >= REMOVAL_PAUSE_MS) memory.removedAt.delete(ip);
  const elsewhere = routedElsewhere(kernel, memory, node);
  for (const [ip, index] of elsewhere) if (!holders.has(ip)) onLinks.set(ip, `${nameOf(index)} (a route)`);
  memory.elsewhere = new Set([...elsewhere.keys()].filter((ip) => !holders.has(ip)));
  memory.onLinks = onLinks;
}

/** A link that goes down loses its IPv6 addresses. */
export function syncGateways6(
  kernel: Kernel,
  memory: Memory,
  addresses: readonly Address[],
  pass: Pass,
): void {
  const six = [...memory.pods.values()].filter(({ ips }) => ips.some(isV6));
  if (six.length === 0) return;
  const there = new Set(addresses.filter(({ ip }) => ip === POD_GATEWAY6).map(({ index }) => index));
  const lacking = six.flatMap(({ hostIfname }) => {
    const index = memory.indexes.get(hostIfname);
    return index === undefined || there.has(index) ? [] : [{ hostIfname, index }];
  });
  applyChanges(
    kernel,
    lacking.map(({ hostIfname, index }) => {
      const object = `address ${formatIp(POD_GATEWAY6)} of ${hostIfname}`;
      return { op: { op: 'addr-add', ...gateway6On(index) }, object, text: `add ${object}` };
    }),
    pass,
  );
}

/**
 * Addresses of our ENIs that somebody routes to one link, with its index, as ptp and the AWS VPC CNI do for their pods: such
 * a pod keeps its network while Podway takes the node over, and nobody else gets its address.
 */
function routedElsewhere(kernel: Kernel, memory: Memory, node: NodeDatapath): Map<Ip, number> {
  const found = new Map<Ip, number>();
  for (const { dst, type, protocol, oif } of kernel.rt.routes({ table: MAIN_TABLE })) {
    if (type !== 'unicast' || protocol === PROTOCOL || oif === null) continue;
    if (dst.length !== bitsOf(familyOf(dst.ip)) || memory.eniLinks.has(oif)) continue;
    if (isOfEnis(node, dst.ip)) found.set(dst.ip, oif);
  }
  return found;
}

/** Addresses that the kernel would take off the link with this one (IFA_F_SECONDARY of the same prefix). */
function dependentsOf(address: Address, all: readonly Address[]): Ip[] {
  if (address.secondary || familyOf(address.ip) === 6 || address.length === bitsOf(4)) return [];
  const prefix = cidrOf(address.ip, address.length);
  return all
    .filter(
      (other) =>
        other.secondary &&
        other.index === address.index &&
        other.length === address.length &&
        cidrContains(prefix, other.ip),
    )
    .map((other) => other.ip);
}

const isOfEnis = (node: NodeDatapath, ip: Ip): boolean =>
  node.enis.some(
    (eni) => eni.addresses.includes(ip) || eni.prefixes.some((prefix) => cidrContains(prefix, ip)),
  );

/** Permanent neighbours with a wrong MAC for a pod or an ENI's router: without them the kernel asks by ARP. */
export function syncNeighbours(
  kernel: Kernel,
  memory: Memory,
  node: NodeDatapath,
  eniLinks: ReadonlyMap<string, Link>,
  pass: Pass,
): void {
  const routers = new Map<number, readonly Ip[]>();
  for (const eni of node.enis) {
    const link = eniLinks.get(slotKey(eni));
    if (link && !isPrimary(eni)) routers.set(link.index, [gatewayOf(eni, 4), gatewayOf(eni, 6)]);
  }
  for (const { vlan, subnetCidr } of node.branches ?? [])
    routers.set(standInIndex(vlan), [gatewayOf({ subnetCidr }, 4), gatewayOf({ subnetCidr }, 6)]);
  const wrong = kernel.rt.neighbours().filter(({ index, ip, mac, state, proxy }) => {
    if (proxy || (state !== 'permanent' && state !== 'noarp')) return false;
    if (routers.get(index)?.includes(ip)) return true;
    const name = memory.podLinks.get(index)?.name;
    return name !== undefined && memory.pods.get(name)!.ips.includes(ip) && mac !== linkMacs(name).pod;
  });
  applyChanges(
    kernel,
    wrong.map(({ index, ip }) => {
      const object = `neighbour ${formatIp(ip)} of link ${index}`;
      return { op: { op: 'neigh-del', index, ip }, object, text: `remove the fixed ${object}` };
    }),
    pass,
  );
}
