// The controller's EC2: opened when first asked, since a cluster without gone or full nodes never asks. Its calls have a
// budget of their own, small, so that it takes nothing that nodes need. Fails with CloudError, ImdsError.
import { type Clock, systemClock } from '../base/clock.ts';
import { type Budget, withBudget } from '../cloud/budget.ts';
import { defaultCredentials } from '../cloud/credentials.ts';
import { createEc2Cloud } from '../cloud/ec2.ts';
import { createFleetCloud, type FleetCloud } from '../cloud/fleet.ts';
import { createImds } from '../cloud/imds.ts';
import type { Cloud, TrunkCloud } from '../cloud/port.ts';
import type { ControllerMetrics } from './metrics.ts';
import type { ControllerConfig } from './options.ts';

/** Calls per second, and at once. */
const PER_SECOND = 2;
const BURST = 10;

type Where = Pick<ControllerConfig, 'region' | 'ec2Endpoint' | 'imdsEndpoint'>;
type Own = Pick<ControllerConfig, 'ec2Reads' | 'ec2Changes'>;

async function ec2Options(
  { region, ec2Endpoint, imdsEndpoint }: Where,
  ec2Calls: ControllerMetrics['ec2Calls'],
) {
  const imds = createImds(imdsEndpoint === undefined ? {} : { endpoint: imdsEndpoint });
  const identity = region === undefined ? await imds.identity() : undefined;
  const named = region ?? identity!.region;
  const domain = identity?.domain;
  return {
    region: named,
    domain,
    endpoint: ec2Endpoint,
    credentials: defaultCredentials({ imds, region: named, domain }),
    onCall: ({ action, result }: { action: string; result: string }) => ec2Calls.inc({ action, result }),
  };
}

/**
 * For trunks and branches: the priorities of a node's agent, and what the account has for all nodes, of which
 * budget/keeper.ts grants a part while others ask too.
 */
export const openBranchCloud = async (
  where: Where & Own,
  { ec2Calls }: Pick<ControllerMetrics, 'ec2Calls'>,
  isPodWaiting: () => boolean,
): Promise<Cloud & TrunkCloud & Budget> =>
  withBudget(createEc2Cloud(await ec2Options(where, ec2Calls)), systemClock, isPodWaiting, {
    reads: where.ec2Reads,
    changes: where.ec2Changes,
  });

export function createControllerCloud(
  where: Where,
  { ec2Calls }: Pick<ControllerMetrics, 'ec2Calls'>,
): FleetCloud {
  let opened: Promise<FleetCloud> | undefined;
  const open = async (): Promise<FleetCloud> => createFleetCloud(await ec2Options(where, ec2Calls));
  const take = bucket(systemClock);
  const cloud = async (signal?: AbortSignal): Promise<FleetCloud> => {
    await take(signal);
    opened ??= open().catch((error: unknown) => {
      opened = undefined;
      throw error;
    });
    return opened;
  };
  return {
    instanceStates: async (ids, signal) => (await cloud(signal)).instanceStates(ids, signal),
    taggedEnis: async (key, values, signal) => (await cloud(signal)).taggedEnis(key, values, signal),
    subnets: async (ids, signal) => (await cloud(signal)).subnets(ids, signal),
    deleteEni: async (id, signal) => (await cloud(signal)).deleteEni(id, signal),
  };
}

/** Waits until a call may be made; in order of arrival. */
function bucket(clock: Clock): (signal?: AbortSignal) => Promise<void> {
  let tokens = BURST;
  let filledAt = clock.now();
  let last: Promise<void> = Promise.resolve();
  const take = async (signal?: AbortSignal): Promise<void> => {
    const now = clock.now();
    tokens = Math.min(BURST, tokens + ((now - filledAt) / 1000) * PER_SECOND);
    filledAt = now;
    tokens -= 1;
    if (tokens < 0) await clock.sleep((-tokens * 1000) / PER_SECOND, signal);
  };
  return (signal) => {
    const mine = last.then(() => take(signal));
    last = mine.catch(() => undefined);
    return mine;
  };
}
