// The hot paths of pods with branches: one branch's own parts are made, or taken away, and nothing else is compared:
// its stand-in with its program, its rules and routes; then its pod's program and elements. Synchronous. Invariant:
// only where a sync has made all that branches of the same way share (memory.ways), and of which something stays.
// Everything else is a sync's, which also completes or removes what a kill between two steps, or an error, has left.
import { programsOn } from '../kernel/bpf/hooks.ts';
import { keepOffSockets, popByIndex } from '../kernel/bpf/programs.ts';
import { NetlinkError } from '../kernel/rtnetlink.ts';
import { type Branch, branchesOf, branchRoutes, branchRules, wayOf } from './branch.ts';
import { branchElementOp, branchElements } from './branch-elements.ts';
import { farEnd, program, programStandIn, standIn } from './branch-sync.ts';
import { diffRoutes, diffRules } from './diff.ts';
import { BRANCH_INDEX, branchTableOf, standInIndex, standInName } from './marks.ts';
import type { Kernel, Memory } from './memory.ts';
import { Pass } from './pass.ts';
import { applyChanges } from './sync-links.ts';
import type { NodeDatapath } from './types.ts';

const ownRules = (branch: Branch, node: NodeDatapath) =>
  branchRules({ ...node, branches: [branch] }).filter(({ iifname }) => iifname === branch.hostIfname);
const ownRoutes = (branch: Branch) =>
  branchRoutes({ branches: [branch] }).filter(({ table }) => table === branchTableOf(branch.vlan));

const isSameBranch = (one: Branch, other: Branch): boolean =>
  one.eniId === other.eniId &&
  one.mac === other.mac &&
  one.hostIfname === other.hostIfname &&
  one.ips.join() === other.ips.join();

/** Before the pod's link. What was done; null: only a sync can. What is there already is left. */
export function makeBranch(kernel: Kernel, memory: Memory, branch: Branch): string[] | null {
  const { node, trunk } = memory;
  if (!node?.trunk || trunk === undefined || branch.gate !== undefined || !memory.ways.has(wayOf(branch)))
    return null;
  const others = branchesOf(node).filter((one) => !isSameBranch(one, branch));
  if (others.some(({ vlan }) => vlan === branch.vlan)) return null;
  const link = kernel.rt.link(trunk);
  if (link?.mac !== node.trunk.mac || !link.up || link.mtu !== node.eniMtu) return null;
  const pop = programsOn(kernel.netns, trunk, 'ingress', kernel.hooks);
  if (pop.join() !== popByIndex(BRANCH_INDEX).name) return null;
  const pass = new Pass(() => 'repair');
  const name = standInName(branch.vlan);
  standIn(
    kernel,
    node,
    branch,
    kernel.rt.link(standInIndex(branch.vlan)) ?? undefined,
    kernel.rt.link(farEnd(name)) ?? undefined,
    pass,
  );
  programStandIn(kernel, branch, trunk, pass);
  applyChanges(kernel, diffRules([], ownRules(branch, node)), pass);
  applyChanges(kernel, diffRoutes([], ownRoutes(branch)), pass);
  memory.node = { ...node, branches: [...others, branch] };
  return pass.changes;
}

/** After the pod's link is wired, in the same step. False: only a sync can. */
export function joinBranch(kernel: Kernel, memory: Memory, vlan: number, hostIfname: string): boolean {
  const branch = branchesOf(memory.node ?? {}).find((one) => one.vlan === vlan);
  const index = memory.indexes.get(hostIfname);
  if (branch?.hostIfname !== hostIfname || index === undefined || !memory.ways.has(wayOf(branch)))
    return false;
  // The chain of a gate is structure.
  if (branch.gate !== undefined) return false;
  if (branch.mode !== 'standard')
    program(kernel, index, hostIfname, 'ingress', keepOffSockets(), new Pass(() => 'repair'));
  const before = memory.zoned.get(vlan);
  if (before === index) return true;
  // A link that others deleted has left its elements.
  const gone = before === undefined ? [] : branchElements(branch, before);
  const come = branchElements(branch, index);
  kernel.nf.elements([
    ...gone.map((element) => branchElementOp('del', element)),
    ...come.map((element) => branchElementOp('add', element)),
  ]);
  memory.zoned.set(vlan, index);
  return true;
}

const IS_GONE = new Set(['ENODEV', 'ENOENT', 'ESRCH']);

/** After the pod's link is cut. What was done; null: only a sync can. */
export function dropBranch(
  kernel: Kernel,
  memory: Memory,
  vlan: number,
  hostIfname: string,
): string[] | null {
  const { node } = memory;
  const branches = branchesOf(node ?? {});
  const [branch, second] = branches.filter((one) => one.vlan === vlan);
  if (!node || branch?.hostIfname !== hostIfname || second || branch.gate !== undefined) return null;
  const others = branches.filter((one) => one !== branch);
  // With the last one of its way goes what they share.
  const way = wayOf(branch);
  if (!memory.ways.has(way) || !others.some((one) => wayOf(one) === way)) return null;
  memory.node = { ...node, branches: others };
  const errors = kernel.rt.tryApply([
    // Its routes, neighbours and program go with it.
    { op: 'link-del', index: standInIndex(vlan) },
    ...ownRules(branch, node).map((rule) => ({ op: 'rule-del', ...rule }) as const),
  ]);
  for (const error of errors) if (error && !IS_GONE.has(error.code)) throw error;
  const index = memory.zoned.get(vlan);
  memory.zoned.delete(vlan);
  if (index !== undefined) {
    try {
      kernel.nf.elements(branchElements(branch, index).map((element) => branchElementOp('del', element)));
    } catch (error) {
      if (error instanceof NetlinkError && IS_GONE.has(error.code)) return null;
      throw error;
    }
  }
  return [`remove ${standInName(vlan)}, whose branch is gone`];
}
