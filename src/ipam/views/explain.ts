// What the pool decides now and why, as values and in words: `podway ipam explain` prints it. Pure; it plans with the
// planner's own function, so that what it says is what the pool would do.
import type { BranchMode } from '../../base/branch-words.ts';
import { type ExplainedCause, explainCause, type PodwayError } from '../../base/errors.ts';
import { formatCidr, formatIp } from '../../base/ip.ts';
import type { InstanceLimits } from '../../cloud/limits.ts';
import { podAddresses, roomOf } from '../config/max-pods.ts';
import type { CloudStatus } from '../ec2/reconcile.ts';
import { aimOf, freeGoal } from '../plan/aim.ts';
import { censusOf, givingOf, prefixKey } from '../plan/census.ts';
import { nextWake } from '../plan/due.ts';
import { activePause } from '../plan/pauses.ts';
import { type Action, plan } from '../plan/plan.ts';
import { type TrunkView, viewTrunkSlot } from '../plan/trunk-slot.ts';
import type { Demand, PoolPolicy } from '../policy.ts';
import { type Owner, ownerName, type PoolState } from '../state.ts';

export type Explanation = {
  /** A node's name, or `namespace/pod`. */
  subject: string;
  node: string;
  /** One sentence. */
  decision: string;
  /** What the policy was computed from: a NodeNetwork, the environment, or the settings. */
  source: string;
  /** What of the source has another effect than it says, each a sentence. */
  notes: readonly string[];
  inputs: {
    held: number;
    free: number;
    cooling: number;
    quarantined: number;
    waiting: number;
    /** Addresses that calls in flight bring. */
    incoming: number;
    /** Free addresses that the pool aims at, those for waiting pods included. */
    goal: number;
    /** Free addresses to keep, where the policy says a number; else null. */
    warm: number | null;
    /** Free addresses that the forecast asks for; null without one. */
    forecast: number | null;
    limits: { enis: number; ipv4PerEni: number; addresses: number; pods: number };
    subnets: SubnetInput[];
    /** EC2 calls that the node's own budget allows now, before it fills again. */
    callsLeft: { reads: number; changes: number };
    /** Where pods with security groups of their own are wanted. */
    trunk?: TrunkView;
  };
  policy: PoolPolicy & { cooldownMs: number };
  /** What the pool does next, in words; empty at rest. */
  actions: string[];
  /** When the pool looks again without an event (ISO time); null when only an event makes it. */
  nextLook: string | null;
  cause?: { code: string; text: string; next: string; details: ExplainedCause };
  /** Of a pod without an address: its place in the line, from 1. */
  position?: number;
  /** False while the runtime pauses between two tries: the pod stands in no line then. */
  inLine?: boolean;
  /** When the pod may have its address, as far as is known. */
  expectedSeconds?: number;
  /** Of a pod with an address. */
  addresses?: { ip: string; eni: string | null; since: string }[];
  /** Of a pod with a branch. `groupIds`: as EC2 has them; null: not known, for `lack`. */
  branch?: { id: string; mode: BranchMode; groupIds: string[] | null; lack?: string };
};

type SubnetInput = {
  id: string;
  cidr: string;
  enis: number;
  /** Free addresses when EC2 was last asked, and when that was (ISO time). */
  free?: number;
  describedAt?: string;
  /** Why it gives nothing now, and until when (ISO time) unless a pod waits. */
  paused?: { cause: string; until: string };
  /** The same of its whole /28s. */
  noPrefixes?: { cause: string; until: string };
};

export type ExplainContext = {
  state: PoolState;
  now: number;
  nodeName: string;
  limits: InstanceLimits;
  policy: PoolPolicy;
  cooldownMs: number;
  source: string;
  notes: readonly string[];
  demand: Demand;
  cloud: CloudStatus;
  /** When something other than the plan is due: a describe, a deadline (ms). */
  otherwiseDue: number;
  callsLeft: { reads: number; changes: number };
  waiting: { owner: Owner; cause: PodwayError }[];
  trouble: PodwayError | null;
  /** What keeps the pod that is asked for from its branch; absent: nothing, or it has none. */
  branchTrouble?: PodwayError | null;
  /** Mean seconds that an EC2 action has taken; undefined when it was not called yet. */
  secondsOf: (action: string) => number | undefined;
};

