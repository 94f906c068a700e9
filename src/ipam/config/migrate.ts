// What a node's pool holds at rest with the AWS VPC CNI and a given environment, and with Podway's defaults, pod by pod.
// Both sides have had time to rest: no pod has just ended. Pure.
import type { InstanceLimits } from '../../cloud/limits.ts';
import { freeGoal, slotsPerEni } from '../plan/aim.ts';
import { atRest } from '../plan/forecast.ts';
import { defaultGoals, defaultPolicy } from '../policy.ts';
import type { IncumbentTargets } from './incumbent.ts';
import { type Environment, readEnvironment } from './incumbent-env.ts';
import { type ModelNode, restingPools } from './incumbent-model.ts';
import { maxPods, podAddresses } from './max-pods.ts';

export type PoolAtRest = {
  enis: number;
  /** Pod addresses that the subnet cannot give to others, held ones included. */
  addresses: number;
  idle: number;
  /** Pods without an address. */
  waiting: number;
};

export type MigrationReport = {
  instanceType: string;
  before: {
    /** The variables that were counted, by name. */
    variables: string[];
    addressing: 'secondary' | 'prefix';
    customNetworking: boolean;
    targets: Omit<IncumbentTargets, 'kind'>;
    maxPods: number;
    warnings: string[];
  };
  after: { addressing: string; free: number; maxPods: number };
  rows: { pods: number; before: PoolAtRest; after: PoolAtRest }[];
};

/** `counts`: pods for which the report has a row. */
export function migrationReport(
  limits: InstanceLimits,
  environment: Environment,
  counts: readonly number[],
): MigrationReport {
  const { pool, warnings } = readEnvironment(environment);
  const usesPrefixes = pool.usesPrefixes && limits.prefixes;
  const notes = pool.usesPrefixes && !usesPrefixes ? [`${limits.instanceType} takes no prefixes`] : [];
  const room = {
    prefixes: usesPrefixes,
    customNetworking: pool.customNetworking !== null,
    maxEnis: pool.maxEnis,
  };
  const node: ModelNode = {
    usesPrefixes,
    slotsPerEni: Math.max(0, limits.ipv4PerEni - 1),
    maxPods: maxPods(limits, room),
    maxEnis: Math.min(limits.enis, pool.maxEnis ?? limits.enis),
    primaryGives: pool.customNetworking === null,
  };
  const { kind: _, ...targets } = pool.targets;
  const wanted = new Set(counts);
  const rows: MigrationReport['rows'] = [];
  for (const { pods, enis, addresses, idle, waiting } of restingPools(
    Math.max(...counts),
    pool.targets,
    node,
  )) {
    if (!wanted.has(pods)) continue;
    rows.push({ pods, before: { enis, addresses, idle, waiting }, after: podwayAtRest(limits, pods) });
  }
  return {
    instanceType: limits.instanceType,
    before: {
      variables: [...pool.variables],
      addressing: usesPrefixes ? 'prefix' : 'secondary',
      customNetworking: pool.customNetworking !== null,
      targets,
      maxPods: node.maxPods,
      warnings: [...notes, ...warnings],
    },
    after: {
      addressing: defaultPolicy.addressing,
      free: podwayAtRest(limits, 0).idle,
      maxPods: maxPods(limits),
    },
    rows,
  };
}

/** Podway's defaults: single addresses, ENIs filled before the next is attached. */
function podwayAtRest(limits: InstanceLimits, pods: number): PoolAtRest {
  const room = podAddresses(limits);
  const held = Math.min(pods, room);
  const rest = atRest(defaultGoals, slotsPerEni(limits), held);
  const policy = { ...defaultPolicy, podLimit: maxPods(limits) };
  const goal = freeGoal(held, { waiting: 0, expected: rest.free }, policy);
  const addresses = Math.min(held + goal, room);
  const slots = Math.max(addresses, Math.min(rest.room, policy.podLimit));
  const enis = Math.min(limits.enis, Math.ceil(slots / Math.max(1, limits.ipv4PerEni - 1)));
  return { enis, addresses, idle: addresses - held, waiting: pods - held };
}
