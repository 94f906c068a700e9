// The last EC2 calls of everybody but the lab itself: who, what, result, how long. In memory: it begins anew with the
// lab's process. Tells too what AWS's published buckets would have refused of them.
import { Bucket } from './bucket.ts';
import { type Draw, publishedDraws } from './published.ts';

/** Calls that are kept; an hour of fifty busy nodes. */
const KEPT = 20_000;

export type LoggedCall = {
  at: number;
  action: string;
  /** An instance's name, or `admin`. */
  caller: string;
  /** `ok`, EC2's error code, or `lost` for an answer that never left. */
  result: string;
  ms: number;
};
type Kept = LoggedCall & { draws: readonly Draw[] };

export type CallReport = {
  calls: LoggedCall[];
  totals: Record<string, Record<string, number>>;
  /** By action: calls that AWS's published buckets refuse when they come as these did. */
  throttledByAws: Record<string, number>;
  /** When the first call of the report may have been, ms since 1970. */
  from: number;
};

export class CallLog {
  readonly #calls: Kept[] = [];
  #start: number;

  constructor(now: number) {
    this.#start = now;
  }

  add(call: LoggedCall, input: object): void {
    this.#calls.push({ ...call, draws: publishedDraws(call.action, input) });
    if (this.#calls.length < 2 * KEPT) return;
    this.#start = this.#calls[KEPT - 1]!.at;
    this.#calls.splice(0, KEPT);
  }

  /** Calls that began at `from` or later. */
  report(from = 0): CallReport {
    const kept = this.#calls.filter((call) => call.at >= from).sort((a, b) => a.at - b.at);
    const totals: CallReport['totals'] = {};
    for (const { action, result } of kept) {
      const row = totals[action] ?? {};
      totals[action] = row;
      row[result] = (row[result] ?? 0) + 1;
    }
    return {
      calls: kept.map(({ draws: _, ...call }) => call),
      totals,
      throttledByAws: throttled(kept),
      from: Math.max(from, this.#start),
    };
  }
}

/** Replays calls over full buckets of the published sizes. */
function throttled(calls: readonly Kept[]): Record<string, number> {
  const buckets = new Map<string, Bucket>();
  const refused: Record<string, number> = {};
  for (const { action, at, draws } of calls) {
    for (const { bucket: name, rate, count } of draws) {
      const bucket = buckets.get(name) ?? new Bucket(rate);
      buckets.set(name, bucket);
      if (bucket.take(at, count)) continue;
      refused[action] = (refused[action] ?? 0) + 1;
      break;
    }
  }
  return refused;
}
