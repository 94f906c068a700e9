// Composes the pool: requests for addresses, the waiting line, and the loop that keeps the pool at its goal.
// Invariants: an address has one holder; a hold is in the journal before it is answered; waiting pods are served in
// order. At rest the loop sleeps until the next describe. Throws PodwayError with the cause and its numbers.
import { type Clock, systemClock } from '../base/clock.ts';
import { PodwayError } from '../base/errors.ts';
import type { Ip } from '../base/ip.ts';
import type { JournalError } from '../base/journal.ts';
import type { Budget } from '../cloud/budget.ts';
import type { NodeIdentity } from '../cloud/imds.ts';
import type { InstanceLimits } from '../cloud/limits.ts';
import type { Cloud, EniId } from '../cloud/port.ts';
import { Cleaner } from './cleaner.ts';
import { type AttachedEni, attachedNow, type Core, commit, type EniListener } from './core.ts';
import { MetadataHint } from './ec2/hint.ts';
import { Learner } from './ec2/learner.ts';
import { Reconciler } from './ec2/reconcile.ts';
import { returnIdle } from './ec2/return-idle.ts';
import { TrunkSeeker } from './ec2/trunk-seeker.ts';
import type { Adoption } from './journal/adopt.ts';
import { JournalKeeper } from './journal/journal-keeper.ts';
import { Leases } from './leases.ts';
import { Loop } from './loop.ts';
import { noteNode, noteTold } from './node-link.ts';
import { type OpenOptions, openCore } from './open.ts';
import { type Census, censusOf, givingNow, type Totals } from './plan/census.ts';
import { Expectation } from './plan/expectation.ts';
import { Gatherer } from './plan/gather.ts';
import { awaitsTrunk, trunkLack } from './plan/trunk-slot.ts';
import type { PoolPolicy } from './policy.ts';
import { type PoolSettings, policyOf } from './settings.ts';
import {
  type AttachmentId,
  type BranchRef,
  blockOf,
  type GivenLease,
  type Lease,
  type Owner,
  ownerKey,
  type PoolState,
  shortenCooling,
  type Trunk,
  trunkOf,
} from './state.ts';
import { countNow, demandNow, diagnoseNow, nextTurn, type PoolParts, takeTurn } from './turn.ts';
import type { ExplainContext, Explanation } from './views/explain.ts';
import { type PoolSnapshot, snapshotPool } from './views/snapshot.ts';
import { WaitingLine } from './waiting.ts';

export type { PoolSettings } from './settings.ts';

export type PoolOptions = OpenOptions & {
  limits: InstanceLimits;
  nodeName: string;
  clock?: Clock;
  /** Runs a function after the current task; a simulation has its own. */
  defer?: (run: () => void) => void;
  /** The loop looks at the pool at least this often (ms). */
  longestNapMs?: number;
};

/** A bound (ms) on what a missed wake could cost. */
const LONGEST_NAP = 60_000;

export class AddressPool {
  readonly #core: Core;
  readonly #parts: PoolParts;
  readonly #settings: PoolSettings;
  readonly #nodeName: string;
  readonly #leases: Leases;
  readonly #line: WaitingLine;
  readonly #reconciler: Reconciler;
  readonly #trunks: TrunkSeeker;
  readonly #expectation: Expectation;
  readonly #loop: Loop;
  readonly #stop = new AbortController();
  #ran: Promise<void> | undefined;
  /** How a damaged journal was rebuilt; null for a whole one, and on a first start. */
  readonly adoption: Adoption | null;

