// What is to be done next for the branches of one node: pure, one EC2 or API call a step, decided anew after each. A pod's way
// is create, associate, annotate; a branch's end is disassociate, and delete after the cooldown, so that a pod that goes
// frees its place on the trunk at once while nobody gets its address yet. Invariant: nothing of a pod that runs is taken away, and what no
// pod of the cluster holds goes only when ORPHAN_LOOKS describes in a row have shown it so.

import type { Ipv4, Ipv6 } from '../../base/ip.ts';
import type { Mac } from '../../base/mac.ts';
import type { EniId } from '../../cloud/port.ts';
import type { PodEni } from '../../kube/index.ts';

export const ORPHAN_LOOKS = 2;

export type Branch = {
  readonly eniId: EniId;
  readonly mac: Mac;
  readonly ip: Ipv4 | null;
  readonly ip6: Ipv6 | null;
  readonly subnetId: string;
  readonly groupIds: readonly string[];
  /** Of its tags. */
  readonly podUid: string;
  readonly pod: string;
  readonly trunkId: EniId;
  readonly vlanId: number;
  readonly cluster: string | undefined;
  association: { id: string; trunkId: EniId; vlanId: number } | null;
  /** Since when it is on no trunk (ms); null while it is. */
  looseSince: number | null;
  /** Describes in a row in which no pod of the cluster held it. */
  orphaned: number;
};

export type BranchPod = {
  readonly uid: string;
  readonly namespace: string;
  readonly name: string;
  readonly node: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly serviceAccount: string;
  /** What the annotation says; null: there is none. */
  annotated: readonly PodEni[] | null;
  /** It runs no more: ended, or gone from the API. */
  isOver: boolean;
};

export type NodeWorld = {
  trunkId: EniId;
  limit: number;
  pods: readonly BranchPod[];
  branches: readonly Branch[];
  now: number;
  /** From the trunk to the end of the interface (ms). */
  cooldown: number;
};

export type Step =
  /** `lost`: the branch that somebody deleted and whose place it takes. */
  | { kind: 'create'; pod: BranchPod; lost: PodEni | null }
  | { kind: 'associate'; pod: BranchPod; branch: Branch; heals: boolean }
  | { kind: 'annotate'; pod: BranchPod; branch: Branch }
  | { kind: 'refuse'; pod: BranchPod; used: number; limit: number }
  /** Its tags tell of the trunk and the VLAN id that it had before. */
  | { kind: 'tag'; branch: Branch }
  | { kind: 'disassociate'; branch: Branch }
  | { kind: 'delete'; branch: Branch };

/** What a step is about: one is done at a time of each. */
export const subjectOf = (step: Step): string => ('pod' in step ? step.pod.uid : step.branch.eniId);

export function planNode(world: NodeWorld): Step[] {
  const { trunkId, limit, pods, branches } = world;
  const steps: Step[] = [];
  const kept = new Set<Branch>();
  const live = pods.filter((pod) => !pod.isOver);
  const waiting: BranchPod[] = [];
  for (const pod of live) {
    const mine = branchOf(pod, branches);
    if (mine) kept.add(mine);
    // One that runs comes first.
    if (pod.annotated !== null && !mine) waiting.unshift(pod);
    else if (!mine) waiting.push(pod);
    else if (mine.association && mine.association.trunkId !== trunkId)
      steps.push({ kind: 'disassociate', branch: mine });
    else if (!mine.association)
      steps.push({ kind: 'associate', pod, branch: mine, heals: pod.annotated !== null });
    else if (!isTold(pod, mine)) steps.push({ kind: 'annotate', pod, branch: mine });
    else if (isTaggedOtherwise(mine)) steps.push({ kind: 'tag', branch: mine });
  }
  const ends = endsOf(
    branches.filter((branch) => !kept.has(branch)),
    pods,
    world,
  );
  // A branch that leaves has its place until it has left.
  let used = kept.size + branches.filter((branch) => !kept.has(branch) && branch.association).length;
  for (const pod of waiting) {
    if (used >= limit) {
      steps.push({ kind: 'refuse', pod, used, limit });
      continue;
    }
    steps.push({ kind: 'create', pod, lost: pod.annotated?.[0] ?? null });
    used++;
  }
  return [...ends, ...steps];
}

/** The annotation says how it hangs on the trunk now: who put it back tells the node's agent so. */
const isTold = ({ annotated }: BranchPod, { eniId, association }: Branch): boolean =>
  annotated?.some(
    (one) =>
      one.eniId === eniId && one.associationId === association?.id && one.vlanId === association.vlanId,
  ) ?? false;

const isTaggedOtherwise = ({ trunkId, vlanId, association }: Branch): boolean =>
  association !== null && (association.trunkId !== trunkId || association.vlanId !== vlanId);

/** Of several the one that the pod was told, or one with its address; then one on a trunk, then the first. */
function branchOf(pod: BranchPod, branches: readonly Branch[]): Branch | undefined {
  const mine = branches
    .filter(({ podUid }) => podUid === pod.uid)
    .sort((a, b) => (a.eniId < b.eniId ? -1 : 1));
  const { annotated } = pod;
  if (annotated !== null) {
    const told = new Set<string>(annotated.map(({ eniId }) => eniId));
    return (
      mine.find(({ eniId }) => told.has(eniId)) ??
      mine.find(({ ip, ip6 }) => annotated.some((one) => (one.ip ?? ip) === ip && (one.ip6 ?? ip6) === ip6))
    );
  }
  return mine.find(({ association }) => association) ?? mine[0];
}

/** The end of branches that no live pod has. Of a pod that was seen to end it begins at once. */
export function endsOf(
  branches: readonly Branch[],
  pods: readonly BranchPod[],
  { now, cooldown }: Pick<NodeWorld, 'now' | 'cooldown'>,
): Step[] {
  const known = new Set(pods.map(({ uid }) => uid));
  const steps: Step[] = [];
  for (const branch of branches) {
    if (!known.has(branch.podUid) && branch.orphaned < ORPHAN_LOOKS) continue;
    if (branch.association) steps.push({ kind: 'disassociate', branch });
    else if (branch.looseSince !== null && now - branch.looseSince >= cooldown)
      steps.push({ kind: 'delete', branch });
  }
  return steps;
}
