// The hot paths: wire a pod, cut a pod. Synchronous, about a millisecond and far less; netlink batches and map elements
// only. Invariant: wirePod leaves all of a pod or nothing; cutPod leaves a pod that can neither send nor receive.
// Fails with PodwayError (INVALID_NETNS for what is wrong with the sandbox) or the kernel's own error.
import { statSync } from 'node:fs';
import { PodwayError } from '../base/errors.ts';
import { bitsOf, type Family, familyOf, hostCidr, type Ip } from '../base/ip.ts';
import type { Mac } from '../base/mac.ts';
import { type Netns, openNetns } from '../kernel/netns.ts';
import { type Link, MAIN_TABLE, NetlinkError, RtNetlink, type RtOp } from '../kernel/rtnetlink.ts';
import { readSysctl, writeKnownSysctls, writeSysctl } from '../kernel/sysctl.ts';
import {
  anyOf,
  podRoutes as hostRoutes,
  isV6,
  linkLocalOn,
  POD_GATEWAY,
  POD_GATEWAY6,
  podGateway,
} from './desired.ts';
import {
  BRANCH_PODS_TABLE,
  cutGroup,
  GROUP_PODS,
  isCutGroup,
  linkMacs,
  NFT_TABLE,
  PODS_TABLE,
  PROTOCOL,
  RULE_POD_SOURCE,
  slotKey,
  standInIndex,
  standInName,
} from './marks.ts';
import type { Doors, Memory } from './memory.ts';
import { podKey, podsMap, sourceChain } from './nft.ts';
import { podEndSysctls, podLinkConf, podLinkIpv6 } from './sysctls.ts';
import type { CutTarget, PodRoute, PodWiring, WiredPod } from './types.ts';

/** Bytes (RFC 8200, section 5): below it the kernel turns IPv6 off on a link. */
const LEAST_MTU6 = 1280;

/** The families of a pod's addresses, in their order. */
export const familiesIn = (ips: readonly Ip[]): Family[] => [...new Set(ips.map(familyOf))];

/** The default routes of a pod with these addresses. */
export const defaultRoutes = (ips: readonly Ip[]): PodRoute[] =>
  familiesIn(ips).map((family) => ({ dst: anyOf(family) }));

/** The pod's routes as they will be. */
export const podRoutes = (routes: readonly PodRoute[] | undefined, ips: readonly Ip[]): readonly PodRoute[] =>
  routes ?? defaultRoutes(ips);

/** The gateway of a pod's IPv6 on its host link, usable at once. */
export const gateway6On = (index: number) =>
  ({ index, ip: POD_GATEWAY6, length: 128, noPrefixRoute: true, noDad: true }) as const;

const elementOp = (op: 'add' | 'del', ifindex: number, ip: Ip, chain: string) =>
  ({
    op,
    family: 'inet',
    table: NFT_TABLE,
    set: podsMap(familyOf(ip)),
    key: podKey(ifindex, ip),
    ...(op === 'add' ? { verdict: { kind: 'goto', chain } as const } : {}),
  }) as const;

export const elementAdd = (ifindex: number, ip: Ip, chain: string) => elementOp('add', ifindex, ip, chain);
export const elementDel = (ifindex: number, ip: Ip) => elementOp('del', ifindex, ip, '');

export function wirePod(kernel: Doors, memory: Memory, w: PodWiring): WiredPod {
  refuseBadSandbox(kernel, memory, w);
  const macs = linkMacs(w.hostIfname);
  const podMac = w.mac ?? macs.pod;
  const link = createPair(kernel, memory, w, macs.host, podMac);
  try {
    const six = w.ips.some(isV6);
    turnIpv6(kernel, w.hostIfname, six);
    // The node's end goes up first: the pod's end then finds its carrier at once, not after a kernel work item.
    kernel.rt.apply([
      ...(six ? [{ op: 'link-set', index: link.index, noLinkLocal: true } as const] : []),
      {
        op: 'link-set',
        index: link.index,
        up: true,
        conf4: podLinkConf(memory.node?.judged !== undefined),
        // The kernel takes an alias here, but not in the message that creates the link.
        ...(w.alias === undefined ? {} : { alias: w.alias }),
      },
      ...(six ? [{ op: 'addr-add', ...gateway6On(link.index) } as const] : []),
      ...hostRoutes(w, link.index).map((route) => ({ op: 'route-replace', ...route }) as const),
    ]);
    if (configurePod(kernel, w, link.peerIndex, { host: macs.host, pod: podMac }) === 'routes')
      memory.ruleless.add(w.hostIfname);
    // The node's end drops what it should send until a work item of the kernel has seen its carrier; asking for the link
    // does that now (Linux 6.8 on). Else the first SYN to a new pod may be lost, and comes again after a second.
    kernel.rt.settleCarrier(link.index);
    addElements(kernel, memory, w, link.index);
    memory.pods.set(w.hostIfname, {
      hostIfname: w.hostIfname,
      ips: w.ips,
      eni: w.eni,
      ...(w.vlan === undefined ? {} : { vlan: w.vlan, mode: w.mode }),
    });
    return {
      hostIfname: w.hostIfname,
      hostIfindex: link.index,
      hostMac: macs.host,
      podIfindex: link.peerIndex,
      podMac,
      mtu: w.mtu,
      ips: w.ips,
      gateways: familiesIn(w.ips).map(podGateway),
      routes: podRoutes(w.routes, w.ips),
    };
  } catch (error) {
    undo(kernel, memory, w);
    throw error;
  }
}

