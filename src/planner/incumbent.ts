// A node with the allocator of the AWS VPC CNI (v1.23.1): its loop of 5 s, its arithmetic from src/ipam, and those of its
// quirks that change the figures: one ENI a turn grows, cooling addresses count as available and may be returned, a full
// subnet pauses all growth for 120 s, a prefix hands out its lowest address first, ENIs and addresses are taken in random
// order, as from a Go map. Turns that would find nothing to do are skipped; the others stay on the grid of 5 s.
import { PodwayError } from '../base/errors.ts';
import { CloudError, type EniId } from '../cloud/port.ts';
import {
  blocksBeyond,
  blocksWanted,
  type IncumbentCounts,
  type IncumbentNode as IncumbentModel,
  isDispensable,
  isLow,
  mayRemoveEni,
} from '../ipam/config/incumbent.ts';
import type { Allocator } from './allocator.ts';
import { type Block, Datastore, type Eni } from './datastore.ts';
import { IncumbentCalls, type IncumbentOptions } from './incumbent-calls.ts';

const TURN = 5_000;
/** In its loop of 5 s it balances after 2.5 s. */
const FIRST_TURN = 2_500;
/** A start whose calls fail ends the container; it runs again after about this long. */
const START_AGAIN = 10_000;
const DECREASE_EVERY = 30_000;
const EXHAUSTED_FOR = 120_000;
const ENI_MIN_AGE = 60_000;
/** What its datastore forgot and EC2 did not take back comes to it again from IMDS after this long. */
const FORGOTTEN_FOR = 60_000;

/** One error for each cause: pods are refused millions of times, and each error would record its stack. */
const refusals = Object.fromEntries(
  (['COOLDOWN', 'SUBNET_EXHAUSTED', 'SUBNET_FRAGMENTED', 'POOL_GROWING', 'ENI_LIMIT'] as const).map(
    (cause) => [cause, new PodwayError(cause, 'no available IP/Prefix addresses')],
  ),
);

const isExhaustion = (error: unknown): boolean =>
  error instanceof CloudError && (error.code === 'SUBNET_EXHAUSTED' || error.code === 'SUBNET_FRAGMENTED');

export class IncumbentNode implements Allocator {
  readonly #o: IncumbentOptions;
  readonly #model: IncumbentModel;
  readonly #calls: IncumbentCalls;
  readonly #store: Datastore;
  #ended = false;
  /** Ended its last turn then; null during one. */
  #lastTurn: number | null = null;
  #nextTurn = Number.POSITIVE_INFINITY;
  #lastDecrease = Number.NEGATIVE_INFINITY;
  #exhausted: { at: number; cause: 'SUBNET_EXHAUSTED' | 'SUBNET_FRAGMENTED' } | null = null;

  constructor(options: IncumbentOptions) {
    this.#o = options;
    const { settings, limits, random } = options;
    const { usesPrefixes, maxPods } = settings;
    this.#model = { usesPrefixes, slotsPerEni: limits.ipv4PerEni - 1, maxPods };
    this.#calls = new IncumbentCalls(options, () => this.#ended);
    this.#store = new Datastore(random, settings.cooldownMs);
    void this.#run(() => this.#start(), FIRST_TURN);
  }

  give(pod: string): Promise<unknown> | null {
    const now = this.#o.clock.now();
    if (this.#store.assign(pod, now)) {
      this.#changed();
      return null;
    }
    return Promise.reject(this.#refusal(now));
  }

  bound(_pod: string): void {}

  remove(pod: string): void {
    if (this.#store.unassign(pod, this.#o.clock.now())) this.#changed();
  }

  end(): void {
    this.#ended = true;
  }

  #refusal(now: number): PodwayError {
    const cooling = this.#store.available > 0;
    const cause = cooling
      ? 'COOLDOWN'
      : this.#exhausted && now - this.#exhausted.at <= EXHAUSTED_FOR
        ? this.#exhausted.cause
        : this.#hasRoom()
          ? 'POOL_GROWING'
          : 'ENI_LIMIT';
    return refusals[cause]!;
  }

  #hasRoom(): boolean {
    const { enis } = this.#store;
    return enis.length < this.#o.settings.maxEnis || enis.some((eni) => this.#roomOn(eni) > 0);
  }

  #roomOn = (eni: Eni): number => this.#model.slotsPerEni - eni.blocks.length;

  /** A pod came or went: the next turn has something to look at. */
  #changed(): void {
    if (this.#lastTurn !== null) this.#turnBy(this.#o.clock.now());
  }