/** `pod`: explains this pod (namespace/name) instead of the node. */
export function explainPool(context: ExplainContext, pod?: string): Explanation {
  const { state, now, limits, policy, demand, cooldownMs } = context;
  const census = censusOf(state, now, givingOf(policy, limits));
  const { totals, counted } = census;
  const { short } = aimOf(state, census, demand, limits, policy);
  // The AWS VPC CNI's targets name no goal: what they ask for beside what there is.
  const goal =
    policy.targets.kind === 'incumbent'
      ? counted + totals.incoming + short
      : freeGoal(totals.held, demand, policy);
  const actions = context.cloud.reachable === null ? [] : plan(state, demand, limits, policy, now);
  const trunk = viewTrunkSlot(state, { limits, policy });
  const due = Math.min(nextWake(state, demand, limits, policy, now), context.otherwiseDue);
  const base: Explanation = {
    subject: context.nodeName,
    node: context.nodeName,
    decision: decisionOf(context, actions, { ...totals, counted }, goal),
    source: context.source,
    notes: [...context.notes, ...trunkNotes(trunk, context)],
    inputs: {
      held: totals.held,
      free: totals.free,
      cooling: totals.cooling,
      quarantined: totals.quarantined,
      waiting: demand.waiting,
      incoming: totals.incoming,
      goal,
      warm: policy.targets.kind === 'warm' ? policy.targets.free : null,
      forecast: demand.expected ?? null,
      limits: {
        enis: limits.enis,
        ipv4PerEni: limits.ipv4PerEni,
        addresses: podAddresses(limits, roomOf(policy)),
        pods: policy.podLimit,
      },
      subnets: subnetInputs(state, policy, now),
      callsLeft: context.callsLeft,
      ...(trunk ? { trunk } : {}),
    },
    policy: { ...policy, cooldownMs },
    actions: actions.map(inWords),
    nextLook: Number.isFinite(due) ? new Date(Math.max(due, now)).toISOString() : null,
  };
  if (pod !== undefined) return explainPod(context, base, pod);
  // What a pod would be told that came now is no trouble while the goal is met.
  const isShort = goal > counted || context.cloud.reachable === null;
  const cause = context.waiting[0]?.cause ?? (isShort ? context.trouble : null);
  return cause ? { ...base, cause: viewOf(cause) } : base;
}

/** What is said of the trunk, or of the ENI slot that is kept for it. */
function trunkNotes(trunk: TrunkView | undefined, { limits }: ExplainContext): string[] {
  if (!trunk) return [];
  const { id, branches, limit, lack } = trunk;
  if (id !== null) return [`the trunk ${id} has ${branches} of ${limit} branches`];
  return [
    lack ?? `1 of ${limits.enis} ENI slots is kept for the trunk of pods with security groups of their own`,
  ];
}

function explainPod(context: ExplainContext, base: Explanation, pod: string): Explanation {
  const { state, now } = context;
  const held = [...state.uses].filter(([, use]) => use.kind === 'held' && ownerName(use.lease.owner) === pod);
  if (held.length > 0) {
    const addresses = held.map(([ip, use]) => {
      const lease = use.kind === 'held' ? use.lease : null;
      return {
        ip: formatIp(ip),
        eni: lease?.branch?.id ?? lease?.eni?.id ?? null,
        since: new Date(lease?.at ?? 0).toISOString(),
      };
    });
    const decision = `${pod} has ${addresses.map((one) => one.ip).join(', ')}`;
    return { ...base, subject: pod, decision, addresses };
  }
  const { branchTrouble } = context;
  if (branchTrouble) {
    const decision = `${pod} has no branch, and is tried again: ${branchTrouble.code}`;
    return { ...base, subject: pod, decision, cause: viewOf(branchTrouble) };
  }
  const place = context.waiting.findIndex(({ owner }) => ownerName(owner) === pod);
  const inLine = place >= 0;
  const position = (inLine ? place : context.waiting.length) + 1;
  const cause = inLine ? context.waiting[place]!.cause : context.trouble;
  const shared = { ...base, subject: pod, position, inLine };
  if (!cause) {
    const decision = inLine
      ? `${pod} gets an address now`
      : `${pod} has asked for no address since its last try; it would get one at once`;
    return { ...shared, decision, expectedSeconds: 0 };
  }
  const where = inLine
    ? `is number ${position} of ${context.waiting.length} in line`
    : 'was refused; it is tried again';
  const expected = expectedSeconds(context, cause, now);
  return {
    ...shared,
    decision: `${pod} has no address and ${where}: ${cause.code}`,
    cause: viewOf(cause),
    ...(expected === undefined ? {} : { expectedSeconds: expected }),
  };
}

const viewOf = (error: PodwayError): NonNullable<Explanation['cause']> => {
  const details = explainCause(error);
  return { code: error.code, text: error.message, next: details.next!, details };
};

function expectedSeconds(
  { state, secondsOf }: ExplainContext,
  { code, details }: PodwayError,
  now: number,
): number | undefined {
  // The next try of a lasting cause need not succeed.
  if (code === 'COOLDOWN' && details.nextAt !== undefined) return Math.max(0, details.nextAt - now) / 1000;
  if (code !== 'POOL_GROWING') return undefined;
  const assign = secondsOf('AssignPrivateIpAddresses');
  if (state.creations.size === 0) return assign;
  const create = secondsOf('CreateNetworkInterface');
  const attach = secondsOf('AttachNetworkInterface');
  return create === undefined || attach === undefined ? undefined : create + attach;
}

