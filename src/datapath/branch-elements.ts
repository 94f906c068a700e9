// What each pod with a branch has in the sets and maps of the nft table `inet podway-branch`: its zone, addresses and
// link. Pure. These come and go with each pod, by elements alone; the rest of the table is its structure.
import { familyOf, formatIp, type Ip, ipToBytes } from '../base/ip.ts';
import type { Branch } from './branch.ts';
import { BRANCH_TABLE, standInIndex } from './marks.ts';

/** Sets and maps whose elements are the pods'. */
export const BRANCH_SETS = ['zones', 'zones4', 'zones6', 'pods4', 'pods6', 'links', 'standard'] as const;
export type BranchSet = (typeof BRANCH_SETS)[number];

/** `text` as nft writes it; key and value as the kernel compares them. */
export type BranchElement = {
  readonly set: BranchSet;
  readonly text: string;
  readonly key: Uint8Array;
  readonly data?: Uint8Array;
};

const indexKey = (index: number): Uint8Array => {
  const key = new Uint8Array(4);
  new DataView(key.buffer).setUint32(0, index, true);
  return key;
};
/** A conntrack zone, in the machine's byte order. */
const zone = (vlan: number): Uint8Array => Uint8Array.of(vlan & 255, vlan >>> 8);

/** `podIndex`: of the pod's host link. */
export function branchElements(
  { mode, vlan, ips }: Pick<Branch, 'mode' | 'vlan' | 'ips'>,
  podIndex: number,
): BranchElement[] {
  const ofLink = (set: BranchSet, index: number): BranchElement => ({
    set,
    text: `${index}`,
    key: indexKey(index),
  });
  const ofIp = (name: 'zones' | 'pods', ip: Ip): BranchElement => ({
    set: `${name}${familyOf(ip)}`,
    text: formatIp(ip),
    key: ipToBytes(ip),
  });
  const zoned = (element: BranchElement): BranchElement => ({
    ...element,
    text: `${element.text} : ${vlan}`,
    data: zone(vlan),
  });
  if (mode === 'standard') return [ofLink('standard', podIndex)];
  return [
    zoned(ofLink('zones', podIndex)),
    zoned(ofLink('zones', standInIndex(vlan))),
    ...ips.flatMap((ip) => [zoned(ofIp('zones', ip)), ofIp('pods', ip)]),
    ofLink('links', podIndex),
  ];
}

/** Puts the element into its set, or takes it out. */
export const branchElementOp = (op: 'add' | 'del', { set, key, data }: Omit<BranchElement, 'text'>) =>
  ({
    op,
    family: 'inet',
    table: BRANCH_TABLE,
    set,
    key,
    ...(op === 'add' && data !== undefined ? { data } : {}),
  }) as const;

const OWN = new RegExp(
  `^( {2}(?:map|set) (?:${BRANCH_SETS.join('|')}) \\{.*?;) elements = \\{[^}]*\\};`,
  'gm',
);

/** The table's text without the pods' elements. */
export const withoutElements = (table: string): string => table.replace(OWN, '$1');
