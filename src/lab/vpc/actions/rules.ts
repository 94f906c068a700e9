// Rules of security groups as values: from and to EC2's IpPermission, one rule per peer.
// Fails with InvalidPermission.Malformed and InvalidParameterValue; knows groups only to check that a peer exists.
import type * as ec2 from '@aws-sdk/client-ec2';
import { formatCidr, parseCidr } from '../../../base/ip.ts';
import { type Context, need } from '../context.ts';
import { conflict, Ec2Error, invalidValue, missing, required } from '../errors.ts';
import type { SecurityGroup, SecurityGroupRule } from '../model.ts';
import { tagList } from './tags.ts';

/** A rule before it has an id. */
export type RuleBody = Omit<SecurityGroupRule, 'id' | 'tags'>;
type Direction = SecurityGroupRule['direction'];

const BY_NUMBER: Record<string, string> = { '1': 'icmp', '6': 'tcp', '17': 'udp', '58': 'icmpv6' };
const noProtocol = (): Ec2Error =>
  invalidValue(
    "Invalid value 'null' for protocol. VPC security group rules must specify protocols explicitly.",
  );
const malformed = (message: string): Ec2Error => new Ec2Error('InvalidPermission.Malformed', message);

function readProtocol(text: string | undefined): string {
  if (text === undefined || text.trim() === '') throw noProtocol();
  const lower = text.toLowerCase();
  if (lower === '-1' || lower === 'all') return '-1';
  if (['tcp', 'udp', 'icmp', 'icmpv6'].includes(lower)) return lower;
  if (/^[0-9]{1,3}$/.test(lower) && Number(lower) <= 255)
    return BY_NUMBER[String(Number(lower))] ?? String(Number(lower));
  throw invalidValue(`Invalid value '${text}' for IP protocol. Unknown protocol.`);
}

function readPorts(
  protocol: string,
  from: number | undefined,
  to: number | undefined,
): { fromPort?: number; toPort?: number } {
  if (protocol === 'tcp' || protocol === 'udp') {
    if (from === undefined || to === undefined)
      throw invalidValue(`Invalid value 'Must specify both from and to ports with TCP/UDP.' for portRange.`);
    const valid = (port: number) => Number.isInteger(port) && port >= 0 && port <= 65_535;
    if (from === -1 && to === -1) return { fromPort: 0, toPort: 65_535 };
    if (!valid(from) || !valid(to) || from > to)
      throw invalidValue(`Invalid TCP/UDP port range (${from}:${to})`);
    return { fromPort: from, toPort: to };
  }
  // ICMP: type and code, -1 for any.
  if (protocol === 'icmp' || protocol === 'icmpv6') {
    const type = from ?? -1;
    const code = to ?? -1;
    if (type < -1 || type > 255 || code < -1 || code > 255 || (type === -1 && code !== -1)) {
      throw invalidValue(`ICMP code (${code}) out of range for type (${type})`);
    }
    return { fromPort: type, toPort: code };
  }
  return {};
}

function readCidr(text: string | undefined, family: 4 | 6): string {
  try {
    const cidr = parseCidr(required(text, 'cidrIp'), { mask: true });
    if ((typeof cidr.ip === 'number' ? 4 : 6) !== family) throw new Error('the other family');
    return formatCidr(cidr);
  } catch (error) {
    if (error instanceof Ec2Error) throw error;
    throw invalidValue(`CIDR block ${text} is malformed`);
  }
}

/** The lab has one account: a group of another one does not exist. */
export function checkOwner(ctx: Context, accountId: string | undefined): void {
  if (accountId !== undefined && accountId !== ctx.draft.state.accountId) {
    throw new Ec2Error('InvalidGroup.NotFound', `The account ${accountId} has no security group in the lab`);
  }
}

/** A group named by id, or by name among the groups of the VPC. */
export function peerGroup(
  ctx: Context,
  vpcId: string,
  id: string | undefined,
  name: string | undefined,
): string {
  if (id !== undefined) {
    need(ctx, 'securityGroups', id);
    return id;
  }
  const group = Object.values(ctx.draft.state.securityGroups).find(
    (g) => g.vpcId === vpcId && g.name === name,
  );
  if (!group)
    throw new Ec2Error('InvalidGroup.NotFound', `The security group '${name ?? ''}' does not exist`);
  return group.id;
}

/** The rules that IpPermissions ask for, one per range and per group. */
export function readPermissions(
  ctx: Context,
  group: SecurityGroup,
  direction: Direction,
  permissions: readonly ec2.IpPermission[],
): RuleBody[] {
  const rules: RuleBody[] = [];
  for (const permission of permissions) {
    const protocol = readProtocol(permission.IpProtocol);
    const ports = readPorts(protocol, permission.FromPort, permission.ToPort);
    const add = (peer: RuleBody['peer'], description: string | undefined) =>
      rules.push({
        direction,
        protocol,
        ...ports,
        peer,
        ...(description === undefined ? {} : { description }),
      });
    const before = rules.length;
    for (const range of permission.IpRanges ?? [])
      add({ kind: 'cidr', cidr: readCidr(range.CidrIp, 4) }, range.Description);
    for (const range of permission.Ipv6Ranges ?? [])
      add({ kind: 'cidr', cidr: readCidr(range.CidrIpv6, 6) }, range.Description);
    for (const pair of permission.UserIdGroupPairs ?? []) {
      checkOwner(ctx, pair.UserId);
      add(
        { kind: 'group', groupId: peerGroup(ctx, group.vpcId, pair.GroupId, pair.GroupName) },
        pair.Description,
      );
    }
    if (rules.length === before) throw malformed('A permission names no range and no group');
  }
  return rules;
}