function turnIpv6(kernel: Doors, link: string, isOn: boolean): void {
  const { key, value } = podLinkIpv6(link, isOn);
  try {
    writeSysctl(kernel.netns, key, value);
  } catch (error) {
    // A kernel without IPv6 has no such file.
    if (readSysctl(kernel.netns, key) !== null) throw error;
  }
}

function refuseBadSandbox(kernel: Doors, memory: Memory, w: PodWiring): void {
  if (!memory.ready.has(slotKey(w.eni))) {
    throw new PodwayError(
      'DATAPATH_CHANGED',
      `ENI ${slotKey(w.eni)} is not set up on this node: its link is missing, or late`,
      { object: slotKey(w.eni) },
    );
  }
  if (w.vlan !== undefined && !kernel.rt.link(standInIndex(w.vlan))) {
    throw new PodwayError(
      'DATAPATH_CHANGED',
      `the stand-in of VLAN ${w.vlan} is not there: the trunk's link is missing, or late`,
      { object: standInName(w.vlan) },
    );
  }
  if (w.mtu < LEAST_MTU6 && w.ips.some(isV6)) {
    throw new PodwayError('INVALID_CONFIG', `mtu is ${w.mtu}, below ${LEAST_MTU6}: the least for IPv6`, {
      object: 'mtu',
      has: w.mtu,
      limit: LEAST_MTU6,
    });
  }
  if (w.netns.inode === kernel.netns.inode) {
    throw new PodwayError('INVALID_NETNS', `${w.netnsPath} is the node's own network namespace`, {
      object: w.netnsPath,
    });
  }
  // An open descriptor would keep a namespace alive after its name and pod are gone.
  let inode: bigint | undefined;
  try {
    inode = statSync(w.netnsPath, { bigint: true }).ino;
  } catch {
    inode = undefined;
  }
  if (inode !== w.netns.inode) {
    throw new PodwayError('INVALID_NETNS', `${w.netnsPath} vanished during ADD`, { object: w.netnsPath });
  }
}

function createPair(
  kernel: Doors,
  memory: Memory,
  w: PodWiring,
  hostMac: WiredPod['hostMac'],
  podMac: WiredPod['podMac'],
): Link {
  const create = {
    op: 'veth-add',
    name: w.hostIfname,
    mac: hostMac,
    mtu: w.mtu,
    group: GROUP_PODS,
    // With the default of one queue per CPU, creating the pair takes 50 % longer on two CPUs, and more on more.
    queues: 1,
    peer: { name: w.ifname, mac: podMac, mtu: w.mtu, netns: w.netns },
  } as const;
  // A link that is being removed may still have one of the two names.
  for (let cleared = 0; ; cleared++) {
    const made = kernel.rt.tryCreate(create);
    if (!made)
      throw new PodwayError('INTERNAL', `${w.hostIfname} vanished while it was being wired`, {
        object: w.hostIfname,
      });
    if (!(made instanceof NetlinkError)) return made;
    const error = made;
    if (error.code === 'EADDRNOTAVAIL') {
      throw new PodwayError(
        'INVALID_CONFIG',
        `${podMac} cannot be the MAC address of a link`,
        {},
        { cause: error },
      );
    }
    if (error.code !== 'EEXIST' || cleared === 2) throw error;
    if (!clearTheWay(kernel, memory, w)) {
      throw new PodwayError(
        'INVALID_NETNS',
        `${w.netnsPath} has an interface ${w.ifname} already`,
        { object: w.ifname },
        { cause: error },
      );
    }
  }
}

