// 110 pods at once on cold nodes, one and fifty that share an account: when the last pod has its address, and what was
// asked of EC2. Latencies and request limits are the lab's (`ec2Latency=realistic`, `ec2Throttle=aws`). First both allocators
// on a virtual clock, over several seeds; then our pool with its real EC2 client against the lab's EC2 in real time,
// which shows how far the first can be believed.
import { limitsFromTable } from '../src/cloud/limits.ts';
import { incumbentChoice, podwayChoice } from '../src/planner/choices.ts';
import { type AllocatorChoice, simulate } from '../src/planner/simulate.ts';
import type { TraceEvent } from '../src/planner/trace.ts';
import { Fleet } from '../test/support/fleet.ts';
import { type BenchResult, round, summarise } from './stats.ts';

const TYPE = 'm5.4xlarge';
const PODS = 110;
const NODES = [1, 50];
const SEEDS = [1, 2, 3, 4, 5];
/** Long enough for the slowest (s). */
const END = 1_800;

type Outcome = { p50: number; p99: number; last: number; calls: number; changes: number; throttled: number };

const limits = limitsFromTable(TYPE)!;
const ALLOCATORS: [name: string, choice: AllocatorChoice][] = [
  ['Podway, defaults', podwayChoice(limits)],
  ['Podway, prefixes', podwayChoice(limits, { addressing: 'prefix' })],
  ['AWS VPC CNI, defaults', incumbentChoice(limits).choice],
  [
    'AWS VPC CNI, WARM_IP_TARGET=5, MINIMUM_IP_TARGET=10',
    incumbentChoice(limits, { WARM_IP_TARGET: '5', MINIMUM_IP_TARGET: '10' }).choice,
  ],
  ['AWS VPC CNI, prefixes', incumbentChoice(limits, { ENABLE_PREFIX_DELEGATION: 'true' }).choice],
];

function burst(nodes: number): TraceEvent[] {
  const starts = Array.from({ length: nodes * PODS }, (_, i): TraceEvent => {
    const node = `node-${i % nodes}`;
    return { time: 0, node, pod: `${node}-${Math.floor(i / nodes)}`, event: 'start' };
  });
  return [...starts, { time: END, node: 'node-0', pod: 'node-0-0', event: 'stop' }];
}

const isRead = (action: string): boolean => action.startsWith('Describe');
const sum = (counts: Record<string, number>, of: (action: string) => boolean = () => true): number =>
  Object.entries(counts).reduce((total, [action, count]) => total + (of(action) ? count : 0), 0);

async function simulated(choice: AllocatorChoice, nodes: number): Promise<Outcome> {
  const outcomes: Outcome[] = [];
  for (const seed of SEEDS) {
    const run = await simulate(burst(nodes), { limits, allocator: choice, seed });
    const failed = sum(run.failed);
    if (failed > 0) throw new Error(`${failed} pods have no address: ${JSON.stringify(run.failed)}`);
    outcomes.push({
      p50: run.waitMs.p50,
      p99: run.waitMs.p99,
      last: run.waitMs.max,
      calls: sum(run.calls),
      changes: sum(run.calls, (action) => !isRead(action)),
      throttled: run.throttled,
    });
  }
  const middle = (key: keyof Outcome) => summarise(outcomes.map((each) => each[key])).p50;
  return {
    p50: middle('p50'),
    p99: middle('p99'),
    last: middle('last'),
    calls: middle('calls'),
    changes: middle('changes'),
    throttled: middle('throttled'),
  };
}

async function inLab(nodes: number): Promise<Outcome> {
  await using fleet = await Fleet.make({
    nodes,
    instanceType: TYPE,
    speed: 1,
    vpc: { ec2Latency: 'realistic', ec2Throttle: 'aws' },
  });
  const began = fleet.clock.now();
  const waits: number[] = [];
  await Promise.all(
    fleet.nodes.map(async (node, n) => {
      await node.start();
      const pods = Array.from({ length: PODS }, async (_, i) => {
        await node.addPod(`n${n}-p${i}`);
        waits.push(fleet.since(began));
      });
      await Promise.all(pods);
    }),
  );
  const { calls } = fleet.vpc.faults.report();
  const { p50, p99, max } = summarise(waits);
  return {
    p50,
    p99,
    last: max,
    calls: calls.length,
    changes: calls.filter(({ action }) => !isRead(action)).length,
    throttled: calls.filter(({ result }) => result === 'RequestLimitExceeded').length,
  };
}

export async function bench(): Promise<BenchResult[]> {
  const rows: (string | number)[][] = [];
  const numbers: Record<string, unknown> = {};
  for (const nodes of NODES) {
    const outcomes: [string, Outcome][] = [];
    for (const [name, choice] of ALLOCATORS) outcomes.push([name, await simulated(choice, nodes)]);
    outcomes.push(["Podway, defaults, its client on the lab's EC2 in real time", await inLab(nodes)]);
    numbers[`${nodes} nodes`] = Object.fromEntries(outcomes);
    for (const [name, { p50, p99, last, calls, changes, throttled }] of outcomes) {
      const seconds = [p50, p99, last].map((ms) => round(ms / 1000, 1));
      rows.push([nodes, name, ...seconds, round(calls / nodes, 1), round(changes / nodes, 1), throttled]);
    }
  }
  return [
    {
      title: `${PODS} pods at once on each cold ${TYPE} (virtual clock: the middle one of ${SEEDS.length} seeds)`,
      head: [
        'nodes',
        'allocator',
        'address p50, s',
        'p99, s',
        'last, s',
        'calls per node',
        'of them changes',
        'throttled in all',
      ],
      rows,
      numbers,
    },
  ];
}
