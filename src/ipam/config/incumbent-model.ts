// A node of the AWS VPC CNI at rest: which ENIs and addresses its pool has once it has nothing left to do. The replay
// has no clock: every pause of its loop is over, and EC2 grants all. Pods take the lowest free address, densely; the real
// one takes any, so that it may keep more. Pure values, one mutable array inside.
import {
  blocksBeyond,
  blocksWanted,
  type IncumbentCounts,
  type IncumbentNode,
  type IncumbentTargets,
  isDispensable,
  isLow,
  mayRemoveEni,
  PREFIX_SIZE,
} from './incumbent.ts';

export type RestingPool = {
  readonly pods: number;
  /** Pods for which there is no address. */
  readonly waiting: number;
  readonly enis: number;
  /** Addresses that pods may have, held ones included. */
  readonly addresses: number;
  /** Single addresses or /28s that EC2 has assigned. */
  readonly blocks: number;
  readonly idle: number;
};

type ModelEni = { readonly primary: boolean; blocks: number[] };

export type ModelNode = IncumbentNode & {
  readonly maxEnis: number;
  /** False with custom networking. */
  readonly primaryGives: boolean;
};

/** Turns of its loop between two pods, at most: an ENI or a batch each. */
const MOST_TURNS = 1_000;

/** The pool at rest after the first pod, the second and so on up to `pods`; the first value is without pods. */
export function* restingPools(
  pods: number,
  targets: IncumbentTargets,
  node: ModelNode,
): Generator<RestingPool> {
  const enis: ModelEni[] = [{ primary: true, blocks: [] }];
  const size = node.usesPrefixes ? PREFIX_SIZE : 1;
  let waiting = 0;
  for (let count = 0; count <= pods; count++) {
    if (count > 0) waiting++;
    for (let turn = 0; turn < MOST_TURNS; turn++) {
      while (waiting > 0 && place(enis, size)) waiting--;
      if (!takeTurn(enis, targets, node, size)) break;
    }
    const { total, assigned, prefixes } = countOf(enis, size);
    yield {
      pods: count,
      waiting,
      enis: enis.length,
      addresses: total,
      blocks: node.usesPrefixes ? prefixes : total,
      idle: total - assigned,
    };
  }
}

function countOf(enis: readonly ModelEni[], size: number): IncumbentCounts {
  const blocks = enis.flatMap((eni) => eni.blocks);
  return {
    total: blocks.length * size,
    assigned: blocks.reduce((sum, used) => sum + used, 0),
    prefixes: size > 1 ? blocks.length : 0,
    freePrefixes: size > 1 ? blocks.filter((used) => used === 0).length : 0,
  };
}

function place(enis: readonly ModelEni[], size: number): boolean {
  for (const eni of enis) {
    const at = eni.blocks.findIndex((used) => used < size);
    if (at < 0) continue;
    eni.blocks[at]!++;
    return true;
  }
  return false;
}

const isEmpty = (eni: ModelEni): boolean => !eni.primary && eni.blocks.every((used) => used === 0);

/** One turn of its loop. False when there was nothing to do. */
function takeTurn(enis: ModelEni[], targets: IncumbentTargets, node: ModelNode, size: number): boolean {
  const counts = countOf(enis, size);
  const changed = isLow(counts, targets, node)
    ? grow(enis, blocksWanted(counts, targets, node), node)
    : shrink(enis, blocksBeyond(counts, targets, node));
  return removeOne(enis, counts, targets, node, size) || changed;
}

function grow(enis: ModelEni[], wanted: number, node: ModelNode): boolean {
  for (const eni of enis) {
    const room = eni.primary && !node.primaryGives ? 0 : node.slotsPerEni - eni.blocks.length;
    if (room <= 0) continue;
    eni.blocks.push(...Array<number>(Math.min(room, wanted)).fill(0));
    return true;
  }
  const initial = Math.min(wanted, node.slotsPerEni);
  if (enis.length >= node.maxEnis || initial <= 0) return false;
  enis.push({ primary: false, blocks: Array<number>(initial).fill(0) });
  return true;
}

function shrink(enis: ModelEni[], beyond: number): boolean {
  let left = beyond;
  for (const eni of enis.toReversed()) {
    const kept = eni.blocks.filter((used) => used > 0 || left-- <= 0);
    if (kept.length < eni.blocks.length) eni.blocks = kept;
  }
  return beyond > 0;
}

/** `counts` are those from before the turn, as the AWS VPC CNI uses them. */
function removeOne(
  enis: ModelEni[],
  counts: IncumbentCounts,
  targets: IncumbentTargets,
  node: ModelNode,
  size: number,
): boolean {
  if (!mayRemoveEni(counts, targets, node, enis.some(isEmpty))) return false;
  const without = (eni: ModelEni) =>
    countOf(
      enis.filter((other) => other !== eni),
      size,
    );
  const at = enis.findLastIndex((eni) => isEmpty(eni) && isDispensable(without(eni), targets, node));
  if (at < 0) return false;
  enis.splice(at, 1);
  return true;
}