/** Deletes links of ours that are on their way out and hold one of the two names. False: somebody else's is there. */
function clearTheWay(kernel: Doors, memory: Memory, w: PodWiring): boolean {
  const own = kernel.rt.link(w.hostIfname);
  if (own) {
    if (own.up && memory.pods.has(w.hostIfname)) {
      throw new PodwayError(
        'ATTACHMENT_EXISTS',
        `${w.ifname} of container ${w.containerId} is wired already (${w.hostIfname})`,
      );
    }
    // The link was left by a kill during ADD, or was cut and is not yet deleted.
    kernel.rt.tryApply([{ op: 'link-del', index: own.index }]);
    memory.cut.delete(w.hostIfname);
    return true;
  }
  using pod = RtNetlink.open(w.netns);
  const peerIndex = pod.link(w.ifname)?.peerIndex ?? 0;
  const peer = peerIndex === 0 ? null : kernel.rt.link(peerIndex);
  if (!peer || !isCutGroup(peer.group) || !memory.cut.has(peer.name)) return false;
  kernel.rt.tryApply([{ op: 'link-del', index: peer.index }]);
  memory.cut.delete(peer.name);
  return true;
}

function routeOp(route: PodRoute, oif: number): RtOp {
  const gateway = route.gateway ?? (route.scope === 'link' ? undefined : podGateway(familyOf(route.dst.ip)));
  return {
    op: 'route-add',
    dst: route.dst,
    table: route.table ?? MAIN_TABLE,
    oif,
    protocol: PROTOCOL,
    // A link-local gateway is a neighbour by itself.
    ...(gateway === undefined ? {} : { gateway, ...(gateway === POD_GATEWAY6 ? {} : { onlink: true }) }),
    ...(route.mtu === undefined ? {} : { mtu: route.mtu }),
    ...(route.advmss === undefined ? {} : { advmss: route.advmss }),
    ...(route.priority === undefined ? {} : { metric: route.priority }),
    ...(route.scope === undefined ? {} : { scope: route.scope }),
  };
}

/** One batch inside the pod: link up, address, gateway with its permanent neighbour, routes. Answers what leads to it. */
function configurePod(
  kernel: Doors,
  w: PodWiring,
  index: number,
  macs: { host: Mac; pod: Mac },
): 'routes' | 'rules' {
  const families = familiesIn(w.ips);
  const six = families.includes(6);
  if (six) writeKnownSysctls(w.netns, podEndSysctls(w.ifname));
  using pod = kernel.openPod(w.netns);
  // The gateway of IPv6 is link-local, which needs no route.
  const toGateway = families.includes(4)
    ? [{ dst: hostCidr(POD_GATEWAY), oif: index, scope: 'link', protocol: PROTOCOL } as const]
    : [];
  const ops: RtOp[] = [
    ...(six ? [{ op: 'link-set', index, noLinkLocal: true } as const] : []),
    { op: 'link-set', index, up: true },
    ...families.map(
      (family) =>
        ({ op: 'neigh-replace', index, ip: podGateway(family), mac: macs.host, state: 'permanent' }) as const,
    ),
    ...w.ips.map((ip) => podAddress(index, ip)),
    ...(six ? [{ op: 'addr-add', ...linkLocalOn(index, macs.pod) } as const] : []),
  ];
  const routes: RtOp[] = [
    ...toGateway.map((route) => ({ op: 'route-add', table: MAIN_TABLE, ...route }) as const),
    ...podRoutes(w.routes, w.ips).map((route) => routeOp(route, index)),
  ];
  let isSecond = false;
  pod.tryApply([...ops, ...routes]).forEach((error, place) => {
    if (!error) return;
    if (place < ops.length) throw error;
    if (error.code !== 'EEXIST') {
      throw new PodwayError(
        'INVALID_CONFIG',
        `a route of the pod cannot be: ${error.message}`,
        { object: 'routes' },
        { cause: error },
      );
    }
    isSecond = true;
  });
  if (!isSecond) return 'routes';
  // Another interface keeps the main table's routes, so this interface's address gets its own table.
  const table = PODS_TABLE + index;
  pod.apply([
    ...toGateway.map((route) => ({ op: 'route-replace', table, ...route }) as const),
    ...families.map(
      (family) => ({ ...routeOp({ dst: anyOf(family), table }, index), op: 'route-replace' }) as RtOp,
    ),
    ...w.ips.map(
      (ip) =>
        ({
          op: 'rule-add',
          family: familyOf(ip),
          priority: RULE_POD_SOURCE,
          from: hostCidr(ip),
          table,
          protocol: PROTOCOL,
        }) as const,
    ),
  ]);
  return 'rules';
}

const podAddress = (index: number, ip: Ip): RtOp => ({
  op: 'addr-add',
  index,
  ip,
  length: bitsOf(familyOf(ip)),
  ...(isV6(ip) ? { noDad: true } : {}),
});

