// Removes all our objects from the node and restores the sysctls. Our objects are found by their marks, so this works
// with an empty memory, after any kill. Idempotent.
import type { RtOp } from '../kernel/rtnetlink.ts';
import { diffRoutes, diffRules } from './diff.ts';
import {
  BRANCH_TABLE,
  GROUP_CUT,
  isBranchLink,
  isOurGroup,
  isPodLinkName,
  NFT_TABLE,
  PROTOCOL,
} from './marks.ts';
import { emptyMemory, type Kernel, type Memory } from './memory.ts';
import { Pass } from './pass.ts';
import { gatewayAddress } from './sync-addresses.ts';
import { releaseLeavingLinks } from './sync-links.ts';
import type { SysctlRecord } from './sysctls.ts';

export async function removeKernel(kernel: Kernel, memory: Memory, sysctls: SysctlRecord): Promise<void> {
  releaseLeavingLinks(kernel, { enis: [] }, () => {});
  const links = kernel.rt.links();
  const ops: RtOp[] = [];
  if (links.some(isBranchLink) || memory.branchTable != null) {
    const { removePrograms, restoreLocalRule } = await import('./branch-sync.ts');
    removePrograms(kernel, links);
    restoreLocalRule(kernel, new Set(), new Pass(() => 'repair'));
    ops.push(...links.filter(isBranchLink).map(({ index }) => ({ op: 'link-del', index }) as const));
  }
  const hasOurs = new Set<number>();
  for (const link of links) {
    if (isPodLinkName(link.name) && isOurGroup(link.group)) {
      ops.push({ op: 'link-set', index: link.index, up: false, group: GROUP_CUT });
      hasOurs.add(GROUP_CUT);
    }
  }
  ops.push(...diffRules(kernel.rt.rules(), []).map((change) => change.op));
  ops.push(...diffRoutes(kernel.rt.routes({ protocol: PROTOCOL }), []).map((change) => change.op));
  ops.push({ op: 'addr-del', ...gatewayAddress });
  // Errors for objects that are already gone are fine; a later call finds what remains.
  kernel.rt.tryApply(ops);
  if (hasOurs.size > 0) await kernel.rt.applyAsync([{ op: 'group-del', group: GROUP_CUT }]);
  if (kernel.nf.hasSet('inet', BRANCH_TABLE, 'links'))
    await kernel.nft.run(`delete table inet ${BRANCH_TABLE}\n`);
  await kernel.nft.run(`add table inet ${NFT_TABLE}\ndelete table inet ${NFT_TABLE}\n`);
  sysctls.restore();
  Object.assign(memory, emptyMemory());
}