  constructor(options: PoolOptions) {
    const clock = options.clock ?? systemClock;
    this.#settings = options.settings;
    this.#nodeName = options.nodeName;
    const policy = policyOf(options.settings, options.limits);
    const { core, adoption } = openCore(options, clock, this.#stop.signal, policy, {
      hurried: () => this.#line.size > 0,
      reconcileSoon: (orphans) => this.#reconciler.soon(orphans),
      reconcileAfterChange: () => this.#reconciler.afterChange(),
      // What is journalled while it is opened is before the first turn.
      kick: () => this.#loop?.kick(),
    });
    this.#core = core;
    this.#loop = new Loop(core, {
      turn: () => takeTurn(this.#parts),
      dueAt: (now) => nextTurn(this.#parts, now),
      defer: options.defer ?? setImmediate,
      longestNapMs: options.longestNapMs ?? LONGEST_NAP,
    });
    this.adoption = adoption;
    this.#line = new WaitingLine(clock);
    this.#reconciler = new Reconciler(core, options.settings.reconcileMs);
    this.#trunks = new TrunkSeeker(core, this.#reconciler);
    this.#expectation = new Expectation(core);
    this.#leases = new Leases(core, options.settings);
    this.#parts = {
      core,
      settings: options.settings,
      loop: this.#loop,
      leases: this.#leases,
      line: this.#line,
      cleaner: new Cleaner(core, () => this.cooldownMs, options.settings.beforeReuse),
      keeper: new JournalKeeper(core),
      reconciler: this.#reconciler,
      hint: new MetadataHint(core),
      gatherer: new Gatherer(),
      learner: new Learner(core),
      expectation: this.#expectation,
    };
  }

  get state(): PoolState {
    return this.#core.state;
  }

  get identity(): NodeIdentity {
    return this.#core.identity;
  }

  /** Called with all attached ENIs when they or their addresses change; awaited before new addresses are given out. */
  onEniChange(listener: EniListener): void {
    this.#core.listeners.push(listener);
  }

  /**
   * Starts the loop. Resolves after EC2's first answer or failure; addresses known from the journal are served before
   * that. Ends when `signal` aborts, also when it had done so before: then nothing is asked.
   */
  async start(signal: AbortSignal): Promise<void> {
    signal.addEventListener('abort', () => this.#stop.abort(signal.reason), { once: true });
    if (signal.aborted) this.#stop.abort(signal.reason);
    this.#ran = this.#loop.run().then(() => this.#line.dissolve(stopping()));
    await Promise.race([this.#reconciler.first, this.#ran]);
  }

  /** Resolves when the loop and every call in flight have ended, after an abort. */
  async stopped(): Promise<void> {
    await this.#ran;
    await this.#trunks.running;
    await this.#loop.ended();
  }

  /** EC2, within the node's budget of calls. */
  get cloud(): Cloud {
    return this.#core.cloud;
  }

  /** How often this node may call EC2. */
  get budget(): Budget {
    return this.#core.budget;
  }

  /** What the instance type allows, as far as EC2 has told. */
  get limits(): InstanceLimits {
    return this.#core.limits;
  }

  /** Null until EC2 has answered or failed for the first time. */
  get isReachable(): boolean | null {
    return this.#reconciler.status().reachable;
  }

  get policy(): PoolPolicy {
    return this.#core.policy;
  }

  /** Milliseconds before a released address is given again. */
  get cooldownMs(): number {
    return this.#leases.cooldownMs;
  }

  /** Aims at this from now on. No address cools longer than `cooldownMs` says now. Nothing that is held changes. */
  setPolicy(policy: PoolPolicy, cooldownMs = this.cooldownMs): void {
    this.#core.policy = policy;
    this.#leases.cooldownMs = cooldownMs;
    const { state, clock } = this.#core;
    commit(this.#core, shortenCooling(state, clock.now(), cooldownMs));
  }

  /** A pod was bound to this node: the forecast expects it until it asks for its address. `pod`: NAMESPACE/NAME. */
  expectPod(pod: string): void {
    this.#expectation.expectPod(pod);
  }

  /** The pod comes no more, or has come. */
  expectNoMore(pod: string): void {
    this.#expectation.expectNoMore(pod);
  }

  /** Pods that are bound to this node and have not asked for an address yet. */
  get coming(): number {
    return this.#expectation.coming;
  }

  /** Why the journal cannot be written, or null. */
  get unwritable(): JournalError | null {
    return this.#core.unwritable;
  }

  /** The journal was lost, and EC2 has not listed this node's addresses since. */
  get unsure(): boolean {
    return this.#core.state.unsure !== null;
  }

  /** Gives a free address at once, journalled; null when none is free or other pods wait already. */
  tryAcquire(owner: Owner): GivenLease | null {
    this.#refuseSecond(owner);
    this.#expectation.noteCame(owner);
    return this.#line.size > 0 ? null : this.#leases.give(owner);
  }

  /** The owner's branch and its addresses, journalled. Throws ATTACHMENT_EXISTS. */
  holdBranch(owner: Owner, branch: BranchRef, ips: readonly Ip[]): Lease {
    this.#refuseSecond(owner);
    this.#expectation.noteCame(owner);
    return this.#leases.giveBranch(owner, branch, ips);
  }

  /** The branch of a lease that was found in the kernel, after the journal was lost. */
  nameBranch(found: Lease, branch: BranchRef): void {
    this.#leases.nameBranch(found, branch);
  }

  /** The ENI of this instance that carries branches; null when there is none that the pool knows of. */
  get trunk(): Trunk | null {
    return trunkOf(this.#core.state);
  }

  /** True while an ENI slot is kept for a trunk that has not come. */
  get awaitsTrunk(): boolean {
    return awaitsTrunk(this.#core.state, this.#core.policy);
  }

  /**
   * Something says that the trunk may have come, or that it is an `other` than is known: EC2 is asked, at a bounded
   * rate.
   */
  seekTrunk(other = false): void {
    this.#trunks.seek(other);
  }

  /** The trunk as soon as EC2 tells of it, which is asked at once; null after `ms`. */
  trunkWithin(ms: number, signal: AbortSignal): Promise<Trunk | null> {
    return this.#trunks.within(ms, signal);
  }

  /** ENI_LIMIT while the trunk that is awaited finds no slot. */
  trunkLack(): PodwayError | null {
    const { limits, policy, state, identity } = this.#core;
    return trunkLack(state, { instanceId: identity.instanceId, limits, policy });
  }

  /** Waits in line for an address; rejects with the typed cause when waiting longer is of no use. */
  async acquire(owner: Owner, signal?: AbortSignal): Promise<GivenLease> {
    signal?.throwIfAborted();
    const lease = this.tryAcquire(owner);
    if (lease) return lease;
    if (this.#core.signal.aborted) throw stopping();
    const waiting = this.#line.join(owner, this.#settings.waitMs ?? 30_000, signal);
    this.#loop.tryTurn();
    this.kick();
    return waiting;
  }

  /** Ends the wait of this container's interface, because it was deleted meanwhile. */
  endWait(containerId: string, ifname: string): void {
    for (const { owner } of this.#line.list()) {
      if (owner.containerId !== containerId || owner.ifname !== ifname) continue;
      const key = ownerKey(owner);
      this.#line.leave(
        key,
        new PodwayError('POOL_GROWING', `${key} was deleted while it waited for an address`, { object: key }),
      );
    }
  }

  /** Ends a lease, journalled as soon as the journal can be written; its address cools. Null when there is none. */
  release(owner: AttachmentId & { link?: string }, reason = 'released'): Lease | null {
    return this.#leases.release(owner, reason);
  }

  held(): Lease[] {
    return [...this.#core.leases.values()];
  }

  find(id: AttachmentId & { link?: string }): Lease | null {
    return this.#leases.find(id);
  }

  /** Leases of a container, whatever the network's name: a DEL may come with another config than its ADD. */
  findByContainer(containerId: string, ifname?: string): Lease[] {
    return this.held().filter(
      ({ owner }) => owner.containerId === containerId && (ifname === undefined || owner.ifname === ifname),
    );
  }

  /** True when leases exist of which only the link is known. */
  get hasNameless(): boolean {
    return this.#leases.hasNameless;
  }

  /** The lease of a link whose alias names no owner. */
  findByLink(link: string): Lease | null {
    return this.#leases.findByLink(link);
  }

  /** Names the owner of such a lease; null when there is no lease for the link. */
  name(id: AttachmentId, link: string): Lease | null {
    return this.#leases.name(id, link);
  }

  /** Keeps a free address from being given out: something on this node or elsewhere uses it. Never ends a hold. */
  quarantine(ip: Ip, reason: string): boolean {
    return this.#leases.quarantine(ip, reason);
  }

  /** Ends an address's quarantine: it cools. False when it is not quarantined. */
  endQuarantine(ip: Ip): boolean {
    return this.#leases.endQuarantine(ip);
  }

  /** Returns idle addresses to EC2. All or nothing; throws NOT_IDLE. */
  returnIdle(ips: readonly Ip[]): void {
    returnIdle(this.#core, ips);
  }

  /** Addresses in quarantine, but those whose release only waits for the journal. */
  quarantined(): Ip[] {
    return this.#leases.quarantined();
  }

  /** True when EC2 routes the address to this node, as far as is known. */
  owns(ip: Ip): boolean {
    return blockOf(this.#core.state, ip) !== null;
  }

  /** Sets what the node cannot use now: ENIs without a link, addresses that are on a link of the node. */
  noteNode(seen: { linkless: ReadonlySet<EniId>; onLinks: ReadonlyMap<Ip, string> }): void {
    noteNode(this.#core, seen);
  }

  /** The node's network is set up for these ENIs. ENIs that EC2 must be asked about first are left to the loop. */
  noteTold(told: readonly AttachedEni[]): void {
    noteTold(this.#core, told);
  }

  enis(): AttachedEni[] {
    return attachedNow(this.#core);
  }

  counts(): Totals & { waiting: number } {
    return { ...countNow(this.#parts, this.#core.clock.now()), waiting: this.#line.size };
  }

  /** Of IPv6; null where pods have none and no /80 is there. */
  counts6(): Census['totals6'] | null {
    const { state, clock, policy } = this.#core;
    const { totals6 } = censusOf(state, clock.now(), givingNow(this.#core));
    return policy.families === 'ipv4' && totals6.held + totals6.free + totals6.cooling === 0 ? null : totals6;
  }

  /** The error that the next pod would get; null while an address is free. */
  trouble(): PodwayError | null {
    if (this.counts().free > this.#line.size) return null;
    return diagnoseNow(this.#parts, this.#line.size, this.#core.clock.now());
  }

  snapshot(): PoolSnapshot {
    return snapshotPool({
      state: this.#core.state,
      now: this.#core.clock.now(),
      nodeName: this.#nodeName,
      limits: this.#core.limits,
      cooldownMs: this.cooldownMs,
      ifnameOf: this.#settings.ifnameOf,
      policy: this.#core.policy,
      waiting: this.#waiting(),
      trouble: this.trouble(),
      cloud: this.#reconciler.status(),
      enis: this.enis(),
    });
  }

  /** What the pool decides now and why; `pod` (namespace/name) asks for one pod. */
  async explain(
    about: Pick<ExplainContext, 'source' | 'notes' | 'secondsOf' | 'branchTrouble'>,
    pod?: string,
  ): Promise<Explanation> {
    // Loaded when somebody asks: most agents are never asked.
    const { explainPool } = await import('./views/explain.ts');
    const { state, clock, budget } = this.#core;
    return explainPool(
      {
        ...{ state, now: clock.now(), nodeName: this.#nodeName, limits: this.#core.limits },
        ...{
          policy: this.#core.policy,
          cooldownMs: this.cooldownMs,
          callsLeft: budget.callsLeft(),
          ...about,
        },
        demand: demandNow(this.#parts, this.#core.clock.now()),
        cloud: this.#reconciler.status(),
        otherwiseDue: Math.min(this.#reconciler.dueAt(), this.#line.nextDeadline()),
        waiting: this.#waiting(),
        trouble: this.trouble(),
      },
      pod,
    );
  }

  #waiting() {
    return this.#line
      .list()
      .map((each, position) => ({ ...each, cause: diagnoseNow(this.#parts, position, each.since) }));
  }

  /** Describes now instead of at the next interval; resolves when it has ended. */
  reconcileNow(): Promise<void> {
    return this.#reconciler.now();
  }

  /** False when the journal's file is gone from its place. */
  get hasJournal(): boolean {
    return this.#core.journal.isInPlace;
  }

  /** Writes the journal anew at the next turn. */
  rewriteJournal(): void {
    this.#parts.keeper.missed();
    this.#loop.kick();
  }

  /** Says that an ENI with this node's tags is attached to nothing: the pool looks soon, and deletes it after its grace. */
  sawLoose(id: EniId): void {
    this.#reconciler.sawLoose(id);
  }

  /** Runs the loop again after the current task, so that an answer is sent before the next plan is made. */
  kick(): void {
    this.#loop.kick();
  }

  #refuseSecond(owner: Owner): void {
    this.#leases.refuseHolder(owner);
    if (!this.#line.has(ownerKey(owner))) return;
    const message = `${ownerKey(owner)} waits for an address already`;
    throw new PodwayError('ATTACHMENT_EXISTS', message, { object: owner.containerId });
  }
}

const stopping = (): PodwayError => new PodwayError('AGENT_UNREACHABLE', 'the agent is stopping');
