// Security groups as nft chains: one pair per distinct set of groups that some ENI has. A chain accepts what a rule
// of any of its groups allows and falls off its end otherwise, where the packet is dropped. Pure: values to text.
// An accept of the egress chain is a `goto` to the receiver's gate, so it can never skip that one.
import { createHash } from 'node:crypto';
import { parseCidr } from '../../base/ip.ts';
import type { SecurityGroup, SecurityGroupRule } from '../vpc/model.ts';
import { EGRESS_UNTRACKED, INGRESS_UNTRACKED } from './names.ts';

export type Direction = SecurityGroupRule['direction'];
export type Chain = { name: string; rules: string[] };

/** Where an accepted packet of the sender's gate goes on. */
export const RECEIVER_CHAIN = 'receiver';

export const membersSet = (groupId: string): string => `members_${word(groupId)}`;
/** The /80 prefixes of a group's members, by their first address. */
export const memberPrefixesSet = (groupId: string): string => `prefixes_${word(groupId)}`;
/** nft's mask of a /80. */
export const PREFIX_MASK = 'ffff:ffff:ffff:ffff:ffff::';
const word = (id: string): string => id.replaceAll(/[^A-Za-z0-9]/g, '_');

/** More groups than this would leave nft's 255 characters for a name. */
const NAMED_GROUPS = 4;

/** Name of the set of groups, the same for any order: the groups' own names, or a hash of many. */
function setName(groupIds: readonly string[]): string {
  const words = [...groupIds].sort().map(word);
  if (words.length <= NAMED_GROUPS) return words.join('__');
  return `${words.length}_groups_${createHash('sha256').update(words.join()).digest('hex').slice(0, 16)}`;
}

export const chainName = (direction: Direction, groupIds: readonly string[]): string =>
  `${direction === 'egress' ? 'from' : 'to'}_${setName(groupIds)}`;

const PROTOCOLS: Readonly<Record<string, number>> = { icmp: 1, tcp: 6, udp: 17, icmpv6: 58 };

/** IP protocol number; null for all. */
export function protocolOf(rule: SecurityGroupRule): number | null {
  if (rule.protocol === '-1' || rule.protocol === 'all') return null;
  return PROTOCOLS[rule.protocol] ?? Number(rule.protocol);
}

const isIpv6Rule = (rule: SecurityGroupRule): boolean =>
  rule.peer.kind === 'cidr' && rule.peer.cidr.includes(':');
/** From or to every address of its family. */
const isAnywhere = (rule: SecurityGroupRule): boolean =>
  rule.peer.kind === 'cidr' && parseCidr(rule.peer.cidr, { mask: true }).length === 0;
const isOfFamily = (rule: SecurityGroupRule, family: 4 | 6): boolean =>
  rule.peer.kind === 'group' || isIpv6Rule(rule) === (family === 6);

/** All of the protocol's ports. */
function isAllPorts(rule: SecurityGroupRule): boolean {
  const from = rule.fromPort ?? -1;
  const to = rule.toPort ?? -1;
  return protocolOf(rule) === null || from === -1 || (from === 0 && to === 65535);
}

/** nft's match for protocol and ports; empty for everything. */
function protocolMatch(rule: SecurityGroupRule): string {
  const protocol = protocolOf(rule);
  if (protocol === null) return '';
  if (protocol === PROTOCOLS['tcp'] || protocol === PROTOCOLS['udp']) {
    const name = protocol === PROTOCOLS['tcp'] ? 'tcp' : 'udp';
    if (isAllPorts(rule)) return `meta l4proto ${name} `;
    const to = rule.toPort ?? rule.fromPort;
    return `${name} dport ${rule.fromPort === to ? to : `${rule.fromPort}-${to}`} `;
  }
  if (protocol === PROTOCOLS['icmp']) {
    const type = rule.fromPort ?? -1;
    const code = rule.toPort ?? -1;
    if (type === -1) return 'meta l4proto icmp ';
    return `icmp type ${type} ${code === -1 ? '' : `icmp code ${code} `}`;
  }
  if (protocol === PROTOCOLS['icmpv6'] && isIpv6Rule(rule)) {
    const type = rule.fromPort ?? -1;
    const code = rule.toPort ?? -1;
    if (type === -1) return 'meta l4proto ipv6-icmp ';
    return `icmpv6 type ${type} ${code === -1 ? '' : `icmpv6 code ${code} `}`;
  }
  return `meta l4proto ${protocol} `;
}

