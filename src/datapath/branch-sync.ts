// Makes the kernel match the branches of the node's state: stand-in links, programs, the trunk's link and the priority of
// the kernel's rule for local addresses. Loaded when a pod has a branch or a stand-in is left. Rules and routes come from
// branch.ts and are synced with all others; the nft table `inet podway-branch` is synced by branch-table.ts.

import { programsOn, setProgram } from '../kernel/bpf/hooks.ts';
import type { Program } from '../kernel/bpf/programs.ts';
import { keepOffSockets, popByIndex, pushTo } from '../kernel/bpf/programs.ts';
import type { Hook } from '../kernel/bpf/syscall.ts';
import { type Link, LOCAL_TABLE, type Rule } from '../kernel/rtnetlink.ts';
import { readSysctl, writeSysctl } from '../kernel/sysctl.ts';
import { acrossPair, type Branch, branchesOf, strictOf } from './branch.ts';
import { isV6, linkLocalOn } from './desired.ts';
import { findEniLink } from './enis.ts';
import {
  ARRIVAL_INNER,
  ARRIVAL_OUTER,
  BRANCH_INDEX,
  GROUP_ARRIVALS,
  GROUP_BRANCHES,
  isArrivalLink,
  isPodLinkName,
  isStandIn,
  linkMacs,
  PROTOCOL,
  standInIndex,
  standInName,
} from './marks.ts';
import type { Kernel, Memory } from './memory.ts';
import type { Pass } from './pass.ts';
import { podLinkConf } from './sysctls.ts';
import type { NodeDatapath } from './types.ts';

export { syncBranchTable } from './branch-table.ts';

/** RTPROT_KERNEL. */
const KERNEL_PROTOCOL = 2;

/** Stand-ins as they should be, made or removed, and the trunk up. Programs are syncPrograms'. */
export function syncStandIns(kernel: Kernel, node: NodeDatapath, links: readonly Link[], pass: Pass): void {
  const branches = branchesOf(node);
  const wanted = new Map(branches.map((branch) => [standInName(branch.vlan), branch]));
  const leaving = links.filter((link) => isStandIn(link) && !wanted.has(link.name));
  for (const link of leaving) {
    if (!pass.may(`link ${link.name}`, `remove ${link.name}`)) continue;
    kernel.rt.tryApply([{ op: 'link-del', index: link.index }]);
    pass.done(`remove ${link.name}, whose branch is gone`);
  }
  const trunk = trunkLink(node, links);
  syncPair(kernel, node, links, pass);
  // Late, or taken away: stand-ins stay as they are, and the next sync looks again.
  if (branches.length === 0 || trunk === undefined) return;
  if (!trunk.up || trunk.mtu !== node.eniMtu) {
    if (pass.may(`link ${trunk.name}`, `set the trunk ${trunk.name} up`)) {
      kernel.rt.apply([{ op: 'link-set', index: trunk.index, mtu: node.eniMtu, up: true }]);
      pass.done(`set the trunk ${trunk.name} up`);
    }
  }
  const byName = new Map(links.map((link) => [link.name, link]));
  for (const [name, branch] of wanted)
    standIn(kernel, node, branch, byName.get(name), byName.get(farEnd(name)), pass);
}

/**
 * The pair of links by which what arrives on the node crosses into the zones of strict pods; none without such a pod.
 */
