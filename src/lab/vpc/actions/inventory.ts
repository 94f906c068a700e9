// Objects that the lab never has: key pairs and volumes. Their lists are empty, and naming one gives EC2's NotFound.
// Filters are checked as in EC2, so that a wrong one is still refused.
import { Ec2Error, notFound, resourceWords } from '../errors.ts';
import { absent, type Selection, select } from '../select.ts';
import type { Meanings } from './types.ts';

export const noKeyPair = (names: readonly string[]): Ec2Error =>
  new Ec2Error(
    'InvalidKeyPair.NotFound',
    names.length > 1
      ? `The key pairs '${names.join(', ')}' do not exist`
      : `The key pair '${names[0]}' does not exist`,
  );

/** Checks page and filters of a list that is empty. */
function selectNone(by: Selection, filters: readonly string[]): void {
  select<{ tags: Record<string, string> }>(
    { items: [], idOf: () => '', tagsOf: (item) => item.tags, filters: absent(...filters) },
    by,
  );
}

const KEY_PAIR_FILTERS = ['key-pair-id', 'fingerprint', 'key-name'];
const VOLUME_FILTERS = [
  'attachment.attach-time',
  'attachment.delete-on-termination',
  'attachment.device',
  'attachment.instance-id',
  'attachment.status',
  'availability-zone',
  'availability-zone-id',
  'create-time',
  'encrypted',
  'fast-restored',
  'multi-attach-enabled',
  'operator.managed',
  'operator.principal',
  'size',
  'snapshot-id',
  'status',
  'volume-id',
  'volume-type',
];

export const inventoryActions: Meanings<'DescribeKeyPairs' | 'DescribeVolumes'> = {
  DescribeKeyPairs: (_ctx, input) => {
    if (input.KeyNames?.length) throw noKeyPair(input.KeyNames);
    if (input.KeyPairIds?.length) throw notFound(resourceWords.keyPair, input.KeyPairIds);
    selectNone({ Filters: input.Filters }, KEY_PAIR_FILTERS);
    return { KeyPairs: [] };
  },

  DescribeVolumes: (_ctx, input) => {
    if (input.VolumeIds?.length) throw notFound(resourceWords.volume, input.VolumeIds);
    const { Filters, MaxResults, NextToken } = input;
    selectNone({ Filters, MaxResults, NextToken }, VOLUME_FILTERS);
    return { Volumes: [] };
  },
};
