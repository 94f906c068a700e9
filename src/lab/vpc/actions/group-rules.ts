// The actions on the rules of security groups. Fails with InvalidPermission.Duplicate, InvalidPermission.NotFound,
// RulesPerSecurityGroupLimitExceeded, and what the reading of a rule fails with (rules.ts).
import type * as ec2 from '@aws-sdk/client-ec2';
import { type Context, need, newId } from '../context.ts';
import { conflict, Ec2Error, missing, notFound, oneWay, required, resourceWords } from '../errors.ts';
import type { SecurityGroup, SecurityGroupRule, Tags } from '../model.ts';
import { select } from '../select.ts';
import { groupOf } from './groups.ts';
import {
  checkOwner,
  peerGroup,
  type RuleBody,
  readPermissions,
  readRuleRequest,
  ruleAnswer,
  ruleKey,
  ruleWords,
} from './rules.ts';
import { tagsOnCreate } from './tags.ts';
import type { Meanings } from './types.ts';

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
  | 'SourceSecurityGroupOwnerId'
  | 'SecurityGroupRuleIds'
  | 'TagSpecifications'
> & { GroupId?: string | undefined };

/** IpPermissions, or the older single-rule parameters of the same request. */
function permissionsAsked(ctx: Context, group: SecurityGroup, input: RuleRequest): ec2.IpPermission[] {
  for (const single of ['IpProtocol', 'CidrIp', 'SourceSecurityGroupName'] as const)
    oneWay(input, 'IpPermissions', single);
  if (input.IpPermissions?.length) return input.IpPermissions;
  if (input.IpProtocol === undefined) throw missing('ipPermissions');
  checkOwner(ctx, input.SourceSecurityGroupOwnerId);
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
  for (const single of ['IpPermissions', 'IpProtocol'] as const)
    oneWay(input, 'SecurityGroupRuleIds', single);
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

/** EC2 reads the groups named by a filter as ids, and refuses a malformed one. */
function checkGroupIds(filters: readonly ec2.Filter[] | undefined): void {
  const { malformed, prefix } = resourceWords.securityGroup;
  for (const filter of filters ?? []) {
    if (filter.Name !== 'group-id') continue;
    for (const id of filter.Values ?? []) {
      if (!id.startsWith(`${prefix}-`))
        throw new Ec2Error(malformed, `The security group ID '${id}' is malformed`);
    }
  }
}

export const ruleActions: Meanings<
  | 'AuthorizeSecurityGroupIngress'
  | 'AuthorizeSecurityGroupEgress'
  | 'RevokeSecurityGroupIngress'
  | 'RevokeSecurityGroupEgress'
  | 'DescribeSecurityGroupRules'
  | 'ModifySecurityGroupRules'
  | 'UpdateSecurityGroupRuleDescriptionsIngress'
  | 'UpdateSecurityGroupRuleDescriptionsEgress'
> = {
  AuthorizeSecurityGroupIngress: (ctx, input) => authorize(ctx, input, 'ingress'),
  AuthorizeSecurityGroupEgress: (ctx, input) => authorize(ctx, input, 'egress'),
  RevokeSecurityGroupIngress: (ctx, input) => revoke(ctx, input, 'ingress'),
  RevokeSecurityGroupEgress: (ctx, input) => revoke(ctx, input, 'egress'),
  UpdateSecurityGroupRuleDescriptionsIngress: (ctx, input) => describeRules(ctx, input, 'ingress'),
  UpdateSecurityGroupRuleDescriptionsEgress: (ctx, input) => describeRules(ctx, input, 'egress'),

  DescribeSecurityGroupRules: (ctx, input) => {
    const { state } = ctx.draft;
    checkGroupIds(input.Filters);
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
