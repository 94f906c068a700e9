// Security groups and the actions on their rules. Fails with InvalidGroup.Duplicate, InvalidPermission.Duplicate,
// InvalidPermission.NotFound, RulesPerSecurityGroupLimitExceeded, DependencyViolation, CannotDelete.
import type * as ec2 from '@aws-sdk/client-ec2';
import { type Context, need, newId, wordsOf } from '../context.ts';
import { conflict, Ec2Error, invalidValue, missing, notFound, required, resourceWords } from '../errors.ts';
import type { SecurityGroup, SecurityGroupRule, Tags } from '../model.ts';
import { select } from '../select.ts';
import {
  peerGroup,
  permissionsOf,
  type RuleBody,
  readPermissions,
  readRuleRequest,
  ruleAnswer,
  ruleKey,
  ruleWords,
} from './rules.ts';
import { tagList, tagsOnCreate } from './tags.ts';
import type { Meanings } from './types.ts';
import { vpcOrDefault } from './vpcs.ts';

type Direction = SecurityGroupRule['direction'];
/** EC2's default, per direction. */
const MAX_RULES = 60;

type RuleRequest = Pick<
  ec2.AuthorizeSecurityGroupIngressRequest & ec2.RevokeSecurityGroupIngressRequest,
  | 'GroupName'
  | 'IpPermissions'
  | 'IpProtocol'
  | 'FromPort'
  | 'ToPort'
  | 'CidrIp'
  | 'SourceSecurityGroupName'
  | 'SecurityGroupRuleIds'
  | 'TagSpecifications'
> & { GroupId?: string | undefined };

function groupOf(ctx: Context, id: string | undefined, name: string | undefined): SecurityGroup {
  if (id !== undefined) return need(ctx, 'securityGroups', id);
  if (name === undefined) throw missing('groupId');
  return need(ctx, 'securityGroups', peerGroup(ctx, vpcOrDefault(ctx, undefined).id, undefined, name));
}

/** IpPermissions, or the older single-rule parameters of the same request. */
function permissionsAsked(ctx: Context, group: SecurityGroup, input: RuleRequest): ec2.IpPermission[] {
  if (input.IpPermissions?.length) return input.IpPermissions;
  if (input.IpProtocol === undefined) throw missing('ipPermissions');
  const source = input.SourceSecurityGroupName;
  return [
    {
      IpProtocol: input.IpProtocol,
      FromPort: input.FromPort,
      ToPort: input.ToPort,
      ...(input.CidrIp === undefined ? {} : { IpRanges: [{ CidrIp: input.CidrIp }] }),
      ...(source === undefined
        ? {}
        : { UserIdGroupPairs: [{ GroupId: peerGroup(ctx, group.vpcId, undefined, source) }] }),
    },
  ];
}

const setRules = (ctx: Context, group: SecurityGroup, rules: SecurityGroupRule[]): void =>
  ctx.draft.put('securityGroups', group.id, { ...group, rules });

function authorize(
  ctx: Context,
  input: RuleRequest,
  direction: Direction,
): ec2.AuthorizeSecurityGroupIngressResult {
  const group = groupOf(ctx, input.GroupId, input.GroupName);
  const bodies = readPermissions(ctx, group, direction, permissionsAsked(ctx, group, input));
  const tags = tagsOnCreate(input.TagSpecifications, 'security-group-rule');
  const rules = addRules(ctx, group, bodies, tags);
  return {
    Return: true,
    SecurityGroupRules: rules.map((rule) => ruleAnswer(ctx.draft.state, group.id, rule)),
  };
}

function addRules(
  ctx: Context,
  group: SecurityGroup,
  bodies: readonly RuleBody[],
  tags: Tags,
): SecurityGroupRule[] {
  const known = new Set(group.rules.map(ruleKey));
  const added = bodies.map((body) => {
    if (known.has(ruleKey(body))) {
      throw new Ec2Error(
        'InvalidPermission.Duplicate',
        `the specified rule ${ruleWords(body)} already exists`,
      );
    }
    known.add(ruleKey(body));
    return { id: newId(ctx, 'sgr'), ...body, ...(Object.keys(tags).length ? { tags } : {}) };
  });
  const rules = [...group.rules, ...added];
  for (const direction of ['ingress', 'egress'] as const) {
    const count = rules.filter((rule) => rule.direction === direction).length;
    if (count > MAX_RULES) {
      throw new Ec2Error(
        'RulesPerSecurityGroupLimitExceeded',
        `The maximum number of rules per security group has been reached. (${group.id} would have ${count} ${direction} rules, the limit is ${MAX_RULES})`,
      );
    }
  }
  setRules(ctx, group, rules);
  return added;
}

