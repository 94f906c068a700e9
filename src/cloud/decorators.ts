// Wrappers around a Cloud that keep its port: what is measured or limited is every action alike.
import type { Clock } from '../base/clock.ts';
import { type Cloud, CloudError } from './port.ts';

type Method = (...args: unknown[]) => Promise<unknown>;
export type Around = (
  action: string,
  signal: AbortSignal | undefined,
  call: () => Promise<unknown>,
) => Promise<unknown>;

/** Puts `around` about every action of the port. */
export function decorate(cloud: Cloud, around: Around): Cloud {
  const wrapped: Record<string, Method> = {};
  for (const action of actions) {
    const inner = cloud[action].bind(cloud) as unknown as Method;
    wrapped[action] = (...args) => {
      const signal = args.find((arg) => arg instanceof AbortSignal);
      return around(action, signal, () => inner(...args));
    };
  }
  return wrapped as unknown as Cloud;
}

const actions = [
  'describeNetworkInterfaces',
  'createNetworkInterface',
  'attachNetworkInterface',
  'detachNetworkInterface',
  'deleteNetworkInterface',
  'setDeleteOnTermination',
  'assignPrivateIps',
  'unassignPrivateIps',
  'describeInstance',
  'describeSubnets',
  'describeInstanceType',
  'createTags',
] as const satisfies readonly (keyof Cloud)[];

/** Tells `observe` of every call of the port: its EC2 code or `ok`, and its time with all its tries. */
export const withMetrics = (
  cloud: Cloud,
  observe: (call: { action: string; result: string; ms: number }) => void,
): Cloud =>
  decorate(cloud, async (action, _signal, call) => {
    const started = performance.now();
    const report = (result: string) => observe({ action, result, ms: performance.now() - started });
    try {
      const answer = await call();
      report('ok');
      return answer;
    } catch (error) {
      report(error instanceof CloudError ? error.ec2Code : 'aborted');
      throw error;
    }
  });

export type Budget = { perSecond: number; burst: number; longestWaitMs: number };

/** A token bucket for each action: a call waits for its token, or fails as throttled when that takes too long. */
export function withBudget(cloud: Cloud, clock: Clock, budgetOf: (action: string) => Budget | null): Cloud {
  const buckets = new Map<string, { tokens: number; at: number }>();
  return decorate(cloud, async (action, signal, call) => {
    const budget = budgetOf(action);
    if (!budget) return call();
    const now = clock.now();
    const bucket = buckets.get(action) ?? { tokens: budget.burst, at: now };
    bucket.tokens = Math.min(budget.burst, bucket.tokens + ((now - bucket.at) / 1000) * budget.perSecond);
    bucket.at = now;
    buckets.set(action, bucket);
    const wait = bucket.tokens >= 1 ? 0 : ((1 - bucket.tokens) / budget.perSecond) * 1000;
    if (wait > budget.longestWaitMs) {
      throw new CloudError(
        action,
        'Budget',
        `the node's budget of ${budget.perSecond} calls per second is used up`,
      );
    }
    bucket.tokens -= 1;
    if (wait > 0) await clock.sleep(wait, signal);
    return call();
  });
}
