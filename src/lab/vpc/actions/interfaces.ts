// Elastic network interfaces: create, describe, delete, and their attributes. An interface keeps its primary address
// for life. Fails with the codes an allocator meets: InsufficientFreeAddressesInSubnet, InvalidParameterValue for a
// delete while in use, InvalidNetworkInterfaceID.NotFound, InvalidGroup.NotFound.
import type * as ec2 from '@aws-sdk/client-ec2';
import { localMac } from '../../../base/mac.ts';
import { claimAddresses, claimPrefixes, takeAddresses, takePrefixes } from '../addresses.ts';
import { type Context, later, need, newId, wordsOf } from '../context.ts';
import { conflict, Ec2Error, invalidValue, oneAttribute, required } from '../errors.ts';
import { interfaceTypes, type NetworkInterface, type Subnet } from '../model.ts';
import { select } from '../select.ts';
import { dropOfInterface } from '../trunks.ts';
import { ownInterface } from './attachments.ts';
import { dropAssociations } from './elastic-ips.ts';
import { attachmentAnswer, groupIdentifiers, interfaceAnswer, publicAddressOf } from './interface-answers.ts';
import { interfaceFilters } from './interface-filters.ts';
import { firstIpv6, type Ipv6Asked, ipv6Asked } from './ipv6-addresses.ts';
import { oneOf } from './metadata-options.ts';
import { tagsOnCreate } from './tags.ts';
import type { Meanings } from './types.ts';

/** More than the largest type takes; an interface that is not attached has no type to limit it. */
const MAX_ADDRESSES = 256;
const MAX_GROUPS = 5;

export type NewInterface = {
  subnet: Subnet;
  description?: string | undefined;
  groups?: string[] | undefined;
  primaryIp?: string | undefined;
  secondaryIps?: string[];
  secondaryCount?: number | undefined;
  prefixes?: string[];
  prefixCount?: number | undefined;
  ipv6?: Ipv6Asked;
  primaryIpv6?: boolean | undefined;
  clientToken?: string | undefined;
  type?: string | undefined;
  tags?: Record<string, string>;
};

/** The groups of an interface: those asked for, all of the VPC, else the VPC's default group. */
export function interfaceGroups(ctx: Context, vpcId: string, asked: string[] | undefined): string[] {
  const groups = Object.values(ctx.draft.state.securityGroups);
  if (!asked?.length) return groups.filter((g) => g.vpcId === vpcId && g.name === 'default').map((g) => g.id);
  const ids = [...new Set(asked)];
  for (const id of ids) {
    const group = need(ctx, 'securityGroups', id);
    if (group.vpcId !== vpcId) {
      throw new Ec2Error(
        'InvalidGroup.NotFound',
        `The security group '${id}' does not exist in VPC '${vpcId}'`,
      );
    }
  }
  if (ids.length > MAX_GROUPS) {
    throw new Ec2Error(
      'SecurityGroupsPerInterfaceLimitExceeded',
      `${ids.length} groups, the limit is ${MAX_GROUPS}`,
    );
  }
  return ids;
}

