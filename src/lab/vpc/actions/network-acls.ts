// Network ACLs: each VPC has its default one, which lets all pass and every subnet is associated with. The lab has no
// others yet, so that ids follow from the VPC's and the subnets' and nothing is stored.
import type * as ec2 from '@aws-sdk/client-ec2';
import { resourceWords } from '../errors.ts';
import { ipv6CidrsOf } from '../ipv6.ts';
import type { VpcState } from '../model.ts';
import { absent, select } from '../select.ts';
import type { Meanings } from './types.ts';

const LAST_RULE = 32_767;
const ALLOW_RULE = 100;
/** The same of a VPC with an IPv6 block. */
const LAST_IPV6 = 32_768;
const ALLOW_IPV6 = 101;

const sameDigits = (prefix: string, id: string): string => `${prefix}-${id.slice(id.lastIndexOf('-') + 1)}`;

const entry = (Egress: boolean, RuleNumber: number, RuleAction: ec2.RuleAction): ec2.NetworkAclEntry => ({
  ...(RuleNumber === ALLOW_IPV6 || RuleNumber === LAST_IPV6
    ? { Ipv6CidrBlock: '::/0' }
    : { CidrBlock: '0.0.0.0/0' }),
  Egress,
  Protocol: '-1',
  RuleAction,
  RuleNumber,
});

function defaultAcl(state: VpcState, vpcId: string): ec2.NetworkAcl {
  const NetworkAclId = sameDigits('acl', vpcId);
  const subnets = Object.values(state.subnets).filter((subnet) => subnet.vpcId === vpcId);
  return {
    NetworkAclId,
    VpcId: vpcId,
    OwnerId: state.accountId,
    IsDefault: true,
    Entries: [true, false].flatMap((egress) => [
      entry(egress, ALLOW_RULE, 'allow'),
      entry(egress, LAST_RULE, 'deny'),
      ...(ipv6CidrsOf(state.vpcs[vpcId]).length
        ? [entry(egress, ALLOW_IPV6, 'allow'), entry(egress, LAST_IPV6, 'deny')]
        : []),
    ]),
    Associations: subnets.map((subnet) => ({
      NetworkAclAssociationId: sameDigits('aclassoc', subnet.id),
      NetworkAclId,
      SubnetId: subnet.id,
    })),
    Tags: [],
  };
}

export const networkAclActions: Meanings<'DescribeNetworkAcls'> = {
  DescribeNetworkAcls: (ctx, input) => {
    const { state } = ctx.draft;
    const { items, nextToken } = select<ec2.NetworkAcl>(
      {
        items: Object.keys(state.vpcs).map((id) => defaultAcl(state, id)),
        idOf: (acl) => acl.NetworkAclId ?? '',
        tagsOf: () => ({}),
        words: resourceWords.networkAcl,
        filters: {
          'network-acl-id': (acl) => acl.NetworkAclId,
          'vpc-id': (acl) => acl.VpcId,
          'owner-id': () => state.accountId,
          default: (acl) => acl.IsDefault,
          'association.association-id': (acl) => acl.Associations?.map((a) => a.NetworkAclAssociationId),
          'association.network-acl-id': (acl) => acl.Associations?.map((a) => a.NetworkAclId),
          'association.subnet-id': (acl) => acl.Associations?.map((a) => a.SubnetId),
          'entry.cidr': (acl) => acl.Entries?.map((e) => e.CidrBlock),
          'entry.egress': (acl) => acl.Entries?.map((e) => e.Egress),
          'entry.protocol': (acl) => acl.Entries?.map((e) => e.Protocol),
          'entry.rule-action': (acl) => acl.Entries?.map((e) => e.RuleAction),
          'entry.rule-number': (acl) => acl.Entries?.map((e) => e.RuleNumber),
          'entry.ipv6-cidr': (acl) => acl.Entries?.map((e) => e.Ipv6CidrBlock),
          ...absent('entry.icmp.code', 'entry.icmp.type', 'entry.port-range.from', 'entry.port-range.to'),
        },
      },
      { ...input, ids: input.NetworkAclIds },
    );
    return { NetworkAcls: items, ...(nextToken ? { NextToken: nextToken } : {}) };
  },
};
