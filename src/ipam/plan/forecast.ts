// How many free addresses a node should keep, from its own recent churn: what it used at most lately comes again, and what
// it has is kept until that was long ago. Between a lower and an upper mark nothing is asked of EC2 nor given back, so
// that pods which come and go cost no call. Pure; a few dozen numbers; O(1) per look. Kept in memory alone: after a
// restart the pool's present size counts as used lately, so that nothing is given back in haste.
import type { Goals } from '../policy.ts';

export type Forecast = {
  /** When the first look was (ms). */
  readonly since: number;
  /** The most that was used in each of the last slots, the present one last, whose number since 1970 is `slot`. */
  readonly slot: number;
  readonly peaks: readonly number[];
  /** The least that was used in the present slot and in the one before it. */
  readonly lows: readonly number[];
  /** The fastest rise of use in each of the last hours, the present one last. */
  readonly hour: number;
  readonly rises: readonly number[];
  /** The most that was used in each of these hours. */
  readonly tops: readonly number[];
  /** What was used when the present rise began, and when that was. */
  readonly rise: { readonly at: number; readonly from: number };
  readonly used: number;
};

/** What the pool has at the moment. Cooling addresses are used ones: nobody can have them. */
export type Usage = {
  readonly held: number;
  readonly cooling: number;
  /** Pods that wait for an address. */
  readonly waiting: number;
  /** Free addresses, and those that calls in flight will bring. */
  readonly available: number;
};

const SLOT_MS = 600_000;
/** Three and a half hours: longer costs idle addresses, shorter costs calls when the same use comes again. */
const SLOTS = 21;
const HOUR_MS = 3_600_000;
const HOURS = 12;
/** A rise that was reached in so many of the last hours comes again. */
const USUAL_HOURS = 7;
/** Pods that come within this time come at once, as EC2 needs it for a new ENI's addresses (ms). */
const AT_ONCE_MS = 10_000;
/** A node is new for so long (ms): it is filling, so it keeps more ready and asks for more at once. */
const NEW_FOR_MS = 900_000;
/** Until it uses so many ENIs' addresses: the pods of a wave that fills it wait already, and what is asked for beyond them would need an ENI more. */
const NEW_ENIS = 2;
const NEW_LEAST = 0.4;
const NEW_STEP = 0.5;
/** Asked for at once, as a share of an ENI's addresses: a call is worth that many idle ones. */
const STEP = 0.24;
const LEAST_STEP = 2;
/** Free addresses that are kept whatever was seen, as a share of an ENI's: pods come while EC2 is asked for more. */
const LEAST = 0.16;
/** Of what was used beyond the present use, all but the last six addresses of an ENI are kept, and half of the rest: it is a call away. */
const LAST = 6;
const LEAST_WHOLE = 3;
/** Beyond the next step this many are not worth a call that returns them. */
const SLACK = 1;
/** Slots of attached ENIs beyond the most that was used in the last hours, as a share of an ENI's. */
const ROOM = 0.2;

const usedOf = ({ held, cooling, waiting }: Usage): number => held + cooling + waiting;

/** The forecast after a look at the pool; `before` null: the first one. */
export function observe(before: Forecast | null, usage: Usage, now: number): Forecast {
  const slot = Math.floor(now / SLOT_MS);
  const hour = Math.floor(now / HOUR_MS);
  const used = usedOf(usage);
  if (before === null) {
    const rise = { at: now, from: used };
    return {
      since: now,
      slot,
      peaks: [used + usage.available],
      lows: [used],
      hour,
      rises: [0],
      tops: [used],
      rise,
      used,
    };
  }
  const isSame = slot <= before.slot && hour <= before.hour && used === before.used;
  if (isSame) return before;
  const rise =
    used < before.rise.from || now - before.rise.at > AT_ONCE_MS
      ? { at: now, from: Math.min(used, before.used) }
      : before.rise;
  const peaks = advanced(before.peaks, slot - before.slot, SLOTS, before.used);
  const lows = advanced(before.lows, slot - before.slot, 2, before.used);
  const rises = advanced(before.rises, hour - before.hour, HOURS, 0);
  const tops = advanced(before.tops, hour - before.hour, HOURS, before.used);
  return {
    since: before.since,
    slot: Math.max(slot, before.slot),
    peaks: raised(peaks, used),
    lows: used < lows.at(-1)! ? lows.with(-1, used) : lows,
    hour: Math.max(hour, before.hour),
    rises: raised(rises, used - rise.from),
    tops: raised(tops, used),
    rise,
    used,
  };
}