/** Two rules are the same when all but id, tags and description are. */
export const ruleKey = (rule: RuleBody): string =>
  JSON.stringify([
    rule.direction,
    rule.protocol,
    rule.fromPort ?? null,
    rule.toPort ?? null,
    rule.peer.kind === 'cidr' ? rule.peer.cidr : rule.peer.groupId,
  ]);

/** EC2's words for a rule in its errors. */
export const ruleWords = (rule: RuleBody): string => {
  const peer = rule.peer.kind === 'cidr' ? rule.peer.cidr : rule.peer.groupId;
  const ports = rule.fromPort === undefined ? '' : `, from port: ${rule.fromPort}, to port: ${rule.toPort}`;
  return `"peer: ${peer}, ${rule.protocol === '-1' ? 'ALL' : rule.protocol.toUpperCase()}${ports}, ALLOW"`;
};

const isV6 = (cidr: string): boolean => cidr.includes(':');

/** Rules of one direction gathered by protocol and ports, as DescribeSecurityGroups prints them. */
export function permissionsOf(
  accountId: string,
  rules: readonly SecurityGroupRule[],
  direction: Direction,
): ec2.IpPermission[] {
  const byPorts = new Map<
    string,
    Required<Pick<ec2.IpPermission, 'IpRanges' | 'Ipv6Ranges' | 'UserIdGroupPairs'>> & ec2.IpPermission
  >();
  for (const rule of rules) {
    if (rule.direction !== direction) continue;
    const key = `${rule.protocol}/${rule.fromPort}/${rule.toPort}`;
    let permission = byPorts.get(key);
    if (!permission) {
      permission = {
        IpProtocol: rule.protocol,
        ...(rule.fromPort === undefined ? {} : { FromPort: rule.fromPort, ToPort: rule.toPort }),
        IpRanges: [],
        Ipv6Ranges: [],
        PrefixListIds: [],
        UserIdGroupPairs: [],
      };
      byPorts.set(key, permission);
    }
    const words = rule.description === undefined ? {} : { Description: rule.description };
    if (rule.peer.kind === 'group')
      permission.UserIdGroupPairs?.push({ GroupId: rule.peer.groupId, UserId: accountId, ...words });
    else if (isV6(rule.peer.cidr)) permission.Ipv6Ranges?.push({ CidrIpv6: rule.peer.cidr, ...words });
    else permission.IpRanges?.push({ CidrIp: rule.peer.cidr, ...words });
  }
  return [...byPorts.values()];
}

export function ruleAnswer(
  state: { region: string; accountId: string },
  groupId: string,
  rule: SecurityGroupRule,
): ec2.SecurityGroupRule {
  const { peer } = rule;
  return {
    SecurityGroupRuleId: rule.id,
    SecurityGroupRuleArn: `arn:aws:ec2:${state.region}:${state.accountId}:security-group-rule/${rule.id}`,
    GroupId: groupId,
    GroupOwnerId: state.accountId,
    IsEgress: rule.direction === 'egress',
    IpProtocol: rule.protocol,
    FromPort: rule.fromPort ?? -1,
    ToPort: rule.toPort ?? -1,
    ...(peer.kind === 'group'
      ? { ReferencedGroupInfo: { GroupId: peer.groupId, UserId: state.accountId } }
      : isV6(peer.cidr)
        ? { CidrIpv6: peer.cidr }
        : { CidrIpv4: peer.cidr }),
    ...(rule.description === undefined ? {} : { Description: rule.description }),
    Tags: tagList(rule.tags ?? {}),
  };
}

/** The rule that ModifySecurityGroupRules asks for. */
export function readRuleRequest(
  ctx: Context,
  group: SecurityGroup,
  direction: Direction,
  asked: ec2.SecurityGroupRuleRequest,
): RuleBody {
  const protocol = readProtocol(asked.IpProtocol);
  const peers: RuleBody['peer'][] = [];
  if (asked.CidrIpv4 !== undefined) peers.push({ kind: 'cidr', cidr: readCidr(asked.CidrIpv4, 4) });
  if (asked.CidrIpv6 !== undefined) peers.push({ kind: 'cidr', cidr: readCidr(asked.CidrIpv6, 6) });
  if (asked.ReferencedGroupId !== undefined) {
    peers.push({ kind: 'group', groupId: peerGroup(ctx, group.vpcId, asked.ReferencedGroupId, undefined) });
  }
  if (peers.length === 0) throw missing('cidrIpv4, cidrIpv6 or referencedGroupId');
  if (peers.length > 1)
    throw conflict('Only one of cidrIpv4, cidrIpv6 and referencedGroupId can be specified');
  return {
    direction,
    protocol,
    ...readPorts(protocol, asked.FromPort, asked.ToPort),
    peer: peers[0]!,
    ...(asked.Description === undefined ? {} : { description: asked.Description }),
  };
}
