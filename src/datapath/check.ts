// CHECK: compares what ADD made with the kernel, and returns every difference as text. Reads only. Ignores routes and
// addresses that later plugins of the chain added (the CNI spec allows them).
import { formatCidr, formatIp, hostCidr } from '../base/ip.ts';
import { type Netns, openNetns } from '../kernel/netns.ts';
import { type Address, type Link, type Route, RtNetlink } from '../kernel/rtnetlink.ts';
import { isV6, POD_GATEWAY, POD_GATEWAY6, podGateway } from './desired.ts';
import type { PodElement } from './diff.ts';
import { BRANCH_PODS_TABLE, isPodLinkName, isStandIn, PODS_TABLE, PROTOCOL } from './marks.ts';
import type { Kernel } from './memory.ts';
import { sourceChain } from './nft.ts';
import { observeElements } from './observe.ts';
import type { CheckTarget } from './types.ts';
import { familiesIn, podRoutes } from './wire.ts';

/** The node's side of all pods, listed once for a comparison of many. */
export type NodeView = {
  readonly podLinks: readonly Link[];
  /** Stand-ins of branches. */
  readonly standIns: readonly Link[];
  readonly linkMacs: ReadonlySet<string>;
  readonly routes: readonly Route[];
  readonly elements: readonly PodElement[];
  /** On the node's own links. */
  readonly addresses: readonly Address[];
};

export function observeNode(kernel: Kernel): NodeView {
  const links = kernel.rt.links();
  const podLinks = links.filter((link) => isPodLinkName(link.name));
  return {
    podLinks,
    standIns: links.filter(isStandIn),
    linkMacs: new Set(links.flatMap(({ mac }) => (mac === null ? [] : [mac]))),
    routes: [PODS_TABLE, BRANCH_PODS_TABLE].flatMap((table) =>
      kernel.rt.routes({ table, protocol: PROTOCOL }),
    ),
    elements: observeElements(kernel, podLinks, [4, 6]),
    addresses: kernel.rt.addresses(),
  };
}

/** The differences; empty when there are none. Without a `view` the node's side is read anew. */
export function checkPod(kernel: Kernel, target: CheckTarget, view = observeNode(kernel)): string[] {
  if (target.netnsPath === undefined) return checkNode(view, target, undefined);
  let netns: Netns;
  try {
    netns = openNetns(target.netnsPath);
  } catch (error) {
    return [`network namespace: ${(error as Error).message}`, ...checkNode(view, target, undefined)];
  }
  try {
    const { wrong, peerIndex } = checkInside(netns, target);
    return [...wrong, ...checkNode(view, target, peerIndex)];
  } finally {
    netns.close();
  }
}

function checkInside(netns: Netns, target: CheckTarget): { wrong: string[]; peerIndex: number | undefined } {
  using pod = RtNetlink.open(netns);
  const link = pod.link(target.ifname);
  if (!link)
    return { wrong: [`interface ${target.ifname} is missing in ${target.netnsPath}`], peerIndex: undefined };
  const wrong: string[] = [];
  if (!link.up) wrong.push(`interface ${target.ifname} is down`);
  if (target.mac !== undefined && link.mac !== target.mac) {
    wrong.push(`interface ${target.ifname} has MAC address ${link.mac}, not ${target.mac}`);
  }
  if (target.mtu !== undefined && link.mtu !== target.mtu) {
    wrong.push(`interface ${target.ifname} has MTU ${link.mtu}, not ${target.mtu}`);
  }
  const addresses = pod.addresses(link.index);
  for (const ip of target.ips) {
    if (!addresses.some((address) => address.ip === ip))
      wrong.push(`address ${formatIp(ip)} is missing on ${target.ifname}`);
  }
  const routes = pod.routes({ oif: link.index });
  const families = familiesIn(target.ips);
  const toGateway = families.includes(4) ? [{ dst: hostCidr(POD_GATEWAY) }] : [];
  const wanted = [...toGateway, ...podRoutes(target.routes, target.ips)];
  for (const { dst } of wanted) {
    // The table is not compared: a pod's second interface has its own route table.
    if (!routes.some((route) => formatCidr(route.dst) === formatCidr(dst) && route.type === 'unicast')) {
      wrong.push(`route ${formatCidr(dst)} by ${target.ifname} is missing`);
    }
  }
  const neighbours = pod.neighbours(link.index);
  for (const gateway of families.map(podGateway)) {
    if (neighbours.find((entry) => entry.ip === gateway)?.state !== 'permanent')
      wrong.push(`the permanent neighbour ${formatIp(gateway)} is missing`);
  }
  return { wrong, peerIndex: link.peerIndex };
}

function checkNode(view: NodeView, target: CheckTarget, peerIndex: number | undefined): string[] {
  const wrong: string[] = [];
  const link = view.podLinks.find(({ name }) => name === target.hostIfname);
  if (!link) {
    wrong.push(`host link ${target.hostIfname} is missing`);
  } else {
    if (!link.up) wrong.push(`host link ${target.hostIfname} is down`);
    const isOn = view.addresses.some(({ index, ip }) => index === link.index && ip === POD_GATEWAY6);
    if (target.ips.some(isV6) && !isOn)
      wrong.push(`address ${formatIp(POD_GATEWAY6)} is missing on host link ${target.hostIfname}`);
    if (peerIndex !== undefined && peerIndex !== link.index) {
      wrong.push(`host link ${target.hostIfname} is not the other end of ${target.ifname}`);
    }
  }
  for (const ip of target.ips) {
    const taken = view.addresses.find((address) => address.ip === ip);
    if (taken) wrong.push(`${formatIp(ip)} is on link ${taken.index} of the node, which takes its packets`);
    if (!view.routes.some((route) => route.oif === link?.index && route.dst.ip === ip)) {
      wrong.push(`route to ${formatIp(ip)} is missing in table ${PODS_TABLE}`);
    }
    const chain = view.elements.find(
      (element) => element.ifindex === link?.index && element.ip === ip,
    )?.chain;
    const wanted = target.eni && sourceChain(ip, target.eni, target.mode);
    if (wanted !== null && chain !== wanted) {
      wrong.push(`the nft map leads ${formatIp(ip)} to ${chain ?? 'nothing'}, not ${wanted}`);
    }
  }
  return wrong;
}
