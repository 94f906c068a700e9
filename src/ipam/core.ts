// What the pool's parts share: the current state, the journal, the cloud, and the one way to change the state.
// Invariant: the state changes together with its journal records, in one synchronous step; records are written first,
// so a write that fails leaves the state as it was.

import type { Clock } from '../base/clock.ts';
import { asPodwayError, type PodwayError } from '../base/errors.ts';
import { type Cidr, type Ip, parseIp } from '../base/ip.ts';
import { JournalError } from '../base/journal.ts';
import type { Log } from '../base/log.ts';
import type { Budget } from '../cloud/budget.ts';
import type { Imds, NodeIdentity } from '../cloud/imds.ts';
import type { InstanceLimits } from '../cloud/limits.ts';
import type { Cloud, EniId, Tags } from '../cloud/port.ts';
import type { Away, Reach } from './ec2/reach.ts';
import type { AddressNews } from './ec2/restore.ts';
import type { PoolJournal, PoolRecord } from './journal/records.ts';
import type { PoolPolicy } from './policy.ts';
import {
  type EniRef,
  eniRef,
  isHolding,
  type Lease,
  type OwnerKey,
  type Pause,
  type PoolState,
  withEntry,
  withoutEntry,
} from './state.ts';

export const silentLog: Log = { debug: () => {}, info: () => {}, warn: () => {}, error: () => {} };

/** An ENI as the node's network must know it. */
export type AttachedEni = EniRef & {
  primary: boolean;
  subnetId: string;
  /** Its own IPv6 address beside its primary one. */
  ip6?: Ip;
  attachmentId: string | null;
  /** Secondary addresses and prefixes that EC2 routes to this ENI for the pool. */
  blocks: Cidr[];
};
export type EniListener = (enis: AttachedEni[]) => void | Promise<void>;

export type Core = {
  readonly cloud: Cloud;
  readonly budget: Budget;
  readonly reach: Reach;
  readonly journal: PoolJournal;
  readonly clock: Clock;
  readonly log: Log;
  readonly random: () => number;
  /** Tags of every ENI that the pool makes, beside the one that names the instance. */
  readonly tags: Tags;
  readonly signal: AbortSignal;
  /** Called where a kill may fall; tests kill there. */
  readonly boundary: (name: string) => void;
  readonly listeners: EniListener[];
  /** Told what EC2 does to addresses that pods hold. */
  readonly onNews: (news: AddressNews) => void;
  /** What the type allows, as far as is known. */
  limits: InstanceLimits;
  /** What the pool is told to aim at. */
  policy: PoolPolicy;
  /** The metadata service: costs none of the account's EC2 allowance, may be stale, and only hints. */
  readonly metadata: Pick<Imds, 'get'> | undefined;
  /** Addresses on the node's links; those already on an ENI's link when the ENI is first seen are foreign. */
  readonly addressesOnLinks: () => ReadonlySet<Ip>;
  identity: NodeIdentity;
  state: PoolState;
  /** The state's held uses, by holder. */
  readonly leases: Map<OwnerKey, Lease>;
  /** Releases that could not be written yet; they are written before any other record. */
  unrecorded: (PoolRecord & { k: 'release' })[];
  /** The last error of writing the journal, or null. */
  unwritable: JournalError | null;
  /** The last call of the listeners: they are called one at a time. */
  telling: Promise<void>;
  /** Asks for a describe soon: EC2 differs from the pool; `orphans`: one of our ENIs may be unattached. */
  reconcileSoon(orphans?: boolean): void;
  /** Asks for a describe within the minute: we have changed something in the cloud. */
  reconcileAfterChange(): void;
  /** Looks at the pool again: something has changed. */
  kick(): void;
};

/** Writes the records, then makes `next` the state. Throws JournalError, with the state as it was. */
export function commit(core: Core, next: PoolState, ...records: PoolRecord[]): void {
  if (records.length === 0) core.state = next;
  else {
    const late = core.unrecorded;
    writeDown(core, () => core.journal.appendSync(...late, ...records));
    core.state = late.length === 0 ? next : coolLate(next, late);
  }
  core.kick();
}

