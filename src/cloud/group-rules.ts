// The part of the Cloud port that is of security groups' rules: what an agent asks that judges arrivals for pods with
// branch ENIs itself. Each call names what it asks for in a filter, so that an id which is gone is no error. Source:
// Amazon EC2 API Reference, DescribeSecurityGroupRules. Fails as query.ts does.
import { type Cidr, hostCidr, parseCidr } from '../base/ip.ts';
import { readEni } from './ec2.ts';
import type { GroupCloud, IngressRule } from './port.ts';
import { callPaged, type QueryClient } from './query.ts';
import { textAt, type XmlElement } from './xml.ts';

const PAGE = 1000;

export function groupCalls(client: QueryClient): Required<GroupCloud> {
  const ask = <T>(
    action: string,
    list: string,
    read: (item: XmlElement) => T,
    filter: { Name: string; Value: readonly string[] },
    signal?: AbortSignal,
  ): Promise<T[]> =>
    callPaged(
      client,
      { action, params: { Filter: [filter], MaxResults: PAGE }, repeatable: true, signal },
      list,
      read,
    );
  const interfaces = (Name: string, Value: readonly string[], signal?: AbortSignal) =>
    ask('DescribeNetworkInterfaces', 'networkInterfaceSet', readEni, { Name, Value }, signal);
  return {
    async describeGroupsOf(eniIds, signal) {
      const found = await interfaces('network-interface-id', eniIds, signal);
      return new Map(found.map(({ id, groupIds }) => [id as string, groupIds]));
    },
    async describeMembers(groupIds, signal) {
      const members = new Map<string, Cidr[]>(groupIds.map((id) => [id, []]));
      for (const eni of await interfaces('group-id', groupIds, signal)) {
        const ips = [...eni.addresses.map(({ ip }) => ip), ...eni.ipv6Addresses].map(hostCidr);
        for (const id of eni.groupIds)
          members.get(id)?.push(...ips, ...eni.ipv4Prefixes, ...eni.ipv6Prefixes);
      }
      return members;
    },
    async describeIngressRules(groupIds, signal) {
      const filter = { Name: 'group-id', Value: groupIds };
      const action = 'DescribeSecurityGroupRules';
      const all = await ask(action, 'securityGroupRuleSet', readRule, filter, signal);
      return all.flatMap((rule) => rule ?? []);
    },
  };
}

/** Null for a rule of egress. */
function readRule(item: XmlElement): IngressRule | null {
  if (textAt(item, 'isEgress') === 'true') return null;
  const cidr = textAt(item, 'cidrIpv4') || textAt(item, 'cidrIpv6');
  const group = textAt(item, 'referencedGroupInfo', 'groupId');
  const port = (name: string): number => Number(textAt(item, name) || -1);
  return {
    id: textAt(item, 'securityGroupRuleId'),
    groupId: textAt(item, 'groupId'),
    protocol: textAt(item, 'ipProtocol'),
    fromPort: port('fromPort'),
    toPort: port('toPort'),
    peer:
      cidr !== ''
        ? { kind: 'cidr', cidr: parseCidr(cidr) }
        : group !== ''
          ? { kind: 'group', groupId: group }
          : { kind: 'prefix-list', id: textAt(item, 'prefixListId') },
  };
}
