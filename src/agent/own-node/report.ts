// What this node's agent says of itself in its PodwayNode, and how soon a change is worth a write. Pure.

import { eventReason } from '../../base/causes.ts';
import { rfc3339 } from '../../base/clock.ts';
import type { PodwayError } from '../../base/errors.ts';
import type { CallRates } from '../../cloud/budget.ts';
import type { NodeIdentity } from '../../cloud/imds.ts';
import type { InstanceLimits } from '../../cloud/limits.ts';
import type { AttachedEni } from '../../ipam/core.ts';
import { subnetsForNew } from '../../ipam/plan/grow.ts';
import type { PoolPolicy } from '../../ipam/policy.ts';
import type { PoolState } from '../../ipam/state.ts';
import { addressNeeds, obtainable } from '../../ipam/views/obtainable.ts';
import type {
  AskedCalls,
  Condition,
  PodwayNodeAddresses,
  PodwayNodeSpec,
  PodwayNodeStatus,
} from '../../kube/index.ts';
import { isOutOfAddresses } from '../../kube/podway-node.ts';

export type Word = Pick<Condition, 'type' | 'status'> & { reason: string; message: string };

export type Report = {
  spec: PodwayNodeSpec;
  /** Null while the API has not told which Node this is. */
  nodeUID: string | null;
  /** Null before EC2 or the journal has told what the node has: none seen is not none to be had. */
  addresses: PodwayNodeAddresses | null;
  conditions: Word[];
  asked: AskedCalls | null;
};

export type ReportFacts = {
  state: PoolState;
  policy: PoolPolicy;
  limits: InstanceLimits;
  identity: NodeIdentity;
  enis: readonly AttachedEni[];
  /** `coming`: pods that are bound to the node and have not asked yet. */
  counts: { held: number; free: number; cooling: number; waiting: number; coming: number };
  cluster: string | undefined;
  nodeUID: string | null;
  /** Why ADD is not served; null while it is. */
  trouble: PodwayError | null;
  /** EC2 or the journal has told what the node has. */
  isKnown: boolean;
  rates: CallRates;
  now: number;
};

/** Below this (calls a second) nothing is asked: a node at rest calls EC2 once in minutes. */
const LEAST_ASKED = 0.5;
/** What is asked goes in these steps, so that a rate that moves a little is not written. */
const STEPS = [0, 0.5, 1, 2, 3, 5];
/** EC2 has throttled the node: it would call more often than it does. */
const WHEN_THROTTLED = 2;

/** What the node asks of the account's calls; null: so little that nobody need know. */
export function askedOf(
  { reads, changes }: CallRates,
  { pauses }: Pick<PoolState, 'pauses'>,
  waiting: number,
  now: number,
): AskedCalls | null {
  const isThrottled = [...pauses.values()].some(
    ({ cause, until }) => cause === 'CLOUD_THROTTLED' && until > now,
  );
  if (Math.max(reads, changes) < LEAST_ASKED && !isThrottled) return null;
  const stepOf = (rate: number) => STEPS.find((step) => rate <= step) ?? STEPS.at(-1)!;
  return {
    reads: stepOf(reads),
    changes: stepOf(isThrottled ? Math.max(changes, WHEN_THROTTLED) : changes),
    // Whether, not how many: each pod that comes and goes would be a write.
    waiting: Math.min(waiting, 1),
  };
}

export function reportOf(facts: ReportFacts): Report {
  const { state, policy, identity, counts, now } = facts;
  const waiting = counts.waiting + counts.coming;
  const enis = [...facts.enis].sort((a, b) => Number(b.primary) - Number(a.primary));
  const subnets = new Set([...enis.map(({ subnetId }) => subnetId), ...subnetsForNew(state, policy)]);
  return {
    spec: {
      instanceId: identity.instanceId,
      instanceType: identity.instanceType,
      zone: identity.zone,
      cluster: facts.cluster ?? '',
      enis: enis.map(({ id, mac, primary, subnetId }) => ({
        id,
        mac,
        type: primary ? 'primary' : 'secondary',
        subnetId,
      })),
      subnets: [...subnets].sort(),
      newEnis: {
        families: policy.families,
        subnets: subnetsForNew(state, policy),
        ...(policy.groupIds ? { groups: [...policy.groupIds] } : {}),
      },
    },
    nodeUID: facts.nodeUID,
    addresses: facts.isKnown ? addressesOf(facts, waiting) : null,
    conditions: [readyWord(facts), cloudWord(state)],
    asked: askedOf(facts.rates, state, waiting, now),
  };
}

