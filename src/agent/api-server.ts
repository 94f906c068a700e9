// The agent's access to the Kubernetes API. Invariant: the client is loaded on first use, since TLS takes megabytes
// that most agents never need. Fails with KubeError or KubeConfigError.
import type { KubeClient, Pod } from '../kube/index.ts';
import type { AgentConfig } from './config.ts';

type Kube = typeof import('../kube/index.ts');

export type ApiServer = {
  readonly isConfigured: boolean;
  readonly nodeName: string;
  /** A new client; the caller closes it. */
  connect(): Promise<{ client: KubeClient; kube: Kube }>;
  /** Pods that are bound to this node. */
  pods(signal?: AbortSignal): Promise<Pod[]>;
};

export function createApiServer({
  kubeconfig,
  nodeName,
}: Pick<AgentConfig, 'kubeconfig' | 'nodeName'>): ApiServer {
  const connect = async () => {
    if (kubeconfig === undefined) throw new Error('no Kubernetes API is configured');
    const kube = await import('../kube/index.ts');
    const client = new kube.KubeClient(await kube.readKubeConfig(kubeconfig), { userAgent: 'podway-agent' });
    return { client, kube };
  };
  return {
    isConfigured: kubeconfig !== undefined,
    nodeName,
    connect,
    async pods(signal) {
      const { client, kube } = await connect();
      try {
        const query = { fieldSelector: `spec.nodeName=${nodeName}` };
        return (await client.list(kube.pods, query, signal)).items;
      } finally {
        client.close();
      }
    },
  };
}

/** True for a pod that uses the pod network and has not ended: only such a pod's address counts. */
export const isLive = (pod: Pod): boolean =>
  !pod.spec.hostNetwork && pod.status?.phase !== 'Succeeded' && pod.status?.phase !== 'Failed';
