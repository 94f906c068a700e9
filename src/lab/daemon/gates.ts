// Why a packet between two addresses of the VPC was not let through: the security-group gate that has no rule for it,
// from the state alone. Only for telling people; what decides is the fabric's own table.
import { cidrContains, parseCidr, parseIp } from '../../base/ip.ts';
import type { NetworkInterface, SecurityGroupRule, VpcState } from '../vpc/model.ts';

export type Flow = { from: string; to: string; protocol: 'tcp' | 'udp' | 'icmp'; port?: number };

const eniOf = (state: VpcState, ip: string): NetworkInterface | undefined =>
  Object.values(state.networkInterfaces).find((eni) => holds(eni, ip));

const holds = (eni: NetworkInterface, text: string): boolean => {
  const ip = parseIp(text);
  return (
    [...eni.privateIps, ...eni.ipv6Addresses].some((one) => parseIp(one) === ip) ||
    [...eni.ipv4Prefixes, ...eni.ipv6Prefixes].some((one) => cidrContains(parseCidr(one), ip))
  );
};

/** A sentence naming the group without a rule, or undefined when both gates let the flow through. */
export function closedGate(state: VpcState, flow: Flow): string | undefined {
  const sender = eniOf(state, flow.from);
  const receiver = eniOf(state, flow.to);
  const what = `${flow.protocol}${flow.port === undefined ? '' : ` ${flow.port}`}`;
  // One ENI's own addresses meet no gate.
  if (sender && sender.id === receiver?.id) return undefined;
  if (sender && !admits(state, sender, 'egress', flow, flow.to))
    return `no egress rule of ${names(state, sender)} allows ${what} to ${flow.to}`;
  if (receiver && !admits(state, receiver, 'ingress', flow, flow.from))
    return `no ingress rule of ${names(state, receiver)} allows ${what} from ${flow.from}`;
  return undefined;
}

const names = (state: VpcState, eni: NetworkInterface): string =>
  eni.groupIds.map((id) => `security group ${state.securityGroups[id]?.name ?? ''} (${id})`).join(', ') ||
  `${eni.id} (no security group)`;

function admits(
  state: VpcState,
  eni: NetworkInterface,
  direction: 'ingress' | 'egress',
  flow: Flow,
  peer: string,
): boolean {
  const rules = eni.groupIds.flatMap((id) => state.securityGroups[id]?.rules ?? []);
  return rules.some(
    (rule) => rule.direction === direction && covers(rule, flow) && matches(state, rule, peer),
  );
}

function covers(rule: SecurityGroupRule, { protocol, port }: Flow): boolean {
  if (rule.protocol === '-1') return true;
  if (rule.protocol !== protocol) return false;
  return port === undefined || ((rule.fromPort ?? 0) <= port && port <= (rule.toPort ?? 65535));
}

function matches(state: VpcState, rule: SecurityGroupRule, peer: string): boolean {
  const by = rule.peer;
  if (by.kind === 'group') return eniOf(state, peer)?.groupIds.includes(by.groupId) === true;
  const cidr = parseCidr(by.cidr);
  const ip = parseIp(peer);
  return typeof cidr.ip === typeof ip && cidrContains(cidr, ip);
}
