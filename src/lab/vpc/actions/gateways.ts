// Internet gateways: one for a VPC at a time. Fails with Resource.AlreadyAssociated, Gateway.NotAttached,
// DependencyViolation.
import type * as ec2 from '@aws-sdk/client-ec2';
import { type Context, need, newId, wordsOf } from '../context.ts';
import { Ec2Error, invalidValue, required } from '../errors.ts';
import type { InternetGateway } from '../model.ts';
import { select } from '../select.ts';
import { tagList, tagsOnCreate } from './tags.ts';
import type { Meanings } from './types.ts';

const gatewayAnswer = (ctx: Context, gateway: InternetGateway): ec2.InternetGateway => ({
  InternetGatewayId: gateway.id,
  OwnerId: ctx.draft.state.accountId,
  // EC2 says `available` here, not `attached`.
  Attachments:
    gateway.vpcId === undefined ? [] : [{ VpcId: gateway.vpcId, State: 'available' as ec2.AttachmentStatus }],
  Tags: tagList(gateway.tags),
});

export const gatewayActions: Meanings<
  | 'CreateInternetGateway'
  | 'DescribeInternetGateways'
  | 'AttachInternetGateway'
  | 'DetachInternetGateway'
  | 'DeleteInternetGateway'
> = {
  CreateInternetGateway: (ctx, input) => {
    const gateway = {
      id: newId(ctx, 'igw'),
      tags: tagsOnCreate(input.TagSpecifications, 'internet-gateway'),
    };
    ctx.draft.put('internetGateways', gateway.id, gateway);
    return { InternetGateway: gatewayAnswer(ctx, gateway) };
  },

  DescribeInternetGateways: (ctx, input) => {
    const { items, nextToken } = select<InternetGateway>(
      {
        items: Object.values(ctx.draft.state.internetGateways),
        idOf: (gateway) => gateway.id,
        tagsOf: (gateway) => gateway.tags,
        words: wordsOf('internetGateways'),
        filters: {
          'internet-gateway-id': (gateway) => gateway.id,
          'attachment.vpc-id': (gateway) => gateway.vpcId,
          'attachment.state': (gateway) => (gateway.vpcId === undefined ? undefined : 'available'),
          'owner-id': () => ctx.draft.state.accountId,
        },
      },
      { ...input, ids: input.InternetGatewayIds },
    );
    return {
      InternetGateways: items.map((gateway) => gatewayAnswer(ctx, gateway)),
      ...(nextToken ? { NextToken: nextToken } : {}),
    };
  },

  AttachInternetGateway: (ctx, input) => {
    const gateway = need(ctx, 'internetGateways', required(input.InternetGatewayId, 'internetGatewayId'));
    const vpc = need(ctx, 'vpcs', required(input.VpcId, 'vpcId'));
    if (gateway.vpcId !== undefined) {
      throw new Ec2Error(
        'Resource.AlreadyAssociated',
        `resource ${gateway.id} is already attached to network ${gateway.vpcId}`,
      );
    }
    if (Object.values(ctx.draft.state.internetGateways).some((g) => g.vpcId === vpc.id)) {
      throw invalidValue(`Network ${vpc.id} already has an internet gateway attached`);
    }
    ctx.draft.put('internetGateways', gateway.id, { ...gateway, vpcId: vpc.id });
    return {};
  },

  DetachInternetGateway: (ctx, input) => {
    const { state } = ctx.draft;
    const gateway = need(ctx, 'internetGateways', required(input.InternetGatewayId, 'internetGatewayId'));
    const vpc = need(ctx, 'vpcs', required(input.VpcId, 'vpcId'));
    if (gateway.vpcId !== vpc.id) {
      throw new Ec2Error(
        'Gateway.NotAttached',
        `resource ${gateway.id} is not attached to network ${vpc.id}`,
      );
    }
    const mapped = Object.values(state.publicAddresses).filter(
      (a) =>
        a.networkInterfaceId !== undefined && state.networkInterfaces[a.networkInterfaceId]?.vpcId === vpc.id,
    );
    if (mapped.length > 0) {
      throw new Ec2Error(
        'DependencyViolation',
        `Network ${vpc.id} has some mapped public address(es). Please unmap those public address(es) before detaching the gateway.`,
      );
    }
    const { vpcId: _, ...detached } = gateway;
    ctx.draft.put('internetGateways', gateway.id, detached);
    return {};
  },

  DeleteInternetGateway: (ctx, input) => {
    const gateway = need(ctx, 'internetGateways', required(input.InternetGatewayId, 'internetGatewayId'));
    if (gateway.vpcId !== undefined) {
      throw new Ec2Error(
        'DependencyViolation',
        `The internetGateway '${gateway.id}' has dependencies and cannot be deleted.`,
      );
    }
    ctx.draft.remove('internetGateways', gateway.id);
    return {};
  },
};
