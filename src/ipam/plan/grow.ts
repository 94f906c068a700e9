// Which addresses and ENIs the pool asks EC2 for. Pure. Existing ENIs are filled before one is attached, a new ENI comes
// with its addresses or prefixes in the same call, and a paused subnet does not stop other subnets. With prefixes: whole
// /28s first, then single addresses where a subnet has none; with addressing `prefix` those only for pods that wait.
import type { InstanceLimits } from '../../cloud/limits.ts';
import { PREFIX_SIZE } from '../config/incumbent.ts';
import type { PoolPolicy } from '../policy.ts';
import { blockHolding, type PoolState } from '../state.ts';
import { type Aim, slotsPerEni } from './aim.ts';
import { type EniCount, lacksPrefixes, usesPrefixes } from './census.ts';
import { isPaused, isProbe } from './pauses.ts';
import type { Action, PlanContext } from './plan.ts';
import { awaitsTrunk } from './trunk-slot.ts';

type Growable = { one: EniCount; room: number };

/** ENIs of ours with room for addresses, in the order of filling: the primary one, then the fullest. */
export function growableEnis(enis: readonly EniCount[], limits: InstanceLimits): Growable[] {
  const slots = slotsPerEni(limits);
  const growable: Growable[] = [];
  for (const one of enis) {
    const { eni } = one;
    if (eni.phase !== 'ready' || eni.missingSince !== null || eni.linkless || one.closed) continue;
    // Held addresses that were taken get their slots back first.
    const owed = one.lost.filter((ip) => !blockHolding(eni, ip)).length;
    const room = slots - one.blocks.length - owed;
    if (room > 0) growable.push({ one, room });
  }
  return growable.sort(
    (a, b) =>
      Number(b.one.eni.primary) - Number(a.one.eni.primary) ||
      b.one.used - a.one.used ||
      a.one.eni.deviceIndex - b.one.eni.deviceIndex,
  );
}

/** Device indexes on the default card that nobody uses; none when the card or the policy's number is full. */
export function freeDeviceIndexes(state: PoolState, limits: InstanceLimits, policy: PoolPolicy): number[] {
  const taken = new Set<number>();
  let attached = 0;
  const note = (one: { networkCard: number; deviceIndex: number }) => {
    // An unattached ENI (made before a crash, about to be deleted) takes no slot.
    if (one.networkCard !== limits.defaultCard || one.deviceIndex < 0) return;
    attached++;
    taken.add(one.deviceIndex);
  };
  for (const eni of state.enis.values()) note(eni);
  for (const eni of state.foreign) note(eni);
  for (const creation of state.creations.values()) note(creation);
  const own = attached - state.foreign.filter((one) => one.networkCard === limits.defaultCard).length;
  const kept = awaitsTrunk(state, policy) ? 1 : 0;
  const more = Math.min(limits.enis - attached - kept, (policy.maxEnis ?? Number.POSITIVE_INFINITY) - own);
  const free: number[] = [];
  for (let index = 1; free.length < more; index++) if (!taken.has(index)) free.push(index);
  return free;
}

/** True when the type has room for one more ENI with addresses for pods. */
export const hasEniSlot = (state: PoolState, limits: InstanceLimits, policy: PoolPolicy): boolean =>
  slotsPerEni(limits) > 0 && freeDeviceIndexes(state, limits, policy).length > 0;

/** Addresses that a pod's first address on a new ENI costs: the ENI takes one itself. */
export const OF_NEW_ENI = 2;

/** Where new ENIs may stand, best first. */
export function subnetsForNew(state: PoolState, policy: PoolPolicy): string[] {
  const primary = [...state.enis.values()].find((eni) => eni.primary);
  const wanted = policy.subnetIds.length > 0 ? policy.subnetIds : primary ? [primary.subnetId] : [];
  // Where pods have IPv6 a subnet without it is of no use; one that is not known yet may have it.
  const lacks6 = (id: string) => policy.families !== 'ipv4' && state.subnets.get(id)?.cidr6 === null;
  return wanted.filter((id) => !policy.excludedSubnetIds.includes(id) && !lacks6(id));
}

