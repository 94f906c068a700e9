// The allocators that can be compared, from what a user says: the AWS VPC CNI with its environment variables, Podway with
// its settings. Throws LabError USAGE for what is not understood.
import type { InstanceLimits } from '../cloud/limits.ts';
import { type Environment, readEnvironment } from '../ipam/config/incumbent-env.ts';
import { maxPods } from '../ipam/config/max-pods.ts';
import { type Addressing, defaultPolicy, type Targets } from '../ipam/policy.ts';
import type { AllocatorChoice } from './simulate.ts';

export type PodwayChoice = {
  addressing?: Addressing;
  targets?: Targets;
  cooldownMs?: number;
  idleReleaseMs?: number;
};

const COOLDOWN_MS = 30_000;

export function podwayChoice(limits: InstanceLimits, asked: PodwayChoice = {}): AllocatorChoice {
  const { cooldownMs = COOLDOWN_MS, ...policy } = asked;
  const addressing = policy.addressing ?? defaultPolicy.addressing;
  const podLimit = maxPods(limits, { prefixes: addressing !== 'secondary' });
  return { kind: 'podway', settings: { policy: { ...defaultPolicy, ...policy, podLimit }, cooldownMs } };
}

/** Also answers with the warnings about variables that have no effect. */
export function incumbentChoice(
  limits: InstanceLimits,
  environment: Environment = {},
): { choice: AllocatorChoice; warnings: readonly string[] } {
  const { pool, warnings } = readEnvironment(environment);
  const usesPrefixes = pool.usesPrefixes && limits.prefixes;
  // What its shipped manifest says, when the variable is not set.
  const isAimless = usesPrefixes && environment['WARM_PREFIX_TARGET'] === undefined;
  const targets = isAimless ? { ...pool.targets, warmPrefixes: 1 } : pool.targets;
  const maxEnis = Math.min(limits.enis, pool.maxEnis ?? limits.enis);
  const room = { prefixes: usesPrefixes, maxEnis };
  const settings = {
    targets,
    usesPrefixes,
    maxPods: maxPods(limits, room),
    maxEnis,
    cooldownMs: pool.cooldownMs,
  };
  return { choice: { kind: 'incumbent', settings }, warnings };
}
