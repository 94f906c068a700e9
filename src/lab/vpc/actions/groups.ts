// Security groups: create, describe, delete. Actions on their rules are in group-rules.ts.
// Fails with InvalidGroup.Duplicate, InvalidGroup.NotFound, DependencyViolation, CannotDelete.
import type * as ec2 from '@aws-sdk/client-ec2';
import { type Context, need, newId, wordsOf } from '../context.ts';
import { Ec2Error, invalidValue, missing, oneWay, required } from '../errors.ts';
import type { SecurityGroup, SecurityGroupRule } from '../model.ts';
import { absent, type Filters, select } from '../select.ts';
import { peerGroup, permissionsOf } from './rules.ts';
import { tagsOnCreate, tagsWhenAny } from './tags.ts';
import type { Meanings } from './types.ts';
import { defaultEgress } from './vpc-ipv6.ts';
import { vpcOrDefault } from './vpcs.ts';

type Direction = SecurityGroupRule['direction'];

export function groupOf(ctx: Context, id: string | undefined, name: string | undefined): SecurityGroup {
  oneWay({ groupId: id, groupName: name }, 'groupId', 'groupName');
  if (id !== undefined) return need(ctx, 'securityGroups', id);
  if (name === undefined) throw missing('groupId');
  return need(ctx, 'securityGroups', peerGroup(ctx, vpcOrDefault(ctx, undefined).id, undefined, name));
}

const groupAnswer = (ctx: Context, group: SecurityGroup): ec2.SecurityGroup => {
  const { region, accountId } = ctx.draft.state;
  return {
    GroupId: group.id,
    SecurityGroupArn: `arn:aws:ec2:${region}:${accountId}:security-group/${group.id}`,
    GroupName: group.name,
    Description: group.description,
    VpcId: group.vpcId,
    OwnerId: accountId,
    IpPermissions: permissionsOf(accountId, group.rules, 'ingress'),
    IpPermissionsEgress: permissionsOf(accountId, group.rules, 'egress'),
    ...tagsWhenAny(group.tags),
  };
};

/** Filters `ip-permission.…` and `egress.ip-permission.…` of DescribeSecurityGroups. */
function ruleFilters(ctx: Context, prefix: string, direction: Direction): Filters<SecurityGroup> {
  const { state } = ctx.draft;
  const name = (text: string) => `${prefix}ip-permission.${text}`;
  const of = (group: SecurityGroup) => group.rules.filter((rule) => rule.direction === direction);
  const cidrs = (group: SecurityGroup) =>
    of(group).flatMap(({ peer }) => (peer.kind === 'cidr' ? peer.cidr : []));
  const peers = (group: SecurityGroup) =>
    of(group).flatMap(({ peer }) => (peer.kind === 'group' ? peer.groupId : []));
  return {
    [name('cidr')]: (g) => cidrs(g).filter((cidr) => !cidr.includes(':')),
    [name('ipv6-cidr')]: (g) => cidrs(g).filter((cidr) => cidr.includes(':')),
    [name('group-id')]: peers,
    [name('group-name')]: (g) => peers(g).map((id) => state.securityGroups[id]?.name),
    [name('user-id')]: (g) => peers(g).map(() => state.accountId),
    [name('protocol')]: (g) => of(g).map((r) => r.protocol),
    [name('from-port')]: (g) => of(g).map((r) => r.fromPort),
    [name('to-port')]: (g) => of(g).map((r) => r.toPort),
    ...absent(name('prefix-list-id')),
  };
}

export const groupActions: Meanings<
  'CreateSecurityGroup' | 'DescribeSecurityGroups' | 'DeleteSecurityGroup'
> = {
  CreateSecurityGroup: (ctx, input) => {
    const { state } = ctx.draft;
    const name = required(input.GroupName, 'groupName');
    const description = required(input.Description, 'groupDescription');
    const vpc = vpcOrDefault(ctx, input.VpcId);
    if (/^sg-/.test(name) || name.length > 255)
      throw invalidValue(`Invalid value '${name}' for groupName. Group names may not be in the format sg-*.`);
    if (name === 'default')
      throw new Ec2Error('InvalidParameterValue', `Cannot use reserved security group name: default`);
    if (Object.values(state.securityGroups).some((g) => g.vpcId === vpc.id && g.name === name)) {
      throw new Ec2Error(
        'InvalidGroup.Duplicate',
        `The security group '${name}' already exists for VPC '${vpc.id}'`,
      );
    }
    const group: SecurityGroup = {
      id: newId(ctx, 'sg'),
      vpcId: vpc.id,
      name,
      description,
      rules: defaultEgress(ctx, vpc),
      tags: tagsOnCreate(input.TagSpecifications, 'security-group'),
    };
    ctx.draft.put('securityGroups', group.id, group);
    return {
      GroupId: group.id,
      ...tagsWhenAny(group.tags),
      SecurityGroupArn: groupAnswer(ctx, group).SecurityGroupArn,
    };
  },

  DescribeSecurityGroups: (ctx, input) => {
    const all = Object.values(ctx.draft.state.securityGroups);
    const { GroupNames: names } = input;
    // Names are of the default VPC alone; elsewhere the filter group-name finds them.
    const inDefault = names?.length ? vpcOrDefault(ctx, undefined).id : undefined;
    const named = all.filter((g) => g.vpcId === inDefault && names?.includes(g.name));
    for (const name of names ?? []) {
      if (!named.some((g) => g.name === name)) {
        throw new Ec2Error(
          'InvalidGroup.NotFound',
          `The security group '${name}' does not exist in default VPC '${inDefault}'`,
        );
      }
    }
    const { items, nextToken } = select<SecurityGroup>(
      {
        items: names?.length ? named : all,
        idOf: (group) => group.id,
        tagsOf: (group) => group.tags,
        words: wordsOf('securityGroups'),
        filters: {
          'group-id': (group) => group.id,
          'group-name': (group) => group.name,
          'vpc-id': (group) => group.vpcId,
          description: (group) => group.description,
          'owner-id': () => ctx.draft.state.accountId,
          ...ruleFilters(ctx, '', 'ingress'),
          ...ruleFilters(ctx, 'egress.', 'egress'),
        },
      },
      { ...input, ids: input.GroupIds },
    );
    return {
      SecurityGroups: items.map((g) => groupAnswer(ctx, g)),
      ...(nextToken ? { NextToken: nextToken } : {}),
    };
  },

  DeleteSecurityGroup: (ctx, input) => {
    const { state } = ctx.draft;
    const group = groupOf(ctx, input.GroupId, input.GroupName);
    if (group.name === 'default') {
      throw new Ec2Error(
        'CannotDelete',
        `the specified group: "${group.id}" name: "default" cannot be deleted by a user`,
      );
    }
    const refers = (other: SecurityGroup) =>
      other.id !== group.id &&
      other.rules.some((r) => r.peer.kind === 'group' && r.peer.groupId === group.id);
    const used = Object.values(state.networkInterfaces).some((eni) => eni.groupIds.includes(group.id));
    if (used || Object.values(state.securityGroups).some(refers)) {
      throw new Ec2Error('DependencyViolation', `resource ${group.id} has a dependent object`);
    }
    ctx.draft.remove('securityGroups', group.id);
    return { Return: true, GroupId: group.id };
  },
};
