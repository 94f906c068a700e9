// Which security groups a pod gets: those of all SecurityGroupPolicies of its namespace that select it, each once, in the
// order of the policies' names. Each selector that is there must match; a policy without any, without groups, or with a selector
// that cannot be read selects nothing, and says why. Pure. Source: EKS, security groups for Pods.
import { type Labels, matchesRequirements, type Requirement, selectorRequirements } from './selectors.ts';
import { MAX_GROUPS, type SecurityGroupPolicy } from './vpc-resources.ts';

export type Policy = {
  namespace: string;
  name: string;
  /** When it was made (ms since 1970). */
  since: number;
  pods: readonly Requirement[] | null;
  serviceAccounts: readonly Requirement[] | null;
  groupIds: readonly string[];
  /** Why it selects nothing; null: it does. */
  fault: string | null;
};

export function decodePolicy({ metadata, spec }: SecurityGroupPolicy): Policy {
  const groupIds = (spec?.securityGroups?.groupIds ?? []).filter((id) => typeof id === 'string');
  const policy: Policy = {
    namespace: metadata.namespace!,
    name: metadata.name!,
    since: Date.parse(metadata.creationTimestamp ?? '') || 0,
    pods: null,
    serviceAccounts: null,
    groupIds,
    fault: null,
  };
  const { podSelector, serviceAccountSelector } = spec ?? {};
  if (!podSelector && !serviceAccountSelector)
    return { ...policy, fault: 'it has neither podSelector nor serviceAccountSelector' };
  if (groupIds.length === 0) return { ...policy, fault: 'securityGroups.groupIds is empty' };
  if (groupIds.length > MAX_GROUPS)
    return {
      ...policy,
      fault: `securityGroups.groupIds has ${groupIds.length} groups of at most ${MAX_GROUPS}`,
    };
  try {
    return {
      ...policy,
      pods: podSelector ? selectorRequirements(podSelector) : null,
      serviceAccounts: serviceAccountSelector ? selectorRequirements(serviceAccountSelector) : null,
    };
  } catch (error) {
    return { ...policy, fault: (error as Error).message };
  }
}

/** What is known of a pod before the API has it. */
export type NewPod = { namespace: string; labels: Labels; serviceAccountName: string };

/** `serviceAccount`: the labels of the pod's account; null when there is no such account. */
export type Candidate = { namespace: string; labels: Labels; serviceAccount: Labels | null };

export const selects = (policy: Policy, { namespace, labels, serviceAccount }: Candidate): boolean =>
  policy.fault === null &&
  policy.namespace === namespace &&
  (policy.pods === null || matchesRequirements(policy.pods, labels)) &&
  (policy.serviceAccounts === null ||
    (serviceAccount !== null && matchesRequirements(policy.serviceAccounts, serviceAccount)));

export type Selection = { groupIds: string[]; policies: string[] };

export function selectGroups(policies: Iterable<Policy>, pod: Candidate): Selection {
  const found = [...policies]
    .filter((policy) => selects(policy, pod))
    .sort((a, b) => (a.name < b.name ? -1 : 1));
  return {
    groupIds: [...new Set(found.flatMap(({ groupIds }) => groupIds))],
    policies: found.map(({ name }) => name),
  };
}
