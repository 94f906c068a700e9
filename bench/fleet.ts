// How long a simulated day of a large cluster takes: 1,000 nodes of m5.large and a million pod starts (rolling updates),
// through each allocator. The nodes are replayed in parts on threads of their own (src/planner/README.md).
import { limitsFromTable } from '../src/cloud/limits.ts';
import { incumbentChoice, podwayChoice } from '../src/planner/choices.ts';
import { defaultShapeOptions, generateTrace } from '../src/planner/shapes/index.ts';
import { simulate } from '../src/planner/simulate.ts';
import { type BenchResult, round } from './stats.ts';

const TYPE = 'm5.large';
const NODES = 1_000;
/** Each service is updated about each quarter of an hour. */
const CHURN = 14.5;

export async function bench(): Promise<BenchResult[]> {
  const limits = limitsFromTable(TYPE)!;
  const events = generateTrace('rolling', { ...defaultShapeOptions, nodes: NODES, churn: CHURN });
  const starts = events.reduce((sum, { event }) => sum + (event === 'start' ? 1 : 0), 0);
  const numbers: Record<string, unknown> = {};
  const rows: BenchResult['rows'] = [];
  for (const [name, allocator] of [
    ['podway', podwayChoice(limits)],
    ['AWS VPC CNI', incumbentChoice(limits).choice],
  ] as const) {
    const began = performance.now();
    const cpu = process.cpuUsage();
    const { idleAddressMinutes, calls, throttled, waitMs, failed } = await simulate(events, {
      limits,
      allocator,
    });
    const seconds = round((performance.now() - began) / 1000, 1);
    const { user, system } = process.cpuUsage(cpu);
    const cpuSeconds = round((user + system) / 1e6, 1);
    const sum = (counts: Record<string, number>) => Object.values(counts).reduce((all, one) => all + one, 0);
    numbers[name] = { seconds, cpuSeconds, starts, idleAddressMinutes, calls, throttled, waitMs, failed };
    rows.push([
      name,
      `${seconds} s`,
      `${cpuSeconds} s`,
      'under 120 s',
      `${idleAddressMinutes}`,
      `${sum(calls)}, ${throttled}`,
      `${waitMs.p99}, ${waitMs.max}`,
      `${sum(failed)}`,
    ]);
  }
  return [
    {
      title: `A simulated day: ${NODES} nodes of ${TYPE}, ${starts} pod starts (rolling updates)`,
      head: [
        'allocator',
        'time taken',
        'CPU, all threads',
        'aim',
        'idle address-minutes',
        'calls, throttled',
        'wait p99, max (ms)',
        'pods that failed',
      ],
      rows,
      numbers,
    },
  ];
}
