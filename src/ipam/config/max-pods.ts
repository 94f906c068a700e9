// How many pods a node takes, from the table that the pool itself uses: the one answer for the pool's cap, `ipam
// explain`, `ipam max-pods` and the lab's Node objects. Pure.
import type { InstanceLimits } from '../../cloud/limits.ts';
import type { Families, PoolPolicy } from '../policy.ts';
import { PREFIX_SIZE } from './incumbent.ts';

export type PodRoom = {
  /** Absent: IPv4. */
  readonly families?: Families;
  readonly prefixes?: boolean;
  /** True: the primary ENI gives no pod address. */
  readonly customNetworking?: boolean;
  /** ENIs of the default card that pods cannot have, such as a trunk. */
  readonly reservedEnis?: number;
  /** ENIs that the node may have; absent or null: what the type allows. */
  readonly maxEnis?: number | null;
};

/** The room that a policy leaves. */
export const roomOf = ({
  families,
  addressing,
  primaryGives,
  maxEnis,
  keepsTrunkSlot,
}: Omit<PoolPolicy, 'podLimit'>): PodRoom => ({
  families,
  prefixes: addressing !== 'secondary',
  customNetworking: !primaryGives,
  maxEnis,
  ...(keepsTrunkSlot ? { reservedEnis: 1 } : {}),
});

/** Pods on the host network that every node runs: they take no address. */
const HOST_PODS = 2;
/** With prefixes addresses no longer bound a node; Kubernetes is tested to this many pods on one. */
export const PREFIX_POD_CAP = 110;

const SIX_SIZE = 2 ** 48;

type Sized = Pick<InstanceLimits, 'enis' | 'ipv4PerEni' | 'prefixes'>;

/** Addresses that pods can have on a node of the type. A type without prefixes counts single ones. */
export function podAddresses(limits: Sized, room: PodRoom = {}): number {
  const enis = Math.min(limits.enis - (room.reservedEnis ?? 0), room.maxEnis ?? Number.POSITIVE_INFINITY);
  const giving = Math.max(0, enis - (room.customNetworking ? 1 : 0));
  // A /80 of one ENI is enough.
  if (room.families === 'ipv6') return giving > 0 ? SIX_SIZE : 0;
  const slots = giving * Math.max(0, limits.ipv4PerEni - 1);
  return room.prefixes && limits.prefixes ? slots * PREFIX_SIZE : slots;
}

/**
 * Pods that the node should take. With prefixes, /80s too, at most 110, or what single addresses would allow when that is more: so
 * turning prefixes on never lowers it.
 */
export function maxPods(limits: Sized, room: PodRoom = {}): number {
  const single = podAddresses(limits, { ...room, families: 'ipv4', prefixes: false }) + HOST_PODS;
  return Math.max(single, Math.min(podAddresses(limits, room) + HOST_PODS, PREFIX_POD_CAP));
}
