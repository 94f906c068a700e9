// What a node's pool is told to aim at, as one value: the kind of addresses, where ENIs may stand, bounds, and how many
// free addresses to keep. The agent computes it from its sources; the planner only reads it. Pure.
import type { Cause } from '../base/causes.ts';

export type Demand = {
  /** Pods that wait for an address. */
  readonly waiting: number;
  /** How many more free addresses the forecast wants. */
  readonly expected?: number;
  /** How many pods the slots of attached ENIs should suffice for; absent: ENIs come when addresses are wanted. */
  readonly room?: number;
};

/** secondary: single addresses; prefix: /28; auto: prefixes while the subnet has whole /28s, else single addresses. */
export type Addressing = 'secondary' | 'prefix' | 'auto';

/** What pods get: an IPv4 address, an IPv6 address out of a /80 of their ENI, or one of each of the same ENI. */
export type Families = 'ipv4' | 'ipv6' | 'dual';

/** Of a pod of both families: whose address comes first in the CNI result, and so in `podIPs`. */
export type PrimaryFamily = 'ipv4' | 'ipv6';

export type Goals = {
  /** Pods a minute that the node absorbs without waiting for EC2, at least. */
  readonly podsPerMinute: number;
  /** Idle addresses in percent of the most that were used lately, at most; the other two come first. */
  readonly maxIdlePercent: number;
  readonly minIdle: number;
};

/** Measured with `npm run bench -- waste`. */
export const defaultGoals: Goals = { podsPerMinute: 6, maxIdlePercent: 100, minIdle: 1 };

/** How many free addresses a node keeps. */
export type Targets =
  /** This many. */
  | { readonly kind: 'warm'; readonly free: number }
  /** What the node's recent churn asks for, within the two goals. */
  | ({ readonly kind: 'forecast' } & Goals)
  /** The AWS VPC CNI's WARM_ENI_TARGET, WARM_PREFIX_TARGET, WARM_IP_TARGET and MINIMUM_IP_TARGET, in its arithmetic. */
  | {
      readonly kind: 'incumbent';
      readonly warmEnis: number;
      readonly warmPrefixes: number;
      readonly warmIps: number;
      readonly minimumIps: number;
    };

export type PoolPolicy = {
  readonly families: Families;
  /** Absent: ipv4. */
  readonly primaryFamily?: PrimaryFamily;
  /** How pods of IPv6 alone reach IPv4 hosts: `node`, by an address of the node's own that is translated to the node's. */
  readonly egress4?: 'none' | 'node';
  readonly addressing: Addressing;
  readonly targets: Targets;
  /** An address beyond the goal is returned after it was idle this long (ms), cooldown not counted. */
  readonly idleReleaseMs: number;
  /** Pods that the node takes at most: no address is kept warm beyond it. */
  readonly podLimit: number;
  /** Where new ENIs may stand, best first; empty: the primary ENI's subnet. */
  readonly subnetIds: readonly string[];
  /** Subnets whose ENIs give no address to new pods; pods that run there go on. */
  readonly excludedSubnetIds: readonly string[];
  /** Why no new ENI may be made, such as a missing ENIConfig; null: they may. What is attached goes on. */
  readonly noNewEni: { readonly cause: Cause; readonly message: string; readonly object?: string } | null;
  /** Security groups of new ENIs; null: the primary ENI's. */
  readonly groupIds: readonly string[] | null;
  /** False with custom networking: the primary ENI gives no pod address. */
  readonly primaryGives: boolean;
  /** ENIs that the pool may have on the default card, the primary one included; null: what the type allows. */
  readonly maxEnis: number | null;
  /** True: an ENI slot of the default card is kept for a trunk, until one is attached. Only of types that take one. */
  readonly keepsTrunkSlot?: boolean;
  /** Addresses that the node may take of the VPC, cooling ones included; null: no bound. */
  readonly maxAddresses: number | null;
  /** Percent of a subnet's usable addresses that the node may take; null: no bound. */
  readonly maxSubnetPercent: number | null;
};

export const defaultPolicy: Omit<PoolPolicy, 'podLimit'> = {
  families: 'ipv4',
  addressing: 'secondary',
  targets: { kind: 'forecast', ...defaultGoals },
  idleReleaseMs: 300_000,
  subnetIds: [],
  excludedSubnetIds: [],
  noNewEni: null,
  groupIds: null,
  primaryGives: true,
  maxEnis: null,
  maxAddresses: null,
  maxSubnetPercent: null,
};
