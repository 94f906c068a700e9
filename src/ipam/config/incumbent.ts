// The arithmetic of the AWS VPC CNI (amazon-vpc-cni-k8s v1.23.1, default network card), exact, quirks included.
// E is WARM_ENI_TARGET, P WARM_PREFIX_TARGET, W WARM_IP_TARGET, M MINIMUM_IP_TARGET; W or M above 0 is "defined" and
// turns E and P off. A cooling address counts as free, as the AWS VPC CNI counts it. Pure.
import type { Targets } from '../policy.ts';

export type IncumbentTargets = Extract<Targets, { kind: 'incumbent' }>;

/** What its variables say when none is set, as its shipped manifest does. */
export const incumbentDefaults: IncumbentTargets = {
  kind: 'incumbent',
  warmEnis: 1,
  warmPrefixes: 1,
  warmIps: 0,
  minimumIps: 0,
};

/** Counts of the active kind alone: with prefixes, single addresses are not counted, and the other way round. */
export type IncumbentCounts = {
  /** Addresses, the ENIs' primary ones left out; 16 for each prefix. */
  readonly total: number;
  /** Addresses that pods have. */
  readonly assigned: number;
  readonly prefixes: number;
  /** Prefixes without an assigned address. */
  readonly freePrefixes: number;
};

/** A node as its arithmetic sees it. */
export type IncumbentNode = {
  readonly usesPrefixes: boolean;
  /** Addresses, or with prefixes /28s, that an ENI takes besides its primary address. */
  readonly slotsPerEni: number;
  /** The node's max pods: the pool does not grow once it has as many addresses. */
  readonly maxPods: number;
};

export const PREFIX_SIZE = 16;

const inPrefixes = (addresses: number): number => Math.ceil(addresses / PREFIX_SIZE);

export const areDefined = ({ warmIps, minimumIps }: IncumbentTargets): boolean =>
  warmIps > 0 || minimumIps > 0;

/** Addresses that W and M miss; 0 when both are 0. */
export function shortOf({ total, assigned }: IncumbentCounts, targets: IncumbentTargets): number {
  if (!areDefined(targets)) return 0;
  return Math.max(targets.warmIps - (total - assigned), targets.minimumIps - total, 0);
}

/** Addresses beyond both W and M; 0 when both are 0. */
export function overOf({ total, assigned }: IncumbentCounts, targets: IncumbentTargets): number {
  if (!areDefined(targets)) return 0;
  const beyondWarm = Math.max(total - assigned - targets.warmIps, 0);
  return Math.max(Math.min(beyondWarm, total - targets.minimumIps), 0);
}

export const shortPrefixes = (counts: IncumbentCounts, targets: IncumbentTargets): number =>
  inPrefixes(shortOf(counts, targets));

export function overPrefixes(counts: IncumbentCounts, targets: IncumbentTargets): number {
  if (!areDefined(targets)) return 0;
  const beyondWarm = Math.max(
    Math.min(counts.freePrefixes, counts.prefixes - inPrefixes(counts.assigned + targets.warmIps)),
    0,
  );
  return Math.max(Math.min(beyondWarm, counts.prefixes - inPrefixes(targets.minimumIps)), 0);
}

/** True when the pool must grow. */
export function isLow(counts: IncumbentCounts, targets: IncumbentTargets, node: IncumbentNode): boolean {
  if (counts.total >= node.maxPods) return false;
  if (areDefined(targets)) return shortOf(counts, targets) > 0;
  const available = counts.total - counts.assigned;
  const target = node.usesPrefixes ? targets.warmPrefixes : targets.warmEnis;
  if (target === 0) return available === 0;
  return available < (node.usesPrefixes ? PREFIX_SIZE : node.slotsPerEni) * target;
}

/** Addresses, or with prefixes /28s, that a pool which is low asks for; an ENI has room for `slotsPerEni` of them. */
export function blocksWanted(
  counts: IncumbentCounts,
  targets: IncumbentTargets,
  node: IncumbentNode,
): number {
  if (!node.usesPrefixes) return areDefined(targets) ? shortOf(counts, targets) : node.slotsPerEni;
  const missing = areDefined(targets)
    ? shortPrefixes(counts, targets)
    : targets.warmPrefixes - counts.freePrefixes;
  return Math.max(1, missing);
}

/** Addresses, or with prefixes /28s, that a pool which is high gives back. With E alone, single addresses never go. */
export function blocksBeyond(
  counts: IncumbentCounts,
  targets: IncumbentTargets,
  node: IncumbentNode,
): number {
  if (!node.usesPrefixes) return overOf(counts, targets);
  if (areDefined(targets)) return overPrefixes(counts, targets);
  return Math.max(counts.freePrefixes - targets.warmPrefixes, 0);
}

/**
 * True when it looks for an ENI to remove. `hasEmptyEni`: an ENI other than the primary, a trunk or an EFA has no pod.
 */
export function mayRemoveEni(
  counts: IncumbentCounts,
  targets: IncumbentTargets,
  node: IncumbentNode,
  hasEmptyEni: boolean,
): boolean {
  if (areDefined(targets)) return true;
  const target = node.usesPrefixes ? targets.warmPrefixes : targets.warmEnis;
  const addressesPerEni = node.slotsPerEni * (node.usesPrefixes ? PREFIX_SIZE : 1);
  if (counts.total - counts.assigned >= (target + 1) * addressesPerEni) return true;
  return node.usesPrefixes && hasEmptyEni;
}

/**
 * True when an ENI without pods and without cooling addresses may go, given the counts of all the others. The caller has
 * checked `mayRemoveEni`, and that the ENI is at least a minute old and neither primary, trunk nor EFA.
 */
export function isDispensable(
  others: IncumbentCounts,
  targets: IncumbentTargets,
  node: IncumbentNode,
): boolean {
  const rounded = (addresses: number) =>
    node.usesPrefixes ? inPrefixes(addresses) * PREFIX_SIZE : addresses;
  if (others.total - others.assigned < rounded(targets.warmIps)) return false;
  if (others.total < rounded(targets.minimumIps)) return false;
  return !node.usesPrefixes || others.freePrefixes >= targets.warmPrefixes;
}
