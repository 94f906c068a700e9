// Tells people whether EC2 can be reached: a line in the log, an Event on the node, and its condition.
import { systemClock } from '../base/clock.ts';
import type { Away } from '../ipam/ec2/reach.ts';
import { cloudCondition, NodeConditions } from './node-condition.ts';
import type { Parts } from './parts.ts';

/** What the pool calls with its first word on EC2 and with each change. */
export function tellReach(
  { api, config, events, log, metrics }: Pick<Parts, 'api' | 'config' | 'events' | 'log' | 'metrics'>,
  signal: AbortSignal,
): (away: Away | null) => void {
  const conditions = api.isConfigured ? new NodeConditions(config.nodeName, api.connect, log, signal) : null;
  let before: Away | null = null;
  return (away) => {
    const now = systemClock.now();
    metrics.cloudReachable.set(away ? 0 : 1);
    conditions?.say(cloudCondition(away, now));
    if (away) {
      log.warn({ since: away.since, reason: away.reason }, `EC2 cannot be reached: ${away.message}`);
      events.node('Warning', 'CloudUnreachable', cloudCondition(away, now).message);
    } else if (before) {
      const seconds = Math.round((now - before.since) / 1000);
      log.info({ since: before.since, seconds }, 'EC2 can be reached again');
      events.node('Normal', 'CloudReachable', `EC2 answers again after ${seconds} s`);
    }
    before = away;
  };
}
