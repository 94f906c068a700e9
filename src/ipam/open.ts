// Opens a pool from the journal and the pods' links in the kernel. Invariant: afterwards the journal holds the whole
// state for this boot and version; if that write fails, every later write tries it again.
import type { Clock } from '../base/clock.ts';
import { JournalError } from '../base/journal.ts';
import type { Log } from '../base/log.ts';
import { withBudget } from '../cloud/budget.ts';
import type { Imds, NodeIdentity } from '../cloud/imds.ts';
import type { InstanceLimits } from '../cloud/limits.ts';
import type { Cloud, Tags } from '../cloud/port.ts';
import { type Core, commit, holdCloud, releaseCloud, silentLog, writeDown } from './core.ts';
import { type Away, Reach } from './ec2/reach.ts';
import type { AddressNews } from './ec2/restore.ts';
import { type Adoption, adopt, type KernelView } from './journal/adopt.ts';
import { liveRecords, nodeRecord, type PoolJournal, replayRecords } from './journal/records.ts';
import type { PoolPolicy } from './policy.ts';
import type { PoolSettings } from './settings.ts';
import { dropSpent, type Owner, ownerKey, shortenCooling } from './state.ts';

export type OpenOptions = {
  cloud: Cloud;
  /** The metadata service, which hints at changes; absent: no hints. */
  metadata?: Pick<Imds, 'get'>;
  journal: PoolJournal;
  identity: NodeIdentity;
  settings: PoolSettings;
  limits: InstanceLimits;
  /** The pods' links in the node's kernel; absent: none. */
  kernel?: KernelView;
  /** Name of the link that an owner's attachment has. */
  linkOf?: (owner: Owner) => string;
  log?: Log;
  tags?: Tags;
  random?: () => number;
  /** Told what EC2 does to addresses that pods hold. */
  onNews?: (news: AddressNews) => void;
  /** Told whether EC2 can be reached: the first word, and each change; null: it answers. */
  onReach?: (away: Away | null) => void;
  /** Called at each point where a kill may fall. */
  onBoundary?: (name: string) => void;
};

const probeCloud = (core: Core, stop: AbortSignal): Promise<unknown> =>
  core.cloud.describeNetworkInterfaces(
    { kind: 'ids', ids: [core.identity.primary.eniId], once: true },
    AbortSignal.any([stop, core.signal]),
  );

type Hooks = Pick<Core, 'reconcileSoon' | 'reconcileAfterChange' | 'kick'> & {
  /** True while a pod waits for an address, so that calls are urgent. */
  hurried: () => boolean;
};

export function openCore(
  options: OpenOptions,
  clock: Clock,
  signal: AbortSignal,
  policy: PoolPolicy,
  { hurried, ...hooks }: Hooks,
): { core: Core; adoption: Adoption | null } {
  const { journal, identity, settings } = options;
  const { cooldownMs } = settings;
  const now = clock.now();
  const kernel = options.kernel ?? { links: [], any: false };
  const replayed = replayRecords(journal.replay.records, now);
  const start = adopt(journal.replay, replayed, {
    kernel,
    linkOf: options.linkOf ?? ownerKey,
    now,
    cooldownMs,
  });
  const random = options.random ?? Math.random;
  const reach: Reach = new Reach({
    clock,
    random,
    probe: (stop) => probeCloud(core, stop),
    onAway: (away, until) => holdCloud(core, away, until),
    onBack: () => releaseCloud(core),
    onChange: options.onReach ?? (() => {}),
  });
  const cloud = withBudget(reach.watch(options.cloud), clock, hurried);
  const core: Core = {
    cloud,
    budget: cloud,
    reach,
    journal,
    clock,
    log: options.log ?? silentLog,
    random,
    tags: options.tags ?? {},
    signal,
    boundary: options.onBoundary ?? (() => {}),
    listeners: [],
    onNews: options.onNews ?? (() => {}),
    limits: options.limits,
    policy,
    metadata: options.metadata,
    addressesOnLinks: settings.addressesOnLinks ?? (() => new Set()),
    identity,
    state: dropSpent(shortenCooling(start.state, now, cooldownMs), now),
    leases: start.leases,
    unrecorded: [],
    unwritable: null,
    telling: Promise.resolve(),
    ...hooks,
  };
  const isCurrent = start.adoption === null && journal.replay.found === 'whole';
  try {
    if (!isCurrent) writeDown(core, () => journal.compact(liveRecords(core.state, identity)));
    else if (!replayed.identity) commit(core, core.state, nodeRecord(identity));
  } catch (error) {
    // writeDown has logged it. The file stays as it is, and the next start reads it the same way.
    if (!(error instanceof JournalError)) throw error;
  }
  return { core, adoption: start.adoption };
}
