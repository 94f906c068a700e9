// Egress-only internet gateways: IPv6 connections go out by them, and none come in. Attached to one VPC for life.
// Fails with InvalidEgressOnlyInternetGatewayId.NotFound, InvalidVpcID.NotFound.
import type * as ec2 from '@aws-sdk/client-ec2';
import { need, newId, wordsOf } from '../context.ts';
import { required } from '../errors.ts';
import type { EgressOnlyInternetGateway } from '../model.ts';
import { select } from '../select.ts';
import { tagList, tagsOnCreate } from './tags.ts';
import type { Meanings } from './types.ts';

const gatewayAnswer = (gateway: EgressOnlyInternetGateway): ec2.EgressOnlyInternetGateway => ({
  EgressOnlyInternetGatewayId: gateway.id,
  Attachments: [{ VpcId: gateway.vpcId, State: 'attached' }],
  Tags: tagList(gateway.tags),
});

export const egressOnlyActions: Meanings<
  'CreateEgressOnlyInternetGateway' | 'DescribeEgressOnlyInternetGateways' | 'DeleteEgressOnlyInternetGateway'
> = {
  CreateEgressOnlyInternetGateway: (ctx, input) => {
    const vpc = need(ctx, 'vpcs', required(input.VpcId, 'vpcId'));
    const gateway = {
      id: newId(ctx, 'eigw'),
      vpcId: vpc.id,
      tags: tagsOnCreate(input.TagSpecifications, 'egress-only-internet-gateway'),
    };
    ctx.draft.put('egressOnlyInternetGateways', gateway.id, gateway);
    return {
      EgressOnlyInternetGateway: gatewayAnswer(gateway),
      ...(input.ClientToken === undefined ? {} : { ClientToken: input.ClientToken }),
    };
  },

  DescribeEgressOnlyInternetGateways: (ctx, input) => {
    const { items, nextToken } = select<EgressOnlyInternetGateway>(
      {
        items: Object.values(ctx.draft.state.egressOnlyInternetGateways),
        idOf: (gateway) => gateway.id,
        tagsOf: (gateway) => gateway.tags,
        words: wordsOf('egressOnlyInternetGateways'),
        filters: {},
      },
      { ...input, ids: input.EgressOnlyInternetGatewayIds },
    );
    return {
      EgressOnlyInternetGateways: items.map(gatewayAnswer),
      ...(nextToken ? { NextToken: nextToken } : {}),
    };
  },

  DeleteEgressOnlyInternetGateway: (ctx, input) => {
    const id = required(input.EgressOnlyInternetGatewayId, 'egressOnlyInternetGatewayId');
    ctx.draft.remove('egressOnlyInternetGateways', need(ctx, 'egressOnlyInternetGateways', id).id);
    return { ReturnCode: true };
  },
};
