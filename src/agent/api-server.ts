// The agent's access to the Kubernetes API. Invariant: the client is loaded on first use, since TLS takes megabytes, and
// all of the agent uses the same one. Fails with KubeError or KubeConfigError.
import { statSync } from 'node:fs';
import type { KubeClient, Pod } from '../kube/index.ts';
import type { AgentConfig } from './config.ts';

type Kube = typeof import('../kube/index.ts');
type Connection = { client: KubeClient; kube: Kube };

export type ApiServer = {
  readonly isConfigured: boolean;
  readonly nodeName: string;
  /** The agent's client. A kubeconfig that has changed makes a new one; those before it serve their watches on. */
  connect(): Promise<Connection>;
  /** Pods that are bound to this node. */
  pods(signal?: AbortSignal): Promise<Pod[]>;
  close(): void;
};

export function createApiServer({
  kubeconfig,
  inCluster,
  nodeName,
}: Pick<AgentConfig, 'kubeconfig' | 'inCluster' | 'nodeName'>): ApiServer {
  const clients = new Set<KubeClient>();
  let last: { changed: number; connection: Promise<Connection> } | null = null;
  const isConfigured = kubeconfig !== undefined || inCluster;
  const open = async (): Promise<Connection> => {
    const kube = await import('../kube/index.ts');
    // The client itself follows the files of a service account.
    const config = kubeconfig === undefined ? kube.inClusterConfig() : await kube.readKubeConfig(kubeconfig);
    const client = new kube.KubeClient(config, { userAgent: 'podway-agent' });
    clients.add(client);
    return { client, kube };
  };
  const connect = async () => {
    if (!isConfigured) throw new Error('no Kubernetes API is configured');
    const changed =
      kubeconfig === undefined ? 0 : (statSync(kubeconfig, { throwIfNoEntry: false })?.mtimeMs ?? 0);
    if (last?.changed !== changed) last = { changed, connection: open() };
    const { connection } = last;
    connection.catch(() => {
      if (last?.connection === connection) last = null;
    });
    return connection;
  };
  return {
    isConfigured,
    nodeName,
    connect,
    async pods(signal) {
      const { client, kube } = await connect();
      return (await client.list(kube.pods, { fieldSelector: `spec.nodeName=${nodeName}` }, signal)).items;
    },
    close() {
      for (const client of clients) client.close();
    },
  };
}

/** True for a pod that uses the pod network and has not ended: only such a pod's address counts. */
export const isLive = (pod: Pod): boolean =>
  !pod.spec.hostNetwork && pod.status?.phase !== 'Succeeded' && pod.status?.phase !== 'Failed';
