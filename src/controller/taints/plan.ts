// Which of our taints a node should bear, and the condition beside them. Pure. The startup taint goes when the agent of
// this very Node is ready, and never comes from here. podway.dev/no-address stands while the agent says that neither the
// node nor EC2 has an address for one more pod: put on when that has lasted a moment, taken off at once.
import {
  ADDRESSES_AVAILABLE,
  type Condition,
  isOutOfAddresses,
  NO_ADDRESS_TAINT,
  NOT_READY_TAINT,
  type PodwayNode,
  type PodwayNodeAddresses,
  type Taint,
} from '../../kube/index.ts';
import { speaksOf } from '../node-view.ts';
import type { NodeView } from '../view.ts';

/** No address for so long (ms), before the node says so: a call to EC2 that is out may bring some. */
export const LASTING_MS = 1_500;

export type Word = Pick<Condition, 'type' | 'status'> & { reason: string; message: string };

export type Decision = {
  /** Null: they stay as they are. */
  readonly taints: readonly Taint[] | null;
  /** Null: nothing new is to be said. */
  readonly condition: Word | null;
  /** The node is out of addresses; whether it says so already is in its taints. */
  readonly isOut: boolean;
};

/** `outSince`: since when it has been out (ms), as the caller remembers; null: it was not when last looked at. */
export function decide(
  node: NodeView,
  own: PodwayNode | undefined,
  { outSince, hasChance, now }: { outSince: number | null; hasChance: boolean; now: number },
): Decision {
  const speaks = speaksOf(own, node);
  const addresses = speaks ? own?.status?.addresses : undefined;
  const isOut = addresses !== undefined && isOutOfAddresses(addresses) && !hasChance;
  const isReady = speaks && own?.status?.conditions?.some(isReadyTrue) === true;
  const taints = node.spec?.taints ?? [];
  const has = (key: string) => taints.some((taint) => taint.key === key);
  const isStarting = has(NOT_READY_TAINT);
  // A node that joins without addresses is never open in between.
  const isLasting = isStarting || (outSince !== null && now - outSince >= LASTING_MS);
  const wants = isOut && (isLasting || has(NO_ADDRESS_TAINT));
  const keep = taints.filter(
    ({ key }) => !(key === NOT_READY_TAINT && isReady) && !(key === NO_ADDRESS_TAINT && !wants),
  );
  const next =
    wants && !has(NO_ADDRESS_TAINT) ? [...keep, { key: NO_ADDRESS_TAINT, effect: 'NoSchedule' }] : keep;
  const isSame = next.length === taints.length && next.every((taint, at) => taint === taints[at]);
  const said = node.conditions.find(({ type }) => type === ADDRESSES_AVAILABLE);
  const word = wants ? outWord(node.metadata.name!, addresses!) : AVAILABLE;
  // A node that was never without needs no word.
  const isNews = said === undefined ? wants : said.status !== word.status || said.reason !== word.reason;
  return { taints: isSame ? null : next, condition: isNews ? word : null, isOut };
}

const isReadyTrue = ({ type, status }: Condition): boolean => type === 'Ready' && status === 'True';

const AVAILABLE: Word = {
  type: ADDRESSES_AVAILABLE,
  status: 'True',
  reason: 'AddressAvailable',
  message: 'the node has an address for the next pod',
};

function outWord(
  node: string,
  { held, free, cooling, waiting, obtainable, lack = 'ADDRESS_LIMIT' }: PodwayNodeAddresses,
): Word {
  const parts = [
    `${held} ${held === 1 ? 'address is' : 'addresses are'} held`,
    ...(cooling > 0 ? [`${cooling} ${cooling === 1 ? 'cools' : 'cool'}`] : []),
    ...(waiting > 0 ? [`${waiting} ${waiting === 1 ? 'pod waits' : 'pods wait'}`] : []),
  ];
  const left =
    free + obtainable > 0
      ? `they need all that is left (${free} free, ${obtainable} that EC2 can still give)`
      : 'none is free and EC2 gives no more';
  const reason = lack
    .toLowerCase()
    .split('_')
    .map((word) => word[0]!.toUpperCase() + word.slice(1))
    .join('');
  return {
    type: ADDRESSES_AVAILABLE,
    status: 'False',
    reason,
    message: `no address for another pod: ${parts.join(', ')}, ${left} (${lack}): podway ipam explain ${node}`,
  };
}
