// Compares the pool with EC2: every five minutes at rest, a minute after a change of ours, at once after a surprise. It
// also finds unattached ENIs of ours. Describes are most of a fleet's EC2 calls: 1,000 nodes at rest make 3 a second.
// A failure pauses the cloud and is tried again; it never changes the pool.
import { JournalError } from '../../base/journal.ts';
import { CloudError, type EniDescription, type EniId } from '../../cloud/port.ts';
import { type Core, commit, pause, tellListeners, unpause } from '../core.ts';
import { coolingRecords, eniRecord, holdRecord, type PoolRecord } from '../journal/records.ts';
import { isHolding, ownerKey, type PoolState } from '../state.ts';
import { describeObservation, foldDescribe, holdsIn, isOurs, REMOVAL_GAP } from './observe.ts';
import { Orphans, whoseOf } from './orphans.ts';
import type { Away } from './reach.ts';
import { noteHeld } from './restore.ts';
import { Retagger } from './retag.ts';
import { describeContext, learnSubnets } from './subnet-facts.ts';

/** One in this many describes at rest lists all ENIs with our tag, to find unattached ones. */
const ORPHAN_EVERY = 4;
/** After a surprise the next describe comes this soon (ms). */
const SOON = 500;
/** While EC2 has not told of the primary ENI (ms). */
const PRIMARY_AGAIN = 1_500;
/** Ms to the next describe after a change of ours, or when a call for an ENI was in flight during the last one. */
const AFTER_CHANGE = 60_000;
/** At rest (ms). */
const AT_REST = 300_000;
/** A wait is up to this share longer than it says: nodes that changed together (a rollout) soon ask at different times. */
const JITTER = 0.5;

/** Ms to the next describe when the answer could not be written to the journal. */
const UNWRITABLE_AGAIN = 5_000;

export type CloudStatus = {
  reachable: boolean | null;
  lastDescribe: number | null;
  failingSince: number | null;
  /** Since when, and why, EC2 cannot be reached; null when it can. */
  away: Away | null;
};

/** True when another describe would remove something. For missing held addresses the planner asks EC2 instead. */
const lacksSomething = (state: PoolState): boolean =>
  [...state.enis.values()].some(
    (eni) =>
      (eni.missingSince !== null && !isHolding(state, eni)) ||
      [...eni.blocks.values()].some(
        (block) => block.missingSince !== null && !holdsIn(state, block.cidr, eni.id),
      ),
  );

/** True when the journal has told of ENIs, EC2 shows each of them, and no call for another is open. */
function knowsAll({ enis, creations, unsure }: PoolState, described: readonly EniDescription[]): boolean {
  const seen = new Set(described.map(({ id }) => id));
  return enis.size > 0 && creations.size === 0 && !unsure && [...enis.keys()].every((id) => seen.has(id));
}

const isThrottled = (error: unknown): boolean =>
  error instanceof CloudError && error.code === 'CLOUD_THROTTLED';

export class Reconciler {
  /** Resolves at the end of the first describe, whatever came of it. */
  readonly first: Promise<void>;
  #firstDone: () => void = () => {};
  #nextAt = 0;
  #rounds = 0;
  #lookForOrphans = false;
  /** The first look for unattached ENIs waits for the first rest. */
  #owesLook = false;
  /** The last describe needs no early follow-up, and no describe was requested since. */
  #isAtRest = false;
  /** When the describe that was requested since the last one began is due; infinity without a request. */
  #askedAt = Number.POSITIVE_INFINITY;
  #running: Promise<void> | null = null;
  #lastDescribe: number | null = null;
  #failingSince: number | null = null;
  readonly #orphans: Orphans;
  readonly #retagger: Retagger;
  readonly #core: Core;
  readonly #interval: number;

  constructor(core: Core, interval = AT_REST) {
    this.#core = core;
    this.#interval = interval;
    this.#orphans = new Orphans(core);
    this.#retagger = new Retagger(core);
    this.first = new Promise((resolve) => {
      this.#firstDone = resolve;
    });
  }

