// Takes what the controller's side has left in the API: PodwayNodes, CNINodes that it made, our taints and conditions
// on Nodes, how many branches they take, the webhooks' Secret, the Lease. For the end of an installation: agents and
// controller may be ending still and write once more, so it looks until a pass finds nothing. Idempotent. EC2 is not
// asked: ENIs go with their instances. Fails with KubeError.
import { type Clock, systemClock } from '../base/clock.ts';
import {
  type CniNode,
  cniNodes,
  isConflict,
  isNotFound,
  type KubeClient,
  MANAGED_BY,
  NO_ADDRESS_TAINT,
  NOT_READY_TAINT,
  type Node,
  nodes,
  POD_ENI,
  podwayNodes,
} from '../kube/index.ts';
import { signOfEks } from './branch/eks.ts';
import { secrets, WEBHOOK_NAME } from './branch/webhooks.ts';
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
  /** Nodes that said how many branches they take. */
  capacities: number;
  secrets: number;
  quiet: boolean;
};

type ClearOptions = {
  client: Pick<KubeClient, 'get' | 'list' | 'patch' | 'delete'>;
  /** Of the Lease and the webhooks' Secret. */
  namespace: string;
  lease: string;
  clock?: Clock;
};

/** `quiet`: a pass found nothing any more. */
export async function clear(
  { client, namespace, lease, clock = systemClock }: ClearOptions,
  signal?: AbortSignal,
): Promise<Cleared> {
  const done: Cleared = {
    ...{ podwayNodes: 0, cniNodes: 0, taints: 0, conditions: 0, capacities: 0, secrets: 0 },
    quiet: false,
  };
  const hasBranches = await madeBranches(client, namespace, signal);
  for (let pass = 1; pass <= MOST_PASSES; pass++) {
    const found = await clearOnce(client, done, hasBranches, signal);
    if (found === 0 && pass > 1) {
      await orGone(client.delete(leases, lease, namespace, {}, signal));
      // The last of what says that branches were ours.
      if (await orGone(client.delete(secrets, WEBHOOK_NAME, namespace, {}, signal))) done.secrets++;
      return { ...done, quiet: true };
    }
    await clock.sleep(APART_MS, signal);
  }
  return done;
}

/** Podway's controller has made branches here, and EKS's own does not: what Nodes say of branches is ours. */
async function madeBranches(
  client: ClearOptions['client'],
  namespace: string,
  signal: AbortSignal = new AbortController().signal,
): Promise<boolean> {
  const hasSecret = await orGone(client.get(secrets, WEBHOOK_NAME, namespace, signal));
  const isOurs = hasSecret || (await ownCniNodes(client, signal)).length > 0;
  return isOurs && (await signOfEks(client, signal)) === null;
}

async function ownCniNodes(client: ClearOptions['client'], signal?: AbortSignal): Promise<CniNode[]> {
  const labelSelector = Object.entries(MANAGED_BY)
    .map(([key, value]) => `${key}=${value}`)
    .join();
  return (await client.list(cniNodes, { labelSelector }, signal).catch(noneOf)).items;
}

/** Answers how much there was. */
async function clearOnce(
  client: ClearOptions['client'],
  done: Cleared,
  hasBranches: boolean,
  signal?: AbortSignal,
): Promise<number> {
  let found = 0;
  const owns = await client.list(podwayNodes, {}, signal).catch(noneOf);
  for (const { metadata } of owns.items) {
    found++;
    done.podwayNodes++;
    await orGone(client.delete(podwayNodes, metadata.name!, undefined, {}, signal));
  }
  for (const { metadata } of await ownCniNodes(client, signal)) {
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
    const { capacity, allocatable } = node.status ?? {};
    if (hasBranches && [capacity, allocatable].some((amounts) => amounts?.[POD_ENI] !== undefined)) {
      found++;
      const none = { [POD_ENI]: null };
      const patch = { status: { capacity: none, allocatable: none } };
      const options = { subresource: 'status' } as const;
      if (await orGone(client.patch(nodes, name, undefined, patch, options, signal))) done.capacities++;
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
