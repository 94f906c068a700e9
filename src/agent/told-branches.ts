// Joins what the API tells of a pod's branch with the pod's lease: one that was found in the kernel alone gets its
// branch, and one whose branch was made anew under the same addresses, because somebody had deleted it, gets the new
// one.
import type { AddressPool } from '../ipam/pool.ts';
import type { BranchRef, Lease } from '../ipam/state.ts';
import type { Branch } from './branch-pods.ts';

/** True when a lease has another branch now: the kernel is to follow. `pod`: NAMESPACE/NAME. */
export function takeBranch(
  pool: Pick<AddressPool, 'held' | 'nameBranch'>,
  pod: string,
  { ref, ips }: Branch,
): boolean {
  let isChanged = false;
  for (const lease of pool.held()) {
    const { owner, branch } = lease;
    if (`${owner.pod?.namespace}/${owner.pod?.name}` !== pod || !isOf(lease, ref, ips)) continue;
    // The mode is the pod's for its life.
    const { mode = ref.mode } = branch ?? {};
    pool.nameBranch(lease, { ...ref, ...(mode === undefined ? {} : { mode }) });
    isChanged = true;
  }
  return isChanged;
}

/** The lease lacks this branch. Other addresses would be another pod's. */
function isOf({ eni, branch, ips: held }: Lease, ref: BranchRef, ips: Branch['ips']): boolean {
  if (!branch) return eni === null && held.some((ip) => ips.includes(ip));
  const keys = ['id', 'mac', 'vlan', 'subnetCidr', 'associationId'] as const;
  return keys.some((key) => branch[key] !== ref[key]) && held.join() === ips.join();
}