  dueAt(): number {
    return this.#running || this.#core.reach.away ? Number.POSITIVE_INFINITY : this.#nextAt;
  }

  startDue(now: number): Promise<void> | null {
    // While EC2 is away the pool only probes; its return asks for a describe.
    if (this.#running || this.#core.reach.away || now < this.#nextAt) return null;
    return this.#start(this.#isAtRest && this.#askedAt === Number.POSITIVE_INFINITY);
  }

  /** Asks for a describe soon. */
  soon(orphans = false): void {
    this.#lookForOrphans ||= orphans;
    this.#within(SOON);
  }

  /** Asks for a look soon: somebody else has seen one of our ENIs attached to nothing. */
  sawLoose(id: EniId): void {
    if (!this.#orphans.knows(id)) this.soon(true);
  }

  /** Asks for a describe after a change of ours. */
  afterChange(): void {
    this.#within(this.#jittered(AFTER_CHANGE));
  }

  #jittered = (ms: number): number => ms * (1 + this.#core.random() * JITTER);

  #within(ms: number): void {
    this.#askedAt = Math.min(this.#askedAt, this.#core.clock.now() + ms);
    this.#nextAt = Math.min(this.#nextAt, this.#askedAt);
    this.#core.kick();
  }

  async now(): Promise<void> {
    // A running describe began before this request and does not count.
    await this.#running;
    await (this.#running ?? this.#start(false));
  }

  status(): CloudStatus {
    const reachable =
      this.#lastDescribe === null && this.#failingSince === null ? null : this.#failingSince === null;
    const { away } = this.#core.reach;
    return { reachable, lastDescribe: this.#lastDescribe, failingSince: this.#failingSince, away };
  }

  #start(atRest: boolean): Promise<void> {
    this.#running = this.#round(atRest).finally(() => {
      this.#running = null;
      this.#firstDone();
    });
    return this.#running;
  }

