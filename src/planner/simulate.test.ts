import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { InstanceLimits } from '../cloud/limits.ts';
import { limitsFromTable } from '../cloud/limits.ts';
import { incumbentChoice, podwayChoice } from './choices.ts';
import { columnsOf } from './parts/columns.ts';
import { nodeLives } from './replay.ts';
import { defaultShapeOptions, generateTrace } from './shapes/index.ts';
import { type AllocatorChoice, type SimulateOptions, simulate } from './simulate.ts';
import type { TraceEvent } from './trace.ts';

const limits = (type: string): InstanceLimits => limitsFromTable(type)!;
const m5Large = limits('m5.large');

/** `pods` start one second apart on one node and run until `end` (s). */
const arrive = (pods: number, end: number): TraceEvent[] => [
  ...Array.from({ length: pods }, (_, i) => ({
    time: 60 + i,
    node: 'n1',
    pod: `p${i}`,
    event: 'start' as const,
  })),
  { time: end, node: 'n1', pod: 'p0', event: 'stop' },
];

const run = (events: TraceEvent[], allocator: AllocatorChoice, over: Partial<SimulateOptions> = {}) =>
  simulate(events, { limits: m5Large, allocator, ...over });

describe('the AWS VPC CNI at rest', () => {
  for (const [type, env, pods, enis, addresses] of [
    ['t3.small', {}, 1, 2, 6],
    ['t3.small', {}, 5, 3, 9],
    ['p3dn.24xlarge', {}, 3, 2, 98],
    ['p3dn.24xlarge', {}, 95, 3, 147],
    ['p3dn.24xlarge', { WARM_IP_TARGET: '5', MINIMUM_IP_TARGET: '10' }, 7, 1, 12],
    ['p3dn.24xlarge', { WARM_IP_TARGET: '5', MINIMUM_IP_TARGET: '10' }, 45, 2, 50],
    ['t3.small', { ENABLE_PREFIX_DELEGATION: 'true', WARM_PREFIX_TARGET: '1' }, 5, 1, 32],
  ] as const) {
    test(`${type} ${JSON.stringify(env)} with ${pods} pods: ${enis} ENIs, ${addresses} addresses`, async () => {
      const { choice } = incumbentChoice(limits(type), env);
      const result = await run(arrive(pods, 1_200), choice, { limits: limits(type) });
      assert.equal(result.peakEnis, enis);
      assert.equal(result.peakAddresses, addresses + enis);
      assert.deepEqual(result.failed, {});
    });
  }

  test('the same trace without a change costs no turns: calls stay those of its start', async () => {
    const { choice } = incumbentChoice(m5Large);
    const short = await run(arrive(3, 600), choice);
    const long = await run(arrive(3, 3_000), choice);
    assert.deepEqual(long.calls, short.calls);
  });
});

for (const [name, allocator] of [
  ['podway', podwayChoice(m5Large)],
  ['incumbent', incumbentChoice(m5Large).choice],
] as const) {
  describe(name, () => {
    test('the same seed gives the same figures', async () => {
      const events = generateTrace('burst', { ...defaultShapeOptions, nodes: 4, hours: 2 });
      const first = await run(events, allocator);
      assert.deepEqual(await run(events, allocator), first);
      assert.notDeepEqual((await run(events, allocator, { seed: 2 })).waitMs, { ...first.waitMs, max: -1 });
    });

    test('a node with more pods than its type takes: the others have addresses, those fail by name', async () => {
      const result = await run(arrive(32, 600), allocator);
      assert.equal(result.peakAddresses, 27 + 3);
      const causes = Object.keys(result.failed);
      assert.ok(Object.values(result.failed).reduce((a, b) => a + b, 0) >= 4, JSON.stringify(result.failed));
      assert.ok(
        causes.every((cause) => /LIMIT|COOLDOWN/.test(cause)),
        causes.join(),
      );
    });

    test('a full subnet is the cause of the pods that wait for it', async () => {
      const result = await run(arrive(20, 600), allocator, { subnetSize: 16 });
      // Ten on the primary ENI, or those and a second ENI with one.
      assert.ok(result.peakAddresses === 10 || result.peakAddresses === 11, `${result.peakAddresses}`);
      assert.ok(result.failed['SUBNET_EXHAUSTED']! >= 9);
    });

    test('a node that has no address itself does not start, and its pods wait', async () => {
      const events = arrive(30, 900);
      const more = events.map((one) => ({ ...one, node: 'n2', pod: `x-${one.pod}` }));
      const both = [...events, ...more].sort((a, b) => a.time - b.time);
      const crowded = Array.from({ length: 12 }, (_, i) => ({
        ...{ time: 0, node: `c${i}`, pod: `c${i}`, event: 'start' as const },
      }));
      const result = await run([...crowded, ...both], allocator, { subnetSize: 16 });
      assert.equal(result.peakAddresses, 11);
    });

    test('many nodes are replayed in two parts: the same figures each time, all pods served', async () => {
      const events: TraceEvent[] = Array.from({ length: 220 }, (_, i) => ({
        ...{ time: 0, node: `n${i}`, pod: `p${i}`, event: 'start' as const },
      }));
      events.push({ time: 600, node: 'n0', pod: 'p0', event: 'stop' });
      const first = await run(events, allocator);
      assert.deepEqual(await run(events, allocator), first);
      assert.deepEqual(first.failed, {});
      assert.ok(first.throttled > 0);
      assert.ok(first.peakEnis >= 220 && first.calls['DescribeNetworkInterfaces']! >= 220);
    });

    test('requests beyond the account buckets are throttled and told', async () => {
      const events: TraceEvent[] = Array.from({ length: 150 }, (_, i) => ({
        ...{ time: 0, node: `n${i}`, pod: `p${i}`, event: 'start' as const },
      }));
      events.push({ time: 600, node: 'n0', pod: 'p0', event: 'stop' });
      const result = await run(events, allocator);
      assert.ok(result.throttled > 0);
      assert.deepEqual(result.failed, {});
    });
  });
}

test('a node joins half a minute before its first event and leaves half a minute after its last pod', () => {
  const events: TraceEvent[] = [
    { time: 60, node: 'a', pod: 'p', event: 'start' },
    { time: 70, node: 'b', pod: 'q', event: 'start' },
    { time: 90, node: 'a', pod: 'p', event: 'stop' },
  ];
  const lives = nodeLives(columnsOf(events, 1)[0]!);
  assert.equal(lives.get('a')!.joins, 30_000);
  assert.equal(lives.get('a')!.leaves, 120_000);
  assert.equal(lives.get('b')!.leaves, Number.POSITIVE_INFINITY);
});

test('idle address-minutes count what no pod holds, cooling addresses too', async () => {
  const events: TraceEvent[] = [
    { time: 60, node: 'a', pod: 'p', event: 'start' },
    { time: 660, node: 'a', pod: 'p', event: 'stop' },
    { time: 660, node: 'a', pod: 'q', event: 'start' },
    { time: 1_200, node: 'a', pod: 'q', event: 'stop' },
  ];
  const { choice } = incumbentChoice(m5Large, { WARM_IP_TARGET: '2' });
  const result = await run(events, choice);
  // Two free beside the one that is held, from 30 s on, but for the turns of the loop; and none while it grows.
  assert.ok(
    result.idleAddressMinutes >= 30 && result.idleAddressMinutes <= 40,
    `${result.idleAddressMinutes}`,
  );
});
