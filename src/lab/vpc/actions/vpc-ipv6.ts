// IPv6 blocks of VPCs: Amazon-provided /56 blocks, up to five, and what comes with the first: local routes, and rules that
// let IPv6 out of groups that nobody has changed. Fails with CidrLimitExceeded, InvalidCidrBlock.InUse.
import type * as ec2 from '@aws-sdk/client-ec2';
import { cidrCovers, parseCidr } from '../../../base/ip.ts';
import { type Context, newId } from '../context.ts';
import { conflict, Ec2Error, invalidValue } from '../errors.ts';
import { amazonBlock, ipv6CidrsOf } from '../ipv6.ts';
import type { Ipv6Block, RouteTable, SecurityGroupRule, Vpc } from '../model.ts';

export const MAX_CIDRS = 5;

/** The block as EC2 prints it; Amazon's own pool, in the region's own network border group. */
export const ipv6Association = (
  ctx: Context,
  block: Ipv6Block,
  State: ec2.VpcCidrBlockStateCode,
): ec2.VpcIpv6CidrBlockAssociation => ({
  AssociationId: block.associationId,
  Ipv6CidrBlock: block.cidr,
  Ipv6CidrBlockState: { State },
  NetworkBorderGroup: ctx.draft.state.region,
  Ipv6Pool: 'Amazon',
  Ipv6AddressAttribute: 'public',
  IpSource: 'amazon',
});

/** Changes all route tables of a VPC. */
export function localRoutes(ctx: Context, vpcId: string, change: (table: RouteTable) => RouteTable): void {
  for (const table of Object.values(ctx.draft.state.routeTables)) {
    if (table.vpcId === vpcId) ctx.draft.put('routeTables', table.id, change(table));
  }
}

export const newIpv6Block = (ctx: Context): Ipv6Block => ({
  cidr: amazonBlock(ctx),
  associationId: newId(ctx, 'vpc-cidr-assoc'),
});

export function checkBorderGroup(ctx: Context, group: string | undefined, asked: boolean | undefined): void {
  if (group === undefined) return;
  if (!asked) throw conflict('A network border group is for an Amazon-provided IPv6 CIDR block');
  if (group !== ctx.draft.state.region)
    throw invalidValue(`Value (${group}) for parameter ipv6CidrBlockNetworkBorderGroup is invalid.`);
}

export function associateIpv6(ctx: Context, vpc: Vpc): ec2.AssociateVpcCidrBlockResult {
  if ((vpc.ipv6Cidrs ?? []).length >= MAX_CIDRS) {
    throw new Ec2Error(
      'CidrLimitExceeded',
      `This network ${vpc.id} has met its maximum number of allowed CIDRs: ${MAX_CIDRS}`,
    );
  }
  const added = newIpv6Block(ctx);
  if (ipv6CidrsOf(vpc).length === 0) openEgress(ctx, vpc);
  ctx.draft.put('vpcs', vpc.id, { ...vpc, ipv6Cidrs: [...(vpc.ipv6Cidrs ?? []), added] });
  localRoutes(ctx, vpc.id, (table) => ({
    ...table,
    routes: [...table.routes, { destination: added.cidr, target: { kind: 'local' } }],
  }));
  return { VpcId: vpc.id, Ipv6CidrBlockAssociation: ipv6Association(ctx, added, 'associating') };
}

/** A VPC that gets its first IPv6 block: groups whose way out is the one that EC2 made get the same for IPv6. */
function openEgress(ctx: Context, vpc: Vpc): void {
  for (const group of Object.values(ctx.draft.state.securityGroups)) {
    const out = group.rules.filter((rule) => rule.direction === 'egress');
    const [only] = out;
    if (group.vpcId !== vpc.id || out.length !== 1 || only?.protocol !== '-1') continue;
    if (only.peer.kind !== 'cidr' || only.peer.cidr !== '0.0.0.0/0') continue;
    ctx.draft.put('securityGroups', group.id, { ...group, rules: [...group.rules, allTo(ctx, '::/0')] });
  }
}

export function disassociateIpv6(ctx: Context, vpc: Vpc, id: string): ec2.DisassociateVpcCidrBlockResult {
  const block = vpc.ipv6Cidrs!.find((each) => each.associationId === id)!;
  const inside = Object.values(ctx.draft.state.subnets).some(
    (subnet) =>
      subnet.vpcId === vpc.id &&
      ipv6CidrsOf(subnet).some((cidr) => cidrCovers(parseCidr(block.cidr), parseCidr(cidr))),
  );
  if (inside) {
    throw new Ec2Error(
      'InvalidCidrBlock.InUse',
      `The vpc ${vpc.id} currently has a subnet within CIDR block ${block.cidr}`,
    );
  }
  const { ipv6Cidrs: blocks = [], ...rest } = vpc;
  const left = blocks.filter((each) => each !== block);
  ctx.draft.put('vpcs', vpc.id, { ...rest, ...(left.length ? { ipv6Cidrs: left } : {}) });
  localRoutes(ctx, vpc.id, (table) => ({
    ...table,
    routes: table.routes.filter((r) => !(r.target.kind === 'local' && r.destination === block.cidr)),
  }));
  return { VpcId: vpc.id, Ipv6CidrBlockAssociation: ipv6Association(ctx, block, 'disassociating') };
}

const allTo = (ctx: Context, cidr: string): SecurityGroupRule => ({
  id: newId(ctx, 'sgr'),
  direction: 'egress',
  protocol: '-1',
  peer: { kind: 'cidr', cidr },
});

/** What EC2 lets out of a new group: everything, of each family that the VPC has. */
export const defaultEgress = (ctx: Context, vpc: Vpc): SecurityGroupRule[] =>
  ['0.0.0.0/0', ...(ipv6CidrsOf(vpc).length ? ['::/0'] : [])].map((cidr) => allTo(ctx, cidr));
