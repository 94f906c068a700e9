// attach: ADD and DEL by exec of the plugin against Debian's ptp with host-local, rounds interleaved, same launcher; then
// each kind of address (modes.ts), and the first calls of an agent that has just started (cold.ts). The lab runs one
// m5.4xlarge node with cooldown 0 (said in the title): every address may be given again at once.
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type AwsPeer, startAws, whyNoAws } from './aws.ts';
import { benchCold } from './cold.ts';
import { benchModes } from './modes.ts';
import { ROUNDS, type Row, rounds, verbRows, WARM_UP } from './rounds.ts';
import { oneSubnet, podway, scratch } from './run.ts';
import { labSide, ptpSide, Sandboxes, type Side, untilLinksGone } from './sides.ts';
import { type BenchOptions, type BenchResult, round, type Summary, summarise } from './stats.ts';

const LAB = 'bench-attach';
const SANDBOXES = 50;

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
  return [await benchWarm(peerBin), await benchModes(), await benchCold()];
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
    sandboxes = new Sandboxes(SANDBOXES, dir, launcher);
    const ours = labSide(status, 'podway', dir);
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