/** The rules of a second interface outlive its link, and the sandbox may live on. */
function dropPodRules(netns: Netns, ips: readonly Ip[]): void {
  using pod = RtNetlink.open(netns);
  const anyTable = 0;
  pod.tryApply(
    ips.map(
      (ip) =>
        ({
          op: 'rule-del',
          family: familyOf(ip),
          priority: RULE_POD_SOURCE,
          from: hostCidr(ip),
          table: anyTable,
          protocol: PROTOCOL,
        }) as const,
    ),
  );
}

function dropRulesAt(kernel: Doors, netnsPath: string, ips: readonly Ip[]): void {
  try {
    using netns = openNetns(netnsPath);
    if (netns.inode !== kernel.netns.inode) dropPodRules(netns, ips);
  } catch {
    // The sandbox is gone, and its rules with it.
  }
}

function addElements(kernel: Doors, memory: Memory, w: PodWiring, ifindex: number): void {
  // A link that others deleted has left its elements in the map.
  const before = memory.indexes.get(w.hostIfname);
  if (before !== undefined) dropElements(kernel, before, w.ips);
  memory.indexes.set(w.hostIfname, ifindex);
  try {
    kernel.nf.elements(w.ips.map((ip) => elementAdd(ifindex, ip, sourceChain(ip, w.eni, w.mode))));
  } catch (error) {
    const { code } = error as { code?: string };
    if (code === 'ENOENT') {
      throw new PodwayError(
        'DATAPATH_CHANGED',
        `the nft table inet ${NFT_TABLE} lacks ${familiesIn(w.ips).map(podsMap).join(', ')} or ${w.ips.map((ip) => sourceChain(ip, w.eni, w.mode)).join(', ')}: somebody removed it`,
        { object: `inet ${NFT_TABLE}` },
        { cause: error },
      );
    }
    throw error;
  }
}

/** In one transaction; a batch with one that is gone already would delete none, so then one by one. */
function dropElements(kernel: Doors, ifindex: number, ips: readonly Ip[]): void {
  try {
    kernel.nf.elements(ips.map((ip) => elementDel(ifindex, ip)));
  } catch (error) {
    // EINVAL: the map is of the version before this one, and the next sync makes it anew.
    if (!['ENOENT', 'EINVAL'].includes((error as { code?: string }).code ?? '')) throw error;
    if (ips.length > 1) for (const ip of ips) dropElements(kernel, ifindex, [ip]);
  }
}

function undo(kernel: Doors, memory: Memory, w: PodWiring): void {
  memory.pods.delete(w.hostIfname);
  if (!memory.ruleless.delete(w.hostIfname)) dropPodRules(w.netns, w.ips);
  const ifindex = memory.indexes.get(w.hostIfname);
  memory.indexes.delete(w.hostIfname);
  if (ifindex !== undefined) dropElements(kernel, ifindex, w.ips);
  // With the link go its peer, its addresses and all routes by it.
  kernel.rt.tryApply([{ op: 'link-del', name: w.hostIfname }]);
}

/**
 * First part of DEL. Setting the link down also deletes its routes in the same call, and the black holes apply.
 * Idempotent; needs only the name.
 */
export function cutPod(kernel: Doors, memory: Memory, target: CutTarget, now: number): void {
  const { hostIfname } = target;
  const ips = memory.pods.get(hostIfname)?.ips ?? target.ips ?? routedIps(kernel, hostIfname);
  // The index of a link that no sync has seen yet is read; if the link is gone, the sync removes its elements.
  const ifindex = memory.indexes.get(hostIfname) ?? kernel.rt.link(hostIfname)?.index;
  memory.pods.delete(hostIfname);
  memory.indexes.delete(hostIfname);
  const group = cutGroup(memory.cutCount);
  const [missing] = kernel.rt.tryApply([{ op: 'link-set', name: hostIfname, up: false, group }]);
  if (ifindex !== undefined) dropElements(kernel, ifindex, ips);
  if (!memory.ruleless.delete(hostIfname) && target.netnsPath !== undefined)
    dropRulesAt(kernel, target.netnsPath, ips);
  if (missing === null) {
    memory.cut.set(hostIfname, { at: now, group });
    memory.cutCount++;
  } else if (missing?.code !== 'ENODEV') throw missing;
}

function routedIps(kernel: Doors, hostIfname: string): Ip[] {
  const link = kernel.rt.link(hostIfname);
  if (!link) return [];
  return [PODS_TABLE, BRANCH_PODS_TABLE].flatMap((table) =>
    kernel.rt.routes({ table, protocol: PROTOCOL, oif: link.index }).map((route) => route.dst.ip),
  );
}