  /** Takes the first turn of the grid at or after `time`. */
  #turnBy(time: number): void {
    const turns = Math.max(1, Math.ceil((time - this.#lastTurn!) / TURN));
    const at = this.#lastTurn! + turns * TURN;
    if (at >= this.#nextTurn) return;
    this.#nextTurn = at;
    this.#o.clock.at(at, () => {
      if (this.#nextTurn !== at || this.#ended) return;
      void this.#run(() => this.#turn(), TURN);
    });
  }

  /** Runs one turn; the next is due `pause` after its end, or when `work` says. */
  async #run(work: () => Promise<number>, pause: number): Promise<void> {
    this.#lastTurn = null;
    this.#nextTurn = Number.POSITIVE_INFINITY;
    const before = this.#store.version;
    const again = await work().catch(() => 0);
    if (this.#ended) return;
    const now = this.#o.clock.now();
    this.#lastTurn = now + pause - TURN;
    if (this.#store.version !== before || again <= now) this.#turnBy(now);
    else if (Number.isFinite(again)) this.#turnBy(again);
  }

  /** Node init: what EC2 says of its ENIs, tags, groups, and one increase. */
  async #start(): Promise<number> {
    let primary: EniId | null = null;
    while (primary === null && !this.#ended)
      primary = await this.#calls.start().catch(() => this.#o.clock.sleep(START_AGAIN).then(() => null));
    if (primary === null) return Number.POSITIVE_INFINITY;
    this.#store.addEni({ id: primary, primary: true, since: this.#o.clock.now(), blocks: [] });
    if (this.#isLow()) await this.#increase();
    return 0;
  }

  #isLow = (): boolean => isLow(this.#counts(), this.#o.settings.targets, this.#model);
  #counts = (without?: Eni): IncumbentCounts => this.#store.counts(this.#model.usesPrefixes, without);

  /** balance(): answers when another look is due although nothing changes; infinity: never. */
  async #turn(): Promise<number> {
    const { targets } = this.#o.settings;
    const counts = this.#counts();
    const now = this.#o.clock.now();
    let again = Number.POSITIVE_INFINITY;
    const beyond = blocksBeyond(counts, targets, this.#model);
    if (isLow(counts, targets, this.#model)) {
      const until = this.#exhausted ? this.#exhausted.at + EXHAUSTED_FOR : now;
      if (until > now) again = until;
      else if (await this.#increase()) again = 0;
    } else if (beyond > 0) {
      const due = this.#lastDecrease + DECREASE_EVERY;
      if (due > now) again = due;
      else {
        await this.#decrease(beyond);
        this.#lastDecrease = this.#o.clock.now();
      }
    }
    return Math.min(again, await this.#freeOneEni(counts));
  }

  /** True when EC2 was asked. */
  async #increase(): Promise<boolean> {
    const wanted = blocksWanted(this.#counts(), this.#o.settings.targets, this.#model);
    if (wanted <= 0) return false;
    try {
      if (await this.#growExisting(wanted)) return true;
      if (this.#store.enis.length >= this.#o.settings.maxEnis) return false;
      const eni = await this.#calls.allocate(Math.min(wanted, this.#model.slotsPerEni));
      if (eni) this.#store.addEni(eni);
    } catch (error) {
      this.#noteExhaustion(error);
    }
    return true;
  }

  #noteExhaustion(error: unknown): void {
    if (!isExhaustion(error)) return;
    const { code } = error as CloudError;
    this.#exhausted = { at: this.#o.clock.now(), cause: code as 'SUBNET_EXHAUSTED' };
  }

  async #growExisting(wanted: number): Promise<boolean> {
    let exhaustion: unknown;
    for (const eni of this.#store.shuffled()) {
      const room = this.#roomOn(eni);
      if (room <= 0) continue;
      try {
        const blocks = await this.#calls.assign(eni.id, Math.min(room, wanted));
        this.#store.addBlocks(eni, blocks);
        return true;
      } catch (error) {
        if (!isExhaustion(error)) throw error;
        exhaustion = error;
      }
    }
    if (exhaustion) this.#noteExhaustion(exhaustion);
    return false;
  }

  async #decrease(beyond: number): Promise<void> {
    let left = beyond;
    for (const eni of this.#store.shuffled()) {
      const free = eni.blocks.filter((block) => block.assigned === 0).slice(0, left);
      if (free.length === 0) continue;
      left -= free.length;
      this.#store.dropBlocks(eni, free);
      await this.#calls.unassign(eni.id, free).catch(() => this.#remember(eni, free));
      if (left === 0) return;
    }
  }

  /** EC2 still has what the datastore forgot: the reconciler adds it again. */
  #remember(eni: Eni, blocks: Block[]): void {
    this.#o.clock.in(FORGOTTEN_FOR, () => {
      if (this.#ended || !this.#store.enis.includes(eni)) return;
      this.#store.addBlocks(eni, blocks);
      this.#changed();
    });
  }

  /** Removes at most one ENI; answers when an ENI that only time protects may go. */
  async #freeOneEni(counts: IncumbentCounts): Promise<number> {
    const { targets } = this.#o.settings;
    const hasEmpty = this.#store.enis.some((eni) => !eni.primary && eni.assigned === 0);
    if (!hasEmpty || !mayRemoveEni(counts, targets, this.#model, hasEmpty)) return Number.POSITIVE_INFINITY;
    const now = this.#o.clock.now();
    let again = Number.POSITIVE_INFINITY;
    for (const eni of this.#store.shuffled()) {
      if (eni.primary || eni.assigned > 0 || !isDispensable(this.#counts(eni), targets, this.#model))
        continue;
      const due = Math.max(eni.since + ENI_MIN_AGE, this.#store.coolsUntil(eni));
      if (due > now) {
        again = Math.min(again, due);
        continue;
      }
      this.#store.dropEni(eni);
      await this.#calls.free(eni.id).catch(() => {});
      return 0;
    }
    return again;
  }
}
