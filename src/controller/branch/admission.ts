// What the webhooks answer. Injection: a pod that a policy selects gets the resource of a branch on its first container, so
// that the scheduler counts it. Guard: the annotation that says which interface a pod has is written by the controller alone.
// Pure: an AdmissionReview in, the response out. Source: EKS's controller, /mutate-v1-pod and /validate-v1-pod.
import { asksForBranch, POD_ENI, type Pod } from '../../kube/index.ts';
import type { NewPod } from '../../kube/pod-groups.ts';

type AdmissionRequest = {
  uid: string;
  namespace?: string;
  operation: string;
  userInfo?: { username?: string };
  object?: Pod | null;
  oldObject?: Pod | null;
};
export type AdmissionReview = { apiVersion?: string; kind?: string; request?: AdmissionRequest };
export type AdmissionResponse = {
  uid: string;
  allowed: boolean;
  status?: { code: number; reason: string; message: string };
  patchType?: 'JSONPatch';
  /** Base64. */
  patch?: string;
  warnings?: string[];
};

type PatchStep = { op: 'add'; path: string; value: unknown };

/** EKS's controller, under the names that it has had. */
const EKS_WRITERS = [
  'system:serviceaccount:kube-system:vpc-resource-controller',
  'system:serviceaccount:kube-system:eks-vpc-resource-controller',
  'eks:vpc-resource-controller',
];

/** The new pod that a policy may select; null for one that gets no branch, or has asked for one. */
export function candidateOf({ request }: AdmissionReview): NewPod | null {
  const pod = request?.object;
  if (request?.operation !== 'CREATE' || !pod?.spec?.containers?.length) return null;
  if (pod.spec.hostNetwork || asksForBranch(pod)) return null;
  if (pod.spec.nodeSelector?.['kubernetes.io/os'] === 'windows') return null;
  return {
    namespace: request.namespace ?? pod.metadata?.namespace ?? 'default',
    labels: pod.metadata?.labels ?? {},
    serviceAccountName: pod.spec.serviceAccountName ?? 'default',
  };
}

/** With the groups of the candidate. */
export function inject({ request }: AdmissionReview, groupIds: readonly string[]): AdmissionResponse {
  const allowed = { uid: request?.uid ?? '', allowed: true };
  if (groupIds.length === 0) return allowed;
  const patch = Buffer.from(JSON.stringify(injection(request!.object!))).toString('base64');
  return { ...allowed, patchType: 'JSONPatch', patch };
}

function injection({ spec }: Pod): PatchStep[] {
  const at = '/spec/containers/0/resources';
  const { resources } = spec.containers[0]!;
  const steps: PatchStep[] = resources ? [] : [{ op: 'add', path: at, value: {} }];
  for (const kind of ['limits', 'requests'] as const) {
    if (!resources?.[kind]) steps.push({ op: 'add', path: `${at}/${kind}`, value: {} });
    steps.push({ op: 'add', path: `${at}/${kind}/${POD_ENI.replace('/', '~1')}`, value: '1' });
  }
  return steps;
}

/** `writer` is the user that may write the annotation, beside EKS's controller. */
export function guard({ request }: AdmissionReview, writer: string): AdmissionResponse {
  const uid = request?.uid ?? '';
  const [was, is] = [request?.oldObject, request?.object].map((pod) => pod?.metadata?.annotations?.[POD_ENI]);
  const user = request?.userInfo?.username ?? '';
  const isWriter = user === writer || EKS_WRITERS.includes(user);
  const deny = (message: string): AdmissionResponse => ({
    uid,
    allowed: false,
    status: { code: 403, reason: 'Forbidden', message: `podway: ${message}` },
  });
  if (request?.operation === 'CREATE' && is !== undefined)
    return deny(`a new pod has no interface yet: take the annotation ${POD_ENI} away`);
  if (request?.operation === 'UPDATE' && was !== is && !isWriter)
    return deny(`${user} may not change the annotation ${POD_ENI}: it says which interface the pod has`);
  return { uid, allowed: true };
}
