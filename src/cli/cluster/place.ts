// Where a command looks: at a lab, at the agents of a cluster (`kubectl podway`, --cluster, --kubeconfig, --context), at the
// agent of this node (--local), or at a dump of any of these (--from). The commands are the same; only who is asked differs.
import { type Command, Option } from 'commander';
import type { NodeView } from '../../agent/routes.ts';
import type { Explanation } from '../../ipam/views/explain.ts';
import { LabError } from '../../lab/daemon/errors.ts';
import type { IpamCheck, IpamNode } from '../../lab/daemon/protocol.ts';
import { type Common, podOf, withDump, withLab, withOutput } from '../command.ts';
import type { Row } from '../doctor/checks.ts';
import { usageError } from '../errors.ts';
import { isEnvOfOwnAgents, readLab } from '../labs.ts';
import { Dump } from '../sysdump/dump.ts';
import type { Answered, Fleet } from './agents.ts';

export type PlaceOptions = Common & {
  local?: boolean;
  cluster?: boolean;
  kubeconfig?: string;
  context?: string;
};

/** Answers of the nodes that answer; and why the others do not. */
export type FromNodes<T> = { values: T[]; failed: LabError[] };

export type Place = {
  ipam(node?: string): Promise<FromNodes<IpamNode>>;
  check(): Promise<IpamCheck & { failed: LabError[] }>;
  /** `subject` is a node, a pod, or namespace/pod; the node itself when absent, which only --local allows. */
  explain(subject: string | undefined, namespace: string): Promise<Explanation>;
  /** Who serves. A lab says it otherwise. */
  nodes(): Promise<FromNodes<NodeView>>;
  /** What each node has and lacks. A lab's nodes are this machine's. */
  doctor(): Promise<FromNodes<Row & { node?: string }>>;
  close(): void;
};

export const withPlace = (made: Command): Command => withDump(withLivePlace(made));

/** For a command that a dump cannot answer. */
export function withLivePlace(made: Command): Command {
  return withOutput(withLab(made))
    .option('--local', "ask the agent of this node, as root or in the agent's container")
    .option('--cluster', 'ask the agents of a cluster, as kubectl podway does')
    .option('--kubeconfig <file>', 'of that cluster (else KUBECONFIG, else ~/.kube/config)')
    .addOption(new Option('--context <name>', 'of the kubeconfig'));
}

export type PlaceKind = 'lab' | 'cluster' | 'local';

/**
 * What is asked; of a dump, what it was made of. `kubectl podway` asks the cluster, or the lab that runs its agents. Throws
 * USAGE for two places at once, BAD_DUMP, NOT_ROOT.
 */
export function placeKind(options: PlaceOptions): PlaceKind {
  const isCluster = options.cluster || options.kubeconfig !== undefined || options.context !== undefined;
  const isLab = options.lab !== undefined || options.name !== undefined;
  const isDump = options.from !== undefined;
  if (Number(Boolean(options.local)) + Number(isCluster) + Number(isLab) + Number(isDump) > 1)
    throw usageError(
      '--local, --lab, --from and the flags of a cluster name several places',
      'give one of them',
    );
  if (options.from !== undefined) return Dump.open(options.from).place.kind;
  if (options.local) return 'local';
  if (isCluster) return 'cluster';
  const isPlugin = process.env['PODWAY_LAUNCHER'] === 'kubectl podway';
  return isPlugin && !isLab && !isEnvOfOwnAgents() ? 'cluster' : 'lab';
}

export async function openPlace(options: PlaceOptions): Promise<Place> {
  const dump = options.from === undefined ? undefined : Dump.open(options.from);
  switch (placeKind(options)) {
    case 'local':
      return localPlace(dump);
    case 'cluster': {
      if (dump) return clusterPlace((await import('../sysdump/fleet.ts')).fleetOf(dump));
      const { Cluster } = await import('./agents.ts');
      return clusterPlace(await Cluster.open(options));
    }
    case 'lab':
      return labPlace(options);
  }
}

async function labPlace(options: PlaceOptions): Promise<Place> {
  const lab = await readLab(options);
  return {
    async ipam(node) {
      const query = node === undefined ? '' : `?node=${encodeURIComponent(node)}`;
      return { values: await lab.call<IpamNode[]>('GET', `/v1/ipam${query}`), failed: [] };
    },
    check: async () => ({ ...(await lab.call<IpamCheck>('GET', '/v1/ipam/check')), failed: [] }),
    explain(subject, namespace) {
      if (subject === undefined)
        throw usageError('no node and no pod is named', 'podway ipam explain --help');
      return lab.call('GET', `/v1/ipam/explain?${new URLSearchParams({ subject, namespace })}`);
    },
    nodes: () => Promise.reject(new Error('podway lab status')),
    async doctor() {
      if (options.from !== undefined)
        return { values: Dump.open(options.from).answer<Row[]>('lab/doctor.json'), failed: [] };
      const { machineRows } = await import('../doctor/checks.ts');
      return { values: await machineRows(), failed: [] };
    },
    close: () => {},
  };
}