function decisionOf(
  { state, policy, demand, cloud, waiting, trouble }: ExplainContext,
  actions: readonly Action[],
  { free, counted, incoming }: { free: number; counted: number; incoming: number },
  goal: number,
): string {
  if (state.enis.size === 0 || cloud.reachable === null)
    return 'waits for EC2 to tell which ENIs the node has';
  if (policy.families === 'ipv6' && counted > 0)
    return `rests: pods get addresses of ${sixText(state)}, which is never used up`;
  const why =
    demand.waiting > 0
      ? `${demand.waiting} ${demand.waiting === 1 ? 'pod waits' : 'pods wait'}, and the goal is ${goal} free`
      : `the goal is ${goal} free`;
  const others = free > counted ? ` and ${free - counted} of the other kind` : '';
  const coming = incoming > 0 ? `, ${incoming} on their way` : '';
  const has = `${counted} ${counted === 1 ? 'is' : 'are'} free${others}${coming}`;
  if (actions.some(({ kind }) => GROWS.has(kind))) return `grows: ${why}, ${has}`;
  if (actions.some(({ kind }) => SHRINKS.has(kind))) return `returns addresses: ${why}, ${has}`;
  if (actions.length > 0) return `finishes what it began: ${why}, ${has}`;
  if (counted + incoming >= goal) {
    const beyond = counted - goal;
    return beyond > 0
      ? `rests: ${why}, ${has}; ${beyond} beyond the goal are returned after ${policy.idleReleaseMs / 1000} s of rest`
      : `rests: ${why}, ${has}`;
  }
  const cause = waiting[0]?.cause ?? trouble;
  return `cannot grow now: ${why}, ${has}${cause ? `: ${cause.code}` : ''}`;
}

const sixText = (state: PoolState): string =>
  [...state.enis.values()]
    .flatMap(({ blocks }) => [...blocks.values()])
    .filter(({ cidr, foreign }) => cidr.length === 80 && !foreign)
    .map(({ cidr }) => formatCidr(cidr))
    .join(' and ');

const GROWS: ReadonlySet<Action['kind']> = new Set([
  'assign',
  'assign-prefixes',
  'assign-six',
  'create',
  'resume',
]);
const SHRINKS: ReadonlySet<Action['kind']> = new Set(['unassign', 'remove']);

function inWords(action: Action): string {
  switch (action.kind) {
    case 'assign':
      return `assign ${action.count} addresses to ${action.eniId}`;
    case 'assign-prefixes':
      return `assign ${action.count} prefixes (/28) to ${action.eniId}`;
    case 'assign-six':
      return `assign a prefix (/80) to ${action.eniId}`;
    case 'create':
      return `create an ENI with ${action.prefixes ? `${action.prefixes} prefixes (/28)` : `${action.count} addresses`} in ${action.subnetId}, for device ${action.deviceIndex}`;
    case 'resume':
      return `finish the ENI ${action.creation.eniId ?? 'that was begun'} for device ${action.creation.deviceIndex}`;
    case 'setup':
      return `set up ${action.eniId} on the node`;
    case 'reassign':
      return `ask EC2 for ${[...action.ips.map(formatIp), ...action.prefixes.map(formatCidr)].join(', ')} of ${action.eniId}, which pods hold`;
    case 'reattach':
      return `attach ${action.eniId} again, whose addresses pods hold`;
    case 'unassign':
      return `return ${action.blocks.map(formatCidr).join(', ')} of ${action.eniId}`;
    case 'remove':
      return `detach and delete ${action.eniId}`;
  }
}

/** The subnets that new ENIs may stand in, then those of ENIs that the node has. */
function subnetInputs(state: PoolState, policy: PoolPolicy, now: number): SubnetInput[] {
  const enis = [...state.enis.values()];
  const ids = new Set([...policy.subnetIds, ...enis.map((eni) => eni.subnetId)]);
  const pausedBy = (key: string) => {
    const pause = activePause(state, key, now);
    return pause && { cause: pause.cause, until: new Date(pause.until).toISOString() };
  };
  return [...ids].map((id) => {
    const inside = enis.filter((eni) => eni.subnetId === id);
    const facts = state.subnets.get(id);
    const cidr = facts?.cidr ?? inside[0]?.subnetCidr;
    const paused = pausedBy(`subnet:${id}`);
    const noPrefixes = pausedBy(prefixKey(id));
    return {
      id,
      cidr: cidr ? formatCidr(cidr) : '',
      enis: inside.length,
      ...(facts ? { free: facts.free, describedAt: new Date(facts.at).toISOString() } : {}),
      ...(paused ? { paused } : {}),
      ...(noPrefixes ? { noPrefixes } : {}),
    };
  });
}
