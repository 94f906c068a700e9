// Tags: on create, afterwards, and their own Describe. A tag lives on the object that it names.
// Fails with TagLimitExceeded, InvalidParameterValue, and the NotFound of the object's kind.
import type * as ec2 from '@aws-sdk/client-ec2';
import type { Context, Draft } from '../context.ts';
import { type IdTable, need } from '../context.ts';
import { Ec2Error, invalidValue, notFound, required, resourceWords } from '../errors.ts';
import type { Tags } from '../model.ts';
import { select } from '../select.ts';
import type { Meanings } from './types.ts';

const MAX_TAGS = 50;
const MAX_KEY = 128;
const MAX_VALUE = 256;

export const tagList = (tags: Tags): ec2.Tag[] =>
  Object.entries(tags).map(([Key, Value]) => ({ Key, Value }));

/** Of the kinds that say nothing of tags when they have none: instances, VPCs, subnets, groups. */
export const tagsWhenAny = (tags: Tags): { Tags?: ec2.Tag[] } =>
  Object.keys(tags).length === 0 ? {} : { Tags: tagList(tags) };

function readTags(list: readonly ec2.Tag[] | undefined): Tags {
  const tags: Tags = {};
  for (const { Key: key, Value: value = '' } of list ?? []) {
    if (key === undefined || key === '') throw invalidValue('Tag key cannot be empty');
    if (key.length > MAX_KEY)
      throw invalidValue(`Tag key exceeds the maximum length of ${MAX_KEY} characters`);
    if (value.length > MAX_VALUE)
      throw invalidValue(`Tag value exceeds the maximum length of ${MAX_VALUE} characters`);
    if (/^aws:/i.test(key)) throw invalidValue(`Tag keys starting with 'aws:' are reserved for internal use`);
    if (Object.hasOwn(tags, key)) throw invalidValue(`Duplicate tag key '${key}' specified.`);
    // defineProperty: "__proto__" is a legal key of a tag.
    Object.defineProperty(tags, key, { value, enumerable: true, configurable: true, writable: true });
  }
  return checkCount(tags);
}

function checkCount(tags: Tags): Tags {
  const count = Object.keys(tags).length;
  if (count > MAX_TAGS) throw new Ec2Error('TagLimitExceeded', `${count} tags, the limit is ${MAX_TAGS}`);
  return tags;
}

/** The tags of a TagSpecification.N for one kind; a kind that the action does not make is refused. */
export function tagsOnCreate(
  specifications: readonly ec2.TagSpecification[] | undefined,
  kind: string,
  alsoAllowed: readonly string[] = [],
): Tags {
  const list: ec2.Tag[] = [];
  for (const { ResourceType: type, Tags: tags } of specifications ?? []) {
    if (type === kind) list.push(...(tags ?? []));
    else if (type === undefined || !alsoAllowed.includes(type)) {
      throw invalidValue(`'${type}' is not a valid taggable resource type for this operation.`);
    }
  }
  return readTags(list);
}

type Tagged = { id: string; kind: string; tags: Tags; write: (tags: Tags) => void };

type TaggedTable = Exclude<IdTable, 'trunkAssociations' | 'interfacePermissions'>;
const BY_PREFIX: Record<string, { table: TaggedTable; kind: string }> = {
  vpc: { table: 'vpcs', kind: 'vpc' },
  subnet: { table: 'subnets', kind: 'subnet' },
  scr: { table: 'subnetCidrReservations', kind: 'subnet-cidr-reservation' },
  rtb: { table: 'routeTables', kind: 'route-table' },
  igw: { table: 'internetGateways', kind: 'internet-gateway' },
  nat: { table: 'natGateways', kind: 'natgateway' },
  eigw: { table: 'egressOnlyInternetGateways', kind: 'egress-only-internet-gateway' },
  sg: { table: 'securityGroups', kind: 'security-group' },
  eni: { table: 'networkInterfaces', kind: 'network-interface' },
  i: { table: 'instances', kind: 'instance' },
};