/** Writes to the journal. The first failure is logged; `probeJournal` logs when writing works again. */
export function writeDown(core: Core, write: () => void): void {
  try {
    write();
  } catch (error) {
    if (!(error instanceof JournalError)) throw error;
    if (!core.unwritable) core.log.error({ cause: error.code }, error.message);
    core.unwritable = error;
    core.kick();
    throw error;
  }
  core.unrecorded = [];
}

/** More than a page of memory has: what is left of one passes for room with a short record. */
const PROBE_BYTES = 4_096;

/** Tries whether the journal can be written again. Throws JournalError when it cannot. */
export function probeJournal(core: Core): void {
  commit(core, core.state, { k: 'probe', room: ' '.repeat(PROBE_BYTES) });
  core.unwritable = null;
  core.log.info({ journal: core.journal.path }, 'the journal can be written again');
}

/** Replaces the quarantine of addresses whose release was not recorded, and now is, by their cooldown. */
function coolLate(state: PoolState, late: Core['unrecorded']): PoolState {
  const uses = new Map(state.uses);
  for (const { ips, since, until } of late)
    for (const ip of ips.map(parseIp)) {
      if (uses.get(ip)?.kind === 'quarantined') uses.set(ip, { kind: 'cooling', since, until, clean: false });
    }
  return { ...state, uses };
}

/** An ENI that a describe lacks stays while pods hold its addresses: describes lag, and the planner reattaches it. */
const attachedEnis = (state: PoolState): AttachedEni[] =>
  [...state.enis.values()]
    .filter(
      (eni) => eni.phase !== 'leaving' && (eni.primary || eni.missingSince === null || isHolding(state, eni)),
    )
    .sort((a, b) => a.deviceIndex - b.deviceIndex)
    .map((eni) => ({
      ...eniRef(eni),
      primary: eni.primary,
      ...(eni.ip6 === undefined ? {} : { ip6: eni.ip6 }),
      subnetId: eni.subnetId,
      attachmentId: eni.attachmentId,
      blocks: [...eni.blocks.values()]
        .filter((block) => !block.leaving && !block.foreign)
        .map((block) => block.cidr),
    }));

/** Tells the node's network all ENIs and addresses; one call at a time. */
export function tellListeners(core: Core): Promise<void> {
  const told = core.telling.then(async () => {
    for (const listener of core.listeners) await listener(attachedEnis(core.state));
  });
  core.telling = told.catch(() => {});
  return told;
}

export const attachedNow = (core: Core): AttachedEni[] => attachedEnis(core.state);

/** The pause of creations; one that was begun has its own, `create:TOKEN`. */
const CREATE = 'create';

/** Pauses (ms) after a failure, by cause: the first pause, the longest, and the wait before a probe. */
const PAUSES: Partial<Record<PodwayError['code'], { first: number; most: number; probe: number }>> = {
  SUBNET_EXHAUSTED: { first: 120_000, most: 120_000, probe: 800 },
  // Tried again by each node that has single addresses instead, so it comes seldom.
  SUBNET_FRAGMENTED: { first: 60_000, most: 600_000, probe: 600_000 },
  CLOUD_UNREACHABLE: { first: 500, most: 15_000, probe: 800 },
  CLOUD_THROTTLED: { first: 1_000, most: 10_000, probe: 10_000 },
  CLOUD_DENIED: { first: 60_000, most: 300_000, probe: 5_000 },
  ENI_LIMIT: { first: 60_000, most: 60_000, probe: 5_000 },
  ADDRESS_LIMIT: { first: 30_000, most: 60_000, probe: 5_000 },
};
/** A failure this long (ms) after the last pause ended counts as the first again. */
const PAUSE_MEMORY = 60_000;
const OTHER_PAUSE = { first: 1_000, most: 60_000, probe: 2_000 };

/**
 * After a throttled creation of an ENI: a whole fleet starts then, and each try that is refused is one that another node
 * has not. ENIs come to it as fast as EC2 gives them, whoever asks.
 */
