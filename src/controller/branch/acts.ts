// One step of a plan: the call, and what is then known. A call whose answer was lost is repeated with the same token, and what it
// may have done is found by describes. Fails with CloudError or KubeError; the keeper tells it and tries again.
import { randomUUID } from 'node:crypto';
import type { Clock } from '../../base/clock.ts';
import { PodwayError } from '../../base/errors.ts';
import { formatIp } from '../../base/ip.ts';
import {
  type Cloud,
  CloudError,
  type CreateEni,
  type EniDescription,
  type EniId,
  isNotFound,
  type TrunkCloud,
} from '../../cloud/port.ts';
import {
  type EventRecorder,
  encodePodEnis,
  isConflict,
  isNotFound as isNotInApi,
  type KubeClient,
  POD_ENI,
  POD_ENI_CAUSE,
  type PodEni,
  type PodwayNodeSpec,
  pods,
} from '../../kube/index.ts';
import type { PolicyView } from '../../kube/pod-groups-view.ts';
import type { Branch, BranchPod, Step } from './plan.ts';
import type { BranchRecord } from './record.ts';
import { type Subnets, sixesOf } from './subnets.ts';
import { branchTags, type NodeName, placeTags, readBranch } from './tags.ts';
import type { Trunk } from './trunks.ts';

/** What EKS's controller writes too. */
const DESCRIPTION = 'aws-k8s-branch-eni';

export type ActorParts = {
  subnets: Subnets;
  cloud: Pick<Cloud, 'createNetworkInterface' | 'createTags' | 'deleteNetworkInterface'> &
    Pick<TrunkCloud, 'associateTrunk' | 'disassociateTrunk' | 'describeTrunkAssociations'>;
  client: Pick<KubeClient, 'patch' | 'get'>;
  events: Pick<EventRecorder, 'record'>;
  policies: Pick<PolicyView, 'groupsOf'>;
  record: BranchRecord;
  clock: Clock;
};

/** `newEnis`: as the node's agent has it; absent where there is none. */
export type At = { node: NodeName; trunk: Trunk; newEnis: PodwayNodeSpec['newEnis'] };

export class Actor {
  readonly #p: ActorParts;
  /** Of associations that EC2 has not answered with certainty. */
  readonly #tokens = new Map<EniId, string>();
  /** How often EC2 took a pod's token for one of another request. */
  readonly #turns = new Map<string, number>();

  constructor(parts: ActorParts) {
    this.#p = parts;
  }

  async create(
    { node, trunk, newEnis }: At,
    { pod, lost }: Step & { kind: 'create' },
    signal: AbortSignal,
  ): Promise<void> {
    const { record, policies, clock, events } = this.#p;
    const { namespace, labels, serviceAccount, name, uid } = pod;
    const found = await policies.groupsOf({ namespace, labels, serviceAccountName: serviceAccount }, signal);
    const isSelected = found.policies.length > 0;
    const groupIds = isSelected ? found.groupIds : [...(newEnis?.groups ?? trunk.groupIds)];
    const vlans = record.vlansOf(trunk.eniId);
    const held = lost && vlans.hold(lost.vlanId, uid, clock.now());
    const vlanId = held ? lost.vlanId : vlans.take(uid, clock.now());
    if (vlanId === null)
      throw new CloudError('AssociateTrunkInterface', 'AttachmentLimitExceeded', 'no VLAN id is free');
    const turn = this.#turns.get(uid) ?? 0;
    const request = {
      groupIds,
      description: DESCRIPTION,
      secondaryCount: 0,
      tags: branchTags(node, { pod: `${namespace}/${name}`, podUid: uid, trunkId: trunk.eniId, vlanId }),
      clientToken: lost ? `podway-for-${lost.eniId}-${turn}` : `podway-${uid}-${turn}`,
    };
    try {
      const eni = await (lost
        ? this.#createAs(lost, request, trunk, signal)
        : this.#createWhere(request, { trunk, newEnis }, signal));
      const now = clock.now();
      record.made({ ...readBranch(eni)!, looseSince: now }, now);
      this.#turns.delete(uid);
      events.record(
        podRef(pod),
        isSelected ? 'Normal' : 'Warning',
        'SecurityGroupRequested',
        `security groups ${groupIds.join(', ')} ${isSelected ? `of ${found.policies.join(', ')}` : 'of the node: no policy selects it'}`,
      );
    } catch (error) {
      // The groups were others when it was asked first: what was made then is found by describes, and goes.
      if (error instanceof CloudError && error.ec2Code === 'IdempotentParameterMismatch')
        this.#turns.set(uid, turn + 1);
      else if (error instanceof CloudError && !error.uncertain && !lost) vlans.end(uid, clock.now());
      throw error;
    }
  }

  /** In the first subnet that is not full. */
  async #createWhere(
    request: Omit<CreateEni, 'subnetId'>,
    { trunk, newEnis }: Pick<At, 'trunk' | 'newEnis'>,
    signal: AbortSignal,
  ): Promise<EniDescription> {
    const { cloud, subnets } = this.#p;
    const choices = await subnets.choices(trunk, newEnis, signal);
    for (;;) {
      const { id: subnetId } = choices.shift()!;
      try {
        return await cloud.createNetworkInterface({ ...request, subnetId, ipv6s: sixesOf(newEnis) }, signal);
      } catch (error) {
        const isFull = error instanceof CloudError && error.code === 'SUBNET_EXHAUSTED';
        if (!isFull || choices.length === 0) throw error;
        subnets.noteFull(subnetId);
      }
    }
  }

