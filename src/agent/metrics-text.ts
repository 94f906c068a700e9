// The text of /metrics: our own metrics, then the same values by the names of the AWS VPC CNI.
import type { AddressPool } from '../ipam/pool.ts';
import type { Gate } from './gate.ts';
import { incumbentMetrics } from './incumbent-metrics.ts';
import { packageVersion } from './install/plugin.ts';
import type { AgentMetrics } from './metrics.ts';
import type { Parts } from './parts.ts';

export async function metricsText({ metrics, ec2Calls }: Parts, gate: Gate): Promise<string> {
  const pool = gate.serving?.pool;
  if (pool) setPoolGauges(metrics, pool);
  const requests = (await metrics.requests.get()).values.map(({ labels, value }) => ({
    verb: String(labels.verb),
    result: String(labels.result),
    count: value,
  }));
  const since = (await metrics.servingSince.get()).values[0]?.value ?? 0;
  const incumbent = incumbentMetrics({
    version: packageVersion(),
    pool: pool?.snapshot() ?? null,
    inProgress: pool ? inProgress(pool) : { growing: 0, returning: 0 },
    ec2: ec2Calls,
    requests,
    startSeconds: since > 0 ? since - performance.timeOrigin / 1000 : null,
  });
  const policies = (await gate.serving?.policies.metrics()) ?? '';
  return `${await metrics.registry.metrics()}${policies}${incumbent}`;
}

function setPoolGauges(metrics: AgentMetrics, pool: AddressPool): void {
  const { held, free, cooling, quarantined, foreign, waiting } = pool.counts();
  const isSix = pool.policy.families === 'ipv6';
  metrics.addresses.reset();
  for (const [state, count] of Object.entries({ held, free, cooling, quarantined, foreign }))
    metrics.addresses.set({ state, family: isSix ? '6' : '4' }, count);
  const six = isSix ? null : pool.counts6();
  for (const [state, count] of six ? Object.entries(six) : [])
    metrics.addresses.set({ state, family: '6' }, count);
  metrics.enis.set(pool.enis().length);
  metrics.waiting.set(waiting);
  const trouble = pool.trouble();
  metrics.trouble.reset();
  // A pool without a free address and with room to grow is no trouble while nobody waits.
  const isGrowing = trouble?.code === 'POOL_GROWING' && waiting === 0;
  if (trouble && !isGrowing) metrics.trouble.set({ cause: trouble.code }, 1);
}

/** Calls in flight that bring addresses, and blocks on their way back to EC2. */
function inProgress({ state }: AddressPool): { growing: number; returning: number } {
  const growing = [...state.busy.values()].filter((count) => count > 0).length;
  const blocks = [...state.enis.values()].flatMap((eni) =>
    [...eni.blocks.values()].filter((block) => block.leaving || eni.phase === 'leaving'),
  );
  return { growing, returning: blocks.length };
}
