// What a fleet asks of EC2: 1,000 simulated nodes at rest, and all of them restarted within five minutes, on a clock
// that the simulation moves. The peer is the same pool with a describe each minute, as the agent did before.

import { type CallRates, Fleet } from '../src/ipam/testing-fleet.ts';
import { type BenchResult, round } from './stats.ts';

const NODES = 1_000;
const PODS_EACH = 10;
const MINUTE = 60_000;
const EVERY_MINUTE = 60_000;

async function measure(reconcileMs?: number): Promise<{ rest: CallRates; restart: CallRates }> {
  using fleet = new Fleet(NODES, reconcileMs);
  await fleet.start(5 * MINUTE);
  await fleet.addPods(PODS_EACH);
  await fleet.clock.advance(10 * MINUTE);
  const rest = await fleet.count(() => fleet.clock.advance(30 * MINUTE));
  const restart = await fleet.count(() => fleet.start(5 * MINUTE));
  return { rest, restart };
}

export async function bench(): Promise<BenchResult[]> {
  const ours = await measure();
  const peer = await measure(EVERY_MINUTE);
  const numbers: Record<string, unknown> = {};
  const rows = (['rest', 'restart'] as const).flatMap((phase) => {
    const name = phase === 'rest' ? 'at rest, 30 minutes' : 'restarted within 5 minutes, warm journals';
    numbers[phase] = { ours: ours[phase], describeEachMinute: peer[phase] };
    const actions = [
      ...new Set([...Object.keys(ours[phase].byAction), ...Object.keys(peer[phase].byAction)]),
    ];
    return [
      [name, 'all', round(ours[phase].perSecond), round(peer[phase].perSecond)],
      [name, 'all, busiest 10 s', round(ours[phase].peak), round(peer[phase].peak)],
      ...actions.map((action) => [
        name,
        action,
        round(ours[phase].byAction[action] ?? 0),
        round(peer[phase].byAction[action] ?? 0),
      ]),
    ];
  });
  return [
    {
      title: `EC2 calls per second of ${NODES} nodes with ${PODS_EACH} pods each`,
      head: ['nodes', 'action', 'Podway', 'describe each minute'],
      rows,
      numbers,
    },
  ];
}
