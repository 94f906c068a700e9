// Takes what the controller's side has left in the API: PodwayNodes, CNINodes that it made, our taints and conditions
// on Nodes, the Lease. For the end of an installation: agents and controller may be ending still and write once more,
// so it looks until a pass finds nothing. Idempotent. EC2 is not asked: ENIs go with their instances. Fails with
// KubeError.
import { type Clock, systemClock } from '../base/clock.ts';
import {
  cniNodes,
  isConflict,
  isNotFound,
  type KubeClient,
  MANAGED_BY,
  NO_ADDRESS_TAINT,
  NOT_READY_TAINT,
  type Node,
  nodes,
  podwayNodes,
} from '../kube/index.ts';
import { leases } from './leader.ts';

/** Between two passes (ms): longer than an agent takes to end. */
const APART_MS = 20_000;
const MOST_PASSES = 10;
/** The agents' too: without an agent nobody says again what it said last. */
const OUR_CONDITIONS = 'Podway';
const OUR_TAINTS: readonly string[] = [NO_ADDRESS_TAINT, NOT_READY_TAINT];

export type Cleared = {
  podwayNodes: number;
  cniNodes: number;
  taints: number;
  conditions: number;
  quiet: boolean;
};

type ClearOptions = {
  client: Pick<KubeClient, 'list' | 'patch' | 'delete'>;
  namespace: string;
  lease: string;
  clock?: Clock;
};

/** `quiet`: a pass found nothing any more. */
export async function clear(
  { client, namespace, lease, clock = systemClock }: ClearOptions,
  signal?: AbortSignal,
): Promise<Cleared> {
  const done: Cleared = { podwayNodes: 0, cniNodes: 0, taints: 0, conditions: 0, quiet: false };
  for (let pass = 1; pass <= MOST_PASSES; pass++) {
    const found = await clearOnce(client, done, signal);
    if (found === 0 && pass > 1) {
      await orGone(client.delete(leases, lease, namespace, {}, signal));
      return { ...done, quiet: true };
    }
    await clock.sleep(APART_MS, signal);
  }
  return done;
}

/** Answers how much there was. */
async function clearOnce(
  client: ClearOptions['client'],
  done: Cleared,
  signal?: AbortSignal,
): Promise<number> {
  let found = 0;
  const owns = await client.list(podwayNodes, {}, signal).catch(noneOf);
  for (const { metadata } of owns.items) {
    found++;
    done.podwayNodes++;
    await orGone(client.delete(podwayNodes, metadata.name!, undefined, {}, signal));
  }
  const labelSelector = Object.entries(MANAGED_BY)
    .map(([key, value]) => `${key}=${value}`)
    .join();
  const marks = await client.list(cniNodes, { labelSelector }, signal).catch(noneOf);
  for (const { metadata } of marks.items) {
    found++;
    done.cniNodes++;
    await orGone(client.delete(cniNodes, metadata.name!, undefined, {}, signal));
  }
  for (const node of (await client.list(nodes, {}, signal)).items) {
    const name = node.metadata.name!;
    const taints = node.spec?.taints ?? [];
    const kept = taints.filter(({ key }) => !OUR_TAINTS.includes(key));
    if (kept.length < taints.length) {
      found++;
      const { resourceVersion } = node.metadata;
      const patch = { metadata: { resourceVersion }, spec: { taints: kept.length > 0 ? kept : null } };
      if (await orGone(client.patch<Node>(nodes, name, undefined, patch, {}, signal))) done.taints++;
    }
    const conditions = (node.status?.conditions ?? []).filter(({ type }) => type.startsWith(OUR_CONDITIONS));
    if (conditions.length > 0) {
      found++;
      const patch = { status: { conditions: conditions.map(({ type }) => ({ type, $patch: 'delete' })) } };
      const options = { type: 'strategic', subresource: 'status' } as const;
      if (await orGone(client.patch<Node>(nodes, name, undefined, patch, options, signal))) done.conditions++;
    }
  }
  return found;
}

/** False for what is not there any more, or has changed: the next pass looks at it. */
const orGone = (work: Promise<unknown>): Promise<boolean> =>
  work.then(
    () => true,
    (error: unknown) => {
      if (isNotFound(error) || isConflict(error)) return false;
      throw error;
    },
  );

/** Without the definition there are none. */
function noneOf(error: unknown): { items: never[] } {
  if (isNotFound(error)) return { items: [] };
  throw error;
}
