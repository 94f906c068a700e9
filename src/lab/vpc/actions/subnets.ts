// Subnets: one block of the VPC in one zone. AvailableIpAddressCount is computed from the interfaces.
// Fails with InvalidSubnet.Range, InvalidSubnet.Conflict, DependencyViolation.
import type * as ec2 from '@aws-sdk/client-ec2';
import { cidrCovers, cidrsOverlap, formatCidr, parseCidr } from '../../../base/ip.ts';
import { availableAddresses } from '../addresses.ts';
import { type Context, need, newId, wordsOf } from '../context.ts';
import { conflict, Ec2Error, invalidValue, oneAttribute, required } from '../errors.ts';
import { ipv6CidrsOf, isBlockHeld, subnetIpv6Block } from '../ipv6.ts';
import type { Ipv6Block, Subnet, Vpc } from '../model.ts';
import { reservationsOf } from '../occupancy.ts';
import { absent, select } from '../select.ts';
import { zoneId, zoneOf } from './account.ts';
import { tagsOnCreate, tagsWhenAny } from './tags.ts';
import type { Meanings } from './types.ts';
import { readBlock } from './vpcs.ts';

/** EC2 takes one. */
const MAX_IPV6_CIDRS = 1;

const ipv6Association = (
  block: Ipv6Block,
  State: ec2.SubnetCidrBlockStateCode,
): ec2.SubnetIpv6CidrBlockAssociation => ({
  AssociationId: block.associationId,
  Ipv6CidrBlock: block.cidr,
  Ipv6CidrBlockState: { State },
  Ipv6AddressAttribute: 'public',
  IpSource: 'amazon',
});

const newIpv6Block = (ctx: Context, vpc: Vpc, cidr: string, own?: Subnet): Ipv6Block => ({
  cidr: subnetIpv6Block(ctx, vpc, cidr, own),
  associationId: newId(ctx, 'subnet-cidr-assoc'),
});

const newSubnet = (ctx: Context, vpc: Vpc, input: ec2.CreateSubnetRequest): Omit<Subnet, 'cidr'> => ({
  id: newId(ctx, 'subnet'),
  vpcId: vpc.id,
  zone:
    input.AvailabilityZone === undefined && input.AvailabilityZoneId === undefined
      ? ctx.draft.state.zones[0]!
      : zoneOf(ctx, input.AvailabilityZone, input.AvailabilityZoneId),
  mapPublicIpOnLaunch: false,
  tags: tagsOnCreate(input.TagSpecifications, 'subnet'),
});

/** Names of instances follow their IPv4 address, where they have one. */
const hostnameType = (subnet: Subnet): ec2.HostnameType => (subnet.ipv6Native ? 'resource-name' : 'ip-name');

function subnetAnswer(ctx: Context, subnet: Subnet): ec2.Subnet {
  const { state } = ctx.draft;
  return {
    SubnetId: subnet.id,
    SubnetArn: `arn:aws:ec2:${state.region}:${state.accountId}:subnet/${subnet.id}`,
    VpcId: subnet.vpcId,
    OwnerId: state.accountId,
    State: 'available',
    ...(subnet.ipv6Native ? {} : { CidrBlock: subnet.cidr }),
    Ipv6CidrBlockAssociationSet: (subnet.ipv6Cidrs ?? []).map((block) =>
      ipv6Association(block, 'associated'),
    ),
    AvailableIpAddressCount: availableAddresses(state, subnet),
    AvailabilityZone: subnet.zone,
    AvailabilityZoneId: zoneId(state, subnet.zone),
    DefaultForAz: false,
    MapPublicIpOnLaunch: subnet.mapPublicIpOnLaunch,
    MapCustomerOwnedIpOnLaunch: false,
    AssignIpv6AddressOnCreation: subnet.assignIpv6AddressOnCreation ?? false,
    EnableDns64: subnet.enableDns64 ?? false,
    Ipv6Native: subnet.ipv6Native ?? false,
    PrivateDnsNameOptionsOnLaunch: {
      HostnameType: hostnameType(subnet),
      EnableResourceNameDnsARecord: false,
      EnableResourceNameDnsAAAARecord: false,
    },
    ...tagsWhenAny(subnet.tags),
  };
}

export const subnetActions: Meanings<
  | 'CreateSubnet'
  | 'DescribeSubnets'
  | 'DeleteSubnet'
  | 'ModifySubnetAttribute'
  | 'AssociateSubnetCidrBlock'
  | 'DisassociateSubnetCidrBlock'
