// VPCs and their CIDRs. A VPC is made with its main route table and its default security group, as EC2 makes it.
// Fails with InvalidVpc.Range, InvalidVpc.Conflict, CidrLimitExceeded, InvalidCidrBlock.InUse, DependencyViolation.
import type * as ec2 from '@aws-sdk/client-ec2';
import { type Cidr, cidrCovers, cidrsOverlap, formatCidr, parseCidr } from '../../../base/ip.ts';
import { type Context, need, newId, wordsOf } from '../context.ts';
import { conflict, Ec2Error, invalidValue, oneWay, required } from '../errors.ts';
import { ipv6CidrsOf } from '../ipv6.ts';
import type { RouteTable, SecurityGroup, Vpc } from '../model.ts';
import { whyNotBeside, whyNoVpc } from '../reserved.ts';
import { select } from '../select.ts';
import { tagsOnCreate, tagsWhenAny } from './tags.ts';
import type { Meanings } from './types.ts';
import {
  associateIpv6,
  checkBorderGroup,
  defaultEgress,
  disassociateIpv6,
  ipv6Association,
  localRoutes,
  MAX_CIDRS,
  newIpv6Block,
} from './vpc-ipv6.ts';

/** An IPv4 block between /16 and /28; EC2 clears host bits rather than refuse them. */
export function readBlock(text: string, code: string): Cidr {
  let cidr: Cidr | undefined;
  try {
    cidr = parseCidr(text, { mask: true });
  } catch {
    throw invalidValue(`Value (${text}) for parameter cidrBlock is invalid. This is not a valid CIDR block.`);
  }
  if (typeof cidr.ip !== 'number' || cidr.length < 16 || cidr.length > 28) {
    throw new Ec2Error(code, `The CIDR '${text}' is invalid.`);
  }
  const why = whyNoVpc(cidr);
  if (why !== undefined) throw new Ec2Error(code, `The CIDR '${text}' is invalid: ${why}.`);
  return cidr;
}

const vpcAnswer = (ctx: Context, vpc: Vpc): ec2.Vpc => ({
  VpcId: vpc.id,
  OwnerId: ctx.draft.state.accountId,
  State: 'available',
  CidrBlock: vpc.cidrs[0]?.cidr,
  CidrBlockAssociationSet: vpc.cidrs.map((block) => ({
    AssociationId: block.associationId,
    CidrBlock: block.cidr,
    CidrBlockState: { State: 'associated' },
  })),
  Ipv6CidrBlockAssociationSet: (vpc.ipv6Cidrs ?? []).map((block) =>
    ipv6Association(ctx, block, 'associated'),
  ),
  DhcpOptionsId: 'default',
  InstanceTenancy: 'default',
  IsDefault: vpc.isDefault,
  ...tagsWhenAny(vpc.tags),
});

function dependents(ctx: Context, vpc: Vpc): boolean {
  const { state } = ctx.draft;
  return (
    Object.values(state.subnets).some((s) => s.vpcId === vpc.id) ||
    Object.values(state.internetGateways).some((g) => g.vpcId === vpc.id) ||
    Object.values(state.egressOnlyInternetGateways).some((g) => g.vpcId === vpc.id) ||
    Object.values(state.securityGroups).some((g) => g.vpcId === vpc.id && g.name !== 'default') ||
    Object.values(state.routeTables).some((t) => t.vpcId === vpc.id && !t.associations.some((a) => a.main))
  );
}

/** A route of the VPC to a part of `block` or to all of it: its local route would not decide there. */
function routeWithin(
  ctx: Context,
  vpcId: string,
  block: Cidr,
): { table: string; destination: string } | undefined {
  for (const table of Object.values(ctx.draft.state.routeTables)) {
    if (table.vpcId !== vpcId) continue;
    const route = table.routes.find((each) => cidrCovers(block, parseCidr(each.destination, { mask: true })));
    if (route) return { table: table.id, destination: route.destination };
  }
  return undefined;
}

export const vpcActions: Meanings<
  | 'CreateVpc'
  | 'DescribeVpcs'
  | 'DeleteVpc'
  | 'AssociateVpcCidrBlock'
  | 'DisassociateVpcCidrBlock'
  | 'DescribeVpcAttribute'
  | 'ModifyVpcAttribute'
