// What a trunk carries: which branch ENI by which VLAN id, and how many. Associations are the only record; a branch is an
// interface like another that an association names. Imports the model and limits alone.
import type { Draft } from './context.ts';
import { Ec2Error } from './errors.ts';
import { type InstanceLimits, limitsOf } from './limits.ts';
import type { NetworkInterface, TrunkAssociation, VpcState } from './model.ts';

/** The association that makes the interface a branch. */
export const associationOf = (state: VpcState, branchId: string): TrunkAssociation | undefined =>
  Object.values(state.trunkAssociations).find((one) => one.branchInterfaceId === branchId);

export const associationsOn = (state: VpcState, trunkId: string): TrunkAssociation[] =>
  Object.values(state.trunkAssociations).filter((one) => one.trunkInterfaceId === trunkId);

/** Hangs on an instance, on a trunk, or is a NAT gateway's. */
export const isInUse = (state: VpcState, eni: NetworkInterface): boolean =>
  eni.attachment !== undefined ||
  eni.natGatewayId !== undefined ||
  associationOf(state, eni.id) !== undefined;

/** Branches that a type takes on its trunk. */
export const branchLimit = (limits: InstanceLimits): number =>
  limits.trunkCompatible ? (limits.branchENIs ?? 0) : 0;

/** Throws when a trunk with so many branches is too much for the type. */
export function checkBranches(state: VpcState, instanceType: string, branches: number): void {
  const limits = limitsOf(state, instanceType);
  const limit = limits ? branchLimit(limits) : 0;
  if (branches > limit)
    throw new Ec2Error(
      'AttachmentLimitExceeded',
      `Branch interface count ${branches} exceeds the limit for ${instanceType} (${limit})`,
    );
}

/** The branch is an interface of its own again. */
export function dropAssociation(draft: Draft, { id, branchInterfaceId }: TrunkAssociation): void {
  draft.remove('trunkAssociations', id);
  const branch = draft.state.networkInterfaces[branchInterfaceId];
  if (branch) draft.put('networkInterfaces', branch.id, { ...branch, status: 'available' });
}

/** What named the interface goes with it: associations of a trunk, the one of a branch, permissions. */
export function dropOfInterface(draft: Draft, eni: NetworkInterface): void {
  for (const one of Object.values(draft.state.trunkAssociations))
    if (one.trunkInterfaceId === eni.id || one.branchInterfaceId === eni.id) dropAssociation(draft, one);
  for (const one of Object.values(draft.state.interfacePermissions))
    if (one.networkInterfaceId === eni.id) draft.remove('interfacePermissions', one.id);
}
