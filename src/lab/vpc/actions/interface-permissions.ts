// Permissions of other accounts on an interface. The lab has one account, so that they are kept, told and end with their
// interface; nothing asks for one. Source: Amazon EC2 API Reference, CreateNetworkInterfacePermission.
import type * as ec2 from '@aws-sdk/client-ec2';
import { need, newId, wordsOf } from '../context.ts';
import { Ec2Error, invalidValue, required } from '../errors.ts';
import type { InterfacePermission } from '../model.ts';
import { select } from '../select.ts';
import { oneOf } from './metadata-options.ts';
import type { Meanings } from './types.ts';

const KINDS = ['INSTANCE-ATTACH', 'EIP-ASSOCIATE'] as const;

const permissionAnswer = (row: InterfacePermission): ec2.NetworkInterfacePermission => ({
  NetworkInterfacePermissionId: row.id,
  NetworkInterfaceId: row.networkInterfaceId,
  AwsAccountId: row.awsAccountId,
  Permission: row.permission,
  PermissionState: { State: 'granted' },
});

/** Filters bear the object's name. */
const named = (name: string): string => `network-interface-permission.${name}`;

export const interfacePermissionActions: Meanings<
  | 'CreateNetworkInterfacePermission'
  | 'DeleteNetworkInterfacePermission'
  | 'DescribeNetworkInterfacePermissions'
> = {
  CreateNetworkInterfacePermission: (ctx, input) => {
    const eni = need(ctx, 'networkInterfaces', required(input.NetworkInterfaceId, 'networkInterfaceId'));
    const permission = oneOf(required(input.Permission, 'permission'), KINDS, 'Permission')!;
    const awsAccountId = required(input.AwsAccountId, 'awsAccountId');
    if (!/^\d{12}$/.test(awsAccountId))
      throw invalidValue(
        `Value (${awsAccountId}) for parameter awsAccountId is invalid. Expecting 12 digits.`,
      );
    const there = Object.values(ctx.draft.state.interfacePermissions).some(
      (row) =>
        row.networkInterfaceId === eni.id &&
        row.awsAccountId === awsAccountId &&
        row.permission === permission,
    );
    if (there)
      throw new Ec2Error(
        'InvalidPermission.Duplicate',
        `The account ${awsAccountId} has the permission ${permission} on '${eni.id}' already.`,
      );
    const row = { id: newId(ctx, 'eni-perm'), networkInterfaceId: eni.id, awsAccountId, permission };
    ctx.draft.put('interfacePermissions', row.id, row);
    return { InterfacePermission: permissionAnswer(row) };
  },

  DeleteNetworkInterfacePermission: (ctx, input) => {
    const id = required(input.NetworkInterfacePermissionId, 'networkInterfacePermissionId');
    const row = need(ctx, 'interfacePermissions', id);
    ctx.draft.remove('interfacePermissions', row.id);
    return { Return: true };
  },

  DescribeNetworkInterfacePermissions: (ctx, input) => {
    const { items, nextToken } = select<InterfacePermission>(
      {
        items: Object.values(ctx.draft.state.interfacePermissions),
        idOf: (row) => row.id,
        words: wordsOf('interfacePermissions'),
        filters: {
          [named('network-interface-permission-id')]: (row) => row.id,
          [named('network-interface-id')]: (row) => row.networkInterfaceId,
          [named('aws-account-id')]: (row) => row.awsAccountId,
          [named('aws-service')]: () => undefined,
          [named('permission')]: (row) => row.permission,
        },
        maxPage: 255,
      },
      { ...input, ids: input.NetworkInterfacePermissionIds },
    );
    return {
      NetworkInterfacePermissions: items.map(permissionAnswer),
      ...(nextToken ? { NextToken: nextToken } : {}),
    };
  },
};
