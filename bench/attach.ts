// attach: ADD and DEL by exec of the plugin against Debian's ptp with host-local, rounds interleaved, same launcher; then
// the first calls of an agent that has just started (cold.ts). The lab runs one m5.4xlarge node with cooldown 0 (said in the
// title): every address may be given again at once.
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type AwsPeer, startAws, whyNoAws } from './aws.ts';
import { benchCold } from './cold.ts';
import { oneSubnet, podway, scratch } from './run.ts';
import { ptpSide, Sandboxes, type Side, untilLinksGone } from './sides.ts';
import { type BenchOptions, type BenchResult, round, type Summary, summarise } from './stats.ts';

const LAB = 'bench-attach';
const SANDBOXES = 50;
const ROUNDS = 5;
/** Rounds that are not counted, of both sides: an agent runs for weeks, and what its first pods cost is in the second table. */
const WARM_UP = 2;

type Row = (string | number)[];
type Samples = { add: number[]; del: number[]; addRate: number[]; delRate: number[]; gone: number[] };
const noSamples = (): Samples => ({ add: [], del: [], addRate: [], delRate: [], gone: [] });
const median = (list: number[]): number => summarise(list).p50;

/** Rounds of all sides in turn, each from another one on. */
async function rounds(sandboxes: Sandboxes, sides: Side[], atOnce: number): Promise<Map<string, Samples>> {
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

function verbRows(
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
    rows.push([atOnce, verb, `podway / ${peer.who}`, ratio('p50'), ratio('p90'), ratio('p99'), rate, '']);
  }
  return { rows, numbers: Object.fromEntries(all.map(({ who, ms, perSecond }) => [who, { ms, perSecond }])) };
}

/** ADD while a storm of DELs drains: half of the sandboxes are deleted, the others are added at once. */
async function storm(sandboxes: Sandboxes, ours: Side): Promise<Summary> {
  const half = SANDBOXES / 2;
  const added: number[] = [];
  for (let i = 0; i < ROUNDS; i++) {
    await sandboxes.call(ours, 'ADD', `storm${i}`, { atOnce: 8, to: half });
    const draining = sandboxes.call(ours, 'DEL', `storm${i}`, { atOnce: 8, to: half });
    const rest = await sandboxes.call(ours, 'ADD', `s${i}`, { from: half });
    added.push(...rest.calls.map((call) => call.ms));
    await draining;
    await sandboxes.call(ours, 'DEL', `s${i}`, { atOnce: 8, from: half });
    await untilLinksGone(ours);
  }
  return summarise(added);
}

const NODE = 'node-1';
const BARE = 'aws';

const shapeText = oneSubnet(
  `{ name: ${NODE}, type: m5.4xlarge, subnet: a }`,
  `{ name: ${BARE}, type: m5.4xlarge, subnet: a, agent: none }`,
);

/** `peerBin`: where the binaries of the AWS VPC CNI are, which then is a third side. */
export async function bench({ peerBin }: BenchOptions): Promise<BenchResult[]> {
  return [await benchWarm(peerBin), await benchCold()];
}

async function benchWarm(peerBin: string | undefined): Promise<BenchResult> {
  const { dir, launcher, remove } = scratch();
  let sandboxes: Sandboxes | undefined;
  let aws: AwsPeer | undefined;
  try {
    const peer = ptpSide(dir);
    const settings = ['--set', 'cooldown=0s', '--set', `warm=${SANDBOXES + 10}`];
    const shape = join(dir, 'lab.yaml');
    writeFileSync(shape, shapeText);
    podway('lab', 'up', '--lab', LAB, '-f', shape, ...settings, '--quiet');
    const status = JSON.parse(podway('lab', 'status', '--lab', LAB, '-o', 'json'));
    const node = status.nodes[0];
    sandboxes = new Sandboxes(SANDBOXES, dir, launcher);
    const list = JSON.parse(readFileSync(join(node.cniConfDir, '10-podway.conflist'), 'utf8'));
    const config = join(dir, 'podway.json');
    writeFileSync(config, JSON.stringify({ ...list.plugins[0], name: list.name, cniVersion: '1.0.0' }));
    const plugin = join(node.cniBinDir, 'podway-cni');
    const ours: Side = { name: 'podway', plugin, config, linksIn: node.netns };
    const skipped = whyNoAws(peerBin);
    if (skipped) console.error(skipped);
    else {
      const { netns } = status.instances.find((one: { name: string }) => one.name === BARE);
      const kubeconfig = `/run/podway/labs/${LAB}/nodes/${NODE}/kubeconfig`;
      const where = {
        bin: peerBin!,
        dir,
        netns,
        region: status.region,
        nodeName: NODE,
        kubeconfig,
        sandboxes,
      };
      aws = await startAws(where);
    }
    const sides = [ours, peer, ...(aws ? [aws.side] : [])];

    const rows: Row[] = [];
    const numbers: Record<string, unknown> = {};
    for (const atOnce of [1, 8, 50]) {
      const samples = await rounds(sandboxes, sides, atOnce);
      const add = verbRows(atOnce, 'ADD', samples);
      const del = verbRows(atOnce, 'DEL', samples);
      rows.push(...add.rows, ...del.rows);
      numbers[`atOnce${atOnce}`] = { add: add.numbers, del: del.numbers };
    }
    const during = await storm(sandboxes, ours);
    rows.push([
      1,
      'ADD during DEL storm',
      'podway',
      round(during.p50),
      round(during.p90),
      round(during.p99),
      '',
      '',
    ]);
    numbers['addDuringDelStorm'] = during;
    return {
      title: `attach: ms a call by exec of the plugin, ${SANDBOXES} sandboxes, ${ROUNDS} interleaved rounds after ${WARM_UP} that are not counted, m5.4xlarge, cooldown 0; DELs per second until the links are gone${aws ? ' (aws leaves them to the runtime)' : ''}`,
      head: ['at once', 'verb', 'who', 'p50', 'p90', 'p99', 'per second', 'links gone after, ms'],
      rows,
      numbers,
    };
  } finally {
    await aws?.close();
    podway('lab', 'down', '--lab', LAB, '--quiet');
    sandboxes?.remove();
    remove();
  }
}