function taggedObject(ctx: Context, id: string): Tagged {
  const prefix = id.slice(0, id.lastIndexOf('-'));
  const place = Object.hasOwn(BY_PREFIX, prefix) ? BY_PREFIX[prefix] : undefined;
  if (place) {
    const row = need(ctx, place.table, id);
    // The row came from that table, so it goes back as that table's type.
    const put = ctx.draft.put.bind(ctx.draft) as (table: string, key: string, row: unknown) => void;
    return { id, kind: place.kind, tags: row.tags, write: (tags) => put(place.table, id, { ...row, tags }) };
  }
  if (prefix === 'eipalloc') {
    const address = Object.values(ctx.draft.state.publicAddresses).find((a) => a.allocationId === id);
    if (!address) throw notFound(resourceWords.allocation, [id]);
    const write = (tags: Tags) => ctx.draft.put('publicAddresses', address.publicIp, { ...address, tags });
    return { id, kind: 'elastic-ip', tags: address.tags, write };
  }
  if (prefix === 'sgr') return taggedRule(ctx.draft, id);
  throw new Ec2Error('InvalidID', `The ID '${id}' is not valid`);
}

function taggedRule(draft: Draft, id: string): Tagged {
  const group = Object.values(draft.state.securityGroups).find((g) => g.rules.some((rule) => rule.id === id));
  const rule = group?.rules.find((r) => r.id === id);
  if (!group || !rule) throw notFound(resourceWords.securityGroupRule, [id]);
  const write = (tags: Tags) => {
    const rules = group.rules.map((r) => (r.id === id ? { ...r, tags } : r));
    draft.put('securityGroups', group.id, { ...group, rules });
  };
  return { id, kind: 'security-group-rule', tags: rule.tags ?? {}, write };
}

type TagRow = { id: string; kind: string; key: string; value: string };

function allTags(ctx: Context): TagRow[] {
  const rows: TagRow[] = [];
  const add = (id: string, kind: string, tags: Tags) => {
    for (const [key, value] of Object.entries(tags)) rows.push({ id, kind, key, value });
  };
  for (const { table, kind } of Object.values(BY_PREFIX)) {
    for (const row of Object.values(ctx.draft.state[table])) add(row.id, kind, row.tags);
  }
  for (const a of Object.values(ctx.draft.state.publicAddresses))
    if (a.allocationId) add(a.allocationId, 'elastic-ip', a.tags);
  for (const group of Object.values(ctx.draft.state.securityGroups)) {
    for (const rule of group.rules) add(rule.id, 'security-group-rule', rule.tags ?? {});
  }
  return rows;
}

export const tagActions: Meanings<'CreateTags' | 'DeleteTags' | 'DescribeTags'> = {
  CreateTags: (ctx, input) => {
    const added = readTags(required(input.Tags, 'tagSet'));
    for (const id of required(input.Resources, 'resourceIdSet')) {
      const object = taggedObject(ctx, id);
      object.write(checkCount({ ...object.tags, ...added }));
    }
    return {};
  },

  DeleteTags: (ctx, input) => {
    for (const id of required(input.Resources, 'resourceIdSet')) {
      const object = taggedObject(ctx, id);
      const kept = Object.entries(object.tags).filter(
        ([key, value]) =>
          // No list removes all; a tag with a value is removed only if it has that value.
          input.Tags?.length &&
          !input.Tags.some((tag) => tag.Key === key && (tag.Value === undefined || tag.Value === value)),
      );
      object.write(Object.fromEntries(kept));
    }
    return {};
  },

  DescribeTags: (ctx, input) => {
    const { items, nextToken } = select<TagRow>(
      {
        items: allTags(ctx),
        idOf: (row) => `${row.id}/${row.key}`,
        filters: {
          key: (row) => row.key,
          value: (row) => row.value,
          'resource-id': (row) => row.id,
          'resource-type': (row) => row.kind,
        },
      },
      tagFilters(input),
    );
    return {
      Tags: items.map((row) => ({
        ResourceId: row.id,
        ResourceType: row.kind as ec2.ResourceType,
        Key: row.key,
        Value: row.value,
      })),
      ...(nextToken ? { NextToken: nextToken } : {}),
    };
  },
};

/** DescribeTags knows `tag:KEY` as "a tag of that key with that value". */
function tagFilters(input: ec2.DescribeTagsRequest): ec2.DescribeTagsRequest {
  const Filters = input.Filters?.flatMap((filter) =>
    filter.Name?.startsWith('tag:')
      ? [
          { Name: 'key', Values: [filter.Name.slice(4)] },
          { Name: 'value', Values: filter.Values },
        ]
      : [filter],
  );
  return { ...input, ...(Filters ? { Filters } : {}) };
}
