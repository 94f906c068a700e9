// Who is asked about policies: the Kubernetes API of a lab, a cluster or a dump for what they say, and the nodes' agents for
// what is in force. Fails with LabError.
import type { PolicyView } from '../../agent/policy-keeper.ts';
import type { KubeClient } from '../../kube/index.ts';
import type { LabError } from '../../lab/daemon/errors.ts';
import type { ReadWorld } from '../../policy/world.ts';
import { readLab } from '../labs.ts';
import { Dump } from '../sysdump/dump.ts';
import type { Fleet } from './agents.ts';
import { openApi, openClient } from './api.ts';
import { failures, type PlaceOptions, placeKind } from './place.ts';

/** Asks the API of the lab or the cluster that the options name. */
export async function withApi<T>(options: PlaceOptions, ask: (client: KubeClient) => Promise<T>): Promise<T> {
  const client = await openClient(options);
  try {
    return await ask(client);
  } finally {
    client.close();
  }
}

/** `forLint`: with what lint looks at beside. */
export async function openWorld(options: PlaceOptions, forLint = false): Promise<ReadWorld> {
  const { readWorld, readWorldForLint } = await import('../../policy/world.ts');
  const api = await openApi(options);
  try {
    return await (forLint ? readWorldForLint : readWorld)(api);
  } finally {
    api.close();
  }
}

/** `view` null: the node has seen no policy. */
export type NodePolicies = { node: string; view: PolicyView | null };
export type Views = { views: NodePolicies[]; failed: LabError[] };
/** Of a pod where one is named, of one node where that is. */
export type ViewsOf = { pod?: string | undefined; node?: string | undefined };

/** What agents have in force; and why others do not answer. */
export async function agentViews(options: PlaceOptions, of: ViewsOf = {}): Promise<Views> {
  const { pod, node } = of;
  const path = pod === undefined ? '/v1/policy' : `/v1/policy?pod=${encodeURIComponent(pod)}`;
  const dump = options.from === undefined ? undefined : Dump.open(options.from);
  const kind = placeKind(options);
  if (kind === 'local') {
    const view = dump
      ? await dump.agent<PolicyView | null>(dump.place.name, path)
      : await (await import('./local.ts')).askLocal<PolicyView | null>(path);
    return { views: [{ node: view?.node ?? 'this node', view }], failed: [] };
  }
  if (kind === 'cluster') {
    if (dump) return fleetViews((await import('../sysdump/fleet.ts')).fleetOf(dump), of);
    const { Cluster } = await import('./agents.ts');
    return fleetViews(await Cluster.open(options), of);
  }
  const lab = await readLab(options);
  const { nodes } = await lab.call<{ nodes: { name: string }[] }>('GET', '/v1/status');
  const views = await Promise.all(
    nodes
      .filter(({ name }) => node === undefined || name === node)
      .map(async ({ name }) => ({ node: name, view: await lab.agent<PolicyView | null>(name, path) })),
  );
  return { views, failed: [] };
}

async function fleetViews<A extends { node: string }>(
  fleet: Fleet<A>,
  { pod, node }: ViewsOf,
): Promise<Views> {
  const { askAll } = await import('./agents.ts');
  try {
    const args = ['policy', 'show', ...(pod === undefined ? [] : [pod])];
    const answers = await askAll<ShownView[], A>(fleet, await fleet.agents(node), args);
    const views = answers.flatMap(({ agent, value }) =>
      (value ?? []).map((one) => ({ node: agent.node, view: 'generation' in one ? one : null })),
    );
    return { views, failed: failures(answers) };
  } finally {
    fleet.close();
  }
}

/** What `policy show -o json` prints for a node. */
export type ShownView = PolicyView | { node: string; policies: 0 };
