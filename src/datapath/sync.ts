// Brings the kernel to what the memory says: observe, diff, apply. Idempotent, at any time, after any kill: what is
// right is not touched, so running pods notice nothing. Invariant: no await stands between an observation of the kernel
// and the change made from it, except for the nft table's structure, which the hot paths never change.
// Order: a new ENI gets its link, table and rule, then its chain, then pods; a leaving one loses them backwards.

import { NftError } from '../kernel/nftables.ts';
import type { Link } from '../kernel/rtnetlink.ts';
import { readSysctl, writeSysctl } from '../kernel/sysctl.ts';
import { desiredRoutes, desiredRules, eniAddress, podRoute } from './desired.ts';
import { type Change, diffAddresses, diffElements, diffRoutes, diffRules } from './diff.ts';
import { assignMarks, findEniLink } from './enis.ts';
import {
  cutGroup,
  eniTable,
  GROUP_PODS,
  isCutGroup,
  isOurGroup,
  isOurTable,
  isPodLinkName,
  isPrimary,
  NFT_TABLE,
  PODS_TABLE,
  PROTOCOL,
  RULE_ENI,
  slotKey,
} from './marks.ts';
import type { Kernel, Memory } from './memory.ts';
import { eniChain, renderRebuild, renderTable, renderUpdate } from './nft.ts';
import { observeElements, observeTable } from './observe.ts';
import {
  nodeSysctls,
  podLinkSysctls,
  primaryLinkSysctls,
  type SysctlRecord,
  secondaryLinkSysctls,
} from './sysctls.ts';
import type { Eni, NodeDatapath, SyncReport } from './types.ts';
import { elementAdd, elementDel } from './wire.ts';

export async function syncKernel(
  kernel: Kernel,
  memory: Memory,
  sysctls: SysctlRecord,
  now: () => number,
): Promise<SyncReport & { absent: readonly Eni[] }> {
  const changes: string[] = [];
  // A newer state may arrive at each await; the next sync brings it. This one sees one state from end to end.
  const node = memory.node;
  if (!node) throw new Error('sync before the first node state');

  const links = kernel.rt.links();
  const eniLinks = linksOfEnis(node, links);
  changes.push(...sysctls.ensure(nodeSysctls).map((key) => `set ${key}`));
  for (const eni of node.enis) {
    const link = eniLinks.get(slotKey(eni));
    if (link) changes.push(...syncEniLink(kernel, sysctls, node, eni, link));
  }
  memory.marks = assignMarks(node.enis, recordedMarks(kernel));
  const podLinks = links.filter((link) => isPodLinkName(link.name));
  const missingPods = syncPodLinks(kernel, memory, podLinks, changes);
  sweepOrphans(kernel, memory, podLinks, now(), changes);
  releaseLeavingLinks(kernel, node, changes);
  syncRules(kernel, node, memory.marks, changes);
  syncRoutes(kernel, memory, node, eniLinks, changes);

  await syncTable(kernel, memory, node, eniLinks, changes);

  memory.ready = new Set(node.enis.map(slotKey).filter((key) => eniLinks.has(key)));
  const absent = node.enis.filter((eni) => !eniLinks.has(slotKey(eni)));
  return { changes, missingPods, absent };
}

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

const recordedMarks = (kernel: Kernel) =>
  kernel.rt
    .rules(4)
    .filter((rule) => rule.protocol === PROTOCOL && rule.priority === RULE_ENI)
    .map((rule) => ({ table: rule.table, mark: rule.fwmark }));

function applyChanges(kernel: Kernel, found: readonly Change[], changes: string[]): void {
  if (found.length === 0) return;
  kernel.rt.tryApply(found.map((change) => change.op)).forEach((error, place) => {
    const change = found[place]!;
    // What somebody removed, or made, in the same instant is as wanted.
    const isDeletion = change.op.op.endsWith('-del');
    const isSettled = isDeletion
      ? ['ESRCH', 'ENOENT', 'EADDRNOTAVAIL', 'ENODEV'].includes(error?.code ?? '')
      : error?.code === 'EEXIST';
    if (error && !isSettled) throw error;
    changes.push(change.text);
  });
}