/** The slots after `passed` more of them began; in those without a look nothing changed. */
function advanced(slots: readonly number[], passed: number, most: number, value: number): readonly number[] {
  if (passed <= 0) return slots;
  return [...slots, ...Array<number>(Math.min(passed, most)).fill(value)].slice(-most);
}

const raised = (slots: readonly number[], value: number): readonly number[] =>
  value > slots.at(-1)! ? slots.with(-1, value) : slots;

const usualRise = (rises: readonly number[]): number =>
  [...rises].sort((a, b) => b - a)[USUAL_HOURS - 1] ?? 0;

/**
 * Free addresses to keep, those for `bound` pods included, which come soon; the waiting ones are not among them.
 * `perEni`: addresses that an ENI takes.
 */
export function expectedFree(
  forecast: Forecast,
  usage: Usage,
  context: { bound: number; goals: Goals; perEni: number; now: number },
): number {
  const { bound, goals, perEni, now } = context;
  const used = usedOf(usage);
  const isNew = now - forecast.since < NEW_FOR_MS && used < NEW_ENIS * perEni;
  const peak = Math.max(used, ...forecast.peaks);
  const step = Math.max(LEAST_STEP, Math.floor(perEni * (isNew ? NEW_STEP : STEP)));
  const asked = Math.max(goals.minIdle, Math.ceil((goals.podsPerMinute * AT_ONCE_MS) / 60_000));
  // Pods that came at once lately come again, from where the use was before.
  const seen = Math.min(...forecast.lows) + usualRise(forecast.rises) - used;
  const ready = isNew ? Math.ceil(perEni * NEW_LEAST) : Math.floor(perEni * LEAST);
  const least = Math.max(asked, seen, ready) + bound;
  const share = goals.maxIdlePercent * Math.max(peak, perEni);
  const most = Math.max(asked + bound, Math.floor(share / 100));
  const free = usage.available - usage.waiting;
  const whole = Math.max(LEAST_WHOLE, perEni - LAST);
  const back = Math.round(Math.min(peak - used, whole) + Math.max(0, peak - used - whole) / 2);
  // One ENI's addresses cost a call once: returning them costs another, and pods of a lost node miss them.
  const wanted = Math.min(most, Math.max(least + step - 1, back, perEni - used));
  if (free < Math.min(least, most)) return wanted;
  return free <= Math.min(most, wanted + step - 1 + SLACK) ? free : wanted;
}

/**
 * Pods that the slots of the attached ENIs should suffice for: an address on an attached ENI is there in tenths of a
 * second, a new ENI takes seconds. More than one ENI takes, so that pods of a lost node, or a first wave, find room.
 */
export function expectedRoom(forecast: Forecast, usage: Usage, perEni: number): number {
  const top = Math.max(usedOf(usage), ...forecast.tops);
  return Math.max(perEni + 1, top + Math.ceil(perEni * ROOM));
}

/** Free addresses of a node whose use has not changed for hours, and the pods that its ENIs have slots for. */
export function atRest(goals: Goals, perEni: number, held: number): { free: number; room: number } {
  const usage = { held, cooling: 0, waiting: 0, available: 0 };
  const forecast = observe(observe(null, usage, 0), usage, NEW_FOR_MS);
  const free = expectedFree(forecast, usage, { bound: 0, goals, perEni, now: NEW_FOR_MS });
  return { free, room: expectedRoom(forecast, usage, perEni) };
}

/** When the forecast changes by time alone: the end of the present slot. */
export const nextSlot = (forecast: Forecast): number => (forecast.slot + 1) * SLOT_MS;
