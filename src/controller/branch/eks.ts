// Whether EKS's own controller makes the branches of this cluster: its Lease (before 2022 its ConfigMap), its webhook,
// or a CNINode that it holds by its finaliser. One of them is enough, also a stale one: where both work they undo each
// other. Only reads. Fails with KubeError. Source: aws/amazon-vpc-resource-controller-k8s, leader election and webhook
// configuration.
import {
  type CniNode,
  cniNodes,
  isNotFound,
  type KubeClient,
  type KubeObject,
  type Resource,
  resource,
} from '../../kube/index.ts';

const NAME = 'cp-vpc-resource-controller';
const WEBHOOK = 'vpc-resource-mutating-webhook';
const FINALIZER = 'networking.k8s.aws/resource-cleanup';

const leases = resource<KubeObject>('coordination.k8s.io/v1', 'leases', 'Lease', 'Namespaced');
const configMaps = resource<KubeObject>('v1', 'configmaps', 'ConfigMap', 'Namespaced');
const webhooks = resource<KubeObject>(
  'admissionregistration.k8s.io/v1',
  'mutatingwebhookconfigurations',
  'MutatingWebhookConfiguration',
  'Cluster',
);

/** By what it is seen; null: it is not there. */
export async function signOfEks(
  client: Pick<KubeClient, 'get' | 'list'>,
  signal: AbortSignal,
): Promise<string | null> {
  const has = async (kind: Resource<KubeObject>, name: string, namespace?: string) => {
    try {
      await client.get(kind, name, namespace, signal);
      return true;
    } catch (error) {
      if (isNotFound(error)) return false;
      throw error;
    }
  };
  if (await has(leases, NAME, 'kube-system')) return `Lease kube-system/${NAME}`;
  if (await has(configMaps, NAME, 'kube-system')) return `ConfigMap kube-system/${NAME}`;
  if (await has(webhooks, WEBHOOK)) return `MutatingWebhookConfiguration ${WEBHOOK}`;
  const held = (await client.list(cniNodes, {}, signal).catch(noneOf)).items.find(isOfEks);
  return held ? `CNINode ${held.metadata.name}` : null;
}

const isOfEks = ({ metadata }: CniNode): boolean => metadata.finalizers?.includes(FINALIZER) ?? false;

/** Without the definition there are none. */
function noneOf(error: unknown): { items: CniNode[] } {
  if (isNotFound(error)) return { items: [] };
  throw error;
}