> = {
  CreateVpc: (ctx, input) => {
    const cidr = formatCidr(readBlock(required(input.CidrBlock, 'cidrBlock'), 'InvalidVpc.Range'));
    checkBorderGroup(ctx, input.Ipv6CidrBlockNetworkBorderGroup, input.AmazonProvidedIpv6CidrBlock);
    const ipv6 = input.AmazonProvidedIpv6CidrBlock ? [newIpv6Block(ctx)] : [];
    const vpc: Vpc = {
      id: newId(ctx, 'vpc'),
      cidrs: [{ cidr, associationId: newId(ctx, 'vpc-cidr-assoc') }],
      ...(ipv6.length ? { ipv6Cidrs: ipv6 } : {}),
      isDefault: false,
      tags: tagsOnCreate(input.TagSpecifications, 'vpc'),
    };
    const table: RouteTable = {
      id: newId(ctx, 'rtb'),
      vpcId: vpc.id,
      routes: [cidr, ...ipv6.map((block) => block.cidr)].map((destination) => ({
        destination,
        target: { kind: 'local' },
      })),
      associations: [{ id: newId(ctx, 'rtbassoc'), main: true }],
      tags: {},
    };
    const groupId = newId(ctx, 'sg');
    const group: SecurityGroup = {
      id: groupId,
      vpcId: vpc.id,
      name: 'default',
      description: 'default VPC security group',
      rules: [
        { id: newId(ctx, 'sgr'), direction: 'ingress', protocol: '-1', peer: { kind: 'group', groupId } },
        ...defaultEgress(ctx, vpc),
      ],
      tags: {},
    };
    ctx.draft.put('vpcs', vpc.id, vpc);
    ctx.draft.put('routeTables', table.id, table);
    ctx.draft.put('securityGroups', group.id, group);
    // EC2 answers `pending`; the next describe says `available`.
    return {
      Vpc: {
        ...vpcAnswer(ctx, vpc),
        State: 'pending',
        Ipv6CidrBlockAssociationSet: ipv6.map((block) => ipv6Association(ctx, block, 'associating')),
      },
    };
  },

  DescribeVpcs: (ctx, input) => {
    const { items, nextToken } = select<Vpc>(
      {
        items: Object.values(ctx.draft.state.vpcs),
        idOf: (vpc) => vpc.id,
        tagsOf: (vpc) => vpc.tags,
        words: wordsOf('vpcs'),
        filters: {
          'vpc-id': (vpc) => vpc.id,
          cidr: (vpc) => vpc.cidrs[0]?.cidr,
          'cidr-block-association.cidr-block': (vpc) => vpc.cidrs.map((c) => c.cidr),
          'cidr-block-association.association-id': (vpc) => vpc.cidrs.map((c) => c.associationId),
          'cidr-block-association.state': () => 'associated',
          'is-default': (vpc) => vpc.isDefault,
          isDefault: (vpc) => vpc.isDefault,
          'owner-id': () => ctx.draft.state.accountId,
          state: () => 'available',
          'dhcp-options-id': () => 'default',
          'ipv6-cidr-block-association.ipv6-cidr-block': (vpc) => ipv6CidrsOf(vpc),
          'ipv6-cidr-block-association.ipv6-pool': (vpc) => ipv6CidrsOf(vpc).map(() => 'Amazon'),
          'ipv6-cidr-block-association.association-id': (vpc) => vpc.ipv6Cidrs?.map((c) => c.associationId),
          'ipv6-cidr-block-association.state': (vpc) => ipv6CidrsOf(vpc).map(() => 'associated'),
        },
      },
      { ...input, ids: input.VpcIds },
    );
    return { Vpcs: items.map((vpc) => vpcAnswer(ctx, vpc)), ...(nextToken ? { NextToken: nextToken } : {}) };
  },

  DeleteVpc: (ctx, input) => {
    const vpc = need(ctx, 'vpcs', required(input.VpcId, 'vpcId'));
    if (dependents(ctx, vpc)) {
      throw new Ec2Error(
        'DependencyViolation',
        `The vpc '${vpc.id}' has dependencies and cannot be deleted.`,
      );
    }
    for (const table of Object.values(ctx.draft.state.routeTables)) {
      if (table.vpcId === vpc.id) ctx.draft.remove('routeTables', table.id);
    }
    for (const group of Object.values(ctx.draft.state.securityGroups)) {
      if (group.vpcId === vpc.id) ctx.draft.remove('securityGroups', group.id);
    }
    ctx.draft.remove('vpcs', vpc.id);
    return {};
  },

  AssociateVpcCidrBlock: (ctx, input) => {
    const vpc = need(ctx, 'vpcs', required(input.VpcId, 'vpcId'));
    oneWay(input, 'AmazonProvidedIpv6CidrBlock', 'CidrBlock');
    checkBorderGroup(ctx, input.Ipv6CidrBlockNetworkBorderGroup, input.AmazonProvidedIpv6CidrBlock);
    if (input.AmazonProvidedIpv6CidrBlock) return associateIpv6(ctx, vpc);
    const block = readBlock(required(input.CidrBlock, 'cidrBlock'), 'InvalidVpc.Range');
    const cidr = formatCidr(block);
    if (vpc.cidrs.some((have) => cidrsOverlap(parseCidr(have.cidr), block))) {
      throw new Ec2Error(
        'InvalidVpc.Conflict',
        `The CIDR '${cidr}' conflicts with another CIDR of ${vpc.id}`,
      );
    }
    const why = whyNotBeside(
      vpc.cidrs.map((have) => parseCidr(have.cidr)),
      block,
    );
    if (why !== undefined) {
      throw new Ec2Error(
        'InvalidVpc.Range',
        `The CIDR '${cidr}' is restricted. Use a CIDR from the same private address range as the current VPC CIDR, or use a publicly-routable CIDR. (${why})`,
      );
    }
    const route = routeWithin(ctx, vpc.id, block);
    if (route !== undefined) {
      throw new Ec2Error(
        'InvalidVpc.Conflict',
        `The CIDR '${cidr}' is the same as or larger than the destination ${route.destination} of a route in ${route.table}`,
      );
    }
    if (vpc.cidrs.length >= MAX_CIDRS) {
      throw new Ec2Error(
        'CidrLimitExceeded',
        `This network ${vpc.id} has met its maximum number of allowed CIDRs: ${MAX_CIDRS}`,
      );
    }
    const added = { cidr, associationId: newId(ctx, 'vpc-cidr-assoc') };
    ctx.draft.put('vpcs', vpc.id, { ...vpc, cidrs: [...vpc.cidrs, added] });
    localRoutes(ctx, vpc.id, (table) => ({
      ...table,
      routes: [...table.routes, { destination: cidr, target: { kind: 'local' } }],
    }));
    return {
      VpcId: vpc.id,
      CidrBlockAssociation: {
        AssociationId: added.associationId,
        CidrBlock: cidr,
        CidrBlockState: { State: 'associating' },
      },
    };
  },

  DisassociateVpcCidrBlock: (ctx, input) => {
    const id = required(input.AssociationId, 'associationId');
    const six = Object.values(ctx.draft.state.vpcs).find((v) =>
      v.ipv6Cidrs?.some((c) => c.associationId === id),
    );
    if (six) return disassociateIpv6(ctx, six, id);
    const vpc = Object.values(ctx.draft.state.vpcs).find((v) => v.cidrs.some((c) => c.associationId === id));
    const block = vpc?.cidrs.find((c) => c.associationId === id);
    if (!vpc || !block) {
      throw new Ec2Error(
        'InvalidVpcCidrBlockAssociationID.NotFound',
        `The vpc CIDR block association ID '${id}' does not exist`,
      );
    }
    if (vpc.cidrs[0] === block) {
      throw new Ec2Error(
        'OperationNotPermitted',
        `The vpc CIDR block with association ID ${id} may not be disassociated. It is the primary IPv4 CIDR block of the VPC`,
      );
    }
    const cidr = parseCidr(block.cidr);
    if (
      Object.values(ctx.draft.state.subnets).some(
        (s) => s.vpcId === vpc.id && !s.ipv6Native && cidrsOverlap(parseCidr(s.cidr), cidr),
      )
    ) {
      throw new Ec2Error(
        'InvalidCidrBlock.InUse',
        `The vpc ${vpc.id} currently has a subnet within CIDR block ${block.cidr}`,
      );
    }
    ctx.draft.put('vpcs', vpc.id, { ...vpc, cidrs: vpc.cidrs.filter((c) => c !== block) });
    localRoutes(ctx, vpc.id, (table) => ({
      ...table,
      routes: table.routes.filter((r) => !(r.target.kind === 'local' && r.destination === block.cidr)),
    }));
    return {
      VpcId: vpc.id,
      CidrBlockAssociation: {
        AssociationId: id,
        CidrBlock: block.cidr,
        CidrBlockState: { State: 'disassociating' },
      },
    };
  },

  DescribeVpcAttribute: (ctx, input) => {
    const vpc = need(ctx, 'vpcs', required(input.VpcId, 'vpcId'));
    switch (required(input.Attribute, 'attribute')) {
      case 'enableDnsSupport':
        return { VpcId: vpc.id, EnableDnsSupport: { Value: vpc.enableDnsSupport ?? true } };
      case 'enableDnsHostnames':
        return { VpcId: vpc.id, EnableDnsHostnames: { Value: vpc.enableDnsHostnames ?? false } };
      case 'enableNetworkAddressUsageMetrics':
        return { VpcId: vpc.id, EnableNetworkAddressUsageMetrics: { Value: false } };
      default:
        throw invalidValue(
          `Value (${input.Attribute}) for parameter attribute is invalid. Unknown attribute.`,
        );
    }
  },

  ModifyVpcAttribute: (ctx, input) => {
    const vpc = need(ctx, 'vpcs', required(input.VpcId, 'vpcId'));
    const support = input.EnableDnsSupport?.Value;
    const hostnames = input.EnableDnsHostnames?.Value;
    if (support !== undefined && hostnames !== undefined)
      throw conflict('Fields for multiple attribute types specified');
    ctx.draft.put('vpcs', vpc.id, {
      ...vpc,
      ...(support === undefined ? {} : { enableDnsSupport: support }),
      ...(hostnames === undefined ? {} : { enableDnsHostnames: hostnames }),
    });
    return {};
  },
};

/** EC2's NotFound for a VPC that a group or subnet wants but nobody named and no default exists. */
export function vpcOrDefault(ctx: Context, vpcId: string | undefined): Vpc {
  if (vpcId !== undefined) return need(ctx, 'vpcs', vpcId);
  const vpc = Object.values(ctx.draft.state.vpcs).find((v) => v.isDefault);
  if (!vpc) throw new Ec2Error('VPCIdNotSpecified', 'No default VPC for this user.');
  return vpc;
}