  /** With the addresses of the one that is gone: the pod has them. */
  async #createAs(
    { eniId, ip, ip6 }: PodEni,
    request: Omit<CreateEni, 'subnetId'>,
    trunk: Trunk,
    signal: AbortSignal,
  ): Promise<EniDescription> {
    const { cloud, subnets } = this.#p;
    const lost = (why: string, cause?: unknown) =>
      new PodwayError(
        'BRANCH_LOST',
        `${eniId} was deleted by somebody else, and its place cannot be taken: ${why}`,
        { object: eniId },
        { cause },
      );
    const subnet = await subnets.around((ip ?? ip6)!, trunk, signal);
    if (!subnet) throw lost(`no subnet of zone ${trunk.zone} has ${formatIp((ip ?? ip6)!)}`);
    try {
      return await cloud.createNetworkInterface(
        {
          ...{ ...request, subnetId: subnet.id },
          ...(ip === null ? {} : { ips: [ip] }),
          ...(ip6 === null ? {} : { ipv6s: [ip6] }),
        },
        signal,
      );
    } catch (error) {
      if (
        !(error instanceof CloudError) ||
        !/InUse|AlreadyAssigned|InvalidParameterValue/.test(error.ec2Code)
      )
        throw error;
      throw lost(error.message, error);
    }
  }

  async associate({ trunk }: At, step: Step & { kind: 'associate' }, signal: AbortSignal): Promise<void> {
    const { cloud, record, clock, events } = this.#p;
    const { branch, pod, heals } = step;
    const { eniId: trunkId } = trunk;
    const vlans = record.vlansOf(trunkId);
    const now = clock.now();
    // What the node was told stays so.
    const vlanId =
      heals && vlans.hold(branch.vlanId, pod.uid, now) ? branch.vlanId : vlans.take(pod.uid, now);
    if (vlanId === null)
      throw new CloudError('AssociateTrunkInterface', 'AttachmentLimitExceeded', 'no VLAN id is free');
    const clientToken = this.#tokens.get(branch.eniId) ?? randomUUID();
    this.#tokens.set(branch.eniId, clientToken);
    let found: NonNullable<Branch['association']>;
    try {
      const id = await cloud.associateTrunk({ trunkId, branchId: branch.eniId, vlanId, clientToken }, signal);
      found = { id, trunkId, vlanId };
    } catch (error) {
      if (!(error instanceof CloudError)) throw error;
      const isDone = error.uncertain || error.ec2Code === 'InvalidNetworkInterface.InUse';
      if (!error.uncertain) this.#tokens.delete(branch.eniId);
      const seen = isDone ? await this.#associationOf(branch, signal) : undefined;
      if (!seen) throw error;
      found = seen;
    }
    this.#tokens.delete(branch.eniId);
    record.associated(branch, found, clock.now());
    if (heals)
      events.record(
        podRef(pod),
        'Warning',
        'BranchAssociationHealed',
        `${branch.eniId} is on ${trunkId} again`,
      );
  }

  async #associationOf({ eniId }: Branch, signal: AbortSignal): Promise<Branch['association'] | undefined> {
    const all = await this.#p.cloud.describeTrunkAssociations(signal);
    const found = all.find(({ branchId }) => branchId === eniId);
    return found && { id: found.id, trunkId: found.trunkId, vlanId: found.vlanId };
  }

  async annotate(
    { newEnis }: At,
    { pod, branch }: Step & { kind: 'annotate' },
    signal: AbortSignal,
  ): Promise<void> {
    const { client, events, subnets } = this.#p;
    const { eniId, mac, ip6 } = branch;
    // Every interface of a subnet with IPv4 has such an address; a pod of IPv6 alone is not to have it.
    const ip = newEnis?.families === 'ipv6' && ip6 !== null ? null : branch.ip;
    const { id, vlanId } = branch.association!;
    const { cidr, ipv6Cidr } = await subnets.find(branch.subnetId, signal);
    const told: PodEni = {
      ...{ eniId, mac, vlanId, ip, ip6, associationId: id },
      subnet: ip === null ? null : cidr,
      subnet6: ip6 === null ? null : ipv6Cidr,
    };
    const text = encodePodEnis([told]);
    const { uid, name, namespace } = pod;
    const patch = { metadata: { uid, annotations: { [POD_ENI]: text, [POD_ENI_CAUSE]: null } } };
    try {
      await client.patch(pods, name, namespace, patch, {}, signal);
      pod.annotated = [told];
      events.record(podRef(pod), 'Normal', 'ResourceAllocated', `${text} is allocated`);
    } catch (error) {
      if (isConflict(error) && !(await this.#isAnother(pod, signal))) throw error;
      if (!isConflict(error) && !isNotInApi(error)) throw error;
      pod.isOver = true;
    }
  }

  /** The API has a pod of the name which is not this one. */
  async #isAnother({ name, namespace, uid }: BranchPod, signal: AbortSignal): Promise<boolean> {
    try {
      return (await this.#p.client.get(pods, name, namespace, signal)).metadata.uid !== uid;
    } catch (error) {
      if (isNotInApi(error)) return true;
      throw error;
    }
  }

  /** Tells why the pod has no branch yet. Never throws. */
  async say(pod: BranchPod, text: string, signal: AbortSignal): Promise<void> {
    const { uid, name, namespace } = pod;
    const patch = { metadata: { uid, annotations: { [POD_ENI_CAUSE]: text } } };
    await this.#p.client.patch(pods, name, namespace, patch, {}, signal).catch(() => undefined);
  }

  async disassociate(branch: Branch, signal: AbortSignal): Promise<void> {
    const { cloud, record, clock } = this.#p;
    await cloud.disassociateTrunk(branch.association!.id, signal).catch(unlessGone);
    record.disassociated(branch, clock.now());
  }

  /** Its tags say where it is now, for whoever looks at EC2 alone. */
  async tag(branch: Branch, signal: AbortSignal): Promise<void> {
    const { cloud, record } = this.#p;
    const { trunkId, vlanId } = branch.association!;
    await cloud.createTags(branch.eniId, placeTags({ trunkId, vlanId }), signal);
    record.tagged(branch, { trunkId, vlanId });
  }

  async delete(branch: Branch, signal: AbortSignal): Promise<void> {
    const { cloud, record, clock } = this.#p;
    await cloud.deleteNetworkInterface(branch.eniId, signal).catch(unlessGone);
    record.deleted(branch, clock.now());
  }
}

function unlessGone(error: unknown): void {
  if (!isNotFound(error)) throw error;
}

export const podRef = ({ namespace, name, uid }: Pick<BranchPod, 'namespace' | 'name' | 'uid'>) => ({
  apiVersion: 'v1',
  kind: 'Pod',
  namespace,
  name,
  uid,
});

export const nodeRef = (name: string) => ({ apiVersion: 'v1', kind: 'Node', name, uid: name });