  async #round(atRest: boolean): Promise<void> {
    const { clock, log } = this.#core;
    const beganAt = clock.now();
    this.#askedAt = Number.POSITIVE_INFINITY;
    try {
      const isTurn = this.#owesLook || this.#rounds % ORPHAN_EVERY === 0;
      const isOrphansTurn = atRest && isTurn && !lacksSomething(this.#core.state);
      const wait = await (isOrphansTurn ? this.#lookAtRest() : this.#describe(beganAt));
      this.#isAtRest = wait === this.#interval;
      this.#nextAt = Math.min(clock.now() + this.#jittered(wait), this.#askedAt);
      this.#lastDescribe = clock.now();
      // A pause that another call began goes on: EC2 may answer describes and nothing else.
      if (this.#failingSince !== null) unpause(this.#core, 'cloud', 'describe');
      if (this.#failingSince !== null) log.info({ failingSince: this.#failingSince }, 'EC2 answers again');
      this.#failingSince = null;
    } catch (thrown) {
      if (this.#core.signal.aborted) return;
      if (thrown instanceof JournalError) {
        // EC2 answered, but the answer could not be journalled: describe again later.
        this.#nextAt = clock.now() + UNWRITABLE_AGAIN;
        return;
      }
      // Describes that are throttled leave the other actions their own buckets; without them nothing is known yet.
      const { state } = this.#core;
      const key = isThrottled(thrown) && state.enis.size > 0 ? 'describe' : 'cloud';
      const error = pause(this.#core, key, thrown);
      this.#nextAt = Math.max(this.#core.state.pauses.get(key)!.until, clock.now() + SOON);
      if (this.#failingSince === null)
        log.warn({ cause: error.code, error: error.message }, 'cannot describe the ENIs');
      this.#failingSince ??= beganAt;
    }
  }

  /** Describes and folds; answers how long (ms) until the next is due. */
  async #describe(beganAt: number): Promise<number> {
    const core = this.#core;
    const { instanceId, primary } = core.identity;
    const described = await core.cloud.describeNetworkInterfaces(
      { kind: 'instance', instanceId },
      core.signal,
    );
    const ours = described.filter((eni) => isOurs(eni, { ...whoseOf(core), primaryEniId: primary.eniId }));
    await learnSubnets(
      core,
      ours.filter((eni) => !core.state.enis.has(eni.id)).map((eni) => eni.subnetId),
    );
    if (this.#rounds === 0) {
      // The journal names what its agent was about to make; all nodes of a cluster may have restarted together.
      if (knowsAll(core.state, described)) this.#owesLook = true;
      else this.#lookForOrphans = true;
    }
    const orphans = this.#lookForOrphans ? await this.#look() : null;
    this.#rounds++;
    const skipped = ours.some((eni) => {
      const known = core.state.enis.get(eni.id);
      return known && (core.state.busy.has(eni.id) || known.settledAt >= beganAt);
    });
    await this.#fold(described, beganAt);
    const again = orphans && this.#takeOrphans(orphans);
    noteHeld(core);
    await this.#retagger.putBack(described);
    if (skipped && core.state.unsure) return SOON;
    // A describe may be older than the instance: without its primary ENI a node can serve nobody.
    if (![...core.state.enis.values()].some((eni) => eni.primary))
      return Math.min(this.#interval, PRIMARY_AGAIN);
    if (again) return Math.min(this.#interval, again);
    if (lacksSomething(core.state) || core.state.unsure) return Math.min(this.#interval, REMOVAL_GAP + 1_000);
    return skipped || this.#lookForOrphans ? Math.min(this.#interval, AFTER_CHANGE) : this.#interval;
  }

  async #lookAtRest(): Promise<number> {
    const orphans = await this.#look();
    this.#rounds++;
    const again = this.#takeOrphans(orphans);
    return Math.min(this.#interval, again ?? this.#interval);
  }

  async #look(): Promise<EniDescription[]> {
    const found = await this.#orphans.look();
    this.#lookForOrphans = false;
    this.#owesLook = false;
    return found;
  }

  /** Answers in how many ms they are looked for again, or null. */
  #takeOrphans(orphans: readonly EniDescription[]): number | null {
    const again = this.#orphans.take(orphans);
    if (again !== null) this.#lookForOrphans = true;
    return again;
  }

  async #fold(described: readonly EniDescription[], beganAt: number): Promise<void> {
    const core = this.#core;
    const before = core.state;
    const folded = foldDescribe(before, described, describeContext(core, beganAt));
    const records: PoolRecord[] = [];
    for (const id of folded.changed) {
      const eni = folded.state.enis.get(id);
      records.push(eni ? eniRecord(eni) : { k: 'eni-gone', id, at: beganAt });
    }
    const foreign = folded.state.foreign;
    if (JSON.stringify(foreign) !== JSON.stringify(before.foreign))
      records.push({ k: 'foreign', enis: foreign });
    for (const lease of folded.found) records.push(holdRecord(lease));
    if (before.unsure) records.push(...coolingRecords(folded.state));
    if (before.unsure && !folded.state.unsure) records.push({ k: 'sure' });
    if (folded.state !== before) commit(core, folded.state, ...records);
    for (const lease of folded.found) core.leases.set(ownerKey(lease.owner), lease);
    for (const one of folded.observations) {
      const level = one.held
        ? 'error'
        : one.kind === 'eni-found' || one.kind === 'address-found'
          ? 'debug'
          : 'warn';
      core.log[level](
        { eni: one.eniId, found: one.kind },
        `EC2 and the pool differ: ${one.kind}: ${describeObservation(one)}`,
      );
    }
    // The ENI may be unattached now, and is ours to delete.
    if (folded.observations.some((one) => one.kind === 'eni-gone')) this.soon(true);
    // The setup action tells the node's network about new ENIs and addresses; removed ones are told here.
    if (folded.observations.some((one) => /-(missing|gone)$/.test(one.kind))) {
      await tellListeners(core).catch((error) =>
        core.log.warn({ error: String(error) }, 'the network of the node lags'),
      );
    }
  }
}
