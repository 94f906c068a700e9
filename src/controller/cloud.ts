// The controller's EC2: opened when first asked, since a cluster without gone or full nodes never asks. Its calls have a
// budget of their own, small, so that it takes nothing that nodes need. Fails with CloudError, ImdsError.
import { type Clock, systemClock } from '../base/clock.ts';
import { defaultCredentials } from '../cloud/credentials.ts';
import { createFleetCloud, type FleetCloud } from '../cloud/fleet.ts';
import { createImds } from '../cloud/imds.ts';
import type { ControllerMetrics } from './metrics.ts';
import type { ControllerConfig } from './options.ts';

/** Calls per second, and at once. */
const PER_SECOND = 2;
const BURST = 10;

export function createControllerCloud(
  { region, ec2Endpoint, imdsEndpoint }: Pick<ControllerConfig, 'region' | 'ec2Endpoint' | 'imdsEndpoint'>,
  { ec2Calls }: Pick<ControllerMetrics, 'ec2Calls'>,
): FleetCloud {
  const imds = createImds(imdsEndpoint === undefined ? {} : { endpoint: imdsEndpoint });
  let opened: Promise<FleetCloud> | undefined;
  const open = async (): Promise<FleetCloud> => {
    const identity = region === undefined ? await imds.identity() : undefined;
    const where = region ?? identity!.region;
    const domain = identity?.domain;
    return createFleetCloud({
      region: where,
      domain,
      endpoint: ec2Endpoint,
      credentials: defaultCredentials({ imds, region: where, domain }),
      onCall: ({ action, result }) => ec2Calls.inc({ action, result }),
    });
  };
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
