import type { KubeClient } from '../../src/kube/index.ts';

/** True once the API asks the controller about pods; a pod that is made before gets no resource and no branch. */
export async function asksWebhooks(api: KubeClient): Promise<boolean> {
  const path = '/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/podway-webhook';
  const found = (await api.getPath(path).catch(() => ({}))) as { webhooks?: unknown[] };
  return found.webhooks?.length === 1;
}