/** A /80 has more than an integer of JSON's readers holds. */
const MOST = 65_536;

function addressesOf(
  { state, policy, limits, counts, now }: ReportFacts,
  waiting: number,
): PodwayNodeAddresses {
  const { count, lack } = obtainable(state, policy, limits, now);
  const { held, free, cooling } = counts;
  return {
    ...{ held, free: Math.min(free, MOST), cooling, waiting, obtainable: count },
    ...(lack !== null && free === 0 ? { lack } : {}),
    ...(lack === 'SUBNET_EXHAUSTED' && free === 0 ? { needs: addressNeeds(state, policy, limits, now) } : {}),
  };
}

function readyWord({ trouble, isKnown }: ReportFacts): Word {
  const type = 'Ready';
  if (trouble) return { type, status: 'False', reason: eventReason(trouble.code), message: trouble.message };
  return isKnown
    ? { type, status: 'True', reason: 'Serving', message: 'pods get their network' }
    : { type, status: 'False', reason: 'Starting', message: 'EC2 has not told which addresses the node has' };
}

function cloudWord({ pauses }: PoolState): Word {
  const type = 'CloudReachable';
  const away = pauses.get('cloud');
  return away?.cause === 'CLOUD_UNREACHABLE'
    ? { type, status: 'False', reason: 'Away', message: away.message }
    : { type, status: 'True', reason: 'Answering', message: 'EC2 answers' };
}

/** As the scheduler must hear it: at once; as people read it: soon; as it counts: seldom. */
export type Urgency = 'at once' | 'soon' | 'seldom' | 'never';

export function urgencyOf(said: Report | null, report: Report): Urgency {
  if (said === null) return 'at once';
  const isSame = (a: unknown, b: unknown) => JSON.stringify(a) === JSON.stringify(b);
  if (
    !isSame(outOf(said), outOf(report)) ||
    said.nodeUID !== report.nodeUID ||
    (said.asked === null && report.asked !== null) ||
    !isSame(
      said.conditions.map(({ status, reason }) => [status, reason]),
      report.conditions.map(({ status, reason }) => [status, reason]),
    )
  )
    return 'at once';
  if (!isSame(said.spec, report.spec) || !isSame(said.asked, report.asked)) return 'soon';
  return isSame(said.addresses, report.addresses) ? 'never' : 'seldom';
}

/** What the scheduler must hear of the addresses. */
const outOf = ({ addresses }: Report) =>
  addresses && [isOutOfAddresses(addresses), addresses.lack, addresses.needs];

/** The status as it is patched: `before` has the times of the conditions. */
export function statusOf(
  report: Report,
  before: PodwayNodeStatus | undefined,
  now: number,
): PodwayNodeStatus {
  const { nodeUID, addresses, asked } = report;
  const conditions = report.conditions.map((word): Condition => {
    const known = before?.conditions?.find(({ type }) => type === word.type);
    const lastTransitionTime =
      known?.status === word.status ? (known.lastTransitionTime ?? rfc3339(now)) : rfc3339(now);
    return { ...word, lastTransitionTime };
  });
  return {
    ...(nodeUID === null ? {} : { nodeUID }),
    // A merge patch takes away what is null.
    ...(addresses
      ? { addresses: { lack: null, needs: null, ...addresses } as unknown as PodwayNodeAddresses }
      : {}),
    conditions,
    ec2: { asked },
  };
}
