// modes: ADD and DEL with each kind of address that a node gives (settings `addressing` and `families`), against Debian's ptp with host-local
// in the same rounds. One lab for each kind, all up at once.
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { ROUNDS, type Row, rounds, verbRows, WARM_UP } from './rounds.ts';
import { oneSubnet, podway, scratch } from './run.ts';
import { labSide, ptpSide, Sandboxes } from './sides.ts';
import type { BenchResult } from './stats.ts';

const SANDBOXES = 50;
const KINDS = {
  secondary: 'addressing=secondary',
  prefix: 'addressing=prefix',
  auto: 'addressing=auto',
  dual: 'families=dual',
  ipv6: 'families=ipv6',
} as const;
const MODES = Object.keys(KINDS) as (keyof typeof KINDS)[];
const labOf = (mode: string): string => `bench-${mode}`;
const shapeText = oneSubnet('{ name: node-1, type: m5.4xlarge, subnet: a }');

export async function benchModes(): Promise<BenchResult> {
  const { dir, launcher, remove } = scratch();
  let sandboxes: Sandboxes | undefined;
  try {
    const shape = join(dir, 'lab.yaml');
    writeFileSync(shape, shapeText);
    const settings = (mode: keyof typeof KINDS) =>
      ['cooldown=0s', `warm=${SANDBOXES + 10}`, KINDS[mode]].flatMap((one) => ['--set', one]);
    for (const mode of MODES)
      podway('lab', 'up', '--lab', labOf(mode), '-f', shape, ...settings(mode), '--quiet');
    sandboxes = new Sandboxes(SANDBOXES, dir, launcher);
    const sides = [
      ...MODES.map((mode) =>
        labSide(JSON.parse(podway('lab', 'status', '--lab', labOf(mode), '-o', 'json')), mode, dir),
      ),
      ptpSide(dir),
    ];
    const rows: Row[] = [];
    const numbers: Record<string, unknown> = {};
    const samples = await rounds(sandboxes, sides, 1);
    const peer = samples.get('ptp')!;
    for (const verb of ['ADD', 'DEL'] as const)
      for (const mode of MODES) {
        const both = new Map([
          [mode, samples.get(mode)!],
          ['ptp', peer],
        ]);
        const { rows: three, numbers: all } = verbRows(1, verb, both);
        rows.push(...three.filter((row) => row[2] !== 'ptp' || mode === MODES.at(-1)));
        numbers[`${verb} ${mode}`] = all;
      }
    return {
      title: `modes: ms a call with each kind of address, one at a time, ${SANDBOXES} sandboxes, ${ROUNDS} interleaved rounds after ${WARM_UP} that are not counted, m5.4xlarge, cooldown 0`,
      head: ['at once', 'verb', 'who', 'p50', 'p90', 'p99', 'per second', 'links gone after, ms'],
      rows,
      numbers,
    };
  } finally {
    for (const mode of MODES) podway('lab', 'down', '--lab', labOf(mode), '--quiet');
    sandboxes?.remove();
    remove();
  }
}
