// The policies as people list them: which pods each selects, and what was refused of it. Pure.
import type { Problem, Tier } from './model.ts';
import { selects } from './selector.ts';
import type { ReadWorld } from './world.ts';

export type PolicyRow = {
  /** Null: of the cluster. */
  namespace: string | null;
  name: string;
  /** Null where the object is not in force. */
  tier: Tier | null;
  /** Lower is judged first; null in the tier of NetworkPolicies. */
  priority: number | null;
  directions: ('ingress' | 'egress')[];
  /** Pods that it selects now. */
  pods: number;
  /** Rules in force. */
  rules: number;
  problems: readonly Problem[];
};

export const listPolicies = ({ decoded, pods, namespaces }: ReadWorld): PolicyRow[] =>
  decoded.map(({ namespace, name, policy, problems }) => ({
    namespace,
    name,
    tier: policy?.tier ?? null,
    priority: policy && policy.tier !== 'networkpolicy' ? policy.priority : null,
    directions: (['ingress', 'egress'] as const).filter((direction) => policy?.[direction]),
    pods: policy
      ? pods.filter((pod) => !pod.hostNetwork && !pod.ended && selects(policy.subject, pod, namespaces))
          .length
      : 0,
    rules: (policy?.ingress?.length ?? 0) + (policy?.egress?.length ?? 0),
    problems,
  }));
