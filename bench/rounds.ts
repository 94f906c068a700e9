// Rounds of ADD and DEL by exec of the plugins, the sides in turn, and their rows of a table.
import { type Sandboxes, type Side, untilLinksGone } from './sides.ts';
import { round, type Summary, summarise } from './stats.ts';

export const ROUNDS = 5;
/** Rounds that are not counted, of both sides: an agent runs for weeks, and what its first pods cost is in the second table. */
export const WARM_UP = 2;

export type Row = (string | number)[];
type Samples = { add: number[]; del: number[]; addRate: number[]; delRate: number[]; gone: number[] };
const noSamples = (): Samples => ({ add: [], del: [], addRate: [], delRate: [], gone: [] });
const median = (list: number[]): number => summarise(list).p50;

/** Rounds of all sides in turn, each from another one on. */
export async function rounds(
  sandboxes: Sandboxes,
  sides: Side[],
  atOnce: number,
): Promise<Map<string, Samples>> {
  const samples = new Map(sides.map((side) => [side.name, noSamples()]));
  for (let i = atOnce === 1 ? -WARM_UP : 0; i < ROUNDS; i++) {
    const turn = Math.abs(i) % sides.length;
    for (const side of [...sides.slice(turn), ...sides.slice(0, turn)]) {
      const into = samples.get(side.name)!;
      const tag = `c${atOnce}r${i}`;
      const add = await sandboxes.call(side, 'ADD', tag, { atOnce });
      const del = await sandboxes.call(side, 'DEL', tag, { atOnce });
      const gone = side.leavesLinks ? 0 : await untilLinksGone(side);
      if (i < 0) continue;
      into.add.push(...add.calls.map((call) => call.ms));
      into.addRate.push(add.calls.length / (add.totalMs / 1000));
      into.del.push(...del.calls.map((call) => call.ms));
      into.delRate.push(del.calls.length / ((del.totalMs + gone) / 1000));
      into.gone.push(gone);
    }
  }
  return samples;
}

export function verbRows(
  atOnce: number,
  verb: 'ADD' | 'DEL',
  samples: ReadonlyMap<string, Samples>,
): { rows: Row[]; numbers: Record<string, { ms: Summary; perSecond: number }> } {
  const all = [...samples].map(([who, one]) => ({
    who,
    ms: summarise(verb === 'ADD' ? one.add : one.del),
    perSecond: median(verb === 'ADD' ? one.addRate : one.delRate),
    gone: verb === 'DEL' && median(one.gone) > 0 ? round(median(one.gone)) : '',
  }));
  const [us, ...peers] = all;
  const rows: Row[] = all.map(({ who, ms, perSecond, gone }) => [
    ...[atOnce, verb, who, round(ms.p50), round(ms.p90), round(ms.p99)],
    ...[Math.round(perSecond), gone],
  ]);
  for (const peer of peers) {
    const ratio = (at: 'p50' | 'p90' | 'p99') => round(us!.ms[at] / peer.ms[at], 3);
    const rate = round(us!.perSecond / peer.perSecond);
    rows.push([atOnce, verb, `${us!.who} / ${peer.who}`, ratio('p50'), ratio('p90'), ratio('p99'), rate, '']);
  }
  return { rows, numbers: Object.fromEntries(all.map(({ who, ms, perSecond }) => [who, { ms, perSecond }])) };
}