/** Puts a new interface into the draft: `pending`, then `available` after its latency. */
export function makeInterface(ctx: Context, asked: NewInterface): NetworkInterface {
  const { subnet, secondaryIps = [], secondaryCount = 0, prefixes = [], prefixCount = 0 } = asked;
  const interfaceType = oneOf(asked.type, interfaceTypes, 'InterfaceType') ?? 'interface';
  const hasIpv6 = interfaceType !== 'efa-only';
  const hasAddresses = hasIpv6 && !subnet.ipv6Native;
  const ways = (
    [
      [secondaryIps.length, 'specific private IPv4 addresses'],
      [secondaryCount, 'a count of private IPv4 addresses'],
      [prefixes.length, 'specific IPv4 prefixes'],
      [prefixCount, 'a count of IPv4 prefixes'],
    ] as const
  ).filter(([number]) => number !== 0);
  if (ways.length > 1) throw conflict(`You can't specify ${ways[1]![1]} if you've specified ${ways[0]![1]}.`);
  if (subnet.ipv6Native && (ways.length > 0 || asked.primaryIp !== undefined))
    throw conflict(`IPv4 addresses and prefixes are not supported in the IPv6-only subnet ${subnet.id}`);
  if (!hasAddresses && (ways.length > 0 || asked.primaryIp !== undefined))
    throw conflict('An EFA-only network interface has no IP addresses and no prefixes.');
  if (
    !Number.isInteger(secondaryCount) ||
    secondaryCount < 0 ||
    !Number.isInteger(prefixCount) ||
    prefixCount < 0
  ) {
    throw invalidValue('The count of addresses or prefixes must be a number from 0');
  }
  const slots = 1 + secondaryIps.length + secondaryCount + prefixes.length + prefixCount;
  if (slots > MAX_ADDRESSES) {
    throw new Ec2Error(
      'PrivateIpAddressLimitExceeded',
      `Number of private addresses will exceed limit. (${slots} asked for, the limit is ${MAX_ADDRESSES})`,
    );
  }
  const named = [...(asked.primaryIp === undefined ? [] : [asked.primaryIp]), ...secondaryIps];
  if (new Set(named).size !== named.length) throw invalidValue(`Duplicate private IP address in the request`);
  const claimed = claimAddresses(ctx, subnet, named);
  const claimedPrefixes = claimPrefixes(ctx, subnet, prefixes);
  const eni: NetworkInterface = {
    id: newId(ctx, 'eni'),
    mac: newMac(ctx),
    vpcId: subnet.vpcId,
    subnetId: subnet.id,
    zone: subnet.zone,
    description: asked.description ?? '',
    interfaceType,
    status: 'pending',
    sourceDestCheck: true,
    groupIds: interfaceGroups(ctx, subnet.vpcId, asked.groups),
    privateIps: claimed,
    ...(hasIpv6 ? firstIpv6(ctx, subnet, asked.ipv6) : { ipv6Addresses: [], ipv6Prefixes: [] }),
    ...(asked.primaryIpv6 ? { primaryIpv6: true as const } : {}),
    ipv4Prefixes: claimedPrefixes,
    requesterId: ctx.caller.userId,
    ...(asked.clientToken === undefined ? {} : { clientToken: asked.clientToken }),
    createTime: ctx.now,
    tags: asked.tags ?? {},
  };
  if (eni.primaryIpv6) needIpv6(eni);
  // What was named is held first, then blocks, then single addresses around them.
  ctx.draft.put('networkInterfaces', eni.id, eni);
  const blocks: NetworkInterface = {
    ...eni,
    ipv4Prefixes: [...claimedPrefixes, ...takePrefixes(ctx, subnet, prefixCount)],
  };
  ctx.draft.put('networkInterfaces', eni.id, blocks);
  const own = asked.primaryIp === undefined && hasAddresses ? 1 : 0;
  const chosen = takeAddresses(ctx, subnet, secondaryCount + own);
  const primary = asked.primaryIp === undefined ? chosen.slice(0, 1) : claimed.slice(0, 1);
  const others = asked.primaryIp === undefined ? claimed : claimed.slice(1);
  const whole = {
    ...blocks,
    privateIps: [...primary, ...others, ...chosen.slice(asked.primaryIp === undefined ? 1 : 0)],
  };
  ctx.draft.put('networkInterfaces', eni.id, whole);
  later(ctx, 'interface-available', eni.id, ctx.latencies.createInterface);
  return whole;
}

/** A primary IPv6 address is the first of those that there are. */
function needIpv6(eni: NetworkInterface): void {
  if (eni.ipv6Addresses.length === 0)
    throw invalidValue(
      `A primary IPv6 address needs an IPv6 address on the interface, which ${eni.id} lacks.`,
    );
}

function newMac(ctx: Context): string {
  const taken = new Set(Object.values(ctx.draft.state.networkInterfaces).map((eni) => eni.mac));
  for (;;) {
    const mac = localMac(Uint8Array.of(0x02, ...ctx.random(5)));
    if (!taken.has(mac)) return mac;
  }
}

/** The primary and the other addresses of a PrivateIpAddresses list beside a single PrivateIpAddress. */
export function namedAddresses(
  single: string | undefined,
  list: readonly ec2.PrivateIpAddressSpecification[] | undefined,
): { primaryIp?: string; secondaryIps: string[] } {
  const primaries = (list ?? [])
    .filter((a) => a.Primary)
    .map((a) => required(a.PrivateIpAddress, 'privateIpAddress'));
  if (primaries.length + (single === undefined ? 0 : 1) > 1) {
    throw conflict('Only one primary private IP address can be specified');
  }
  const primaryIp = single ?? primaries[0];
  const secondaryIps = (list ?? [])
    .filter((a) => !a.Primary)
    .map((a) => required(a.PrivateIpAddress, 'privateIpAddress'));
  return { ...(primaryIp === undefined ? {} : { primaryIp }), secondaryIps };
}

/** Removes an interface that is not attached, with what hung on it. */
export function removeInterface(ctx: Context, eni: NetworkInterface): void {
  dropAssociations(ctx, eni.id, eni.privateIps);
  dropOfInterface(ctx.draft, eni);
  for (const transition of Object.values(ctx.draft.state.transitions)) {
    if (transition.objectId === eni.id) ctx.draft.remove('transitions', transition.id);
  }
  ctx.draft.remove('networkInterfaces', eni.id);
}

export const interfaceActions: Meanings<
  | 'CreateNetworkInterface'
  | 'DescribeNetworkInterfaces'
  | 'DeleteNetworkInterface'
  | 'DescribeNetworkInterfaceAttribute'
  | 'ModifyNetworkInterfaceAttribute'
  | 'ResetNetworkInterfaceAttribute'
