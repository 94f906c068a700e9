// Decides when an object that others keep changing is put back. Pure: the caller keeps one history per object.
// An object is put back at once twice in a window; from the third time on once per window, until nothing changes it
// for a whole window. A window is as long as the pause.

/** Ms: between repairs of an object that others keep changing, and the time after which that is forgotten. */
export const BACKOFF_MS = 10_000;
/** Repairs at once, within one window. */
const AT_ONCE = 2;

export type History = {
  /** Times (ms) of the last repairs, no more than are needed to judge the next. */
  readonly times: readonly number[];
  /** True from the first repair that is put off until the object was left alone for a window. */
  readonly isFight: boolean;
};

export type Verdict = {
  readonly history: History;
  readonly repair: boolean;
  /** When it may be put back (ms); now, if `repair`. */
  readonly at: number;
  /** True for the first repair of a fight that is put off: the caller reports the fight then. */
  readonly begins: boolean;
};

const lastOf = (history: History): number => history.times.at(-1) ?? Number.NEGATIVE_INFINITY;

/** The object was found changed at `now`. */
export function judge(history: History | undefined, now: number): Verdict {
  const recent = (history?.times ?? []).filter((time) => now - time < BACKOFF_MS);
  const wasFight = history ? history.isFight && !isForgotten(history, now) : false;
  if (recent.length >= (wasFight ? 1 : AT_ONCE)) {
    const next = { times: history!.times, isFight: true };
    return { history: next, repair: false, at: lastOf(next) + BACKOFF_MS, begins: !wasFight };
  }
  const times = [...recent, now].slice(-AT_ONCE);
  return { history: { times, isFight: wasFight }, repair: true, at: now, begins: false };
}

/** True when the object was unchanged for long enough, so that its history can be dropped. */
export const isForgotten = (history: History, now: number): boolean =>
  now - lastOf(history) >= 2 * BACKOFF_MS;