/** The matches of a rule's peer: more than one where members are known by address and by prefix. */
function peerMatches(rule: SecurityGroupRule, family: 4 | 6): string[] {
  const side = rule.direction === 'egress' ? 'daddr' : 'saddr';
  if (rule.peer.kind !== 'group')
    return isAnywhere(rule) ? [''] : [`${family === 4 ? 'ip' : 'ip6'} ${side} ${rule.peer.cidr} `];
  const { groupId } = rule.peer;
  if (family === 4) return [`ip ${side} @${membersSet(groupId)} `];
  return [
    `ip6 ${side} @${membersSet(groupId)} `,
    `ip6 ${side} & ${PREFIX_MASK} @${memberPrefixesSet(groupId)} `,
  ];
}

/**
 * Protocols that AWS does not track when a rule of the other direction lets them through from or to anywhere: a rule
 * for all traffic that lets the responses out (or in) whatever their port. ICMP is always tracked.
 * https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/security-group-connection-tracking.html#untracked-connections
 */
function openProtocols(rules: readonly SecurityGroupRule[]): Set<number> {
  const open = new Set<number>();
  for (const rule of rules) {
    if (!isAnywhere(rule) || !isAllPorts(rule)) continue;
    const protocol = protocolOf(rule);
    for (const one of [6, 17]) if (protocol === null || protocol === one) open.add(one);
  }
  return open;
}

/** The rule's protocols whose flows AWS would not track, given what the other direction leaves open. */
function untracked(rule: SecurityGroupRule, open: ReadonlySet<number>): number[] {
  if (!isAnywhere(rule)) return [];
  const protocol = protocolOf(rule);
  return [...open].filter((one) => protocol === null || protocol === one).sort((a, b) => a - b);
}

/** The chain of one direction for ENIs with exactly these groups; groups that are not there add nothing. */
export function gateChain(
  direction: Direction,
  groupIds: readonly string[],
  groups: Readonly<Record<string, SecurityGroup>>,
  family: 4 | 6 = 4,
): Chain {
  const all = [...groupIds]
    .sort()
    .flatMap((id) => groups[id]?.rules ?? [])
    .filter((rule) => isOfFamily(rule, family));
  const open = openProtocols(all.filter((rule) => rule.direction !== direction));
  const accept = direction === 'egress' ? `goto ${RECEIVER_CHAIN}` : 'accept';
  const bit = direction === 'egress' ? EGRESS_UNTRACKED : INGRESS_UNTRACKED;
  const lines = new Set<string>();
  for (const rule of all) {
    if (rule.direction !== direction) continue;
    for (const peer of peerMatches(rule, family)) {
      const match = `${protocolMatch(rule)}${peer}`;
      for (const protocol of untracked(rule, open)) {
        const only = protocolOf(rule) === null ? `meta l4proto ${protocol} ` : '';
        lines.add(`${only}${match}ct mark set ct mark | ${bit} ${accept}`);
      }
      lines.add(`${match}${accept}`);
    }
  }
  return { name: chainName(direction, groupIds), rules: [...lines] };
}

/** Groups that rules of these groups name as peers: their members are needed as sets. */
export function referencedGroups(
  groupIds: Iterable<string>,
  groups: Readonly<Record<string, SecurityGroup>>,
): Set<string> {
  const found = new Set<string>();
  for (const id of groupIds) {
    for (const rule of groups[id]?.rules ?? []) if (rule.peer.kind === 'group') found.add(rule.peer.groupId);
  }
  return found;
}
