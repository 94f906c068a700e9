// Makes the kernel match the branches of the node's state: stand-in links and programs, the trunk's link, the place of
// the kernel's rule for local addresses, the nft table `inet podway-branch`. Loaded when a pod has a branch, or a stand-in
// is left. Rules and routes are synced with all others, from branch.ts.

import { programsOn, setProgram } from '../kernel/bpf/hooks.ts';
import type { Program } from '../kernel/bpf/programs.ts';
import { keepOffSockets, popByIndex, pushTo } from '../kernel/bpf/programs.ts';
import type { Hook } from '../kernel/bpf/syscall.ts';
import { type Link, LOCAL_TABLE, type Rule } from '../kernel/rtnetlink.ts';
import { readSysctl, writeSysctl } from '../kernel/sysctl.ts';
import { type Branch, branchesOf, renderBranchScript, renderBranchTable } from './branch.ts';
import { isV6, linkLocalOn } from './desired.ts';
import { findEniLink } from './enis.ts';
import {
  BRANCH_INDEX,
  BRANCH_TABLE,
  GROUP_BRANCHES,
  isPodLinkName,
  isStandIn,
  PROTOCOL,
  standInIndex,
  standInName,
} from './marks.ts';
import type { Kernel, Memory } from './memory.ts';
import type { Pass } from './pass.ts';
import { podLinkConf } from './sysctls.ts';
import type { NodeDatapath } from './types.ts';

/** RTPROT_KERNEL. */
const KERNEL_PROTOCOL = 2;

/** Stand-ins as they should be, made or removed; the trunk up, and all programs in place. */
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
  if (branches.length === 0) {
    if (trunk) program(kernel, trunk.index, trunk.name, 'ingress', null, pass);
    return;
  }
  // Late, or taken away: stand-ins stay as they are, and the next sync looks again.
  if (trunk === undefined) return;
  if (!trunk.up || trunk.mtu !== node.eniMtu) {
    if (pass.may(`link ${trunk.name}`, `set the trunk ${trunk.name} up`)) {
      kernel.rt.apply([{ op: 'link-set', index: trunk.index, mtu: node.eniMtu, up: true }]);
      pass.done(`set the trunk ${trunk.name} up`);
    }
  }
  const byName = new Map(links.map((link) => [link.name, link]));
  for (const [name, branch] of wanted) {
    standIn(kernel, node, branch, byName.get(name), pass);
    program(kernel, standInIndex(branch.vlan), name, 'egress', pushTo(branch.vlan, trunk.index), pass);
    const pod = byName.get(branch.hostIfname);
    const isStandard = branch.mode === 'standard';
    if (pod) program(kernel, pod.index, pod.name, 'ingress', isStandard ? null : keepOffSockets(), pass);
  }
  program(kernel, trunk.index, trunk.name, 'ingress', popByIndex(BRANCH_INDEX), pass);
}

export const trunkLink = (node: Pick<NodeDatapath, 'trunk'>, links: readonly Link[]): Link | undefined =>
  node.trunk && findEniLink(links, node.trunk.mac);

function standIn(
  kernel: Kernel,
  node: NodeDatapath,
  branch: Branch,
  link: Link | undefined,
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
    link.alias === branch.eniId;
  if (isRight || !pass.may(`link ${name}`, `make ${name}`)) return;
  if (link) kernel.rt.tryApply([{ op: 'link-del', index: link.index }]);
  const far = `${name}x`;
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
  if (readSysctl(kernel.netns, key) !== null) writeSysctl(kernel.netns, key, isOn ? '0' : '1');
}

function program(
  kernel: Kernel,
  index: number,
  link: string,
  hook: Hook,
  wanted: Program | null,
  pass: Pass,
): void {
  const names = programsOn(kernel.netns, index, hook);
  if (wanted === null ? names.length === 0 : names.length === 1 && names[0] === wanted.name) return;
  const what = `the program on ${link} (${hook})`;
  const text = `${wanted === null ? 'remove' : 'set'} ${what}`;
  if (!pass.may(what, text)) return;
  setProgram(kernel.netns, index, hook, wanted);
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

/** The nft table, with what was made last; read from the kernel only to see that it is there. */
export async function syncBranchTable(
  kernel: Kernel,
  memory: Memory,
  node: NodeDatapath,
  pass: Pass,
): Promise<void> {
  const indexes = new Map(kernel.rt.links().map((link) => [link.name, link.index]));
  const text = branchesOf(node).length === 0 ? null : renderBranchTable(node, indexes);
  const isThere = kernel.nf.hasSet('inet', BRANCH_TABLE, 'links');
  if (text === null ? !isThere : isThere && memory.branchTable === text) {
    memory.branchTable = text;
    return;
  }
  const what = `the nft table inet ${BRANCH_TABLE}`;
  if (memory.branchTable === text && !pass.may(what, `make ${what}`)) return;
  await kernel.nft.run(renderBranchScript(text));
  memory.branchTable = text;
  pass.done(`${text === null ? 'remove' : 'make'} ${what}`);
}