function syncPair(kernel: Kernel, node: NodeDatapath, links: readonly Link[], pass: Pass): void {
  const strict = strictOf(node);
  const ends = [
    { ...ARRIVAL_OUTER, group: GROUP_ARRIVALS, mac: linkMacs(ARRIVAL_OUTER.name).host },
    { ...ARRIVAL_INNER, group: GROUP_BRANCHES, mac: linkMacs(ARRIVAL_INNER.name).host },
  ] as const;
  const [outer, inner] = ends;
  const there = links.filter(({ name }) => name === outer.name || name === inner.name);
  if (strict.length === 0) {
    for (const link of there.filter(isArrivalLink).slice(0, 1)) {
      if (!pass.may('link pwvout', 'remove pwvout')) return;
      kernel.rt.tryApply([{ op: 'link-del', index: link.index }]);
      pass.done('remove pwvout and pwvin, which no pod needs');
    }
    return;
  }
  const isRight = ends.every(({ name, index, group, mac }) =>
    there.some(
      (link) =>
        link.name === name &&
        link.index === index &&
        link.group === group &&
        link.mac === mac &&
        link.mtu === node.eniMtu &&
        link.up,
    ),
  );
  const six = strict.some(({ ips }) => ips.some(isV6));
  if (!isRight) {
    if (!pass.may('link pwvout', 'make pwvout')) return;
    for (const { name } of there) kernel.rt.tryApply([{ op: 'link-del', name }]);
    const mtu = node.eniMtu;
    const { name, index, mac } = inner;
    kernel.rt.apply([
      { op: 'veth-add', ...outer, mtu, queues: 1, peer: { name, index, mac, mtu } },
      { op: 'link-set', name, group: inner.group },
    ]);
    pass.done('make pwvout and pwvin');
  }
  for (const { name } of ends) setIpv6(kernel, name, six);
  if (!isRight) {
    const up = { up: true, conf4: podLinkConf(node.judged !== undefined) };
    kernel.rt.apply([
      ...(six ? ends.map(({ index }) => ({ op: 'link-set', index, noLinkLocal: true }) as const) : []),
      ...ends.map(({ index }) => ({ op: 'link-set', index, ...up }) as const),
    ]);
    for (const { index } of ends) kernel.rt.settleCarrier(index);
  }
  const families = six ? ([4, 6] as const) : ([4] as const);
  const known = kernel.rt.neighbours();
  for (const [{ index, name }, { mac }] of [
    [outer, inner],
    [inner, outer],
  ] as const) {
    for (const ip of families.map(acrossPair)) {
      const isKnown = known.some(
        (one) => one.index === index && one.ip === ip && one.mac === mac && one.state === 'permanent',
      );
      if (isKnown || !pass.may(`neighbour of ${name}`, `add the neighbour of ${name}`)) continue;
      kernel.rt.apply([{ op: 'neigh-replace', index, ip, mac, state: 'permanent' }]);
      if (isRight) pass.done(`add the neighbour of ${name}`);
    }
  }
}

/** All programs in place, and none on the trunk without a branch. The kernel tells nobody when one is taken away. */
export function syncPrograms(
  kernel: Kernel,
  memory: Memory,
  node: NodeDatapath,
  links: readonly Link[],
  pass: Pass,
): void {
  const branches = branchesOf(node);
  const trunk = trunkLink(node, links);
  memory.trunk = trunk?.index;
  if (trunk === undefined) return;
  const byName = new Map(links.map((link) => [link.name, link]));
  for (const branch of branches) {
    const name = standInName(branch.vlan);
    if (!byName.has(name)) continue;
    programStandIn(kernel, branch, trunk.index, pass);
    const pod = byName.get(branch.hostIfname);
    const isStandard = branch.mode === 'standard';
    if (pod) program(kernel, pod.index, pod.name, 'ingress', isStandard ? null : keepOffSockets(), pass);
  }
  const pop = branches.length > 0 ? popByIndex(BRANCH_INDEX) : null;
  program(kernel, trunk.index, trunk.name, 'ingress', pop, pass);
}

/** `trunk`: its link's index. */
export function programStandIn(
  kernel: Kernel,
  { vlan }: Pick<Branch, 'vlan'>,
  trunk: number,
  pass: Pass,
): void {
  program(kernel, standInIndex(vlan), standInName(vlan), 'egress', pushTo(vlan, trunk), pass);
}

export const farEnd = (standIn: string): string => `${standIn}x`;

const trunkLink = (node: Pick<NodeDatapath, 'trunk'>, links: readonly Link[]): Link | undefined =>
  node.trunk && findEniLink(links, node.trunk.mac);

