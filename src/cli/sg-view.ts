// What `podway sg show` says of a pod: which policies select it, which groups that gives, its interface, and gate by gate how
// far it has come; and which groups are in force. Pure: values of the Kubernetes API and its agent's explanation in, a value out.
import type { BranchMode } from '../base/branch-words.ts';
import { formatCidr, formatIp } from '../base/ip.ts';
import type { Explanation } from '../ipam/views/explain.ts';
import {
  asksForBranch,
  decodePodEnis,
  type Labels,
  type Node,
  POD_ENI,
  POD_ENI_CAUSE,
  type Pod,
  type SecurityGroupPolicy,
} from '../kube/index.ts';
import { decodePolicy, selects } from '../kube/pod-groups.ts';

export type Gate = { gate: 'policy' | 'resource' | 'node' | 'interface'; ok: boolean; text: string };
export type GroupsView = {
  namespace: string;
  name: string;
  node: string | null;
  /** Policies that select the pod now; `late`: made after the pod, which they do not concern. */
  policies: { name: string; groupIds: string[]; late: boolean }[];
  /** In force: those of its interface in EC2; empty without one, null where they are not known. */
  groupIds: string[] | null;
  /** Why they are not known. */
  lack: string | null;
  /** What the policies give a pod of its labels that is made now. */
  wantedGroupIds: string[];
  /** With which it started; null before, and where it is not known. */
  mode: BranchMode | null;
  interface: {
    eniId: string;
    mac: string;
    vlanId: number;
    ip: string | null;
    subnet: string | null;
    associationId: string;
  } | null;
  /** What keeps it from its interface or, with one, from its start. */
  cause: string | null;
  gates: Gate[];
};

export type GroupsInput = {
  pod: Pod;
  /** Null: it has none, or the API has none of the name. */
  node: Pick<Node, 'status'> | null;
  policies: readonly SecurityGroupPolicy[];
  /** Labels of its account; null: there is none. */
  serviceAccount: Labels | null;
  /** What its node's agent says of it; a text: why it says nothing. */
  told: Pick<Explanation, 'addresses' | 'branch' | 'cause'> | string;
};

export function groupsView({ pod, node, policies, serviceAccount, told }: GroupsInput): GroupsView {
  const { metadata, spec } = pod;
  const { annotations = {}, labels = {} } = metadata;
  const namespace = metadata.namespace ?? 'default';
  const made = Date.parse(metadata.creationTimestamp ?? '') || 0;
  const selecting = policies
    .map(decodePolicy)
    .filter((policy) => !spec.hostNetwork && selects(policy, { namespace, labels, serviceAccount }))
    .sort((a, b) => (a.name < b.name ? -1 : 1))
    .map(({ name, groupIds, since }) => ({ name, groupIds: [...groupIds], late: since > made }));
  const concerning = selecting.filter(({ late }) => !late);
  const groupsOf = (some: typeof selecting) => [...new Set(some.flatMap((one) => one.groupIds))];
  const asks = asksForBranch({ spec });
  const found = readInterface(annotations[POD_ENI]);
  const offered = node?.status?.allocatable?.[POD_ENI];
  const gates: Gate[] = [
    {
      gate: 'policy',
      ok: concerning.length > 0,
      text:
        concerning.length > 0
          ? `${concerning.map(({ name }) => name).join(', ')}: ${groupsOf(concerning).join(', ')}`
          : selecting.length > 0
            ? `${selecting.map(({ name }) => name).join(', ')} came after the pod: make it anew`
            : spec.hostNetwork
              ? 'the pod is on the host network, which no policy selects'
              : 'no SecurityGroupPolicy selects the pod',
    },
    {
      gate: 'resource',
      ok: asks,
      text: asks
        ? `the pod asks for ${POD_ENI}`
        : concerning.length > 0
          ? `the pod does not ask for ${POD_ENI}: the webhook was away when it was made`
          : `the pod does not ask for ${POD_ENI}`,
    },
    {
      gate: 'node',
      ok: Number(offered ?? 0) > 0,
      text: !spec.nodeName
        ? 'the pod has no node yet'
        : offered === undefined
          ? `${spec.nodeName} takes no branches, or has no trunk yet`
          : `${spec.nodeName} takes ${offered} branches`,
    },
    { gate: 'interface', ok: found.interface !== null, text: found.text },
  ];
  return {
    namespace,
    name: metadata.name!,
    node: spec.nodeName ?? null,
    policies: selecting,
    ...inForce(told, found.interface !== null),
    wantedGroupIds: groupsOf(selecting),
    interface: found.interface,
    cause: annotations[POD_ENI_CAUSE] ?? causeOf(told),
    gates,
  };
}

/** What differs between a pod and one that would be made now; null: nothing, or it is not known. */
export function newcomerText({ groupIds, wantedGroupIds, interface: own }: GroupsView): string | null {
  if (own === null || groupIds === null) return null;
  if (groupIds.toSorted().join() === wantedGroupIds.toSorted().join()) return null;
  return wantedGroupIds.length > 0
    ? `policies would give ${wantedGroupIds.join(', ')} to a pod made now`
    : 'no policy selects it now: a pod made now would have no interface of its own';
}

function inForce(
  told: GroupsInput['told'],
  hasInterface: boolean,
): Pick<GroupsView, 'groupIds' | 'lack' | 'mode'> {
  const unknown = (lack: string) => ({ groupIds: null, lack, mode: null });
  if (typeof told !== 'string' && told.branch) {
    const { groupIds, lack = null, mode } = told.branch;
    return { groupIds, lack, mode };
  }
  if (!hasInterface) return { groupIds: [], lack: null, mode: null };
  if (typeof told === 'string') return unknown(told);
  return unknown(
    told.addresses
      ? "the node's agent does not tell them: it is of an older version, or the pod is without a branch"
      : 'the pod has not started on its node, whose agent asks EC2 for them',
  );
}

const causeOf = (told: GroupsInput['told']): string | null =>
  typeof told === 'string' || told.addresses || !told.cause ? null : `${told.cause.code}: ${told.cause.text}`;

function readInterface(text: string | undefined): { interface: GroupsView['interface']; text: string } {
  if (text === undefined) return { interface: null, text: 'the controller has told the pod of no interface' };
  try {
    const { eniId, mac, vlanId, ip, ip6, subnet, subnet6, associationId } = decodePodEnis(text)[0]!;
    const [address, range] = [ip ?? ip6, subnet ?? subnet6];
    return {
      interface: {
        ...{ eniId, mac, vlanId, associationId },
        ip: address === null ? null : formatIp(address),
        subnet: range === null ? null : formatCidr(range),
      },
      text: `${eniId}, VLAN ${vlanId}`,
    };
  } catch (error) {
    return { interface: null, text: (error as Error).message };
  }
}
