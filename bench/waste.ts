// What a warm pool costs: traces of six shapes by seed, replayed through Podway's pool and through the AWS VPC CNI's
// allocator with its defaults, with WARM_IP_TARGET=5 and MINIMUM_IP_TARGET=10, and with prefixes. The traces' parameters
// are in src/planner/README.md. Idle address-minutes, calls that EC2 carried out, describes, and waits of pods.
import { availableParallelism } from 'node:os';
import { fileURLToPath } from 'node:url';
import { isMainThread, parentPort, Worker } from 'node:worker_threads';
import { limitsFromTable } from '../src/cloud/limits.ts';
import { incumbentChoice, podwayChoice } from '../src/planner/choices.ts';
import { defaultShapeOptions, generateTrace, type ShapeName, shapes } from '../src/planner/shapes/index.ts';
import { type AllocatorChoice, type Run, simulate } from '../src/planner/simulate.ts';
import { type BenchResult, round } from './stats.ts';

const SEEDS = 20;
/** Seeds that no parameter of the forecast was chosen with. */
const FIRST_SEED = 1_001;
const NODES = 4;
/** Pods of a node at full load. */
const TYPES: Readonly<Record<string, number>> = { 'm5.large': 12, 'm5.4xlarge': 40, 'p3dn.24xlarge': 60 };
/** Seconds from a pod's binding to its start, for the gain that a watch of the node's pods brings. */
const LEAD = 1;

/** The goals: idle address-minutes as a share of the default's. */
const GOALS: Readonly<Record<ShapeName, number>> = {
  steady: 0.25,
  rolling: 0.25,
  swing: 0.25,
  burst: 0.5,
  consolidation: 0.5,
  'node-loss': 0.5,
};

const WARM_IPS = { WARM_IP_TARGET: '5', MINIMUM_IP_TARGET: '10' };
const PREFIXES = { ENABLE_PREFIX_DELEGATION: 'true', WARM_PREFIX_TARGET: '1' };

type Figures = { idle: number; changes: number; describes: number; p99: number; max: number; failed: number };
type Job = { type: string; shape: ShapeName; seed: number };
type Sides = Record<'podway' | 'lead' | 'default' | 'warmIps' | 'prefixes', Figures>;

function figuresOf({ idleAddressMinutes, calls, refused, waitMs, failed }: Run): Figures {
  const sum = (counts: Record<string, number>, isWanted: (action: string) => boolean) =>
    Object.entries(counts).reduce((all, [action, count]) => all + (isWanted(action) ? count : 0), 0);
  const isReading = (action: string) => action.startsWith('Describe');
  const changes = (action: string) => !isReading(action);
  return {
    idle: idleAddressMinutes,
    changes: sum(calls, changes) - sum(refused, changes),
    describes: sum(calls, isReading),
    p99: waitMs.p99,
    max: waitMs.max,
    failed: sum(failed, () => true),
  };
}

async function measure({ type, shape, seed }: Job): Promise<Sides> {
  const limits = limitsFromTable(type)!;
  const options = { ...defaultShapeOptions, seed, nodes: NODES, podsPerNode: TYPES[type]! };
  const trace = generateTrace(shape, options);
  const bound = generateTrace(shape, { ...options, lead: LEAD });
  const run = async (events: typeof trace, allocator: AllocatorChoice) =>
    figuresOf(await simulate(events, { limits, allocator, seed }));
  return {
    podway: await run(trace, podwayChoice(limits)),
    lead: await run(bound, podwayChoice(limits)),
    default: await run(trace, incumbentChoice(limits).choice),
    warmIps: await run(trace, incumbentChoice(limits, WARM_IPS).choice),
    prefixes: await run(trace, incumbentChoice(limits, PREFIXES).choice),
  };
}

if (!isMainThread && parentPort) {
  const port = parentPort;
  port.on('message', (job: Job) => void measure(job).then((sides) => port.postMessage(sides)));
}

/** Runs the jobs on a thread for each CPU; each run is whole on one thread, so the figures do not depend on them. */
async function measureAll(jobs: readonly Job[]): Promise<Sides[]> {
  const results: Sides[] = [];
  let next = 0;
  let done = 0;
  const work = async () => {
    const worker = new Worker(fileURLToPath(import.meta.url));
    try {
      while (next < jobs.length) {
        const index = next++;
        results[index] = await new Promise<Sides>((resolve, reject) => {
          worker.once('error', reject);
          worker.once('message', (sides: Sides) => {
            worker.off('error', reject);
            resolve(sides);
          });
          worker.postMessage(jobs[index]);
        });
        if (process.stderr.isTTY) process.stderr.write(`\r${++done} of ${jobs.length} traces`);
      }
    } finally {
      await worker.terminate();
    }
  };
  await Promise.all(Array.from({ length: availableParallelism() }, work));
  return results;
}

export async function bench(): Promise<BenchResult[]> {
  const seeds = Array.from({ length: SEEDS }, (_, i) => FIRST_SEED + i);
  const cases = Object.keys(TYPES).flatMap((type) =>
    (Object.keys(shapes) as ShapeName[]).map((shape) => ({ type, shape })),
  );
  const jobs = cases.flatMap((one) => seeds.map((seed) => ({ ...one, seed })));
  const results = await measureAll(jobs);
  const numbers: Record<string, unknown> = {};
  const rows: BenchResult['rows'] = [];
  cases.forEach(({ type, shape }, index) => {
    const own = results.slice(index * SEEDS, (index + 1) * SEEDS);
    const mean = (side: keyof Sides, of: keyof Figures) =>
      own.reduce((sum, one) => sum + one[side][of], 0) / own.length;
    numbers[`${type} ${shape}`] = Object.fromEntries(
      (Object.keys(own[0]!) as (keyof Sides)[]).map((side) => [
        side,
        Object.fromEntries(
          (Object.keys(own[0]!.podway) as (keyof Figures)[]).map((of) => [of, round(mean(side, of), 1)]),
        ),
      ]),
    );
    const share = mean('podway', 'idle') / mean('default', 'idle');
    const misses = [
      ...(share > GOALS[shape] ? ['idle'] : []),
      ...(mean('podway', 'changes') > mean('default', 'changes') ? ['changes'] : []),
      ...(mean('podway', 'p99') > mean('default', 'p99') ? ['p99'] : []),
    ];
    const four = (of: keyof Figures) =>
      (['podway', 'default', 'warmIps', 'prefixes'] as const)
        .map((side) => round(mean(side, of), 0))
        .join(' / ');
    rows.push([
      type,
      shape,
      `${round(share * 100, 0)} %`,
      four('idle'),
      four('changes'),
      four('describes'),
      four('p99'),
      `${round(mean('lead', 'p99'), 0)}, ${round(mean('lead', 'max'), 0)} of ${round(mean('podway', 'max'), 0)}`,
      misses.join(', ') || 'all met',
    ]);
  });
  return [
    {
      title: `Idle addresses, EC2 calls and waits of ${NODES} nodes in 24 hours, mean of ${SEEDS} seeds: Podway / AWS VPC CNI: default / WARM_IP_TARGET=5 MINIMUM_IP_TARGET=10 / prefixes`,
      head: [
        'type',
        'shape',
        'idle, of default',
        'idle address-minutes',
        'changes',
        'describes',
        'wait p99 (ms)',
        `Podway told ${LEAD} s ahead: p99, max (ms)`,
        'goals missed',
      ],
      rows,
      numbers,
    },
  ];
}
