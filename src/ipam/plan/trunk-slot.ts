// The ENI slot that a node keeps for its trunk, which whoever controls branches makes and attaches. Pure.
import { PodwayError } from '../../base/errors.ts';
import type { InstanceLimits } from '../../cloud/limits.ts';
import type { PoolPolicy } from '../policy.ts';
import { type PoolState, trunkOf } from '../state.ts';

/** True while the node keeps a slot for a trunk that has not come. */
export const awaitsTrunk = (state: PoolState, { keepsTrunkSlot = false }: PoolPolicy): boolean =>
  keepsTrunkSlot && trunkOf(state) === null;

/** The trunk of the node, or its slot; undefined where neither is wanted. */
export type TrunkView = {
  /** Null while it is awaited. */
  id: string | null;
  branches: number;
  /** Branches that the type takes. */
  limit: number;
  /** Why it finds no slot: ENI_LIMIT with the numbers. */
  lack?: string;
};

export function viewTrunkSlot(
  state: PoolState,
  { limits, policy }: { limits: InstanceLimits; policy: PoolPolicy },
): TrunkView | undefined {
  const trunk = trunkOf(state);
  if (trunk === null && !policy.keepsTrunkSlot) return undefined;
  const held = new Set([...state.uses.values()].flatMap((use) => (use.kind === 'held' ? use.lease : [])));
  const branches = [...held].filter(({ branch }) => branch !== undefined).length;
  const lack = trunkLack(state, { instanceId: limits.instanceType, limits, policy });
  return {
    ...{ id: trunk?.id ?? null, branches, limit: limits.branchEnis },
    ...(lack ? { lack: `${lack.code}: ${lack.message}` } : {}),
  };
}

/**
 * Why the trunk that the node keeps a slot for has none: ENI_LIMIT with the numbers; null: it has one, or none is
 * awaited.
 */
export function trunkLack(
  state: PoolState,
  { instanceId, limits, policy }: { instanceId: string; limits: InstanceLimits; policy: PoolPolicy },
): PodwayError | null {
  if (!awaitsTrunk(state, policy)) return null;
  const onCard = ({ networkCard, deviceIndex }: { networkCard: number; deviceIndex: number }) =>
    networkCard === limits.defaultCard && deviceIndex >= 0;
  const own = [...state.enis.values()].filter(onCard).length;
  const others = state.foreign.filter(onCard).length;
  const has = own + others + state.creations.size;
  if (has < limits.enis) return null;
  const whose = others > 0 ? `, ${others} of them of others` : '';
  const message = `${limits.instanceType} takes ${limits.enis} ENIs and has ${has}${whose}: the trunk of pods with security groups of their own finds no slot until an ENI has gone`;
  return new PodwayError('ENI_LIMIT', message, { object: instanceId, has, limit: limits.enis });
}
