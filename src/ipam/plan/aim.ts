// How many addresses the pool misses, how many it keeps, and what may go: the policy's targets and bounds applied to one
// census. Pure. The AWS VPC CNI's targets are its own arithmetic (incumbent.ts); waiting pods count as assigned there.
import { cidrSize } from '../../base/ip.ts';
import type { InstanceLimits } from '../../cloud/limits.ts';
import * as incumbent from '../config/incumbent.ts';
import { PREFIX_SIZE } from '../config/incumbent.ts';
import type { Demand, PoolPolicy } from '../policy.ts';
import type { Creation, PoolState } from '../state.ts';
import { type Census, type EniCount, shareOf, usesPrefixes } from './census.ts';

export type Aim = {
  /** Addresses to ask for, those of `urgent` included. */
  readonly short: number;
  /** Of these, the ones that pods wait for. */
  readonly urgent: number;
  /** Free addresses that stay. */
  readonly keep: number;
  /** Idle blocks of the preferred kind that may go, and ENIs, at most. */
  readonly mostBlocks: number;
  readonly mostEnis: number;
  /** One action, then another look. */
  readonly oneByOne: boolean;
  /** Whether the pool can do without this ENI, given the counted free addresses of the others. */
  readonly canSpare: (one: EniCount, elsewhere: number) => boolean;
};

/** IPv4 slots of an ENI beside its primary address: an address takes one, a prefix takes one. */
export const slotsPerEni = (limits: InstanceLimits): number => Math.max(0, limits.ipv4PerEni - 1);

/** Addresses that an interrupted creation will bring. */
export const sizeOfCreation = ({ count, prefixes = 0 }: Pick<Creation, 'count' | 'prefixes'>): number =>
  count + prefixes * PREFIX_SIZE;

/** Free addresses wanted: one per waiting pod plus the targets, up to the pod limit. */
export function freeGoal(held: number, demand: Demand, policy: PoolPolicy): number {
  const roomForPods = Math.max(0, policy.podLimit - held - demand.waiting);
  return demand.waiting + Math.min(wantedFree(demand, policy), roomForPods);
}

function wantedFree(demand: Demand, { targets }: PoolPolicy): number {
  if (targets.kind === 'warm') return targets.free;
  if (targets.kind === 'forecast') return Math.max(targets.minIdle, demand.expected ?? 0);
  return 0;
}

export function aimOf(
  state: PoolState,
  census: Census,
  demand: Demand,
  limits: InstanceLimits,
  policy: PoolPolicy,
): Aim {
  const { totals, counted } = census;
  if (policy.families === 'ipv6') return NOTHING;
  const coming = totals.incoming + comingBack(state);
  const urgent = Math.max(0, demand.waiting - totals.free - coming);
  if (policy.targets.kind === 'incumbent') {
    const node: incumbent.IncumbentNode = {
      usesPrefixes: usesPrefixes(policy, limits),
      slotsPerEni: slotsPerEni(limits),
      maxPods: policy.podLimit,
    };
    return incumbentAim(census, policy.targets, node, demand.waiting, coming, urgent);
  }
  const goal = freeGoal(totals.held, demand, policy);
  return {
    short: Math.max(goal - counted - coming, urgent),
    urgent,
    keep: goal,
    mostBlocks: Number.POSITIVE_INFINITY,
    mostEnis: Number.POSITIVE_INFINITY,
    oneByOne: false,
    canSpare: (_one, elsewhere) => elsewhere >= goal,
  };
}

/** Of IPv4, where pods have none: nothing is asked for, and what is idle goes. */
const NOTHING: Aim = {
  ...{ short: 0, urgent: 0, keep: 0, oneByOne: false },
  ...{ mostBlocks: Number.POSITIVE_INFINITY, mostEnis: Number.POSITIVE_INFINITY },
  canSpare: () => true,
};

const comingBack = (state: PoolState): number => {
  let sum = 0;
  for (const one of state.creations.values()) if (!state.busy.has(one.token)) sum += sizeOfCreation(one);
  return sum;
};

