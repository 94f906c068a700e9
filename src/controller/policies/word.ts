// What is to be said of a policy object: Events for what is refused of it or hardly meant, and the condition of a
// ClusterNetworkPolicy. Pure. The agents read policies by the same functions, so they do as is said here.
import type { KubeObject, Resource } from '../../kube/index.ts';
import { decodeNetworkPolicy } from '../../policy/decode.ts';
import { decodeClusterNetworkPolicy } from '../../policy/decode-cluster.ts';
import { hostBits } from '../../policy/lint.ts';

/** Events for one version of an object. */
const MOST_EVENTS = 5;
/** A condition's message, in characters. */
const LONGEST = 1_024;
/** Conditions of others are named without a domain, or with theirs. */
export const ACCEPTED = 'podway.dev/Accepted';

export type PolicyWord = {
  readonly events: readonly { type: 'Normal' | 'Warning'; reason: string; message: string }[];
  /** Null for NetworkPolicies, which have no status. */
  readonly condition: { status: 'True' | 'False'; reason: string; message: string } | null;
};

export function wordOn(resource: Pick<Resource, 'kind'>, object: KubeObject): PolicyWord {
  const isOfCluster = resource.kind === 'ClusterNetworkPolicy';
  const { policy, problems } = (isOfCluster ? decodeClusterNetworkPolicy : decodeNetworkPolicy)(object);
  const refused = problems.map(({ field, value, because }) => `${field}: ${value} ${because}`);
  const events = [
    ...refused.map((message) => ({ type: 'Warning' as const, reason: 'PolicyRefused', message })),
    ...hostBits(object).map((message) => ({ type: 'Normal' as const, reason: 'PolicyHostBits', message })),
  ].slice(0, MOST_EVENTS);
  if (!isOfCluster) return { events, condition: null };
  const message = refused.join('; ').slice(0, LONGEST);
  const condition =
    refused.length === 0
      ? ({ status: 'True', reason: 'Accepted', message: 'every field is enforced' } as const)
      : ({ status: 'False', reason: policy ? 'RulesClosed' : 'NotInForce', message } as const);
  return { events, condition };
}
