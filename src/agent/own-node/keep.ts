// The agent's part in the cluster's side: joins pool, readiness and API into the node's PodwayNode. Loaded where an API is
// configured, once the node serves.
import { systemClock } from '../../base/clock.ts';
import type { GrantedCalls } from '../../kube/index.ts';
import { connect } from '../configuration-watch.ts';
import type { Gate } from '../gate.ts';
import type { Parts } from '../parts.ts';
import type { Serving } from '../start.ts';
import { nodeStatus } from '../status.ts';
import { OwnNode } from './own-node.ts';
import { type Report, reportOf } from './report.ts';

/** Ends when `signal` aborts. Never throws. */
export async function keepOwnNode(
  parts: Pick<Parts, 'api' | 'config' | 'log' | 'self'>,
  gate: Gate,
  { pool, identity }: Serving,
  signal: AbortSignal,
): Promise<void> {
  const { api, config, log, self } = parts;
  const connection = await connect(api, log, signal);
  if (!connection) return;
  const report = (): Report =>
    reportOf({
      ...{ state: pool.state, policy: pool.policy, limits: pool.limits, identity },
      ...{
        enis: pool.enis(),
        counts: { ...pool.counts(), coming: pool.coming },
        cluster: config.cluster,
        nodeUID: self.nodeUID,
      },
      ...{ trouble: nodeStatus(gate), isKnown: gate.hasStarted || pool.enis().length > 0 },
      ...{ rates: pool.budget.rates(), now: systemClock.now() },
    });
  const onGranted = (granted: GrantedCalls | null) =>
    pool.budget.grant(granted, (granted?.seconds ?? 0) * 1000);
  const own = new OwnNode({ ...connection, nodeName: config.nodeName, report, onGranted, log });
  await own.keep(signal);
}
