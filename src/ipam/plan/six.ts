// Which /80s the pool asks EC2 for: one for each ENI that gives addresses, where pods have both families; one for the
// node, where they have IPv6 alone. A /80 is never used up, so no pod waits for EC2 after the first. Pure.
import type { EniCount } from './census.ts';
import { freeDeviceIndexes, subnetsForNew } from './grow.ts';
import { isPaused } from './pauses.ts';
import type { Action, PlanContext } from './plan.ts';

export const sixKey = (eniId: string): string => `six:${eniId}`;

/** It has one, or one that the node's network is about to be told of. */
export const hasSix = (one: EniCount): boolean =>
  one.blocks6.some(({ block }) => !block.leaving && !block.foreign);

const canHave = ({ eni, closed }: EniCount): boolean =>
  eni.phase === 'ready' && eni.missingSince === null && !eni.linkless && !closed;

export function growSix(context: PlanContext): Action[] {
  const { state, census, policy, demand, now, isTaken } = context;
  if (policy.families === 'ipv4') return [];
  const isOpen = ({ eni }: EniCount) => !isTaken(eni.id) && !isPaused(state, sixKey(eni.id), demand, now);
  const ask = (enis: readonly EniCount[]): Action[] =>
    enis.filter(isOpen).map(({ eni }) => ({ kind: 'assign-six', eniId: eni.id }));
  const able = census.enis.filter(canHave);
  const lacking = able.filter((one) => !hasSix(one));
  if (policy.families === 'dual')
    return ask(lacking.filter(({ eni, blocks }) => eni.primary || blocks.length > 0));
  if (census.enis.some((one) => !one.closed && hasSix(one))) return [];
  const first = lacking.find(({ eni }) => eni.primary) ?? lacking[0];
  return first ? ask([first]) : attach(context);
}

/** Where no ENI of the node may give addresses, one that may. */
function attach({ state, census, limits, policy, demand, now }: PlanContext): Action[] {
  const isComing = census.enis.some(({ eni, closed }) => eni.phase === 'attached' && !closed);
  if (policy.noNewEni || isComing || state.creations.size > 0) return [];
  const primary = [...state.enis.values()].find((eni) => eni.primary);
  const [deviceIndex] = freeDeviceIndexes(state, limits, policy);
  const subnetId = subnetsForNew(state, policy)[0];
  if (!primary || deviceIndex === undefined || subnetId === undefined) return [];
  if (isPaused(state, 'create', demand, now)) return [];
  const groupIds = policy.groupIds ?? primary.groupIds;
  const { defaultCard: networkCard } = limits;
  return [{ kind: 'create', subnetId, groupIds, networkCard, deviceIndex, count: 0, prefixes6: 1 }];
}