/** The agent of this node, or the only node of a dump, or one of a dump's nodes. */
export async function localPlace(dump?: Dump, node = dump?.place.name ?? ''): Promise<Place> {
  const askLocal: <T>(path: string) => Promise<T> = dump
    ? (path) => dump.agent(node, path)
    : (await import('./local.ts')).askLocal;
  return {
    async ipam(node) {
      const own = await askLocal<IpamNode>('/v1/ipam');
      if (node !== undefined && node !== own.node)
        throw new LabError('NO_SUCH_NODE', `this node is ${own.node}, not ${node}`, 'leave out --node');
      return { values: [own], failed: [] };
    },
    check: async () => ({ ...(await askLocal<IpamCheck>('/v1/check')), failed: [] }),
    async explain(subject, namespace) {
      const own = subject === undefined ? true : (await askLocal<NodeView>('/v1/node')).node === subject;
      const pod = subject?.includes('/') ? subject : `${namespace}/${subject}`;
      return askLocal(own ? '/v1/explain' : `/v1/explain?pod=${encodeURIComponent(pod)}`);
    },
    nodes: async () => ({ values: [await askLocal<NodeView>('/v1/node')], failed: [] }),
    async doctor() {
      if (dump) return { values: dump.answer<Row[]>(`nodes/${node}/doctor.json`), failed: [] };
      const { nodeRows } = await import('../doctor/node.ts');
      return { values: await nodeRows(await askLocal<NodeView>('/v1/node')), failed: [] };
    },
    close: () => {},
  };
}

async function clusterPlace<A extends { node: string }>(cluster: Fleet<A>): Promise<Place> {
  const { askAll } = await import('./agents.ts');
  return {
    async ipam(node) {
      const answers = await askAll<IpamNode[], A>(cluster, await cluster.agents(node), ['ipam', 'show']);
      return { values: answers.flatMap(({ value }) => value ?? []), failed: failures(answers) };
    },
    async check() {
      const answers = await askAll<IpamCheck, A>(cluster, await cluster.agents(), ['ipam', 'check']);
      const differences = answers.flatMap(({ agent, value }) =>
        (value?.differences ?? []).map((one) => ({ ...one, object: `${agent.node}: ${one.object}` })),
      );
      const failed = failures(answers);
      return { ok: differences.length + failed.length === 0, differences, failed };
    },
    async explain(subject, namespace) {
      if (subject === undefined)
        throw usageError('no node and no pod is named', 'podway ipam explain --help');
      const agents = await cluster.agents();
      const node = agents.find((one) => one.node === subject);
      if (node) return cluster.ask(node, ['ipam', 'explain']);
      const pod = podOf(subject, namespace);
      const of = await agentOf(cluster, agents, pod.namespace, pod.name);
      return cluster.ask(of, ['ipam', 'explain', `${pod.namespace}/${pod.name}`]);
    },
    async nodes() {
      const answers = await askAll<NodeView[], A>(cluster, await cluster.agents(), ['status']);
      return { values: answers.flatMap(({ value }) => value ?? []), failed: failures(answers) };
    },
    async doctor() {
      const answers = await askAll<{ checks: Row[] }, A>(cluster, await cluster.agents(), ['doctor']);
      const values = answers.flatMap(({ agent, value }) =>
        (value?.checks ?? []).map((row) => ({ node: agent.node, ...row })),
      );
      return { values, failed: failures(answers) };
    },
    close: () => cluster.close(),
  };
}

/** The agent of a pod's node. Throws NO_SUCH_POD, UNSCHEDULABLE, NO_ADDRESS_NEEDED, NO_SUCH_NODE. */
async function agentOf<A extends { node: string }>(
  cluster: Fleet<A>,
  agents: A[],
  namespace: string,
  name: string,
): Promise<A> {
  const pod = await cluster.pod(namespace, name).catch((error: Error) => {
    const message = `no node with an agent is called ${name}, and pod ${namespace}/${name} cannot be read: ${error.message}`;
    throw new LabError(
      'NO_SUCH_POD',
      message,
      'kubectl get nodes and kubectl get pods -A show what there is',
      { cause: error },
    );
  });
  const what = `pod ${namespace}/${name}`;
  if (pod.spec.hostNetwork)
    throw new LabError('NO_ADDRESS_NEEDED', `${what} uses the node's network`, 'name another pod');
  if (pod.spec.nodeName === undefined)
    throw new LabError(
      'UNSCHEDULABLE',
      `${what} is bound to no node`,
      `kubectl -n ${namespace} describe pod ${name}`,
    );
  const agent = agents.find((one) => one.node === pod.spec.nodeName);
  if (agent) return agent;
  throw new LabError(
    'NO_SUCH_NODE',
    `${what} is on ${pod.spec.nodeName}, which has no agent's pod`,
    `kubectl -n ${cluster.namespace} get pods -o wide`,
  );
}

export const failures = (answers: Answered<unknown, unknown>[]): LabError[] =>
  answers.flatMap(({ error }) => error ?? []);
