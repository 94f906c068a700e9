// The trunk of one node: found on the instance, or made and attached at its highest free device index, since agents fill
// from the lowest. Each call is found again after a kill: the trunk bears its instance as a tag. Fails with ENI_LIMIT,
// TRUNK_UNSUPPORTED, CloudError; whoever asks tries again.
import { type Clock, systemClock } from '../../base/clock.ts';
import { PodwayError } from '../../base/errors.ts';
import type { InstanceLimits } from '../../cloud/limits.ts';
import type { Cloud, EniDescription, EniId } from '../../cloud/port.ts';
import { TAG_INSTANCE } from '../../ipam/ec2/tags.ts';
import { type NodeName, TRUNK, trunkTags } from './tags.ts';

export type Trunk = {
  eniId: EniId;
  instanceId: string;
  /** Branches that it takes. */
  limit: number;
  /** Of the primary ENI, as the groups: what a pod gets that no policy selects. */
  subnetId: string;
  vpcId: string;
  zone: string;
  groupIds: readonly string[];
};

/** What EKS's controller writes too. */
const DESCRIPTION = 'aws-k8s-trunk-eni';
/** Between two looks at an attachment (ms), and how many. */
const LOOK_MS = 1_000;
const LOOKS = 30;

export type TrunkParts = {
  cloud: Pick<
    Cloud,
    | 'describeNetworkInterfaces'
    | 'createNetworkInterface'
    | 'attachNetworkInterface'
    | 'setDeleteOnTermination'
  >;
  clock?: Clock;
  /** Told when one is to be made. */
  onMake: () => void;
};

export async function ensureTrunk(
  parts: TrunkParts,
  node: NodeName,
  limits: InstanceLimits,
  signal: AbortSignal,
): Promise<Trunk> {
  const { cloud } = parts;
  const { instanceId } = node;
  if (limits.branchEnis === 0)
    throw new PodwayError(
      'TRUNK_UNSUPPORTED',
      `${node.name} is of type ${limits.instanceType}, which takes no branch interfaces`,
      { object: node.name, limit: 0 },
    );
  const enis = await cloud.describeNetworkInterfaces({ kind: 'instance', instanceId }, signal);
  const primary = enis.find(({ attachment }) => attachment?.deviceIndex === 0);
  if (!primary)
    throw new PodwayError('CLOUD_UNREACHABLE', `EC2 shows no primary ENI of ${instanceId} yet`, {
      object: instanceId,
    });
  const found = enis.find(({ interfaceType }) => interfaceType === 'trunk');
  const trunk = found ?? (await makeTrunk(parts, node, limits, primary, enis, signal));
  const attached = await whenAttached(parts, trunk, instanceId, signal);
  const { id, deleteOnTermination } = attached.attachment!;
  if (!deleteOnTermination) await cloud.setDeleteOnTermination(attached.id, id, signal);
  return {
    eniId: attached.id,
    instanceId,
    limit: limits.branchEnis,
    subnetId: primary.subnetId,
    vpcId: primary.vpcId,
    zone: primary.zone,
    groupIds: primary.groupIds,
  };
}

async function makeTrunk(
  { cloud, onMake, clock = systemClock }: TrunkParts,
  node: NodeName,
  limits: InstanceLimits,
  primary: EniDescription,
  enis: readonly EniDescription[],
  signal: AbortSignal,
): Promise<EniDescription> {
  const { instanceId } = node;
  const onCard = enis.filter(({ attachment }) => attachment?.networkCard === limits.defaultCard);
  if (onCard.length >= limits.enis)
    throw new PodwayError(
      'ENI_LIMIT',
      `${node.name} (${instanceId}, ${limits.instanceType}) holds ${onCard.length} of ${limits.enis} ENIs, and its trunk needs one`,
      { object: instanceId, has: onCard.length, limit: limits.enis },
    );
  const taken = new Set(onCard.map(({ attachment }) => attachment!.deviceIndex));
  let deviceIndex = limits.enis - 1;
  while (taken.has(deviceIndex)) deviceIndex--;
  onMake();
  // One that an earlier try made and did not attach.
  const tags = { ...TRUNK, [TAG_INSTANCE]: instanceId };
  const loose = (await cloud.describeNetworkInterfaces({ kind: 'tags', tags }, signal)).find(
    ({ attachment, interfaceType }) => attachment === null && interfaceType === 'trunk',
  );
  const trunk =
    loose ??
    (await cloud.createNetworkInterface(
      {
        subnetId: primary.subnetId,
        groupIds: primary.groupIds,
        description: DESCRIPTION,
        secondaryCount: 0,
        interfaceType: 'trunk',
        tags: trunkTags(node),
        // Of a minute, since somebody may delete it, and a token stays that one's.
        clientToken: `podway-trunk-${instanceId}-${Math.floor(clock.now() / 60_000)}`,
      },
      signal,
    ));
  await cloud.attachNetworkInterface(
    { eniId: trunk.id, instanceId, deviceIndex, networkCard: limits.defaultCard },
    signal,
  );
  return trunk;
}

async function whenAttached(
  { cloud, clock = systemClock }: TrunkParts,
  trunk: EniDescription,
  instanceId: string,
  signal: AbortSignal,
): Promise<EniDescription> {
  let last = trunk;
  for (let look = 0; look < LOOKS; look++) {
    if (last.attachment?.instanceId === instanceId && last.attachment.status === 'attached') return last;
    if (look > 0) await clock.sleep(LOOK_MS, signal);
    const [seen] = await cloud.describeNetworkInterfaces({ kind: 'ids', ids: [trunk.id] }, signal);
    last = seen ?? last;
  }
  throw new PodwayError(
    'CLOUD_UNREACHABLE',
    `trunk ${trunk.id} is not attached to ${instanceId} after ${(LOOKS * LOOK_MS) / 1000} s`,
    { object: trunk.id },
  );
}
