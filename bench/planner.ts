// What one decision of the pool's planner costs: a typical node, a large one, and 5,000 typical nodes one after another.
// A new state for each decision, since counts are kept with a state.
import { hostCidr, type Ipv4, parseCidr, parseIpv4 } from '../src/base/ip.ts';
import { parseMac } from '../src/base/mac.ts';
import { type InstanceLimits, limitsFromTable } from '../src/cloud/limits.ts';
import type { EniId } from '../src/cloud/port.ts';
import { plan } from '../src/ipam/plan/plan.ts';
import { defaultPolicy, type PoolPolicy } from '../src/ipam/policy.ts';
import { type Eni, emptyPool, hold, newBlock, type PoolState, withEni } from '../src/ipam/state.ts';
import { type BenchResult, round, summarise } from './stats.ts';

const ROUNDS = 2_000;
const WARM_UP = 2_000;
const NODES = 5_000;

type Case = { name: string; limits: InstanceLimits; policy: PoolPolicy; state: PoolState };

function nodeOf(type: string, enis: number, pods: number, free: number): Case {
  const limits = limitsFromTable(type)!;
  let state: PoolState = emptyPool;
  let ip = parseIpv4('10.0.16.0') as number;
  const perEni = limits.ipv4PerEni - 1;
  const given: { ip: Ipv4; eni: Eni }[] = [];
  for (let index = 0, left = pods + free; index < enis; index++) {
    const count = Math.min(perEni, left - Math.max(0, enis - 1 - index));
    left -= count;
    const id = `eni-${index.toString(16).padStart(17, '0')}` as EniId;
    const primaryIp = ip++ as Ipv4;
    const ips = Array.from({ length: count }, () => ip++ as Ipv4);
    const eni: Eni = {
      id,
      mac: parseMac(`02:00:00:00:00:${index.toString(16).padStart(2, '0')}`),
      deviceIndex: index,
      networkCard: 0,
      subnetCidr: parseCidr('10.0.0.0/16'),
      primaryIp,
      subnetId: 'subnet-1',
      groupIds: ['sg-1'],
      interfaceType: 'interface',
      attachmentId: `eni-attach-${index}`,
      deleteOnTermination: true,
      primary: index === 0,
      phase: 'ready',
      since: 0,
      settledAt: 0,
      missingSince: null,
      blocks: new Map(ips.map((one) => [one, newBlock(hostCidr(one), 0, { pending: false })])),
      unsettled: null,
      returned: new Map(),
    };
    state = withEni(state, eni);
    for (const one of ips) given.push({ ip: one, eni });
  }
  given.slice(0, pods).forEach(({ ip: one, eni }, i) => {
    const owner = { network: 'podway', containerId: `c${i}`, ifname: 'eth0' };
    state = hold(state, { owner, ips: [one], eni, at: 0 }, 0);
  });
  const podLimit = Math.max(limits.pods, pods + free);
  return {
    name: `${type}, ${enis} ENIs, ${pods} pods`,
    limits,
    policy: { ...defaultPolicy, podLimit },
    state,
  };
}

/** Microseconds of one decision that finds nothing to do, the most frequent one, and of one that grows. */
function decide({ limits, policy, state }: Case, waiting: number): number {
  const fresh = { ...state };
  const began = performance.now();
  plan(fresh, { waiting, expected: 2 }, limits, policy, 1_000_000);
  return (performance.now() - began) * 1000;
}

export async function bench(): Promise<BenchResult[]> {
  const cases = [nodeOf('m5.large', 2, 12, 3), nodeOf('p3dn.24xlarge', 15, 250, 14)];
  const goals = ['under 50 us', 'under 1 ms'];
  const numbers: Record<string, unknown> = {};
  const rows: BenchResult['rows'] = [];
  for (const one of cases) for (let i = 0; i < WARM_UP; i++) decide(one, i % 2);
  cases.forEach((one, i) => {
    for (const [what, waiting] of [
      ['nothing to do', 0],
      ['20 pods wait', 20],
    ] as const) {
      const figures = summarise(Array.from({ length: ROUNDS }, () => decide(one, waiting)));
      numbers[`${one.name}, ${what}`] = figures;
      rows.push([one.name, what, `${round(figures.p50, 1)} us`, `${round(figures.p99, 1)} us`, goals[i]!]);
    }
  });
  const typical = cases[0]!;
  const fleet = summarise(
    Array.from({ length: 5 }, () => {
      let sum = 0;
      for (let i = 0; i < NODES; i++) sum += decide(typical, i % 10 === 0 ? 1 : 0);
      return sum / 1000;
    }),
  );
  numbers['fleet'] = fleet;
  rows.push([
    `${NODES} nodes of ${typical.name}`,
    'a pod waits on each tenth',
    `${round(fleet.p50, 1)} ms`,
    `${round(fleet.max, 1)} ms`,
    'under 1 s',
  ]);
  return [
    {
      title:
        'One decision of the planner; the last row is all nodes one after another, its last figure the longest of 5',
      head: ['node', 'state', 'p50', 'p99', 'aim'],
      rows,
      numbers,
    },
  ];
}
