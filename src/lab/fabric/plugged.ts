// Which instance an ENI is plugged into, and which instances have a kernel at all. Pure.
import type { Instance, NetworkInterface, TrunkAssociation, VpcState } from '../vpc/model.ts';
import { associationOf } from '../vpc/trunks.ts';

export const WIRED_STATES: ReadonlySet<Instance['state']> = new Set(['pending', 'running', 'stopping']);

/** The instance that the ENI is plugged into right now: by an attachment of its own, or by its trunk's. */
export function pluggedInto(state: VpcState, eni: NetworkInterface): Instance | null {
  const { attachment } = branchOf(state, eni)?.trunk ?? eni;
  if (attachment?.status !== 'attached') return null;
  const instance = state.instances[attachment.instanceId];
  return instance && WIRED_STATES.has(instance.state) ? instance : null;
}

/** An ENI that hangs on a trunk; undefined for others. */
export function branchOf(
  state: VpcState,
  eni: NetworkInterface,
): { trunk: NetworkInterface; association: TrunkAssociation } | undefined {
  const association = eni.attachment ? undefined : associationOf(state, eni.id);
  const trunk = association && state.networkInterfaces[association.trunkInterfaceId];
  return trunk && { trunk, association };
}
