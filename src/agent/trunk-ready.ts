// ADD of a pod with a branch needs the node's trunk: known to the pool, and with its link. Both come within moments of
// the branch, and what comes is noticed; the wait is bounded. Fails with BRANCH_PENDING.
import { systemClock } from '../base/clock.ts';
import { PodwayError } from '../base/errors.ts';
import type { Mac } from '../base/mac.ts';
import type { AddressPool } from '../ipam/pool.ts';

/** For EC2's word of the trunk, and then for its link (ms). */
const TRUNK_WAIT_MS = 15_000;
const LINK_WAIT_MS = 5_000;
const LINK_STEP_MS = 50;

export async function trunkReady(
  pool: Pick<AddressPool, 'trunk' | 'trunkWithin' | 'identity'>,
  hasLink: (mac: Mac) => boolean,
  signal: AbortSignal,
): Promise<void> {
  const { instanceId } = pool.identity;
  const trunk = pool.trunk ?? (await pool.trunkWithin(TRUNK_WAIT_MS, signal));
  if (trunk === null)
    throw new PodwayError(
      'BRANCH_PENDING',
      `the pod has a branch, and EC2 shows no trunk on ${instanceId} within ${TRUNK_WAIT_MS / 1000} s`,
      { object: instanceId },
    );
  for (let waited = 0; !hasLink(trunk.mac); waited += LINK_STEP_MS) {
    if (waited >= LINK_WAIT_MS)
      throw new PodwayError(
        'BRANCH_PENDING',
        `the trunk ${trunk.id} has no link on the node (${trunk.mac}) within ${LINK_WAIT_MS / 1000} s`,
        { object: trunk.id },
      );
    await systemClock.sleep(LINK_STEP_MS, signal);
  }
}
