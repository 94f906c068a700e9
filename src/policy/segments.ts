// CIDRs with exceptions as disjoint ranges of addresses, each with the rules that apply to it. Pure. Concatenated interval
// sets of nftables take no overlapping elements, so overlaps are resolved here.
import { addToIp, bitsOf, type Cidr, type Family, familyOf, type Ip } from '../base/ip.ts';

/** Both ends included. */
export type IpRange = { readonly from: Ip; readonly to: Ip };
export type Block = { readonly cidr: Cidr; readonly except: readonly Cidr[] };
export type Segment<T> = IpRange & { readonly of: readonly T[] };

export const rangeOf = ({ ip, length }: Cidr): IpRange => ({
  from: ip,
  to: (typeof ip === 'number'
    ? ip + 2 ** (32 - length) - 1
    : ip + (1n << BigInt(bitsOf(familyOf(ip)) - length)) - 1n) as Ip,
});

const isBefore = (a: Ip, b: Ip): boolean => a < b;

/** What the block contains: its CIDR without the exceptions. Sorted. */
export function rangesOfBlock({ cidr, except }: Block): IpRange[] {
  const { from, to } = rangeOf(cidr);
  const holes = except
    .filter((one) => familyOf(one.ip) === familyOf(cidr.ip))
    .map(rangeOf)
    .sort((a, b) => (isBefore(a.from, b.from) ? -1 : 1));
  const ranges: IpRange[] = [];
  let next: Ip | null = from;
  for (const hole of holes) {
    if (next === null || isBefore(to, hole.from)) break;
    if (isBefore(next, hole.from)) ranges.push({ from: next, to: addToIp(hole.from, -1) });
    if (!isBefore(hole.to, next)) next = isBefore(hole.to, to) ? addToIp(hole.to, 1) : null;
  }
  if (next !== null && !isBefore(to, next)) ranges.push({ from: next, to });
  return ranges;
}

/** The family's address ranges that at least one item covers, with the items that cover them, in the items' order. */
export function segmentsOf<T>(
  items: readonly { blocks: readonly Block[]; item: T }[],
  family: Family,
): Segment<T>[] {
  type Edge = { at: Ip; place: number; opens: boolean };
  const edges: Edge[] = [];
  const top = rangeOf({ ip: (family === 4 ? 0 : 0n) as Ip, length: 0 }).to;
  items.forEach(({ blocks }, place) => {
    for (const block of blocks) {
      if (familyOf(block.cidr.ip) !== family) continue;
      for (const { from, to } of rangesOfBlock(block)) {
        edges.push({ at: from, place, opens: true });
        if (to !== top) edges.push({ at: addToIp(to, 1), place, opens: false });
      }
    }
  });
  edges.sort((a, b) => (a.at < b.at ? -1 : a.at > b.at ? 1 : 0));
  const open = new Map<number, number>();
  const segments: Segment<T>[] = [];
  for (let at = 0; at < edges.length; ) {
    const start = edges[at]!.at;
    for (; at < edges.length && edges[at]!.at === start; at++) {
      const { place, opens } = edges[at]!;
      const count = (open.get(place) ?? 0) + (opens ? 1 : -1);
      if (count === 0) open.delete(place);
      else open.set(place, count);
    }
    if (open.size === 0) continue;
    const to = at < edges.length ? addToIp(edges[at]!.at, -1) : top;
    segments.push({
      from: start,
      to,
      of: [...open.keys()].sort((a, b) => a - b).map((place) => items[place]!.item),
    });
  }
  return segments;
}