function syncEniLink(
  kernel: Kernel,
  sysctls: SysctlRecord,
  node: NodeDatapath,
  eni: Eni,
  link: Link,
): string[] {
  const changes: string[] = [];
  if (isPrimary(eni)) {
    // Its address, routes and MTU are the operating system's.
    return sysctls.ensure(primaryLinkSysctls(link.name)).map((key) => `set ${key}`);
  }
  changes.push(...sysctls.ensure(secondaryLinkSysctls(link.name)).map((key) => `set ${key}`));
  if (link.mtu !== node.eniMtu) {
    kernel.rt.apply([{ op: 'link-set', index: link.index, mtu: node.eniMtu }]);
    changes.push(`set mtu ${node.eniMtu} of ${link.name}`);
  }
  applyChanges(
    kernel,
    diffAddresses(link.index, kernel.rt.addresses(link.index), [eniAddress(eni)]),
    changes,
  );
  if (!link.up) {
    kernel.rt.apply([{ op: 'link-set', index: link.index, up: true }]);
    changes.push(`set ${link.name} up`);
  }
  return changes;
}

/** Held pods' links: up, in our group, loose filter. Returns the pods whose link is gone. */
function syncPodLinks(
  kernel: Kernel,
  memory: Memory,
  podLinks: readonly Link[],
  changes: string[],
): string[] {
  const byName = new Map(podLinks.map((link) => [link.name, link]));
  const missing: string[] = [];
  for (const name of memory.pods.keys()) {
    const link = byName.get(name);
    if (!link) {
      missing.push(name);
      continue;
    }
    if (!link.up || link.group !== GROUP_PODS) {
      kernel.rt.apply([{ op: 'link-set', index: link.index, up: true, group: GROUP_PODS }]);
      changes.push(`set ${name} up`);
    }
    for (const { key, value, optional } of podLinkSysctls(name, memory.node?.judged !== undefined)) {
      const is = readSysctl(kernel.netns, key);
      if (is === value || (is === null && optional)) continue;
      writeSysctl(kernel.netns, key, value);
      changes.push(`set ${key}`);
    }
  }
  return missing;
}

/**
 * Links of ours that nobody holds and no packet passes: cut before a kill, or made by an ADD that a kill ended. One that
 * is up is somebody's network, whatever the journal says; only DEL and GC cut it.
 */
function sweepOrphans(
  kernel: Kernel,
  memory: Memory,
  podLinks: readonly Link[],
  now: number,
  changes: string[],
): void {
  for (const link of podLinks) {
    if (!isOurGroup(link.group) || memory.pods.has(link.name) || memory.cut.has(link.name)) continue;
    if (link.up && !isCutGroup(link.group)) continue;
    const group = cutGroup(memory.cutCount++);
    kernel.rt.tryApply([{ op: 'link-set', index: link.index, up: false, group }]);
    memory.cut.set(link.name, { at: now, group });
    changes.push(`cut ${link.name}, which no pod holds`);
  }
}

/**
 * Links of ENIs that the state has no more: as they came, down and without our address. Their route tables tell which
 * they were, also after a restart.
 */
export function releaseLeavingLinks(
  kernel: Kernel,
  node: Pick<NodeDatapath, 'enis'>,
  changes: string[],
): void {
  const staying = new Set(node.enis.filter((eni) => !isPrimary(eni)).map(eniTable));
  const leaving = new Set<number>();
  for (const route of kernel.rt.routes({ protocol: PROTOCOL })) {
    const isEniRoute = isOurTable(route.table) && route.table > PODS_TABLE;
    if (isEniRoute && !staying.has(route.table) && route.oif !== null) leaving.add(route.oif);
  }
  for (const index of leaving) {
    const ours = kernel.rt.addresses(index).filter((address) => address.noPrefixRoute && address.scope === 0);
    kernel.rt.tryApply([
      ...ours.map(({ ip, length }) => ({ op: 'addr-del', index, ip, length }) as const),
      { op: 'link-set', index, up: false },
    ]);
    changes.push(`set link ${index} down, whose ENI is leaving`);
  }
}

