// The agents of a cluster, and asking them: the same command with --local, run in each agent's pod. Nothing of an agent
// listens for this but a socket that only root of its node may open. Fails with LabError.

import * as kube from '../../kube/index.ts';
import { KubeClient, type KubeConfig, type Pod, resource } from '../../kube/index.ts';
import type { KubeObject } from '../../kube/types.ts';
import { LabError } from '../../lab/daemon/errors.ts';
import { type ClusterOptions, clusterConfig } from './credentials.ts';
import { type ExecOptions, type Executed, execInPod } from './exec.ts';

/** Name of the chart's DaemonSet, and of its container. */
export const DAEMONSET = 'podway-agent';
const CONTAINER = 'agent';
/** Agents that are asked at once. */
const AT_ONCE = 10;

type DaemonSet = KubeObject & {
  spec?: {
    selector?: { matchLabels?: Record<string, string> };
    template?: { spec?: { containers?: { name: string; image?: string }[] } };
  };
};
const daemonSets = resource<DaemonSet>('apps/v1', 'daemonsets', 'DaemonSet', 'Namespaced');

export type Agent = { node: string; pod: Pod; container: string; running: boolean };

/** What commands ask of a cluster's agents: the cluster itself, or a dump of one. */
export type Fleet<A extends { node: string }> = {
  /** Of the agents' pods. */
  readonly namespace: string;
  /** In the order of their nodes' names. Throws NO_SUCH_NODE. */
  agents(node?: string): Promise<A[]>;
  /** What `podway ARGS --local -o json` answers there. Throws what that command says. */
  ask<T>(agent: A, args: string[]): Promise<T>;
  pod(namespace: string, name: string): Promise<Pod>;
  close(): void;
};

export class Cluster implements Fleet<Agent> {
  readonly config: KubeConfig;
  readonly client: KubeClient;
  /** Of the agents. */
  readonly namespace: string;
  readonly image: string | undefined;
  readonly #labels: string;

  private constructor(config: KubeConfig, client: KubeClient, found: DaemonSet) {
    this.config = config;
    this.client = client;
    this.namespace = found.metadata.namespace!;
    const { containers = [] } = found.spec?.template?.spec ?? {};
    this.image = (containers.find((one) => one.name === CONTAINER) ?? containers[0])?.image;
    this.#labels = Object.entries(found.spec?.selector?.matchLabels ?? {})
      .map(([key, value]) => `${key}=${value}`)
      .join(',');
  }

  static async open(options: ClusterOptions): Promise<Cluster> {
    const config = await clusterConfig(options);
    const client = new KubeClient(config, { userAgent: 'kubectl-podway' });
    try {
      const { items } = await client.list(daemonSets, { fieldSelector: `metadata.name=${DAEMONSET}` });
      if (items.length === 1) return new Cluster(config, client, items[0]!);
      throw new LabError(
        'NO_AGENTS',
        items.length === 0
          ? `the cluster at ${config.server} has no DaemonSet ${DAEMONSET}`
          : `DaemonSets ${DAEMONSET} are in the namespaces ${items.map((one) => one.metadata.namespace).join(' and ')}`,
        items.length === 0 ? 'install the chart: deploy/README.md' : 'remove all but one',
      );
    } catch (error) {
      client.close();
      if (error instanceof LabError) throw error;
      throw new LabError(
        'NO_CLUSTER',
        `the cluster at ${config.server} does not answer: ${(error as Error).message}`,
        'kubectl get nodes tells whether it can be asked',
        { cause: error },
      );
    }
  }

  close(): void {
    this.client.close();
  }

  /** In the order of their nodes' names. Throws NO_SUCH_NODE. */
  async agents(node?: string): Promise<Agent[]> {
    const fieldSelector = node === undefined ? {} : { fieldSelector: `spec.nodeName=${node}` };
    const { items } = await this.client.list(kube.pods, {
      namespace: this.namespace,
      labelSelector: this.#labels,
      ...fieldSelector,
    });
    const agents = items
      .filter((pod) => pod.spec.nodeName !== undefined && pod.metadata.deletionTimestamp === undefined)
      .map((pod): Agent => {
        const names = pod.spec.containers.map((one) => one.name);
        const container = names.includes(CONTAINER) ? CONTAINER : names[0]!;
        return { node: pod.spec.nodeName!, pod, container, running: pod.status?.phase === 'Running' };
      })
      .sort((a, b) => a.node.localeCompare(b.node, 'en', { numeric: true }));
    if (agents.length > 0) return agents;
    const where = node === undefined ? 'no node' : `node ${node}`;
    throw new LabError(
      'NO_SUCH_NODE',
      `${where} has an agent's pod`,
      `kubectl -n ${this.namespace} get pods -o wide`,
    );
  }

  pod(namespace: string, name: string): Promise<Pod> {
    return this.client.get(kube.pods, name, namespace);
  }

  /** Runs `podway ARGS --local` in the agent's pod. */
  run({ pod, container }: Agent, args: string[], options: ExecOptions = {}): Promise<Executed> {
    const target = { namespace: this.namespace, pod: pod.metadata.name!, container };
    return execInPod(this.config, target, ['podway', ...args, '--local'], options);
  }

  /** The same with `-o json`: its answer. Throws what that command says. */
  async ask<T>(agent: Agent, args: string[], timeoutMs?: number): Promise<T> {
    const { code, stdout, stderr } = await this.run(agent, [...args, '-o', 'json'], {
      ...(timeoutMs === undefined ? {} : { timeoutMs }),
    });
    let value: (T & { error?: { code: string; message: string; next: string } }) | undefined;
    try {
      value = JSON.parse(stdout);
    } catch {
      // Told below.
    }
    if (value !== undefined && value.error === undefined) return value;
    const {
      code: cause,
      message,
      next,
    } = value?.error ?? {
      code: 'EXEC_FAILED',
      message: `podway ${args.join(' ')} ended with ${code}: ${stderr.trim() || 'without an answer'}`,
      next: `kubectl -n ${this.namespace} logs ${agent.pod.metadata.name}`,
    };
    throw new LabError(cause, `${agent.node}: ${message}`, next);
  }
}

export type Answered<T, A = Agent> = { agent: A; value?: T; error?: LabError };

/** Asks all of them, a few at once; one that does not answer does not keep the others from it. */
export async function askAll<T, A extends { node: string } = Agent>(
  cluster: Fleet<A>,
  agents: A[],
  args: string[],
): Promise<Answered<T, A>[]> {
  const answers: Answered<T, A>[] = [];
  let next = 0;
  const worker = async () => {
    for (let at = next++; at < agents.length; at = next++) {
      const agent = agents[at]!;
      try {
        answers[at] = { agent, value: await cluster.ask<T>(agent, args) };
      } catch (error) {
        if (!(error instanceof LabError)) throw error;
        answers[at] = { agent, error };
      }
    }
  };
  await Promise.all(Array.from({ length: Math.min(AT_ONCE, agents.length) }, worker));
  return answers;
}
