// NAT gateways: an interface of EC2's own in a subnet, with an Elastic IP when it is public. `pending`, then `available` or
// `failed`; `deleting`, then `deleted`, and shown for an hour after its end. Fails with NatGatewayNotFound,
// NatGatewayMalformed, NatGatewayLimitExceeded, and with what a new interface fails with.
import type * as ec2 from '@aws-sdk/client-ec2';
import { type Context, later, need, newId, wordsOf } from '../context.ts';
import { conflict, Ec2Error, invalidValue, missing, notFound, required } from '../errors.ts';
import type { NatGateway, PublicAddress, Subnet } from '../model.ts';
import { select } from '../select.ts';
import { allocated } from './elastic-ips.ts';
import { makeInterface, removeInterface } from './interfaces.ts';
import { oneOf } from './metadata-options.ts';
import { tagList, tagsOnCreate } from './tags.ts';
import type { Meanings } from './types.ts';

/** Of one zone, as an account has it until it asks for more. */
const MAX_IN_ZONE = 5;
/** EC2 shows a deleted or failed one for about an hour. */
const ENDED_SHOWN_MS = 3_600_000;

function addressOf(gateway: NatGateway): ec2.NatGatewayAddress {
  const { state, allocationId, publicIp, networkInterfaceId, privateIp, associationId, failure } = gateway;
  const status = { pending: 'associating', available: 'succeeded', deleting: 'disassociating' } as const;
  return {
    ...(allocationId === undefined ? {} : { AllocationId: allocationId }),
    ...(networkInterfaceId === undefined ? {} : { NetworkInterfaceId: networkInterfaceId }),
    ...(privateIp === undefined ? {} : { PrivateIp: privateIp }),
    ...(publicIp === undefined ? {} : { PublicIp: publicIp }),
    ...(associationId === undefined ? {} : { AssociationId: associationId }),
    IsPrimary: true,
    ...(state === 'failed'
      ? { Status: 'failed', FailureMessage: failure?.message }
      : { Status: state === 'deleted' ? 'disassociating' : status[state] }),
  };
}

const gatewayAnswer = (gateway: NatGateway): ec2.NatGateway => ({
  NatGatewayId: gateway.id,
  VpcId: gateway.vpcId,
  SubnetId: gateway.subnetId,
  State: gateway.state,
  ConnectivityType: gateway.connectivity,
  AvailabilityMode: 'zonal',
  CreateTime: new Date(gateway.createTime),
  ...(gateway.state === 'deleted' && gateway.endedAt !== undefined
    ? { DeleteTime: new Date(gateway.endedAt) }
    : {}),
  ...(gateway.state === 'failed'
    ? { FailureCode: gateway.failure!.code, FailureMessage: gateway.failure!.message }
    : {}),
  NatGatewayAddresses: [addressOf(gateway)],
  Tags: tagList(gateway.tags),
});

/** What EC2 finds out only after it has answered. */
function whyNot(ctx: Context, subnet: Subnet, address: PublicAddress | undefined): NatGateway['failure'] {
  if (address === undefined) return undefined;
  if (!Object.values(ctx.draft.state.internetGateways).some((one) => one.vpcId === subnet.vpcId))
    return {
      code: 'Gateway.NotAttached',
      message: `Network ${subnet.vpcId} has no Internet gateway attached`,
    };
  if (address.associationId === undefined) return undefined;
  return {
    code: 'Resource.AlreadyAssociated',
    message: `Elastic IP address ${address.allocationId} is already associated`,
  };
}

function checkCount(ctx: Context, subnet: Subnet): void {
  const { state } = ctx.draft;
  const there = Object.values(state.natGateways).filter(
    (one) => one.endedAt === undefined && state.subnets[one.subnetId]?.zone === subnet.zone,
  );
  if (there.length >= MAX_IN_ZONE)
    throw new Ec2Error(
      'NatGatewayLimitExceeded',
      `Performing this operation would exceed the limit of ${MAX_IN_ZONE} NAT gateways in ${subnet.zone}`,
    );
}

/** Its interface, in use from the start, and the Elastic IP's association with it. */
function equip(
  ctx: Context,
  gateway: NatGateway,
  subnet: Subnet,
  primaryIp: string | undefined,
  address: PublicAddress | undefined,
): NatGateway {
  const made = makeInterface(ctx, {
    subnet,
    description: `Interface for NAT Gateway ${gateway.id}`,
    primaryIp,
    ipv6: { addresses: [], addressCount: 0, prefixes: [], prefixCount: undefined },
    type: 'nat_gateway',
  });
  ctx.draft.remove('transitions', `interface-available:${made.id}`);
  ctx.draft.put('networkInterfaces', made.id, {
    ...made,
    natGatewayId: gateway.id,
    status: 'in-use',
    sourceDestCheck: false,
    groupIds: [],
    requesterId: 'amazon-aws',
  });
  const equipped = { ...gateway, networkInterfaceId: made.id, privateIp: made.privateIps[0]! };
  if (address === undefined) return equipped;
  const associationId = newId(ctx, 'eipassoc');
  ctx.draft.put('publicAddresses', address.publicIp, {
    ...address,
    associationId,
    networkInterfaceId: made.id,
    privateIp: equipped.privateIp,
  });
  return { ...equipped, publicIp: address.publicIp, associationId };
}

