// Makes the kernel match the memory: observe, diff, apply. Idempotent, at any time, after any kill: correct objects are
// not touched, so running pods notice nothing. Invariant: no await stands between reading the kernel and the change
// made from it, except for the nft table's structure, which the hot paths never change.
// Order: a new ENI gets its link, table and rule, then its chain, then pods; a leaving one loses them in reverse.
// A sync may cover only some parts: those that others were seen to change.

import type { Link } from '../kernel/rtnetlink.ts';
import { branchesOf, branchRoutes, branchRules, waysOf } from './branch.ts';
import { desiredRoutes, desiredRules, familiesOf, has6, podRoutes } from './desired.ts';
import { diffRoutes, diffRules, missingKernelRules } from './diff.ts';
import { assignMarks } from './enis.ts';
import { isBranchLink, isPodLinkName, PROTOCOL, RULE_ENI, RULE_LOCAL, slotKey } from './marks.ts';
import type { Kernel, Memory } from './memory.ts';
import { ALL_PARTS, type Part } from './parts.ts';
import type { Pass } from './pass.ts';
import { syncAddresses, syncGateways6, syncNeighbours } from './sync-addresses.ts';
import {
  applyChanges,
  linksOfEnis,
  releaseLeavingLinks,
  sweepOrphans,
  syncEniLink,
  syncPodLinks,
  syncSysctls,
} from './sync-links.ts';
import { chainsOf, syncElements, syncTable, tableText } from './sync-table.ts';
import type { SysctlRecord } from './sysctls.ts';
import type { Eni, NodeDatapath, Told } from './types.ts';

export type SyncInput = {
  kernel: Kernel;
  memory: Memory;
  sysctls: SysctlRecord;
  parts: ReadonlySet<Part>;
  pass: Pass;
  now: () => number;
  tell: (told: Told) => void;
};

/** `missingPods`: held pods without a link, found by the links part only. `absent`: ENIs without a link. */
export type SyncResult = { missingPods: string[]; absent: Eni[] };

/** Once it is there, a sync reads its state and the links in one step. */
let loaded: typeof import('./branch-sync.ts') | undefined;

export async function syncKernel(input: SyncInput): Promise<SyncResult> {
  const { kernel, memory, sysctls, pass, now, tell } = input;
  // A newer state may arrive at each await; the next sync brings it. This one sees one state from end to end.
  const node = memory.node;
  if (!node) throw new Error('sync before the first node state');
  const isLeft = memory.branchTable === undefined && kernel.rt.links().some(isBranchLink);
  // Loaded where a pod has a branch, or had one.
  const isNeeded = branchesOf(node).length > 0 || memory.branchTable != null || isLeft;
  if (isNeeded) loaded ??= await import('./branch-sync.ts');
  const branches = isNeeded ? loaded : undefined;
  if (branches === undefined) memory.branchTable = null;
  const ways = waysOf(node);
  memory.ways = new Set([...memory.ways].filter((way) => ways.has(way)));
  let links = kernel.rt.links();
  const eniLinks = linksOfEnis(node, links);
  const podLinks = links.filter((link) => isPodLinkName(link.name));
  let missingPods: string[] = [];
  // When an ENI's link came, went or was renamed, every part is synced.
  const parts = isSameLinks(memory, eniLinks) ? input.parts : new Set(ALL_PARTS);

  if (parts.has('sysctls')) syncSysctls(kernel, memory, sysctls, node, eniLinks, pass);
  memory.marks = assignMarks(node.enis, recordedMarks(kernel, node));
  pass.enter('links');
  if (parts.has('links') || parts.has('addresses')) {
    for (const eni of node.enis) {
      const link = eniLinks.get(slotKey(eni));
      if (link) syncEniLink(kernel, memory, node, eni, link, pass);
    }
  }
  if (parts.has('links') && branches) {
    branches.syncStandIns(kernel, node, links, pass);
    links = kernel.rt.links();
  }
  if (branches && (parts.has('links') || parts.has('sysctls')))
    branches.syncPrograms(kernel, memory, node, links, pass);
  if (parts.has('links')) {
    memory.eniLinks = new Map([...eniLinks].map(([key, { index, name }]) => [index, { key, name }]));
    missingPods = syncPodLinks(kernel, memory, podLinks, pass);
    sweepOrphans(kernel, memory, podLinks, now(), pass);
    releaseLeavingLinks(kernel, node, (text) => pass.done(text));
  }
  pass.enter('addresses');
  if (parts.has('addresses')) syncAddresses(kernel, memory, node, links, pass, { now: now(), tell });
  else if (parts.has('links') && has6(node)) syncGateways6(kernel, memory, kernel.rt.addresses(), pass);
  pass.enter('rules');
  if (parts.has('rules')) syncRules(kernel, node, memory.marks, pass, tell, branches);
  pass.enter('routes');
  // A link that was down or had no address has lost its routes, without a notification.
  if (parts.has('routes') || parts.has('links') || parts.has('addresses'))
    syncRoutes(kernel, memory, node, eniLinks, pass);
  pass.enter('neighbours');
  if (parts.has('neighbours')) syncNeighbours(kernel, memory, node, eniLinks, pass);
  pass.enter('table');
  const text = tableText(memory, node, eniLinks);
  if (parts.has('table')) await syncTable(kernel, memory, text, pass);
  else if (parts.has('elements')) syncElements(kernel, memory, chainsOf(text), pass);
  if (branches && (parts.has('table') || parts.has('links')))
    await branches.syncBranchTable(kernel, memory, node, pass);

  const absent = node.enis.filter((eni) => !eniLinks.has(slotKey(eni)));
  if (parts.has('links') && parts.has('table')) {
    memory.ready = new Set(node.enis.map(slotKey).filter((key) => eniLinks.has(key)));
  } else for (const eni of absent) memory.ready.delete(slotKey(eni));
  const isWhole = ALL_PARTS.every((part) => parts.has(part));
  if (isWhole && memory.trunk !== undefined && memory.branchTable?.kernel != null) memory.ways = ways;
  return { missingPods, absent };
}