function incumbentAim(
  census: Census,
  targets: incumbent.IncumbentTargets,
  node: incumbent.IncumbentNode,
  waiting: number,
  coming: number,
  urgent: number,
): Aim {
  const counts = incumbentCounts(census.enis, node.usesPrefixes);
  const grown = withComing(counts, node.usesPrefixes, waiting, coming);
  const unit = node.usesPrefixes ? PREFIX_SIZE : 1;
  const wanted = incumbent.isLow(grown, targets, node)
    ? incumbent.blocksWanted(grown, targets, node) * unit
    : 0;
  const hasEmptyEni = census.enis.some(({ eni, held }) => !eni.primary && held === 0);
  const mayRemove = incumbent.mayRemoveEni(counts, targets, node, hasEmptyEni);
  return {
    short: Math.max(wanted, urgent),
    urgent,
    keep: 0,
    mostBlocks: incumbent.blocksBeyond(counts, targets, node),
    mostEnis: mayRemove ? 1 : 0,
    oneByOne: !incumbent.areDefined(targets),
    canSpare: (one) => {
      const others = incumbentCounts(
        census.enis.filter((other) => other !== one),
        node.usesPrefixes,
      );
      return incumbent.isDispensable(others, targets, node);
    },
  };
}

/** Counts of the active kind on ENIs that give; those whose set-up is under way are in `totals.incoming`. */
function incumbentCounts(enis: readonly EniCount[], usesPrefixes: boolean): incumbent.IncumbentCounts {
  const counts = { total: 0, assigned: 0, prefixes: 0, freePrefixes: 0 };
  for (const one of enis) {
    if (one.closed) continue;
    for (const { size, held, usable } of one.blocks) {
      if (!usable || size > 1 !== usesPrefixes) continue;
      counts.total += size;
      counts.assigned += held;
      if (size === 1) continue;
      counts.prefixes++;
      if (held === 0) counts.freePrefixes++;
    }
  }
  return counts;
}

const withComing = (
  counts: incumbent.IncumbentCounts,
  usesPrefixes: boolean,
  waiting: number,
  coming: number,
): incumbent.IncumbentCounts => {
  const prefixes = usesPrefixes ? Math.ceil(coming / PREFIX_SIZE) : 0;
  return {
    total: counts.total + coming,
    assigned: counts.assigned + waiting,
    prefixes: counts.prefixes + prefixes,
    freePrefixes: counts.freePrefixes + prefixes,
  };
};

/** What the policy's bounds still allow the node to take of the VPC, and how far it is beyond them. */
export class Allowance {
  readonly #policy: PoolPolicy;
  readonly #state: PoolState;
  readonly #bySubnet = new Map<string, number>();
  /** Addresses of the node's ENIs, their own included, and those on their way. */
  taken = 0;

  constructor(state: PoolState, policy: PoolPolicy) {
    this.#state = state;
    this.#policy = policy;
    if (policy.maxAddresses === null && policy.maxSubnetPercent === null) return;
    for (const eni of state.enis.values()) {
      let sum = 1 + (state.busy.get(eni.id) ?? 0);
      for (const { cidr } of eni.blocks.values()) if (typeof cidr.ip === 'number') sum += cidrSize(cidr);
      this.take(eni.subnetId, sum);
    }
    for (const one of state.creations.values()) this.take(one.subnetId, 1 + sizeOfCreation(one));
  }

  take(subnetId: string, addresses: number): void {
    this.taken += addresses;
    this.#bySubnet.set(subnetId, (this.#bySubnet.get(subnetId) ?? 0) + addresses);
  }

  /** Addresses that may still be taken of the subnet; below zero beyond the bounds. */
  left(subnetId: string): number {
    const { maxAddresses, maxSubnetPercent } = this.#policy;
    const ofNode = maxAddresses === null ? Number.POSITIVE_INFINITY : maxAddresses - this.taken;
    if (maxSubnetPercent === null) return ofNode;
    const most = shareOf(this.#state, subnetId, maxSubnetPercent);
    return Math.min(ofNode, most - (this.#bySubnet.get(subnetId) ?? 0));
  }
}
