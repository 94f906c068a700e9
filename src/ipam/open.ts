// How a pool begins: from the journal, from what stands in the kernel, and from the journal's own state. Invariant: after
// it the journal says all that is true and is of this boot and version, or every later write tries to make it so.
import type { Clock } from '../base/clock.ts';
import { JournalError } from '../base/journal.ts';
import type { Log } from '../base/log.ts';
import { withBudget } from '../cloud/budget.ts';
import type { NodeIdentity } from '../cloud/imds.ts';
import type { Cloud, Tags } from '../cloud/port.ts';
import { type Adoption, adopt, type KernelView } from './adopt.ts';
import { type Core, commit, silentLog, writeDown } from './core.ts';
import { liveRecords, nodeRecord, type PoolJournal, replayRecords } from './records.ts';
import type { AddressNews } from './restore.ts';
import type { PoolSettings } from './settings.ts';
import { type Owner, ownerKey, shortenCooling } from './state.ts';

export type OpenOptions = {
  cloud: Cloud;
  journal: PoolJournal;
  identity: NodeIdentity;
  settings: PoolSettings;
  /** What stands of pods in the node's kernel; absent: nothing. */
  kernel?: KernelView;
  /** Name of the link that an owner's attachment has. */
  linkOf?: (owner: Owner) => string;
  log?: Log;
  tags?: Tags;
  random?: () => number;
  /** Told what EC2 does to addresses that pods hold. */
  onNews?: (news: AddressNews) => void;
  /** Called at each point where a kill may fall. */
  onBoundary?: (name: string) => void;
};

type Hooks = Pick<Core, 'reconcileSoon' | 'reconcileAfterChange' | 'kick'> & {
  /** Somebody waits for what a call brings. */
  hurried: () => boolean;
};

export function openCore(
  options: OpenOptions,
  clock: Clock,
  signal: AbortSignal,
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
  const core: Core = {
    cloud: withBudget(options.cloud, clock, hurried),
    journal,
    clock,
    log: options.log ?? silentLog,
    random: options.random ?? Math.random,
    tags: options.tags ?? {},
    signal,
    boundary: options.onBoundary ?? (() => {}),
    listeners: [],
    onNews: options.onNews ?? (() => {}),
    subnetCidrs: new Map(),
    addressesOnLinks: settings.addressesOnLinks ?? (() => new Set()),
    identity,
    state: shortenCooling(start.state, now, cooldownMs),
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
    // Told by writeDown; what is in the file stays, and is read the same way by the next start.
    if (!(error instanceof JournalError)) throw error;
  }
  return { core, adoption: start.adoption };
}
