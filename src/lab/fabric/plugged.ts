// Which instance an ENI is plugged into, and which instances have a kernel at all. Pure.
import type { Instance, NetworkInterface, VpcState } from '../vpc/model.ts';

export const WIRED_STATES: ReadonlySet<Instance['state']> = new Set(['pending', 'running', 'stopping']);

/** The instance that the ENI is plugged into right now. */
export function pluggedInto(state: VpcState, eni: NetworkInterface): Instance | null {
  if (eni.attachment?.status !== 'attached') return null;
  const instance = state.instances[eni.attachment.instanceId];
  return instance && WIRED_STATES.has(instance.state) ? instance : null;
}