function revoke(
  ctx: Context,
  input: RuleRequest,
  direction: Direction,
): ec2.RevokeSecurityGroupIngressResult {
  const group = groupOf(ctx, input.GroupId, input.GroupName);
  const { SecurityGroupRuleIds: ids = [] } = input;
  let doomed: SecurityGroupRule[];
  if (ids.length) {
    const rules = group.rules.filter((rule) => rule.direction === direction && ids.includes(rule.id));
    const absent = ids.filter((id) => !rules.some((rule) => rule.id === id));
    if (absent.length) throw notFound(resourceWords.securityGroupRule, absent);
    doomed = rules;
  } else {
    const bodies = readPermissions(ctx, group, direction, permissionsAsked(ctx, group, input));
    doomed = bodies.map((body) => {
      const rule = group.rules.find((r) => ruleKey(r) === ruleKey(body));
      if (!rule)
        throw new Ec2Error(
          'InvalidPermission.NotFound',
          'The specified rule does not exist in this security group.',
        );
      return rule;
    });
  }
  setRules(
    ctx,
    group,
    group.rules.filter((rule) => !doomed.includes(rule)),
  );
  return {
    Return: true,
    RevokedSecurityGroupRules: doomed.map((rule) => {
      const whole = ruleAnswer(ctx.draft.state, group.id, rule);
      const {
        GroupOwnerId: _o,
        ReferencedGroupInfo: peer,
        Tags: _t,
        SecurityGroupRuleArn: _a,
        ...plain
      } = whole;
      return { ...plain, ...(peer?.GroupId === undefined ? {} : { ReferencedGroupId: peer.GroupId }) };
    }),
  };
}

function describeRules(
  ctx: Context,
  input: ec2.UpdateSecurityGroupRuleDescriptionsIngressRequest,
  direction: Direction,
): { Return: boolean } {
  const group = groupOf(ctx, input.GroupId, input.GroupName);
  const texts = new Map<string, string | undefined>();
  for (const one of input.SecurityGroupRuleDescriptions ?? []) {
    texts.set(required(one.SecurityGroupRuleId, 'securityGroupRuleId'), one.Description);
  }
  const bodies = input.IpPermissions?.length
    ? readPermissions(ctx, group, direction, input.IpPermissions)
    : [];
  for (const body of bodies) {
    const rule = group.rules.find((r) => ruleKey(r) === ruleKey(body));
    if (!rule)
      throw new Ec2Error(
        'InvalidPermission.NotFound',
        'The specified rule does not exist in this security group.',
      );
    texts.set(rule.id, body.description);
  }
  const absent = [...texts.keys()].filter(
    (id) => !group.rules.some((r) => r.id === id && r.direction === direction),
  );
  if (absent.length) throw notFound(resourceWords.securityGroupRule, absent);
  setRules(
    ctx,
    group,
    group.rules.map(({ description, ...rule }) => {
      const text = texts.has(rule.id) ? texts.get(rule.id) : description;
      return { ...rule, ...(text === undefined ? {} : { description: text }) };
    }),
  );
  return { Return: true };
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
    Tags: tagList(group.tags),
  };
};

/** Filters `ip-permission.…` and `egress.ip-permission.…` of DescribeSecurityGroups. */
const ruleFilters = (prefix: string, direction: Direction) => {
  const of = (group: SecurityGroup) => group.rules.filter((rule) => rule.direction === direction);
  return {
    [`${prefix}ip-permission.cidr`]: (g: SecurityGroup) =>
      of(g).map((r) => (r.peer.kind === 'cidr' ? r.peer.cidr : undefined)),
    [`${prefix}ip-permission.group-id`]: (g: SecurityGroup) =>
      of(g).map((r) => (r.peer.kind === 'group' ? r.peer.groupId : undefined)),
    [`${prefix}ip-permission.protocol`]: (g: SecurityGroup) => of(g).map((r) => r.protocol),
    [`${prefix}ip-permission.from-port`]: (g: SecurityGroup) => of(g).map((r) => r.fromPort),
    [`${prefix}ip-permission.to-port`]: (g: SecurityGroup) => of(g).map((r) => r.toPort),
  };
};