function isSameLinks(memory: Memory, eniLinks: ReadonlyMap<string, Link>): boolean {
  const known = [...memory.eniLinks.values()];
  return known.length === eniLinks.size && known.every(({ key, name }) => eniLinks.get(key)?.name === name);
}

const recordedMarks = (kernel: Kernel, node: NodeDatapath) =>
  familiesOf(node)
    .flatMap((family) => kernel.rt.rules(family))
    .filter((rule) => rule.protocol === PROTOCOL && rule.priority === RULE_ENI)
    .map((rule) => ({ table: rule.table, mark: rule.fwmark }));

function syncRules(
  kernel: Kernel,
  node: NodeDatapath,
  marks: ReadonlyMap<string, number>,
  pass: Pass,
  tell: (told: Told) => void,
  branches: typeof import('./branch-sync.ts') | undefined,
): void {
  const wanted = [...desiredRules(node, marks), ...branchRules(node)];
  const moved = new Set(wanted.filter(({ priority }) => priority === RULE_LOCAL).map(({ family }) => family));
  branches?.restoreLocalRule(kernel, moved, pass);
  const observed = kernel.rt.rules();
  applyChanges(kernel, diffRules(observed, wanted), pass);
  branches?.moveLocalRule(kernel, moved, pass);
  const kernels = missingKernelRules(observed, familiesOf(node));
  applyChanges(kernel, kernels, pass);
  // The kernel's rules carry no mark of ours, so their repair is reported to the operator.
  for (const { object, text } of kernels) {
    if (pass.changes.includes(text))
      tell({ kind: 'kernel-rule', object, text: `somebody removed ${object}: ${text}` });
  }
}

function syncRoutes(
  kernel: Kernel,
  memory: Memory,
  node: NodeDatapath,
  eniLinks: ReadonlyMap<string, Link>,
  pass: Pass,
): void {
  const eniIndexes = new Map([...eniLinks].map(([key, link]) => [key, link.index]));
  const podIndexes = new Map(
    kernel.rt
      .links()
      .filter((link) => memory.pods.has(link.name))
      .map((link) => [link.name, link.index]),
  );
  const toPods = [...memory.pods.values()].flatMap((pod) => {
    const index = podIndexes.get(pod.hostIfname);
    return index === undefined ? [] : podRoutes(pod, index);
  });
  const desired = [...desiredRoutes(node, eniIndexes, memory.elsewhere), ...branchRoutes(node), ...toPods];
  applyChanges(kernel, diffRoutes(kernel.rt.routes({ protocol: PROTOCOL }), desired), pass);
}