const THROTTLED_CREATION = { first: 6_000, most: 60_000, probe: 60_000 };

/** Records a failure: pauses `key`, with jitter so that nodes do not retry at the same time. */
export function pause(core: Core, key: string, thrown: unknown): PodwayError {
  const error = asPodwayError(thrown);
  const now = core.clock.now();
  const last = core.state.pauses.get(key);
  const earlier = last && last.until + PAUSE_MEMORY > now ? last : undefined;
  const failures = (earlier?.failures ?? 0) + 1;
  const isCreation = error.code === 'CLOUD_THROTTLED' && (key === CREATE || key.startsWith(`${CREATE}:`));
  const { first, most, probe } = isCreation ? THROTTLED_CREATION : (PAUSES[error.code] ?? OTHER_PAUSE);
  const jitter = 0.5 + core.random() / 2;
  const length = Math.min(most, first * 2 ** Math.min(failures - 1, 10)) * jitter;
  const entry: Pause = {
    cause: error.code,
    message: error.message,
    object: error.details.object,
    since: earlier?.cause === error.code ? earlier.since : now,
    failedAt: now,
    failures,
    // A call that was out when a longer pause began does not shorten it.
    until: Math.max(earlier?.until ?? 0, now + length),
    probeAt: Math.max(earlier?.probeAt ?? 0, now + Math.min(length, probe * (1 + core.random()))),
  };
  core.state = { ...core.state, pauses: withEntry(core.state.pauses, key, entry) };
  core.kick();
  return error;
}

/** EC2 is away: nothing but the probe is asked of it until `until` (ms). */
export function holdCloud(core: Core, { since, message }: Away, until: number): void {
  const now = core.clock.now();
  const failures = (core.state.pauses.get('cloud')?.failures ?? 0) + 1;
  const entry: Pause = {
    cause: 'CLOUD_UNREACHABLE',
    message,
    object: 'DescribeNetworkInterfaces',
    since,
    failedAt: now,
    failures,
    until,
    probeAt: until,
  };
  core.state = { ...core.state, pauses: withEntry(core.state.pauses, 'cloud', entry) };
  core.kick();
}

/** EC2 is back: what only waited for it goes on at once. */
export function releaseCloud(core: Core): void {
  for (const [key, { cause }] of core.state.pauses) if (cause === 'CLOUD_UNREACHABLE') unpause(core, key);
  core.reconcileSoon();
}

/** An ENI has come: the next may at once, or, where EC2 throttled one lately, after a rest. */
export function unpauseCreation(core: Core): void {
  const last = core.state.pauses.get(CREATE);
  const now = core.clock.now();
  if (last?.cause !== 'CLOUD_THROTTLED' || last.until + PAUSE_MEMORY < now) {
    unpause(core, CREATE);
    return;
  }
  const until = now + THROTTLED_CREATION.first * (0.5 + core.random() / 2);
  const entry: Pause = { ...last, failures: 1, until, probeAt: until };
  core.state = { ...core.state, pauses: withEntry(core.state.pauses, CREATE, entry) };
}

export function unpause(core: Core, ...keys: string[]): void {
  let pauses = core.state.pauses;
  for (const key of keys) pauses = withoutEntry(pauses, key);
  if (pauses !== core.state.pauses) core.state = { ...core.state, pauses };
}

/** Marks an ENI or creation as having a call in flight; `incoming` is how many addresses the call will bring. */
export function setBusy(core: Core, key: string, incoming: number): void {
  core.state = { ...core.state, busy: withEntry(core.state.busy, key, incoming) };
}

/** Ends `setBusy`; after a change in the cloud only describes that begin from now on count again. */
export function setSettled(core: Core, key: string, changed = true): void {
  let state: PoolState = { ...core.state, busy: withoutEntry(core.state.busy, key) };
  const eni = state.enis.get(key as EniId);
  if (eni && changed)
    state = { ...state, enis: withEntry(state.enis, eni.id, { ...eni, settledAt: core.clock.now() }) };
  core.state = state;
  if (changed) core.reconcileAfterChange();
  core.kick();
}