/** Slots of the ENIs that give addresses, those on their way included. */
export function slotsOf({ state, census, limits }: PlanContext): number {
  const giving = census.enis.filter(({ eni, closed }) => eni.phase !== 'leaving' && !closed);
  return slotsPerEni(limits) * (giving.length + state.creations.size);
}

/** Addresses that come with an ENI that is attached for its slots. */
const WITH_ENI = 4;

/** An ENI, one at a time, where the attached ones have too few slots for what may come. */
export function widen(context: PlanContext): Action[] {
  if (context.policy.families === 'ipv6' || context.state.creations.size > 0) return [];
  if (slotsOf(context) >= (context.demand.room ?? 0)) return [];
  const growth = new Growth(context, { short: WITH_ENI, urgent: 0 });
  growth.attach();
  return growth.actions.slice(0, 1);
}

export function grow(context: PlanContext, aim: Aim): Action[] {
  const growth = new Growth(context, aim);
  const growable = growableEnis(context.census.enis, context.limits);
  if (growth.usesPrefixes) for (const { one, room } of growable) growth.fill(one, room, 'prefix');
  for (const { one, room } of growable) growth.fill(one, room, 'single');
  growth.awaitStarted();
  growth.attach();
  return growth.actions;
}

class Growth {
  readonly actions: Action[] = [];
  readonly usesPrefixes: boolean;
  readonly #context: PlanContext;
  readonly #slots: number;
  readonly #isSparing: boolean;
  readonly #done = new Set<EniCount>();
  readonly #probed = new Set<string>();
  /** Addresses still to ask for, and those of them that pods wait for. */
  #missing: number;
  #urgent: number;

  constructor(context: PlanContext, aim: Pick<Aim, 'short' | 'urgent'>) {
    this.#context = context;
    this.#slots = slotsPerEni(context.limits);
    this.#missing = aim.short;
    this.#urgent = aim.urgent;
    this.usesPrefixes = usesPrefixes(context.policy, context.limits);
    this.#isSparing = context.policy.addressing === 'prefix';
  }

