// One step of a plan: the call, and what is then known. A call whose answer was lost is repeated with the same token, and what it
// may have done is found by describes. Fails with CloudError or KubeError; the keeper tells it and tries again.
import { randomUUID } from 'node:crypto';
import type { Clock } from '../../base/clock.ts';
import { type Cloud, CloudError, type EniId, isNotFound, type TrunkCloud } from '../../cloud/port.ts';
import {
  type EventRecorder,
  encodePodEnis,
  isConflict,
  isNotFound as isNotInApi,
  type KubeClient,
  POD_ENI,
  POD_ENI_CAUSE,
  pods,
} from '../../kube/index.ts';
import type { PolicyView } from '../../kube/pod-groups-view.ts';
import type { Branch, BranchPod, Step } from './plan.ts';
import type { BranchRecord } from './record.ts';
import { branchTags, type NodeName, readBranch } from './tags.ts';
import type { Trunk } from './trunks.ts';

/** What EKS's controller writes too. */
const DESCRIPTION = 'aws-k8s-branch-eni';

export type ActorParts = {
  cloud: Pick<Cloud, 'createNetworkInterface' | 'deleteNetworkInterface'> &
    Pick<TrunkCloud, 'associateTrunk' | 'disassociateTrunk' | 'describeTrunkAssociations'>;
  client: Pick<KubeClient, 'patch' | 'get'>;
  events: Pick<EventRecorder, 'record'>;
  policies: Pick<PolicyView, 'groupsOf'>;
  record: BranchRecord;
  clock: Clock;
};

type At = { node: NodeName; trunk: Trunk };

export class Actor {
  readonly #p: ActorParts;
  /** Of associations that EC2 has not answered with certainty. */
  readonly #tokens = new Map<EniId, string>();
  /** How often EC2 took a pod's token for one of another request. */
  readonly #turns = new Map<string, number>();

  constructor(parts: ActorParts) {
    this.#p = parts;
  }

  async create({ node, trunk }: At, pod: BranchPod, signal: AbortSignal): Promise<void> {
    const { cloud, record, policies, clock, events } = this.#p;
    const { namespace, labels, serviceAccount, name, uid } = pod;
    const found = await policies.groupsOf({ namespace, labels, serviceAccountName: serviceAccount }, signal);
    const groupIds = found.groupIds.length > 0 ? found.groupIds : [...trunk.groupIds];
    const from =
      found.policies.length > 0 ? `of ${found.policies.join(', ')}` : 'of the node: no policy selects it';
    const vlans = record.vlansOf(trunk.eniId);
    const vlanId = vlans.take(uid, clock.now());
    if (vlanId === null)
      throw new CloudError('AssociateTrunkInterface', 'AttachmentLimitExceeded', 'no VLAN id is free');
    const turn = this.#turns.get(uid) ?? 0;
    try {
      const eni = await cloud.createNetworkInterface(
        {
          subnetId: trunk.subnet.id,
          groupIds,
          description: DESCRIPTION,
          secondaryCount: 0,
          tags: branchTags(node, {
            pod: `${namespace}/${name}`,
            podUid: uid,
            trunkId: trunk.eniId,
            vlanId,
          }),
          clientToken: `podway-${uid}-${turn}`,
        },
        signal,
      );
      const now = clock.now();
      record.made({ ...readBranch(eni)!, looseSince: now }, now);
      this.#turns.delete(uid);
      const type = found.policies.length > 0 ? 'Normal' : 'Warning';
      events.record(
        podRef(pod),
        type,
        'SecurityGroupRequested',
        `security groups ${groupIds.join(', ')} ${from}`,
      );
    } catch (error) {
      // The groups were others when it was asked first: what was made then is found by describes, and goes.
      if (error instanceof CloudError && error.ec2Code === 'IdempotentParameterMismatch')
        this.#turns.set(uid, turn + 1);
      else if (error instanceof CloudError && !error.uncertain) vlans.end(uid, clock.now());
      throw error;
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

  async annotate({ trunk }: At, pod: BranchPod, branch: Branch, signal: AbortSignal): Promise<void> {
    const { client, events } = this.#p;
    const { eniId, mac, ip } = branch;
    const { id, vlanId } = branch.association!;
    const text = encodePodEnis([
      { eniId, mac, vlanId, ip, ip6: null, subnet: trunk.subnet.cidr, subnet6: null, associationId: id },
    ]);
    const { uid, name, namespace } = pod;
    const patch = { metadata: { uid, annotations: { [POD_ENI]: text, [POD_ENI_CAUSE]: null } } };
    try {
      await client.patch(pods, name, namespace, patch, {}, signal);
      pod.annotated = [eniId];
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