/** `link` and `other`: its two ends as they are. */
export function standIn(
  kernel: Kernel,
  node: NodeDatapath,
  branch: Branch,
  link: Link | undefined,
  other: Link | undefined,
  pass: Pass,
): void {
  const name = standInName(branch.vlan);
  const index = standInIndex(branch.vlan);
  const isRight =
    link?.index === index &&
    link.mac === branch.mac &&
    link.mtu === node.eniMtu &&
    link.group === GROUP_BRANCHES &&
    link.up &&
    link.alias === branch.eniId &&
    other?.up === true;
  if (isRight || !pass.may(`link ${name}`, `make ${name}`)) return;
  if (link) kernel.rt.tryApply([{ op: 'link-del', index: link.index }]);
  const far = farEnd(name);
  const { mac } = branch;
  kernel.rt.apply([
    {
      op: 'veth-add',
      name,
      index,
      mac,
      mtu: node.eniMtu,
      group: GROUP_BRANCHES,
      alias: branch.eniId,
      queues: 1,
      peer: { name: far, mtu: node.eniMtu },
    },
    { op: 'link-set', name: far, group: GROUP_BRANCHES },
  ]);
  const six = branch.ips.some(isV6);
  setIpv6(kernel, far, false);
  setIpv6(kernel, name, six);
  kernel.rt.apply([
    { op: 'link-set', name: far, up: true },
    ...(six ? [{ op: 'link-set', index, noLinkLocal: true } as const] : []),
    { op: 'link-set', index, up: true, conf4: podLinkConf(node.judged !== undefined) },
    ...(six ? [{ op: 'addr-add', ...linkLocalOn(index, mac) } as const] : []),
  ]);
  kernel.rt.settleCarrier(index);
  pass.done(`make ${name} for ${branch.eniId}`);
}

function setIpv6(kernel: Kernel, link: string, isOn: boolean): void {
  const key = `net/ipv6/conf/${link}/disable_ipv6`;
  const value = isOn ? '0' : '1';
  const now = readSysctl(kernel.netns, key);
  if (now !== null && now !== value) writeSysctl(kernel.netns, key, value);
}

export function program(
  kernel: Kernel,
  index: number,
  link: string,
  hook: Hook,
  wanted: Program | null,
  pass: Pass,
): void {
  const names = programsOn(kernel.netns, index, hook, kernel.hooks);
  if (wanted === null ? names.length === 0 : names.length === 1 && names[0] === wanted.name) return;
  const what = `the program on ${link} (${hook})`;
  const text = `${wanted === null ? 'remove' : 'set'} ${what}`;
  if (!pass.may(what, text)) return;
  setProgram(kernel.netns, index, hook, wanted, kernel.hooks);
  pass.done(text);
}

/** Of all links but pods': the trunk is not known after a lost memory. */
export function removePrograms(kernel: Kernel, links: readonly Link[]): void {
  for (const link of links)
    if (!isPodLinkName(link.name) && !isStandIn(link)) setProgram(kernel.netns, link.index, 'ingress', null);
}

const isKernelsLocal = (rule: Rule): boolean =>
  rule.table === LOCAL_TABLE && rule.priority === 0 && rule.action === 'lookup' && rule.protocol !== PROTOCOL;

/**
 * Call before our rules change: puts the kernel's rule for local addresses back where no branch of the family is left, so
 * that there is always one.
 */
export function restoreLocalRule(kernel: Kernel, families: ReadonlySet<number>, pass: Pass): void {
  for (const family of [4, 6] as const) {
    const rules = kernel.rt.rules(family);
    if (families.has(family) || rules.length === 0 || rules.some(isKernelsLocal)) continue;
    kernel.rt.tryApply([
      { op: 'rule-add', family, priority: 0, table: LOCAL_TABLE, protocol: KERNEL_PROTOCOL },
    ]);
    pass.done(`put the kernel’s rule IPv${family} 0 for local back`);
  }
}

/** Call after our rules are in place: ours for local addresses stands behind those of the branches. */
export function moveLocalRule(kernel: Kernel, families: ReadonlySet<number>, pass: Pass): void {
  for (const rule of kernel.rt.rules()) {
    if (!families.has(rule.family) || !isKernelsLocal(rule)) continue;
    const { family, priority, table, protocol } = rule;
    kernel.rt.tryApply([{ op: 'rule-del', family, priority, table, protocol }]);
    pass.done(`move the kernel’s rule IPv${family} 0 for local behind the branches`);
  }
}