  fill(one: EniCount, room: number, kind: 'prefix' | 'single'): void {
    if (this.#missing <= 0 || this.#done.has(one)) return;
    const { state, isTaken } = this.#context;
    const { id, subnetId } = one.eni;
    if (isTaken(id)) {
      // Its remaining room is requested next, so no other ENI is attached for that.
      if (this.#isOpen(subnetId)) this.#expect(Math.max(0, room - this.#slotsUnderWay(id)));
      this.#done.add(one);
      return;
    }
    const count = this.#take(kind, subnetId, [`subnet:${subnetId}`, `eni:${id}`], room, 0);
    if (count === 0) return;
    this.#done.add(one);
    if (state.pauses.size > 0) this.#note([`subnet:${subnetId}`, `eni:${id}`]);
    this.actions.push({ kind: kind === 'prefix' ? 'assign-prefixes' : 'assign', eniId: id, count });
  }

  /** ENIs that are being created or set up are filled once they are attached. */
  awaitStarted(): void {
    const { state, census } = this.#context;
    for (const { count, prefixes = 0 } of state.creations.values())
      this.#expect(Math.max(0, this.#slots - count - prefixes));
    for (const { eni, blocks, closed } of census.enis)
      if (eni.phase === 'attached' && !closed) this.#expect(Math.max(0, this.#slots - blocks.length));
  }

  attach(): void {
    const { state, limits, policy } = this.#context;
    if (this.#missing <= 0 || this.#slots === 0 || policy.noNewEni) return;
    // One after the other, each until EC2 has taken it: of a fleet that starts at once EC2 takes few, and refusals cost calls.
    for (const one of state.creations.values()) if (!one.taken) return;
    const primary = [...state.enis.values()].find((eni) => eni.primary);
    if (!primary) return;
    const subnets = subnetsForNew(state, policy);
    const groupIds = policy.groupIds ?? primary.groupIds;
    for (const deviceIndex of freeDeviceIndexes(state, limits, policy)) {
      const common = {
        ...{ kind: 'create' as const, groupIds, networkCard: limits.defaultCard, deviceIndex },
        ...(policy.families === 'dual' ? { prefixes6: 1 } : {}),
      };
      const prefixed = this.usesPrefixes ? this.#firstWith('prefix', subnets) : null;
      const found = prefixed ?? this.#firstWith('single', subnets);
      if (!found) return;
      const { subnetId, count } = found;
      this.actions.push(
        prefixed ? { ...common, subnetId, count: 0, prefixes: count } : { ...common, subnetId, count },
      );
      return;
    }
  }

  #firstWith(
    kind: 'prefix' | 'single',
    subnets: readonly string[],
  ): { subnetId: string; count: number } | null {
    for (const subnetId of subnets) {
      const count = this.#take(kind, subnetId, [`subnet:${subnetId}`, 'create'], this.#slots, 1);
      if (count === 0) continue;
      this.#note([`subnet:${subnetId}`, 'create']);
      return { subnetId, count };
    }
    return null;
  }

  /**
   * How many blocks to ask for, at most `room`; `own`: addresses that the ENI itself takes. A paused subnet or ENI gets
   * one probe for one block while a pod waits.
   */
  #take(kind: 'prefix' | 'single', subnetId: string, keys: string[], room: number, own: number): number {
    if (this.#missing <= 0) return 0;
    const { state, census, demand, now, allowance } = this.#context;
    for (const key of keys) if (isPaused(state, key, demand, now) || this.#probed.has(key)) return 0;
    const left = allowance.left(subnetId) - own;
    // A full subnet has no whole /28 either: what is freed in it first is a single address.
    const isFull = isProbe(state, `subnet:${subnetId}`, now);
    const hasPrefixes = this.usesPrefixes && !isFull && !lacksPrefixes(state, subnetId, census.giving, now);
    const hasRoom = left >= PREFIX_SIZE;
    if (kind === 'prefix' ? !(hasPrefixes && hasRoom) : hasPrefixes && hasRoom) return 0;
    const size = kind === 'prefix' ? PREFIX_SIZE : 1;
    // Near a bound, and with addressing `prefix`, single addresses are for pods that wait alone.
    const isSparing = kind === 'single' && this.usesPrefixes && (hasPrefixes || this.#isSparing);
    const wanted = isSparing ? this.#urgent : this.#missing;
    const most = Math.min(room, Math.ceil(wanted / size), Math.floor(left / size));
    const count = keys.some((key) => isProbe(state, key, now)) ? Math.min(1, most) : most;
    if (count <= 0) return 0;
    allowance.take(subnetId, count * size + own);
    this.#missing -= count * size;
    this.#urgent -= count * size;
    return count;
  }

  #note(keys: readonly string[]): void {
    for (const key of keys) if (isProbe(this.#context.state, key, this.#context.now)) this.#probed.add(key);
  }

  #isOpen(subnetId: string): boolean {
    const { state, demand, now } = this.#context;
    return !isPaused(state, `subnet:${subnetId}`, demand, now);
  }

  /** Blocks that a call in flight for this ENI will bring. */
  #slotsUnderWay(id: EniCount['eni']['id']): number {
    const addresses = this.#context.state.busy.get(id) ?? 0;
    const isPrefixes = this.usesPrefixes && addresses > 0 && addresses % PREFIX_SIZE === 0;
    return isPrefixes ? addresses / PREFIX_SIZE : addresses;
  }

  /** These slots are asked for later. */
  #expect(slots: number): void {
    const addresses = slots * (this.usesPrefixes ? PREFIX_SIZE : 1);
    this.#missing -= addresses;
    this.#urgent -= addresses;
  }
}
