// How many addresses EC2 can still be asked for: what the ENIs' slots, ENIs that may come, the pod limit, the policy's bounds
// and the subnets leave. Pure. A subnet, ENI or right that EC2 has refused counts for nothing until a call has succeeded;
// what is only throttled or slow counts in full. Cooling addresses are the pool's already, so they are not among them.
import type { Cause } from '../../base/causes.ts';
import type { InstanceLimits } from '../../cloud/limits.ts';
import type { AddressNeed } from '../../kube/index.ts';
import { PREFIX_SIZE } from '../config/incumbent.ts';
import { Allowance, slotsPerEni } from '../plan/aim.ts';
import { censusOf, givingOf, lacksPrefixes, usesPrefixes } from '../plan/census.ts';
import { freeDeviceIndexes, growableEnis, hasEniSlot, OF_NEW_ENI, subnetsForNew } from '../plan/grow.ts';
import type { PoolPolicy } from '../policy.ts';
import type { PoolState } from '../state.ts';

/** `lack`: the cause of a count of 0. */
export type Obtainable = { readonly count: number; readonly lack: Cause | null };

/** Refusals that last until something outside this node changes. */
const LASTING: ReadonlySet<Cause> = new Set<Cause>([
  'SUBNET_EXHAUSTED',
  'CLOUD_DENIED',
  'CLOUD_UNREACHABLE',
  'ENI_LIMIT',
  'ADDRESS_LIMIT',
]);

export function obtainable(
  state: PoolState,
  policy: PoolPolicy,
  limits: InstanceLimits,
  now: number,
): Obtainable {
  let lack: Cause | null = null;
  /** True when EC2 has refused one of these and has not taken it since. */
  const isRefused = (...keys: string[]): boolean => {
    const refusal = keys.map((key) => state.pauses.get(key)?.cause).find((one) => one && LASTING.has(one));
    lack ??= refusal ?? null;
    return refusal !== undefined;
  };
  const giving = givingOf(policy, limits);
  const { enis, totals } = censusOf(state, now, giving);
  const room = policy.podLimit - totals.held - totals.free - totals.cooling;
  if (isRefused('cloud')) return { count: 0, lack };
  if (room <= 0) return { count: 0, lack: 'ADDRESS_LIMIT' };
  // A /80 has more addresses than a node has pods.
  if (policy.families === 'ipv6') return { count: room, lack: null };

  const slots = slotsPerEni(limits);
  const allowance = new Allowance(state, policy);
  const unitIn = (subnetId: string): number =>
    usesPrefixes(policy, limits) && !lacksPrefixes(state, subnetId, giving, now) ? PREFIX_SIZE : 1;
  let count = totals.incoming;
  /** `own`: addresses that the ENI itself takes. */
  const fill = (subnetId: string, free: number, own: number): void => {
    const most = Math.max(0, Math.min(free * unitIn(subnetId), allowance.left(subnetId) - own));
    allowance.take(subnetId, most + own);
    count += most;
  };
  for (const { one, room: free } of growableEnis(enis, limits))
    if (!isRefused(`eni:${one.eni.id}`, `subnet:${one.eni.subnetId}`)) fill(one.eni.subnetId, free, 0);
  for (const { eni, blocks, closed } of enis)
    if (eni.phase === 'attached' && !closed && !isRefused(`subnet:${eni.subnetId}`))
      fill(eni.subnetId, Math.max(0, slots - blocks.length), 0);
  const places = slots > 0 ? freeDeviceIndexes(state, limits, policy).length : 0;
  if (places > 0 && policy.noNewEni) lack ??= policy.noNewEni.cause;
  else if (places > 0 && !isRefused('create')) {
    const open = subnetsForNew(state, policy).find((id) => !isRefused(`subnet:${id}`));
    if (open !== undefined) for (let place = 0; place < places; place++) fill(open, slots, 1);
  }
  const most = Math.min(count, room);
  return { count: most, lack: most > 0 ? null : (lack ?? 'ADDRESS_LIMIT') };
}

/**
 * What a subnet that EC2 called full must have free before this node gets one more address there: 1 where an ENI has a free
 * slot, 2 for a new ENI. With prefixes too: of a full subnet a pod gets a single address. A subnet in which the node gets
 * none, whatever is free, is not listed.
 */
export function addressNeeds(
  state: PoolState,
  policy: PoolPolicy,
  limits: InstanceLimits,
  now: number,
): AddressNeed[] {
  const isRefused = (key: string): boolean => LASTING.has(state.pauses.get(key)?.cause as Cause);
  const { enis } = censusOf(state, now, givingOf(policy, limits));
  const slots = slotsPerEni(limits);
  const allowance = new Allowance(state, policy);
  const needs = new Map<string, number>();
  const note = (subnetId: string, addresses: number): void => {
    if (allowance.left(subnetId) >= addresses && !needs.has(subnetId)) needs.set(subnetId, addresses);
  };
  for (const { one } of growableEnis(enis, limits))
    if (!isRefused(`eni:${one.eni.id}`)) note(one.eni.subnetId, 1);
  for (const { eni, blocks, closed } of enis)
    if (eni.phase === 'attached' && !closed && blocks.length < slots) note(eni.subnetId, 1);
  if (!policy.noNewEni && !isRefused('create') && hasEniSlot(state, limits, policy))
    for (const id of subnetsForNew(state, policy)) note(id, OF_NEW_ENI);
  return [...needs].map(([subnetId, addresses]) => ({ subnetId, addresses }));
}
