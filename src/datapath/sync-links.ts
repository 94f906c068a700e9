// The links of a sync: ENIs' and pods'. A secondary ENI's link is entirely ours; of the primary's only some settings
// are. Pods' links are up and in our group; unused leftovers are cut; links of leaving ENIs are reset. Synchronous, so
// that no ADD or DEL runs between reading a link and changing it.
import type { Mac } from '../base/mac.ts';
import type { Link } from '../kernel/rtnetlink.ts';
import { readSysctls, writeSysctl } from '../kernel/sysctl.ts';
import { carries, eniAddress, has6, isV6, linkLocalOn } from './desired.ts';
import { type Change, diffAddresses } from './diff.ts';
import { findEniLink } from './enis.ts';
import {
  cutGroup,
  eniTable,
  GROUP_PODS,
  isBranchTable,
  isCutGroup,
  isOurGroup,
  isOurTable,
  isPodLinkName,
  isPrimary,
  linkMacs,
  PODS_TABLE,
  PROTOCOL,
  slotKey,
} from './marks.ts';
import type { Kernel, Memory } from './memory.ts';
import type { Pass } from './pass.ts';
import {
  nodeSysctls,
  nodeSysctls6,
  podLinkSysctls,
  primaryLinkSysctls,
  primaryLinkSysctls6,
  type SysctlRecord,
  secondaryLinkSysctls,
  secondaryLinkSysctls6,
} from './sysctls.ts';
import type { Eni, NodeDatapath } from './types.ts';

/** Links that every ENI of the state has, by slot key. */
export function linksOfEnis(node: NodeDatapath, links: readonly Link[]): Map<string, Link> {
  const candidates = links
    .filter((link) => !isPodLinkName(link.name))
    .map((link) => ({ name: link.name, mac: link.mac ?? undefined, kind: link.kind ?? undefined, link }));
  const found = new Map<string, Link>();
  for (const eni of node.enis) {
    const match = findEniLink(candidates, eni.mac);
    if (match) found.set(slotKey(eni), match.link);
  }
  return found;
}

/** Errors that mean that the object is already as wanted, or that its link is gone, down or withheld. */
const SETTLED_DELETION = new Set(['ESRCH', 'ENOENT', 'EADDRNOTAVAIL', 'ENODEV']);
const SETTLED_ADDITION = new Set(['EEXIST', 'ENETDOWN', 'ENODEV']);

export function applyChanges(kernel: Kernel, found: readonly Change[], pass: Pass): void {
  const wanted = found.filter((change) => pass.may(change.object, change.text));
  if (wanted.length === 0) return;
  kernel.rt.tryApply(wanted.map((change) => change.op)).forEach((error, place) => {
    const change = wanted[place]!;
    const settled = change.op.op.endsWith('-del') ? SETTLED_DELETION : SETTLED_ADDITION;
    if (error && !settled.has(error.code)) throw error;
    if (error?.code !== 'ENETDOWN') pass.done(change.text);
  });
}

/** Settings of the node and of all links of ours. Their values are read in one go: there are two for each pod. */
export function syncSysctls(
  kernel: Kernel,
  memory: Memory,
  sysctls: SysctlRecord,
  node: NodeDatapath,
  eniLinks: ReadonlyMap<string, Link>,
  pass: Pass,
): void {
  const ensure = (wanted: Parameters<SysctlRecord['ensure']>[0]) => {
    for (const key of sysctls.ensure(wanted, (key) => pass.may(key, `set ${key}`))) pass.done(`set ${key}`);
  };
  // Forwarding first: without it no pod has a network.
  ensure(nodeSysctls);
  const links = node.enis.flatMap((eni) => {
    const link = eniLinks.get(slotKey(eni));
    return link ? [{ eni, link }] : [];
  });
  for (const { eni, link } of links)
    ensure(isPrimary(eni) ? primaryLinkSysctls(link.name) : secondaryLinkSysctls(link.name));
  if (has6(node)) {
    for (const { eni, link } of links)
      ensure(isPrimary(eni) ? primaryLinkSysctls6(link.name) : secondaryLinkSysctls6(link.name));
    ensure(nodeSysctls6);
  }
  const wanted = [...memory.pods].flatMap(([name, { ips }]) =>
    podLinkSysctls(name, node.judged !== undefined, ips.some(isV6)),
  );
  const values = readSysctls(
    kernel.netns,
    wanted.map(({ key }) => key),
  );
  wanted.forEach(({ key, value, also }, place) => {
    const found = values[place];
    // The key is missing when the link is gone or IPv6 is off.
    if (found === value || found === also || found === null || !pass.may(key, `set ${key}`)) return;
    writeSysctl(kernel.netns, key, value);
    pass.done(`set ${key}`);
  });
}

