// Judges pods that ask for no branch ENI: one that a SecurityGroupPolicy older than the pod selects was made while the
// webhook was away, and would run with the node's groups. Of other namespaces nothing is asked. Loaded where an API is
// configured.
import type { MissingGroups } from '../base/branch-words.ts';
import { PodwayError } from '../base/errors.ts';
import { isNotFound, type KubeClient, pods } from '../kube/index.ts';
import type { Selection } from '../kube/pod-groups.ts';
import type { PolicyView } from '../kube/pod-groups-view.ts';
import { branchWish, type Guard } from './branch-pods.ts';
import type { PodName } from './tell.ts';

export type PodGroupsOptions = {
  client: Pick<KubeClient, 'get'>;
  policies: PolicyView;
  missingGroups: MissingGroups;
  /** A pod whose groups are missing starts, or is refused. */
  onMissing: (pod: PodName, answer: 'refused' | 'allowed', text: string) => void;
};

type Found = Selection & { uid: string };

export class PodGroups implements Guard {
  readonly #o: PodGroupsOptions;

  constructor(options: PodGroupsOptions) {
    this.#o = options;
  }

  get isWhole(): boolean {
    return this.#o.policies.isWhole;
  }

  concerns(namespace: string): boolean {
    for (const one of this.#o.policies.all)
      if (one.namespace === namespace && one.fault === null) return true;
    return false;
  }

  async check(name: string, signal: AbortSignal): Promise<void> {
    const missing = await this.#missing(name, signal);
    if (missing === null) return;
    const [namespace = '', pod = ''] = name.split('/');
    const { missingGroups, onMissing } = this.#o;
    const answer = missingGroups === 'allow' ? 'allowed' : 'refused';
    onMissing({ namespace, name: pod, uid: missing.uid }, answer, missing.error.message);
    if (answer === 'refused') throw missing.error;
  }

  async trouble(name: string, signal: AbortSignal): Promise<PodwayError | null> {
    if (this.#o.missingGroups === 'allow') return null;
    return (await this.#missing(name, signal))?.error ?? null;
  }

  async #missing(name: string, signal: AbortSignal): Promise<{ uid: string; error: PodwayError } | null> {
    const [namespace = '', pod = ''] = name.split('/');
    if (!this.concerns(namespace)) return null;
    let found: Found | null;
    try {
      found = await this.#select(namespace, pod, signal);
    } catch (error) {
      signal.throwIfAborted();
      throw new PodwayError(
        'BRANCH_PENDING',
        `the Kubernetes API does not tell whether a SecurityGroupPolicy selects the pod: ${(error as Error).message}`,
        { object: name },
        { cause: error },
      );
    }
    if (found === null || found.policies.length === 0) return null;
    const many = found.policies.length > 1;
    const text =
      `the SecurityGroupPolic${many ? 'ies' : 'y'} ${found.policies.join(', ')} ${many ? 'give' : 'gives'} ${name} the groups ` +
      `${found.groupIds.join(', ')}, and the pod was made without asking for them: the webhook was away`;
    return { uid: found.uid, error: new PodwayError('GROUPS_NOT_INJECTED', text, { object: name }) };
  }

  /** Null for a pod that is gone, asks for a branch, or has had its network before. */
  async #select(namespace: string, name: string, signal: AbortSignal): Promise<Found | null> {
    const { client, policies } = this.#o;
    try {
      const pod = await client.get(pods, name, namespace, signal);
      const { creationTimestamp, labels = {}, uid = '' } = pod.metadata;
      if (branchWish(pod) !== 'plain' || pod.status?.podIP) return null;
      const serviceAccountName = pod.spec.serviceAccountName ?? 'default';
      const since = Date.parse(creationTimestamp ?? '') || Number.POSITIVE_INFINITY;
      return { uid, ...(await policies.groupsOf({ namespace, labels, serviceAccountName }, signal, since)) };
    } catch (error) {
      if (isNotFound(error)) return null;
      throw error;
    }
  }
}
