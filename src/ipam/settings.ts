// The settings of a node's pool, with their units. The agent sets defaults; those named here are for absent values.
import type { Ip } from '../base/ip.ts';
import type { InstanceLimits } from '../cloud/limits.ts';
import { maxPods } from './config/max-pods.ts';
import type { AttachedEni } from './core.ts';
import {
  type Addressing,
  defaultPolicy,
  type Families,
  type PoolPolicy,
  type PrimaryFamily,
} from './policy.ts';

export type PoolSettings = {
  /** Free addresses to keep; absent: what the forecast says, within the default goals. */
  warm?: number;
  /** Absent: IPv4. */
  families?: Families;
  /** Absent: as the cluster's Services, where the Kubernetes API tells; else IPv4. */
  primaryFamily?: 'auto' | PrimaryFamily;
  /** Absent: none. */
  egress4?: 'none' | 'node';
  /** Absent: single addresses. */
  addressing?: Addressing;
  /** A released address is not given again for this long (ms). */
  cooldownMs: number;
  /** An idle address beyond the goal is returned this long (ms) after its cooldown; absent: a minute with `warm`, else five. */
  idleReleaseMs?: number;
  /** Pods that the node takes; absent: what its type allows. */
  podLimit?: number;
  /** Subnets for new ENIs, best first; absent: the primary ENI's. */
  subnetIds?: readonly string[];
  /** Between two describes at rest (ms); absent: five minutes. */
  reconcileMs?: number;
  /** How long a pod waits for an address before it gets the cause (ms). */
  waitMs?: number;
  /** How long a pod waits (ms) when the cause lasts, such as a full subnet; at the type's limit it does not wait. */
  lastingWaitMs?: number;
  /** Removes what is left of an address's last holder (conntrack entries); called during the cooldown. */
  beforeReuse?: (ip: Ip) => Promise<unknown> | unknown;
  /** Addresses on the node's links; an ENI's addresses that are there when it is first seen are not given out. */
  addressesOnLinks?: () => ReadonlySet<Ip>;
  /** Name of an ENI's link on this node, for the snapshot. */
  ifnameOf?: (eni: Pick<AttachedEni, 'mac'>) => string | undefined;
};

export const egressOf = ({ egress4 }: Pick<PoolSettings, 'egress4'>): Pick<PoolPolicy, 'egress4'> =>
  egress4 === undefined ? {} : { egress4 };

/** The policy that the settings say. */
/** With `warm` (ms). Without it the forecast itself holds on to what was used lately. */
const WARM_IDLE_MS = 60_000;

/** How many addresses the settings ask to keep, and for how long. */
export function aimsOf({
  warm,
  idleReleaseMs,
}: Pick<PoolSettings, 'warm' | 'idleReleaseMs'>): Pick<PoolPolicy, 'targets' | 'idleReleaseMs'> {
  if (warm === undefined) {
    const { targets } = defaultPolicy;
    return { targets, idleReleaseMs: idleReleaseMs ?? defaultPolicy.idleReleaseMs };
  }
  return { targets: { kind: 'warm', free: warm }, idleReleaseMs: idleReleaseMs ?? WARM_IDLE_MS };
}

export function policyOf(settings: PoolSettings, limits: InstanceLimits): PoolPolicy {
  const addressing = settings.addressing ?? defaultPolicy.addressing;
  const families = settings.families ?? defaultPolicy.families;
  return {
    ...defaultPolicy,
    families,
    ...egressOf(settings),
    addressing,
    ...aimsOf(settings),
    podLimit: settings.podLimit ?? maxPods(limits, { families, prefixes: addressing !== 'secondary' }),
    subnetIds: settings.subnetIds ?? [],
  };
}
