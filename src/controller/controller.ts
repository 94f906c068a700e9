// Composes the controller: the API's client, EC2's, health and metrics, the election, and what the leader does.
// Invariant: who does not lead writes nothing but the Lease; stopping leaves everything as it is.
import { pino } from 'pino';
import { systemClock } from '../base/clock.ts';
import { KubeClient, loadKubeConfig } from '../kube/index.ts';
import { SecurityGroups } from './branch/control.ts';
import { createControllerCloud, openBranchCloud } from './cloud.ts';
import { serveFaces } from './faces.ts';
import { Leader } from './leader.ts';
import { createMetrics } from './metrics.ts';
import type { ControllerConfig } from './options.ts';
import { serveTerm } from './term.ts';
import { ClusterView } from './view.ts';

/** Runs until `signal` aborts. Rejects when the start fails: no kubeconfig, a port that is taken. */
export async function runController(config: ControllerConfig, signal: AbortSignal): Promise<void> {
  const log = pino({
    level: config.logLevel,
    base: { controller: config.identity },
    timestamp: pino.stdTimeFunctions.isoTime,
  });
  const metrics = createMetrics();
  const client = new KubeClient(await loadKubeConfig(config.kubeconfig), { userAgent: 'podway-controller' });
  const cloud = createControllerCloud(config, metrics);
  let view: ClusterView | null = null;
  const leader = new Leader({
    client,
    namespace: config.namespace,
    name: config.lease,
    identity: config.identity,
    log,
    sleep: systemClock.sleep,
    onChange: (isLeading) => metrics.leading.set(isLeading ? 1 : 0),
  });
  const faces =
    config.listen === undefined
      ? null
      : await serveFaces(config.listen, {
          // One that waits for the lease is ready to take it.
          ready: () => (leader.isLeading && !view?.isWhole ? 'the cluster is not read yet' : null),
          metrics: async () => {
            metrics.nodes.set(view?.podwayNodes.size ?? 0);
            metrics.outOfAddresses.set(view?.withoutAddress ?? 0);
            return metrics.registry.metrics();
          },
        });
  const isLeading = () => leader.isLeading;
  const groups = new SecurityGroups({
    ...{ config, client, isLeading, metrics, log },
    openCloud: (isPodWaiting) => openBranchCloud(config, metrics, isPodWaiting),
  });
  // Who cannot serve the webhooks ends, and lets another lead.
  const failed = new AbortController();
  const over = AbortSignal.any([signal, failed.signal]);
  const served = groups.serve(over).catch((error: unknown) => failed.abort(error));
  try {
    await leader.run(async (term) => {
      view = new ClusterView();
      await serveTerm({ config, client, cloud, view, groups, isLeading, metrics, log }, term);
    }, over);
    await served;
    if (failed.signal.aborted) throw failed.signal.reason;
  } finally {
    faces?.close();
    faces?.closeAllConnections();
    client.close();
  }
}
