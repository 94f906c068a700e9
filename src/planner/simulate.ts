// Replays a trace through an allocator and a modelled EC2. Many nodes are replayed in parts, each on a thread of its own with
// subnets of its own and its share of the account's request buckets (parts/part-gate.ts). How many parts there are depends on
// the trace alone, so the same input and seed give the same figures on every machine.
import { fileURLToPath } from 'node:url';
import { parentPort, Worker, workerData } from 'node:worker_threads';
import { SimClock } from './clock.ts';
import { Buckets } from './ec2/times.ts';
import type { Counts } from './meter.ts';
import { type Columns, columnsOf } from './parts/columns.ts';
import { EPOCH, PartGate, type Shared, shareBetween } from './parts/part-gate.ts';
import { type Run, sumOf } from './parts/sum.ts';
import { type ReplayOptions, replay } from './replay.ts';
import type { TraceEvent } from './trace.ts';

export type { Run } from './parts/sum.ts';
export type { AllocatorChoice } from './replay.ts';

export type SimulateOptions = Omit<ReplayOptions, 'end' | 'part' | 'seed'> & { seed?: number };

/** Fewer nodes than this are faster on one thread. */
const PARTED_FROM = 200;
const PARTS = 2;
/** States live from one event to the next: with V8's usual 16 MB each would be copied before it is garbage. */
const YOUNG_MB = 96;

type Task = { task: 'replay'; columns: Columns; options: ReplayOptions; shared: Shared };

export async function simulate(events: readonly TraceEvent[], options: SimulateOptions): Promise<Run> {
  const end = (events.at(-1)?.time ?? 0) * 1000;
  const nodes = new Set(events.map(({ node }) => node)).size;
  // One subnet of a given size is one thread's.
  const parts = nodes < PARTED_FROM || options.subnetSize !== undefined ? 1 : PARTS;
  const columns = columnsOf(events, parts);
  const own = { seed: 1, ...options, end };
  if (parts === 1) return sumOf([await replay(columns[0]!, { ...own, part: 0 }, new Buckets())]);
  const shared = shareBetween(parts);
  return sumOf(
    await replayAll(
      columns.map((each, part) => ({
        task: 'replay',
        columns: each,
        options: { ...own, part },
        shared,
      })),
    ),
  );
}

/** Runs each task on a thread; when one fails all end. */
async function replayAll(tasks: readonly Task[]): Promise<Counts[]> {
  const threads = tasks.map(
    (task) =>
      new Worker(fileURLToPath(import.meta.url), {
        workerData: task,
        resourceLimits: { maxYoungGenerationSizeMb: YOUNG_MB },
      }),
  );
  try {
    return await Promise.all(
      threads.map(
        (thread) =>
          new Promise<Counts>((resolve, reject) => {
            thread.once('message', resolve);
            thread.once('error', reject);
            thread.once('exit', (code) => reject(new Error(`a simulating thread ended with ${code}`)));
          }),
      ),
    );
  } finally {
    await Promise.all(threads.map((thread) => thread.terminate()));
  }
}

async function replayPart({ columns, options, shared }: Task): Promise<Counts> {
  const gate = new PartGate(shared, options.part);
  const clock = new SimClock();
  const meet = (at: number) =>
    clock.at(at, () => {
      gate.meet();
      meet(at + EPOCH);
    });
  meet(EPOCH);
  return replay(columns, options, gate, clock);
}

const isTask = (value: unknown): value is Task =>
  typeof value === 'object' && value !== null && (value as Partial<Task>).task === 'replay';

if (parentPort && isTask(workerData)) parentPort.postMessage(await replayPart(workerData));