/** A secondary ENI: MTU, its one address, up. Pods' addresses on it are handled by the address part. */
export function syncEniLink(
  kernel: Kernel,
  memory: Memory,
  node: NodeDatapath,
  eni: Eni,
  link: Link,
  pass: Pass,
): void {
  if (isPrimary(eni)) return;
  if (link.mtu !== node.eniMtu && pass.may(`mtu of ${link.name}`, `set mtu ${node.eniMtu} of ${link.name}`)) {
    kernel.rt.apply([{ op: 'link-set', index: link.index, mtu: node.eniMtu }]);
    pass.done(`set mtu ${node.eniMtu} of ${link.name}`);
  }
  const held = new Set([...memory.pods.values()].flatMap((pod) => pod.ips));
  const addresses = kernel.rt.addresses(link.index).filter((address) => !held.has(address.ip));
  applyChanges(kernel, diffAddresses(link.index, addresses, [eniAddress(eni)]), pass);
  const six = carries(eni, 6);
  if (!link.up) setUp(kernel, link, undefined, pass);
  if (six) addLinkLocal(kernel, eni, link, pass);
}

/** Without it the node cannot ask for the router. A link that goes down loses it. */
function addLinkLocal(kernel: Kernel, eni: Eni, link: Link, pass: Pass): void {
  const isThere = kernel.rt.addresses(link.index).some(({ ip, scope }) => isV6(ip) && scope !== 0);
  if (isThere) return;
  const op = { op: 'addr-add', ...linkLocalOn(link.index, eni.mac) } as const;
  const object = `link-local address of ${link.name}`;
  applyChanges(kernel, [{ op, object, text: `add the ${object}` }], pass);
}

/** Held pods' links. Returns the pods whose link is gone. */
export function syncPodLinks(
  kernel: Kernel,
  memory: Memory,
  podLinks: readonly Link[],
  pass: Pass,
): string[] {
  const byName = new Map(podLinks.map((link) => [link.name, link]));
  const missing: string[] = [];
  memory.podLinks.clear();
  for (const name of memory.indexes.keys()) if (!memory.pods.has(name)) memory.indexes.delete(name);
  for (const name of memory.pods.keys()) {
    const link = byName.get(name);
    if (!link) {
      missing.push(name);
      continue;
    }
    memory.indexes.set(name, link.index);
    const mac = linkMacs(name).host;
    if (link.mac !== mac) setMac(kernel, link, mac, pass);
    if (link.up && link.group === GROUP_PODS) memory.podLinks.set(link.index, { name, mac });
    else setUp(kernel, link, GROUP_PODS, pass);
  }
  return missing;
}

/** The host link's MAC: the pod has it as a permanent neighbour for its gateway. */
function setMac(kernel: Kernel, link: Link, mac: Mac, pass: Pass): void {
  const text = `set the MAC address of ${link.name}`;
  if (!pass.may(`MAC address of ${link.name}`, text)) return;
  kernel.rt.apply([{ op: 'link-set', index: link.index, mac }]);
  pass.done(text);
}

function setUp(kernel: Kernel, link: Link, group: number | undefined, pass: Pass): void {
  const text = `set ${link.name} up`;
  if (!pass.may(`link ${link.name}`, text)) return;
  kernel.rt.apply([
    { op: 'link-set', index: link.index, up: true, ...(group === undefined ? {} : { group }) },
  ]);
  // Reading the link makes the kernel notice the carrier now; otherwise it drops packets for a moment.
  kernel.rt.settleCarrier(link.index);
  pass.done(text);
}

/**
 * Cuts links of ours without a lease that carry no packets: cut before a kill, or made by an ADD that a kill ended. A
 * link that is up may be a pod's network even if the journal lacks it; only DEL and GC cut it.
 */
export function sweepOrphans(
  kernel: Kernel,
  memory: Memory,
  podLinks: readonly Link[],
  now: number,
  pass: Pass,
): void {
  for (const link of podLinks) {
    if (!isOurGroup(link.group) || memory.pods.has(link.name) || memory.cut.has(link.name)) continue;
    if (link.up && !isCutGroup(link.group)) continue;
    const group = cutGroup(memory.cutCount++);
    kernel.rt.tryApply([{ op: 'link-set', index: link.index, up: false, group }]);
    memory.cut.set(link.name, { at: now, group });
    pass.done(`cut ${link.name}, which no pod holds`);
  }
}

/**
 * Resets links of ENIs that the state no longer has: down and without our address. Their route tables identify them,
 * also after a restart.
 */
export function releaseLeavingLinks(
  kernel: Kernel,
  node: Pick<NodeDatapath, 'enis'>,
  done: (text: string) => void,
): void {
  const staying = new Set(node.enis.filter((eni) => !isPrimary(eni)).map(eniTable));
  const leaving = new Set<number>();
  for (const route of kernel.rt.routes({ protocol: PROTOCOL })) {
    const isEniRoute = isOurTable(route.table) && route.table > PODS_TABLE && !isBranchTable(route.table);
    if (isEniRoute && !staying.has(route.table) && route.oif !== null) leaving.add(route.oif);
  }
  for (const index of leaving) {
    const ours = kernel.rt.addresses(index).filter((address) => address.noPrefixRoute && address.scope === 0);
    kernel.rt.tryApply([
      ...ours.map(({ ip, length }) => ({ op: 'addr-del', index, ip, length }) as const),
      { op: 'link-set', index, up: false },
    ]);
    done(`set link ${index} down, whose ENI is leaving`);
  }
}
