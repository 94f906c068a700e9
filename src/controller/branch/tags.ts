// The tags of trunks and branches, set in the call that makes them: with them EC2 alone says whose each is. Pure.
import type { EniDescription, EniId, Tags } from '../../cloud/port.ts';
import {
  TAG_CLUSTER,
  TAG_INSTANCE,
  TAG_NODE,
  TAG_PURPOSE,
  TAG_TRUNK,
  TAG_VLAN,
} from '../../ipam/ec2/tags.ts';
import { MAX_VLAN } from '../../kube/index.ts';
import type { Branch } from './plan.ts';

export const TRUNK: Tags = { [TAG_PURPOSE]: 'trunk' };
const BRANCH: Tags = { [TAG_PURPOSE]: 'branch' };
const TAG_POD = 'podway.io/pod';
const TAG_POD_UID = 'podway.io/pod-uid';

export type NodeName = { name: string; instanceId: string; cluster: string | undefined };

const ofNode = ({ name, instanceId, cluster }: NodeName): Tags => ({
  [TAG_NODE]: name,
  [TAG_INSTANCE]: instanceId,
  ...(cluster === undefined ? {} : { [TAG_CLUSTER]: cluster }),
});

export const trunkTags = (node: NodeName): Tags => ({ ...ofNode(node), ...TRUNK });

export type BranchTags = Pick<Branch, 'pod' | 'podUid' | 'trunkId' | 'vlanId'>;

export const placeTags = ({ trunkId, vlanId }: Pick<Branch, 'trunkId' | 'vlanId'>): Tags => ({
  [TAG_TRUNK]: trunkId,
  [TAG_VLAN]: String(vlanId),
});

export const branchTags = (node: NodeName, { pod, podUid, trunkId, vlanId }: BranchTags): Tags => ({
  ...ofNode(node),
  ...BRANCH,
  ...placeTags({ trunkId, vlanId }),
  // A tag's value ends at 256 characters; namespace and name have up to 317.
  [TAG_POD]: pod.slice(0, 256),
  [TAG_POD_UID]: podUid,
});

/** Null for what is no branch of ours. */
export function readBranch(eni: EniDescription): Branch | null {
  const { tags } = eni;
  const [podUid, trunkId, vlanId] = [tags[TAG_POD_UID], tags[TAG_TRUNK], Number(tags[TAG_VLAN])];
  if (tags[TAG_PURPOSE] !== 'branch' || !podUid || !trunkId) return null;
  if (!Number.isInteger(vlanId) || vlanId < 1 || vlanId > MAX_VLAN) return null;
  return {
    eniId: eni.id,
    mac: eni.mac,
    ip: eni.addresses[0]?.ip ?? null,
    ip6: eni.ipv6Addresses[0] ?? null,
    subnetId: eni.subnetId,
    groupIds: eni.groupIds,
    podUid,
    pod: tags[TAG_POD] ?? '',
    trunkId: trunkId as EniId,
    vlanId,
    cluster: tags[TAG_CLUSTER],
    association: null,
    looseSince: null,
    orphaned: 0,
  };
}

/** The instance that a trunk was made for. */
export const instanceOfTrunk = (tags: Tags): string | undefined => tags[TAG_INSTANCE];
export const clusterOf = (tags: Tags): string | undefined => tags[TAG_CLUSTER];