function syncRules(
  kernel: Kernel,
  node: NodeDatapath,
  marks: ReadonlyMap<string, number>,
  changes: string[],
): void {
  applyChanges(kernel, diffRules(kernel.rt.rules(), desiredRules(node, marks)), changes);
}

function syncRoutes(
  kernel: Kernel,
  memory: Memory,
  node: NodeDatapath,
  eniLinks: ReadonlyMap<string, Link>,
  changes: string[],
): void {
  const eniIndexes = new Map([...eniLinks].map(([key, link]) => [key, link.index]));
  const podIndexes = new Map(
    kernel.rt
      .links()
      .filter((link) => memory.pods.has(link.name))
      .map((link) => [link.name, link.index]),
  );
  const podRoutes = [...memory.pods.values()].flatMap((pod) => {
    const index = podIndexes.get(pod.hostIfname);
    return index === undefined ? [] : pod.ips.map((ip) => podRoute(ip, index));
  });
  const desired = [...desiredRoutes(node, eniIndexes), ...podRoutes];
  applyChanges(kernel, diffRoutes(kernel.rt.routes({ protocol: PROTOCOL }), desired), changes);
}

async function syncTable(
  kernel: Kernel,
  memory: Memory,
  node: NodeDatapath,
  eniLinks: ReadonlyMap<string, Link>,
  changes: string[],
): Promise<void> {
  const linkNames = new Map([...eniLinks].map(([key, link]) => [key, link.name]));
  const text = renderTable({ node, marks: memory.marks, linkNames });
  const wanted = chainsOf(text);
  const observed = await observeTable(kernel);
  const stale = (observed?.chains ?? []).filter((name) => !wanted.has(name));
  const isRight = observed !== null && memory.table?.text === text && memory.table.kernel === observed.kernel;
  if (!isRight) {
    // A chain that an element names can go only after the element.
    const named = new Set(observeElements(kernel).map((element) => element.chain));
    try {
      await kernel.nft.run(
        renderUpdate(
          text,
          stale.filter((name) => !named.has(name)),
        ),
      );
      changes.push(observed ? 'update the nft table' : 'make the nft table');
    } catch (error) {
      if (!(error instanceof NftError) || observed === null) throw error;
      await kernel.nft.run(renderRebuild(text));
      changes.push('make the nft table anew');
    }
  }
  syncElements(kernel, memory, wanted, changes);
  if (isRight) return;
  const after = await observeTable(kernel);
  const left = (after?.chains ?? []).filter((name) => !wanted.has(name));
  if (left.length > 0)
    await kernel.nft.run(left.map((name) => `delete chain inet ${NFT_TABLE} ${name}\n`).join(''));
  const kept = left.length > 0 ? await observeTable(kernel) : after;
  memory.table = kept ? { text, kernel: kept.kernel } : undefined;
}

const chainsOf = (text: string): Set<string> =>
  new Set([...text.matchAll(/^ {2}chain (\S+) \{/gm)].map((match) => match[1]!));

/** The pods' elements as the memory has them now. Synchronous from the listing on: no hot path comes between. */
function syncElements(
  kernel: Kernel,
  memory: Memory,
  wantedChains: ReadonlySet<string>,
  changes: string[],
): void {
  const desired = [...memory.pods.values()]
    .flatMap(({ hostIfname, ips, eni }) =>
      eni === null ? [] : ips.map((ip) => ({ hostIfname, ip, chain: eniChain(eni), eni })),
    )
    .filter((element) => wantedChains.has(element.chain));
  const { remove, add } = diffElements(observeElements(kernel), desired);
  const eniOf = new Map(desired.map((element) => [`${element.hostIfname} ${element.ip}`, element.eni]));
  kernel.nf.elements([
    ...remove.map(({ hostIfname, ip }) => elementDel(hostIfname, ip)),
    ...add.map(({ hostIfname, ip }) => elementAdd(hostIfname, ip, eniOf.get(`${hostIfname} ${ip}`)!)),
  ]);
  changes.push(...remove.map((element) => `remove ${element.hostIfname} from the nft map`));
  changes.push(...add.map((element) => `add ${element.hostIfname} to the nft map`));
}