> = {
  CreateNetworkInterface: (ctx, input) => {
    const eni = makeInterface(ctx, {
      subnet: need(ctx, 'subnets', required(input.SubnetId, 'subnetId')),
      description: input.Description,
      groups: input.Groups,
      ...namedAddresses(input.PrivateIpAddress, input.PrivateIpAddresses),
      secondaryCount: input.SecondaryPrivateIpAddressCount,
      prefixes: (input.Ipv4Prefixes ?? []).map((p) => required(p.Ipv4Prefix, 'ipv4Prefix')),
      prefixCount: input.Ipv4PrefixCount,
      ipv6: ipv6Asked(input),
      primaryIpv6: input.EnablePrimaryIpv6,
      clientToken: input.ClientToken,
      type: input.InterfaceType,
      tags: tagsOnCreate(input.TagSpecifications, 'network-interface'),
    });
    return {
      NetworkInterface: interfaceAnswer(ctx.draft.state, eni),
      ...(input.ClientToken === undefined ? {} : { ClientToken: input.ClientToken }),
    };
  },

  DescribeNetworkInterfaces: (ctx, input) => {
    const { state } = ctx.draft;
    if (input.NetworkInterfaceIds?.length && input.MaxResults !== undefined) {
      throw conflict('The parameter NetworkInterfaceIds cannot be used with the parameter MaxResults');
    }
    const { items, nextToken } = select<NetworkInterface>(
      {
        items: Object.values(state.networkInterfaces),
        idOf: (eni) => eni.id,
        tagsOf: (eni) => eni.tags,
        words: wordsOf('networkInterfaces'),
        filters: interfaceFilters(state),
      },
      { ...input, ids: input.NetworkInterfaceIds },
    );
    return {
      NetworkInterfaces: items.map((eni) => interfaceAnswer(state, eni)),
      ...(nextToken ? { NextToken: nextToken } : {}),
    };
  },

  DeleteNetworkInterface: (ctx, input) => {
    const eni = need(ctx, 'networkInterfaces', required(input.NetworkInterfaceId, 'networkInterfaceId'));
    if (eni.attachment || eni.natGatewayId !== undefined)
      throw invalidValue(`Network interface '${eni.id}' is currently in use.`);
    removeInterface(ctx, eni);
    return {};
  },

  DescribeNetworkInterfaceAttribute: (ctx, input) => {
    const { state } = ctx.draft;
    const eni = need(ctx, 'networkInterfaces', required(input.NetworkInterfaceId, 'networkInterfaceId'));
    const attachment = attachmentAnswer(state, eni);
    switch (required(input.Attribute, 'attribute')) {
      case 'description':
        return { NetworkInterfaceId: eni.id, Description: { Value: eni.description } };
      case 'groupSet':
        return { NetworkInterfaceId: eni.id, Groups: groupIdentifiers(state, eni.groupIds) };
      case 'sourceDestCheck':
        return { NetworkInterfaceId: eni.id, SourceDestCheck: { Value: eni.sourceDestCheck } };
      case 'attachment':
        return { NetworkInterfaceId: eni.id, ...(attachment ? { Attachment: attachment } : {}) };
      case 'associatePublicIpAddress': {
        const address = publicAddressOf(state, eni.id, eni.privateIps[0]);
        const AssociatePublicIpAddress = address !== undefined && address.allocationId === undefined;
        return { NetworkInterfaceId: eni.id, AssociatePublicIpAddress };
      }
      default:
        throw invalidValue(
          `Value (${input.Attribute}) for parameter attribute is invalid. Unknown attribute.`,
        );
    }
  },

  ModifyNetworkInterfaceAttribute: (ctx, input) => {
    const eni = ownInterface(ctx, input.NetworkInterfaceId);
    const { Description, SourceDestCheck, Groups, Attachment, EnablePrimaryIpv6 } = input;
    oneAttribute([Description, SourceDestCheck, Groups, Attachment, EnablePrimaryIpv6]);
    const changed = { ...eni };
    if (EnablePrimaryIpv6 === false && eni.primaryIpv6)
      throw invalidValue(`The primary IPv6 address of ${eni.id} cannot be disabled once it is enabled.`);
    if (EnablePrimaryIpv6) {
      needIpv6(eni);
      changed.primaryIpv6 = true;
    }
    if (Description) changed.description = Description.Value ?? '';
    if (SourceDestCheck?.Value !== undefined) changed.sourceDestCheck = SourceDestCheck.Value;
    if (Groups)
      changed.groupIds = interfaceGroups(
        ctx,
        eni.vpcId,
        required(Groups.length ? Groups : undefined, 'groupSet'),
      );
    if (Attachment) {
      if (
        !eni.attachment ||
        (Attachment.AttachmentId !== undefined && Attachment.AttachmentId !== eni.attachment.id)
      ) {
        throw new Ec2Error(
          'InvalidAttachmentID.NotFound',
          `The attachment '${Attachment.AttachmentId ?? ''}' does not exist for interface '${eni.id}'`,
        );
      }
      const deleteOnTermination = Attachment.DeleteOnTermination ?? eni.attachment.deleteOnTermination;
      changed.attachment = { ...eni.attachment, deleteOnTermination };
    }
    ctx.draft.put('networkInterfaces', eni.id, changed);
    return {};
  },

  ResetNetworkInterfaceAttribute: (ctx, input) => {
    const eni = ownInterface(ctx, input.NetworkInterfaceId);
    ctx.draft.put('networkInterfaces', eni.id, { ...eni, sourceDestCheck: true });
    return {};
  },
};