> = {
  CreateSubnet: (ctx, input) => {
    const { state } = ctx.draft;
    const vpc = need(ctx, 'vpcs', required(input.VpcId, 'vpcId'));
    if (input.Ipv6Native) {
      if (input.CidrBlock !== undefined)
        throw conflict('An IPv4 CIDR block may not be specified for an IPv6-only subnet');
      const block = newIpv6Block(ctx, vpc, required(input.Ipv6CidrBlock, 'ipv6CidrBlock'));
      const native: Subnet = {
        ...newSubnet(ctx, vpc, input),
        cidr: '',
        ipv6Cidrs: [block],
        ipv6Native: true,
        assignIpv6AddressOnCreation: true,
      };
      ctx.draft.put('subnets', native.id, native);
      return { Subnet: subnetAnswer(ctx, native) };
    }
    const block = readBlock(required(input.CidrBlock, 'cidrBlock'), 'InvalidSubnet.Range');
    const cidr = formatCidr(block);
    if (!vpc.cidrs.some((c) => cidrCovers(parseCidr(c.cidr), block))) {
      throw new Ec2Error('InvalidSubnet.Range', `The CIDR '${cidr}' is invalid.`);
    }
    if (
      Object.values(state.subnets).some(
        (s) => s.vpcId === vpc.id && !s.ipv6Native && cidrsOverlap(parseCidr(s.cidr), block),
      )
    ) {
      throw new Ec2Error('InvalidSubnet.Conflict', `The CIDR '${cidr}' conflicts with another subnet`);
    }
    const ipv6 = input.Ipv6CidrBlock === undefined ? [] : [newIpv6Block(ctx, vpc, input.Ipv6CidrBlock)];
    const subnet: Subnet = {
      ...newSubnet(ctx, vpc, input),
      cidr,
      ...(ipv6.length ? { ipv6Cidrs: ipv6 } : {}),
    };
    ctx.draft.put('subnets', subnet.id, subnet);
    return { Subnet: subnetAnswer(ctx, subnet) };
  },

  DescribeSubnets: (ctx, input) => {
    const { state } = ctx.draft;
    const { items, nextToken } = select<Subnet>(
      {
        items: Object.values(state.subnets),
        idOf: (subnet) => subnet.id,
        tagsOf: (subnet) => subnet.tags,
        words: wordsOf('subnets'),
        filters: {
          'subnet-id': (subnet) => subnet.id,
          'subnet-arn': (subnet) => subnetAnswer(ctx, subnet).SubnetArn,
          'vpc-id': (subnet) => subnet.vpcId,
          'availability-zone': (subnet) => subnet.zone,
          availabilityZone: (subnet) => subnet.zone,
          'availability-zone-id': (subnet) => zoneId(state, subnet.zone),
          availabilityZoneId: (subnet) => zoneId(state, subnet.zone),
          'available-ip-address-count': (subnet) => availableAddresses(state, subnet),
          'cidr-block': (subnet) => subnet.cidr || undefined,
          cidr: (subnet) => subnet.cidr || undefined,
          cidrBlock: (subnet) => subnet.cidr || undefined,
          'default-for-az': () => false,
          'map-public-ip-on-launch': (subnet) => subnet.mapPublicIpOnLaunch,
          'owner-id': () => state.accountId,
          state: () => 'available',
          'ipv6-native': (subnet) => subnet.ipv6Native ?? false,
          'enable-dns64': (subnet) => subnet.enableDns64 ?? false,
          'map-customer-owned-ip-on-launch': () => false,
          'private-dns-name-options-on-launch.hostname-type': (subnet) => hostnameType(subnet),
          'private-dns-name-options-on-launch.enable-resource-name-dns-a-record': () => false,
          'private-dns-name-options-on-launch.enable-resource-name-dns-aaaa-record': () => false,
          ...absent('customer-owned-ipv4-pool', 'enable-lni-at-device-index', 'outpost-arn'),
          'ipv6-cidr-block-association.ipv6-cidr-block': (subnet) => ipv6CidrsOf(subnet),
          'ipv6-cidr-block-association.association-id': (subnet) =>
            subnet.ipv6Cidrs?.map((c) => c.associationId),
          'ipv6-cidr-block-association.state': (subnet) => ipv6CidrsOf(subnet).map(() => 'associated'),
        },
      },
      { ...input, ids: input.SubnetIds },
    );
    return {
      Subnets: items.map((s) => subnetAnswer(ctx, s)),
      ...(nextToken ? { NextToken: nextToken } : {}),
    };
  },

  DeleteSubnet: (ctx, input) => {
    const { state } = ctx.draft;
    const subnet = need(ctx, 'subnets', required(input.SubnetId, 'subnetId'));
    if (Object.values(state.networkInterfaces).some((eni) => eni.subnetId === subnet.id)) {
      throw new Ec2Error(
        'DependencyViolation',
        `The subnet '${subnet.id}' has dependencies and cannot be deleted.`,
      );
    }
    for (const table of Object.values(state.routeTables)) {
      if (table.associations.some((a) => a.subnetId === subnet.id)) {
        const associations = table.associations.filter((a) => a.subnetId !== subnet.id);
        ctx.draft.put('routeTables', table.id, { ...table, associations });
      }
    }
    for (const reservation of reservationsOf(state, subnet.id))
      ctx.draft.remove('subnetCidrReservations', reservation.id);
    ctx.draft.remove('subnets', subnet.id);
    return {};
  },

  ModifySubnetAttribute: (ctx, input) => {
    const subnet = need(ctx, 'subnets', required(input.SubnetId, 'subnetId'));
    const { SubnetId: _, ...attributes } = input;
    oneAttribute(Object.values(attributes));
    const map = input.MapPublicIpOnLaunch?.Value;
    if (map && subnet.ipv6Native)
      throw invalidValue(
        `Invalid value 'true' for map-public-ip-on-launch. The subnet (${subnet.id}) is IPv6-only.`,
      );
    if (map !== undefined) ctx.draft.put('subnets', subnet.id, { ...subnet, mapPublicIpOnLaunch: map });
    const dns64 = input.EnableDns64?.Value;
    if (dns64 !== undefined) ctx.draft.put('subnets', subnet.id, { ...subnet, enableDns64: dns64 });
    const assign = input.AssignIpv6AddressOnCreation?.Value;
    if (assign !== undefined) {
      if (assign && ipv6CidrsOf(subnet).length === 0) {
        throw invalidValue(
          `Invalid value 'true' for assign-ipv6-address-on-creation. Cannot set assign-ipv6-address-on-creation to true unless the subnet (${subnet.id}) has an IPv6 CIDR block associated with it.`,
        );
      }
      ctx.draft.put('subnets', subnet.id, { ...subnet, assignIpv6AddressOnCreation: assign });
    }
    return {};
  },

  AssociateSubnetCidrBlock: (ctx, input) => {
    const subnet = need(ctx, 'subnets', required(input.SubnetId, 'subnetId'));
    const vpc = need(ctx, 'vpcs', subnet.vpcId);
    const block = newIpv6Block(ctx, vpc, required(input.Ipv6CidrBlock, 'ipv6CidrBlock'), subnet);
    if (ipv6CidrsOf(subnet).length >= MAX_IPV6_CIDRS) {
      throw new Ec2Error(
        'CidrLimitExceeded',
        `This subnet ${subnet.id} has met its maximum number of allowed IPv6 CIDRs: ${MAX_IPV6_CIDRS}`,
      );
    }
    ctx.draft.put('subnets', subnet.id, { ...subnet, ipv6Cidrs: [block] });
    return { SubnetId: subnet.id, Ipv6CidrBlockAssociation: ipv6Association(block, 'associating') };
  },

  DisassociateSubnetCidrBlock: (ctx, input) => {
    const id = required(input.AssociationId, 'associationId');
    const { state } = ctx.draft;
    const subnet = Object.values(state.subnets).find((s) => s.ipv6Cidrs?.some((c) => c.associationId === id));
    const block = subnet?.ipv6Cidrs?.find((c) => c.associationId === id);
    if (!subnet || !block) {
      throw new Ec2Error(
        'InvalidSubnetCidrBlockAssociationID.NotFound',
        `The subnet CIDR block association ID '${id}' does not exist`,
      );
    }
    const enis = Object.values(state.networkInterfaces).filter((eni) => eni.subnetId === subnet.id);
    if (isBlockHeld(enis, block.cidr)) {
      throw new Ec2Error(
        'InvalidCidrBlock.InUse',
        `The subnet ${subnet.id} has network interfaces with addresses of CIDR block ${block.cidr}`,
      );
    }
    if (reservationsOf(state, subnet.id, 6).length > 0)
      throw new Ec2Error(
        'InvalidCidrBlock.InUse',
        `The subnet ${subnet.id} has CIDR reservations of CIDR block ${block.cidr}`,
      );
    if (subnet.ipv6Native)
      throw new Ec2Error(
        'OperationNotPermitted',
        `The IPv6 CIDR block of the IPv6-only subnet ${subnet.id} may not be disassociated`,
      );
    const { ipv6Cidrs: _, assignIpv6AddressOnCreation: _assign, ...rest } = subnet;
    ctx.draft.put('subnets', subnet.id, rest);
    return { SubnetId: subnet.id, Ipv6CidrBlockAssociation: ipv6Association(block, 'disassociating') };
  },
};
