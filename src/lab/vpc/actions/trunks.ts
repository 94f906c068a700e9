// Branch interfaces on a trunk, by VLAN id. A branch is in use while it is associated, and shows the type `branch`; a
// delete of it, or of its trunk, ends the association. Source: Amazon EC2 API Reference, AssociateTrunkInterface.
// Fails with the NotFound of an id, InvalidNetworkInterface.InUse, IncorrectState for a trunk that is not attached,
// AttachmentLimitExceeded (branches of the type), InvalidParameterValue and InvalidParameterCombination.
import type * as ec2 from '@aws-sdk/client-ec2';
import { type Context, need, newId, wordsOf } from '../context.ts';
import { conflict, Ec2Error, invalidValue, required } from '../errors.ts';
import type { NetworkInterface, TrunkAssociation } from '../model.ts';
import { select } from '../select.ts';
import { associationsOn, checkBranches, dropAssociation, isInUse } from '../trunks.ts';
import type { Meanings } from './types.ts';

/** IEEE 802.1Q: 0 is no VLAN, 4095 is reserved. */
const MAX_VLAN = 4094;

const associationAnswer = (row: TrunkAssociation): ec2.TrunkInterfaceAssociation => ({
  AssociationId: row.id,
  BranchInterfaceId: row.branchInterfaceId,
  TrunkInterfaceId: row.trunkInterfaceId,
  InterfaceProtocol: 'VLAN',
  VlanId: row.vlanId,
});

const clientToken = (token: string | undefined) => (token === undefined ? {} : { ClientToken: token });

/** The trunk's part of an association: of the right type, attached, with room for one more branch and this VLAN id. */
function checkTrunk(ctx: Context, trunk: NetworkInterface, vlanId: number): void {
  const { state } = ctx.draft;
  if (trunk.interfaceType !== 'trunk')
    throw invalidValue(`The network interface '${trunk.id}' is not a trunk network interface.`);
  const instance = trunk.attachment && state.instances[trunk.attachment.instanceId];
  if (!instance || trunk.attachment?.status === 'detaching')
    throw new Ec2Error(
      'IncorrectState',
      `The trunk network interface '${trunk.id}' is not attached to an instance.`,
    );
  const others = associationsOn(state, trunk.id);
  const other = others.find((one) => one.vlanId === vlanId);
  if (other)
    throw invalidValue(
      `VLAN ID ${vlanId} of trunk '${trunk.id}' is already associated with branch '${other.branchInterfaceId}'.`,
    );
  checkBranches(state, instance.instanceType, others.length + 1);
}

function checkBranch(ctx: Context, branch: NetworkInterface, trunk: NetworkInterface): void {
  if (isInUse(ctx.draft.state, branch))
    throw new Ec2Error('InvalidNetworkInterface.InUse', `Interface: [${branch.id}] in use.`);
  if (branch.interfaceType !== 'interface' && branch.interfaceType !== 'branch')
    throw invalidValue(
      `A network interface of type ${branch.interfaceType} cannot be a branch. (${branch.id})`,
    );
  if (branch.vpcId !== trunk.vpcId)
    throw conflict(`The branch ${branch.id} and the trunk ${trunk.id} are in different VPCs`);
  if (branch.zone !== trunk.zone)
    throw conflict(
      `The branch ${branch.id} and the trunk ${trunk.id} are not in the same availability zone (${branch.zone}, ${trunk.zone})`,
    );
}

export const trunkActions: Meanings<
  'AssociateTrunkInterface' | 'DisassociateTrunkInterface' | 'DescribeTrunkInterfaceAssociations'
> = {
  AssociateTrunkInterface: (ctx, input) => {
    const branch = need(ctx, 'networkInterfaces', required(input.BranchInterfaceId, 'branchInterfaceId'));
    const trunk = need(ctx, 'networkInterfaces', required(input.TrunkInterfaceId, 'trunkInterfaceId'));
    const vlanId = required(input.VlanId, 'vlanId');
    if (!Number.isInteger(vlanId) || vlanId < 1 || vlanId > MAX_VLAN)
      throw invalidValue(
        `Value (${vlanId}) for parameter vlanId is invalid. Expecting a value between 1 and ${MAX_VLAN}.`,
      );
    checkTrunk(ctx, trunk, vlanId);
    checkBranch(ctx, branch, trunk);
    const row: TrunkAssociation = {
      id: newId(ctx, 'trunk-assoc'),
      branchInterfaceId: branch.id,
      trunkInterfaceId: trunk.id,
      vlanId,
    };
    ctx.draft.put('trunkAssociations', row.id, row);
    // As an attach, it ends the wait for `available`.
    ctx.draft.remove('transitions', `interface-available:${branch.id}`);
    ctx.draft.put('networkInterfaces', branch.id, { ...branch, status: 'in-use' });
    return { InterfaceAssociation: associationAnswer(row), ...clientToken(input.ClientToken) };
  },

  DisassociateTrunkInterface: (ctx, input) => {
    const row = need(ctx, 'trunkAssociations', required(input.AssociationId, 'associationId'));
    dropAssociation(ctx.draft, row);
    return { Return: true, ...clientToken(input.ClientToken) };
  },

  DescribeTrunkInterfaceAssociations: (ctx, input) => {
    const { items, nextToken } = select<TrunkAssociation>(
      {
        items: Object.values(ctx.draft.state.trunkAssociations),
        idOf: (row) => row.id,
        words: wordsOf('trunkAssociations'),
        filters: { 'gre-key': () => undefined, 'interface-protocol': () => 'VLAN' },
      },
      { ...input, ids: input.AssociationIds },
    );
    return {
      InterfaceAssociations: items.map(associationAnswer),
      ...(nextToken ? { NextToken: nextToken } : {}),
    };
  },
};
