// Images: RunInstances takes any id of the right form, since an instance of the lab runs no image. DescribeImages knows
// the same ids: those asked for, and unasked those that instances were launched from. All belong to `amazon`.
// Fails with InvalidAMIID.Malformed, as the launch does.
import type * as ec2 from '@aws-sdk/client-ec2';
import type { Context } from '../context.ts';
import { Ec2Error } from '../errors.ts';
import { absent, select } from '../select.ts';
import { architectureOf, ROOT_DEVICE } from './instance-answers.ts';
import type { Meanings } from './types.ts';

/** The account that the alias `amazon` stands for. */
const AMAZON = '137112412989';
const CREATED = '2026-01-01T00:00:00.000Z';

export function checkImageId(id: string): void {
  if (!/^ami-[0-9a-z]+$/.test(id)) {
    const other = id.startsWith('ami-') ? '' : ' (expecting "ami-...")';
    throw new Ec2Error('InvalidAMIID.Malformed', `Invalid id: "${id}"${other}`);
  }
}

function imageAnswer(ctx: Context, id: string): ec2.Image {
  const user = Object.values(ctx.draft.state.instances).find((instance) => instance.imageId === id);
  return {
    ImageId: id,
    ImageLocation: `amazon/podway-lab-${id}`,
    ImageOwnerAlias: 'amazon',
    ImageType: 'machine',
    OwnerId: AMAZON,
    Public: true,
    State: 'available',
    Name: `podway-lab-${id}`,
    Description: 'An image of the lab: its instances run the processes that they are given',
    Architecture: user ? architectureOf(user.instanceType) : 'x86_64',
    CreationDate: CREATED,
    EnaSupport: true,
    Hypervisor: 'xen',
    PlatformDetails: 'Linux/UNIX',
    UsageOperation: 'RunInstances',
    RootDeviceName: ROOT_DEVICE,
    RootDeviceType: 'ebs',
    VirtualizationType: 'hvm',
    BlockDeviceMappings: [],
  };
}

const isOwned = (owners: readonly string[] | undefined): boolean =>
  !owners?.length || owners.some((owner) => owner === 'amazon' || owner === AMAZON);

/** All images are public: everybody (`all`) may launch them, no account is named. */
const isExecutable = (users: readonly string[] | undefined): boolean =>
  !users?.length || users.includes('all');

export const imageActions: Meanings<'DescribeImages'> = {
  DescribeImages: (ctx, input) => {
    const { state } = ctx.draft;
    for (const id of input.ImageIds ?? []) checkImageId(id);
    const used = Object.values(state.instances).map((instance) => instance.imageId);
    const ids = new Set(input.ImageIds?.length ? input.ImageIds : used);
    const shown = isOwned(input.Owners) && isExecutable(input.ExecutableUsers) ? [...ids] : [];
    const { Filters, MaxResults, NextToken } = input;
    const { items, nextToken } = select<ec2.Image>(
      {
        items: shown.map((id) => imageAnswer(ctx, id)),
        idOf: (image) => image.ImageId ?? '',
        tagsOf: () => ({}),
        minPage: 1,
        filters: {
          architecture: (image) => image.Architecture,
          'creation-date': (image) => image.CreationDate,
          description: (image) => image.Description,
          'ena-support': (image) => image.EnaSupport,
          hypervisor: (image) => image.Hypervisor,
          'image-allowed': () => true,
          'image-id': (image) => image.ImageId,
          'image-type': (image) => image.ImageType,
          'is-public': (image) => image.Public,
          'manifest-location': (image) => image.ImageLocation,
          name: (image) => image.Name,
          'owner-alias': (image) => image.ImageOwnerAlias,
          'owner-id': (image) => image.OwnerId,
          'root-device-name': (image) => image.RootDeviceName,
          'root-device-type': (image) => image.RootDeviceType,
          state: (image) => image.State,
          'virtualization-type': (image) => image.VirtualizationType,
          'free-tier-eligible': () => false,
          ...absent(
            'block-device-mapping.delete-on-termination',
            'block-device-mapping.device-name',
            'block-device-mapping.encrypted',
            'block-device-mapping.snapshot-id',
            'block-device-mapping.volume-size',
            'block-device-mapping.volume-type',
            'boot-mode',
            'image-watermark.source-image-creation-time',
            'image-watermark.source-image-id',
            'image-watermark.source-image-region',
            'image-watermark.watermark-creation-time',
            'image-watermark.watermark-key',
            'instance-type-specification.supported-instance-type',
            'instance-type-specification.unsupported-instance-type',
            'kernel-id',
            'platform',
            'product-code',
            'product-code.type',
            'public-ssm-parameter-name',
            'ramdisk-id',
            'scan-result.critical-fix-available-since',
            'scan-result.finding-scan-date',
            'scan-result.high-fix-available-since',
            'scan-result.highest-finding-severity-label',
            'scan-result.informational-fix-available-since',
            'scan-result.low-fix-available-since',
            'scan-result.medium-fix-available-since',
            'source-image-id',
            'source-image-region',
            'source-instance-id',
            'sriov-net-support',
            'state-reason-code',
            'state-reason-message',
          ),
        },
      },
      { Filters, MaxResults, NextToken },
    );
    return { Images: items, ...(nextToken ? { NextToken: nextToken } : {}) };
  },
};