export const groupActions: Meanings<
  | 'CreateSecurityGroup'
  | 'DescribeSecurityGroups'
  | 'DeleteSecurityGroup'
  | 'AuthorizeSecurityGroupIngress'
  | 'AuthorizeSecurityGroupEgress'
  | 'RevokeSecurityGroupIngress'
  | 'RevokeSecurityGroupEgress'
  | 'DescribeSecurityGroupRules'
  | 'ModifySecurityGroupRules'
  | 'UpdateSecurityGroupRuleDescriptionsIngress'
  | 'UpdateSecurityGroupRuleDescriptionsEgress'
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
      rules: [
        {
          id: newId(ctx, 'sgr'),
          direction: 'egress',
          protocol: '-1',
          peer: { kind: 'cidr', cidr: '0.0.0.0/0' },
        },
      ],
      tags: tagsOnCreate(input.TagSpecifications, 'security-group'),
    };
    ctx.draft.put('securityGroups', group.id, group);
    return {
      GroupId: group.id,
      Tags: tagList(group.tags),
      SecurityGroupArn: groupAnswer(ctx, group).SecurityGroupArn,
    };
  },

  DescribeSecurityGroups: (ctx, input) => {
    const all = Object.values(ctx.draft.state.securityGroups);
    const { GroupNames: names } = input;
    for (const name of names ?? []) {
      if (!all.some((g) => g.name === name))
        throw new Ec2Error('InvalidGroup.NotFound', `The security group '${name}' does not exist`);
    }
    const { items, nextToken } = select<SecurityGroup>(
      {
        items: names?.length ? all.filter((g) => names.includes(g.name)) : all,
        idOf: (group) => group.id,
        tagsOf: (group) => group.tags,
        words: wordsOf('securityGroups'),
        filters: {
          'group-id': (group) => group.id,
          'group-name': (group) => group.name,
          'vpc-id': (group) => group.vpcId,
          description: (group) => group.description,
          'owner-id': () => ctx.draft.state.accountId,
          ...ruleFilters('', 'ingress'),
          ...ruleFilters('egress.', 'egress'),
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

  AuthorizeSecurityGroupIngress: (ctx, input) => authorize(ctx, input, 'ingress'),
  AuthorizeSecurityGroupEgress: (ctx, input) => authorize(ctx, input, 'egress'),
  RevokeSecurityGroupIngress: (ctx, input) => revoke(ctx, input, 'ingress'),
  RevokeSecurityGroupEgress: (ctx, input) => revoke(ctx, input, 'egress'),
  UpdateSecurityGroupRuleDescriptionsIngress: (ctx, input) => describeRules(ctx, input, 'ingress'),
  UpdateSecurityGroupRuleDescriptionsEgress: (ctx, input) => describeRules(ctx, input, 'egress'),

  DescribeSecurityGroupRules: (ctx, input) => {
    const { state } = ctx.draft;
    type Row = { groupId: string; rule: SecurityGroupRule };
    const { items, nextToken } = select<Row>(
      {
        items: Object.values(state.securityGroups).flatMap((g) =>
          g.rules.map((rule) => ({ groupId: g.id, rule })),
        ),
        idOf: (row) => row.rule.id,
        tagsOf: (row) => row.rule.tags ?? {},
        words: resourceWords.securityGroupRule,
        filters: { 'group-id': (row) => row.groupId, 'security-group-rule-id': (row) => row.rule.id },
      },
      { ...input, ids: input.SecurityGroupRuleIds },
    );
    return {
      SecurityGroupRules: items.map((row) => ruleAnswer(state, row.groupId, row.rule)),
      ...(nextToken ? { NextToken: nextToken } : {}),
    };
  },

  ModifySecurityGroupRules: (ctx, input) => {
    const group = need(ctx, 'securityGroups', required(input.GroupId, 'groupId'));
    let rules = group.rules;
    for (const update of required(input.SecurityGroupRules, 'securityGroupRule')) {
      const id = required(update.SecurityGroupRuleId, 'securityGroupRuleId');
      const old = rules.find((rule) => rule.id === id);
      if (!old) throw notFound(resourceWords.securityGroupRule, [id]);
      const body = readRuleRequest(
        ctx,
        group,
        old.direction,
        required(update.SecurityGroupRule, 'securityGroupRule'),
      );
      if (rules.some((rule) => rule.id !== id && ruleKey(rule) === ruleKey(body))) {
        throw new Ec2Error(
          'InvalidPermission.Duplicate',
          `the specified rule ${ruleWords(body)} already exists`,
        );
      }
      if (body.peer.kind !== old.peer.kind) throw conflict('The kind of a rule cannot be changed');
      rules = rules.map((rule) =>
        rule.id === id ? { id, ...body, ...(old.tags ? { tags: old.tags } : {}) } : rule,
      );
    }
    setRules(ctx, group, rules);
    return { Return: true };
  },
};
