// The agent's EC2 calls since its start, by action: how many, which failures, how long the last ones took. The metrics of
// both names and `ipam explain` read it. Bounded: a few hundred bytes per action, a few actions, MOST_CODES failures.

/** Latencies remembered per action, for its quantiles. */
const RECENT = 64;
/** Distinct failure codes per action; those beyond are counted as `Other`. */
const MOST_CODES = 20;

export type ActionCalls = {
  ok: number;
  /** By EC2's code. */
  failures: Map<string, number>;
  sumMs: number;
  recentMs: Float32Array;
};

export class Ec2Calls {
  readonly byAction = new Map<string, ActionCalls>();

  note({ action, result, ms }: { action: string; result: string; ms: number }): void {
    let calls = this.byAction.get(action);
    if (!calls) {
      calls = { ok: 0, failures: new Map(), sumMs: 0, recentMs: new Float32Array(RECENT) };
      this.byAction.set(action, calls);
    }
    calls.recentMs[countOf(calls) % RECENT] = ms;
    calls.sumMs += ms;
    if (result === 'ok') calls.ok += 1;
    else {
      const isKnown = calls.failures.has(result) || calls.failures.size < MOST_CODES;
      const code = isKnown ? result : 'Other';
      calls.failures.set(code, (calls.failures.get(code) ?? 0) + 1);
    }
  }

  /** Mean seconds of the last calls of an action; undefined when there was none. */
  secondsOf(action: string): number | undefined {
    const recent = this.recent(action);
    return recent.length === 0 ? undefined : recent.reduce((sum, ms) => sum + ms, 0) / recent.length / 1000;
  }

  /** The last calls' latencies in ms, in no order. */
  recent(action: string): Float32Array {
    const calls = this.byAction.get(action);
    return calls ? calls.recentMs.subarray(0, Math.min(countOf(calls), RECENT)) : new Float32Array(0);
  }
}

export const failuresOf = ({ failures }: ActionCalls): number =>
  [...failures.values()].reduce((sum, count) => sum + count, 0);
export const countOf = (calls: ActionCalls): number => calls.ok + failuresOf(calls);
