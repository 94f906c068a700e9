// What a leader does, from its election to the end of its term: follows the cluster, and keeps taints, ENIs and branches by it.
import type { Log } from '../base/log.ts';
import type { FleetCloud } from '../cloud/fleet.ts';
import { EventRecorder, type KubeClient } from '../kube/index.ts';
import type { SecurityGroups } from './branch/control.ts';
import { BudgetKeeper } from './budget/keeper.ts';
import type { ControllerMetrics } from './metrics.ts';
import type { ControllerConfig } from './options.ts';
import { PolicyTeller } from './policies/teller.ts';
import { Sweeper } from './sweep/sweeper.ts';
import { TaintKeeper } from './taints/keeper.ts';
import { SubnetWatch } from './taints/subnet-watch.ts';
import type { ClusterView } from './view.ts';

export type TermParts = {
  config: Pick<ControllerConfig, 'identity' | 'sweepGap' | 'ec2Reads' | 'ec2Changes'>;
  client: KubeClient;
  cloud: FleetCloud;
  view: ClusterView;
  groups: SecurityGroups;
  isLeading: () => boolean;
  metrics: ControllerMetrics;
  log: Log;
};

/** Ends when `signal` aborts. */
export async function serveTerm(
  { config, client, cloud, view, groups, isLeading, metrics, log }: TermParts,
  signal: AbortSignal,
): Promise<void> {
  const events = new EventRecorder(client, {
    component: 'podway-controller',
    host: config.identity,
    onError: (error) => log.debug({ error: String(error) }, 'an Event could not be sent'),
  });
  const taints = new TaintKeeper({
    ...{ view, client, events, isLeading, metrics, log },
    hasChance: (name) => subnets.hasChance(name),
  });
  const subnets = new SubnetWatch({ view, client, cloud, log, onChange: (name) => taints.look(name) });
  const sweeper = new Sweeper({ view, client, cloud, isLeading, metrics, log, gap: config.sweepGap });
  const budget = { reads: config.ec2Reads, changes: config.ec2Changes };
  const budgets = new BudgetKeeper({ view, client, budget, own: groups.calls, isLeading, metrics, log });
  const policies = new PolicyTeller({ client, events, isLeading, log });
  await Promise.all([
    view.follow(client, log, signal),
    taints.keep(signal),
    subnets.keep(signal),
    sweeper.keep(signal),
    policies.keep(signal),
    groups.keep({ view, events }, signal),
    budgets.keep(signal),
  ]);
}
