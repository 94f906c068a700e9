// When an object that somebody keeps changing is put back. Pure values: who asks keeps one history per object.
// Twice in a window an object is put back at once; from the third time on once in a window, until nobody changes it for
// a whole one. A window is as long as the pause.

/** Ms: between repairs of an object that others keep changing, and the time after which that is forgotten. */
export const BACKOFF_MS = 10_000;
/** Repairs at once, within one window. */
const AT_ONCE = 2;

export type History = {
  /** Repairs without a quiet window between them. */
  readonly count: number;
  /** Of the last repair, ms. */
  readonly last: number;
  /** True when a repair was put off since the last one. */
  readonly putOff: boolean;
};

export type Verdict = {
  readonly history: History;
  readonly repair: boolean;
  /** When it may be put back (ms); now, if `repair`. */
  readonly at: number;
  /** True the first time that a repair of this fight is put off: the time to tell somebody. */
  readonly begins: boolean;
};

/** The object was found changed at `now`. */
export function judge(history: History | undefined, now: number): Verdict {
  const sinceLast = history ? now - history.last : Number.POSITIVE_INFINITY;
  // One that was put off has been fought over until now: its pause is over, its count is not.
  const isFight =
    history !== undefined && (sinceLast < BACKOFF_MS || (history.putOff && !isForgotten(history, now)));
  const count = isFight ? history.count : 0;
  if (count >= AT_ONCE && sinceLast < BACKOFF_MS) {
    const at = history!.last + BACKOFF_MS;
    return {
      history: { ...history!, putOff: true },
      repair: false,
      at,
      begins: count === AT_ONCE && !history!.putOff,
    };
  }
  return { history: { count: count + 1, last: now, putOff: false }, repair: true, at: now, begins: false };
}

/** True when the history says nothing any more. */
export const isForgotten = (history: History, now: number): boolean => now - history.last >= 2 * BACKOFF_MS;