export const natGatewayActions: Meanings<'CreateNatGateway' | 'DescribeNatGateways' | 'DeleteNatGateway'> = {
  CreateNatGateway: (ctx, input) => {
    const connectivity =
      oneOf(input.ConnectivityType, ['public', 'private'] as const, 'ConnectivityType') ?? 'public';
    const subnet = need(ctx, 'subnets', required(input.SubnetId, 'SubnetId'));
    if (subnet.ipv6Native)
      throw invalidValue(
        `The subnet '${subnet.id}' is IPv6-only; a NAT gateway has an IPv4 address of its subnet.`,
      );
    if (connectivity === 'private' && input.AllocationId !== undefined)
      throw conflict('An Elastic IP address cannot be specified for a NAT gateway of private connectivity');
    if (connectivity === 'public' && input.AllocationId === undefined) throw missing('AllocationId');
    const address =
      input.AllocationId === undefined ? undefined : allocated(ctx, input.AllocationId, undefined);
    checkCount(ctx, subnet);
    const gateway: NatGateway = {
      id: newId(ctx, 'nat'),
      vpcId: subnet.vpcId,
      subnetId: subnet.id,
      connectivity,
      state: 'pending',
      ...(input.AllocationId === undefined ? {} : { allocationId: input.AllocationId }),
      createTime: ctx.now,
      tags: tagsOnCreate(input.TagSpecifications, 'natgateway'),
    };
    const failure = whyNot(ctx, subnet, address);
    const made = failure
      ? { ...gateway, failure }
      : equip(ctx, gateway, subnet, input.PrivateIpAddress, address);
    ctx.draft.put('natGateways', gateway.id, made);
    later(ctx, 'nat-gateway-available', gateway.id, ctx.latencies.createNatGateway);
    return {
      NatGateway: gatewayAnswer(made),
      ...(input.ClientToken === undefined ? {} : { ClientToken: input.ClientToken }),
    };
  },

  DescribeNatGateways: (ctx, input) => {
    const { items, nextToken } = select<NatGateway>(
      {
        items: Object.values(ctx.draft.state.natGateways),
        idOf: (gateway) => gateway.id,
        tagsOf: (gateway) => gateway.tags,
        words: wordsOf('natGateways'),
        filters: {
          'nat-gateway-id': (gateway) => gateway.id,
          state: (gateway) => gateway.state,
          'subnet-id': (gateway) => gateway.subnetId,
          'vpc-id': (gateway) => gateway.vpcId,
        },
      },
      {
        ids: input.NatGatewayIds,
        Filters: input.Filter,
        MaxResults: input.MaxResults,
        NextToken: input.NextToken,
      },
    );
    return { NatGateways: items.map(gatewayAnswer), ...(nextToken ? { NextToken: nextToken } : {}) };
  },

  DeleteNatGateway: (ctx, input) => {
    const gateway = need(ctx, 'natGateways', required(input.NatGatewayId, 'NatGatewayId'));
    if (gateway.state === 'deleted') throw notFound(wordsOf('natGateways'), [gateway.id]);
    if (gateway.state !== 'deleting') {
      ctx.draft.remove('transitions', `nat-gateway-available:${gateway.id}`);
      const { endedAt: _, ...going } = gateway;
      ctx.draft.put('natGateways', gateway.id, { ...going, state: 'deleting' });
      later(ctx, 'nat-gateway-deleted', gateway.id, ctx.latencies.deleteNatGateway);
    }
    return { NatGatewayId: gateway.id };
  },
};

export function natGatewayComesTrue(ctx: Context, id: string): void {
  const gateway = ctx.draft.state.natGateways[id];
  if (gateway?.state !== 'pending') return;
  const ended = gateway.failure
    ? { state: 'failed' as const, endedAt: ctx.now }
    : { state: 'available' as const };
  ctx.draft.put('natGateways', id, { ...gateway, ...ended });
}

/** Its interface goes, and its Elastic IP is free again. */
export function natGatewayEnds(ctx: Context, id: string): void {
  const { draft } = ctx;
  const gateway = draft.state.natGateways[id];
  if (gateway?.state !== 'deleting') return;
  const eni = draft.state.networkInterfaces[gateway.networkInterfaceId ?? ''];
  if (eni) removeInterface(ctx, eni);
  draft.put('natGateways', id, { ...gateway, state: 'deleted', endedAt: ctx.now });
}

export function forgetNatGateways(ctx: Context): void {
  for (const { id, endedAt } of Object.values(ctx.draft.state.natGateways))
    if (endedAt !== undefined && endedAt + ENDED_SHOWN_MS <= ctx.now) ctx.draft.remove('natGateways', id);
}
