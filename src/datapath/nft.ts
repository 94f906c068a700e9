// The nft table `inet podway` as text, from values. Pure. It sets the ENI bits of packet marks and the connection
// marks, and does the source NAT; it filters nothing but packets that a pod sends with an address it does not hold.
// The table's structure changes with the node; the elements of `pods4` and `pods6` change with each pod and are not in the
// text. What is of IPv6 is there only where an ENI has an IPv6 prefix.
//
// Path of a packet from a pod, at priority -90, after destination NAT (-100), so that the real target is judged:
// from_pod finds the ENI's chain by link and source address. That chain checks, in this order, whether the connection
// has a mark already (by_ct) and whether a new connection leaves the VPC (begin, outside); else it sets the ENI's mark.
// Most packets belong to established connections, so their path has the fewest rules.

import type { BranchMode } from '../base/branch-words.ts';
import { isEgress } from '../base/egress.ts';
import {
  type Cidr,
  type Family,
  familyOf,
  formatCidr,
  formatIp,
  type Ip,
  ipToBytes,
  parseCidr,
} from '../base/ip.ts';
import { chainText, elementsText, hex, tableText, vmap, withoutTable } from '../kernel/nft-text.ts';
import { has6, hasEgress, POD_GATEWAY, primaryEni, standardOf, withoutCovered } from './desired.ts';
import {
  BRANCH_ENI,
  CT_PRIMARY,
  CT_SNAT,
  ENI_MASK,
  type EniSlot,
  GROUP_PODS,
  GROUPS_MASK,
  isPrimary,
  KEEP_MASK,
  LINK_PREFIX,
  NFT_TABLE,
  slotKey,
} from './marks.ts';
import type { Eni, NodeDatapath } from './types.ts';

export const podsMap = (family: Family): string => (family === 4 ? 'pods4' : 'pods6');
export const PODS_MAPS: readonly string[] = [podsMap(4), podsMap(6)];
export const INDEX_BYTES = 4;

/** Link-local services of the VPC (IMDS, DNS, time) answer only the primary ENI's primary address. */
export const LINK_LOCAL = parseCidr('169.254.0.0/16');
/** The same services by IPv6: fd00:ec2::254, ::253, ::123. */
export const VPC_SERVICES6 = parseCidr('fd00:ec2::/32');
const ANY_LINK_LOCAL6 = parseCidr('fe80::/10');

const slot = (eni: EniSlot): string => `${eni.networkCard}_${eni.deviceIndex}`;
/** Chain that decides for packets from the ENI's pods; elements of the pods' map name it. */
export const eniChain = (eni: EniSlot): string => `eni_${slot(eni)}`;
const EGRESS_CHAIN = 'egress4';
/** Of pods whose branch is to them what an ENI is to others. */
const BRANCH_CHAIN = 'eni_branch';
/** Chain that decides for packets with this source. */
export const sourceChain = (ip: Ip, eni: EniSlot, mode?: BranchMode): string =>
  isEgress(ip) ? EGRESS_CHAIN : mode === 'standard' ? BRANCH_CHAIN : eniChain(eni);
const useChain = (eni: EniSlot): string => `use_${slot(eni)}`;
const arriveChain = (eni: EniSlot): string => `arrive_${slot(eni)}`;

const setMark = (value: number): string => `meta mark set meta mark & ${hex(KEEP_MASK)} | ${hex(value)}`;
const setCtMark = (value: number): string => `ct mark set ct mark & ${hex(KEEP_MASK)} | ${hex(value)}`;

const TABLE = `inet ${NFT_TABLE}`;
const chain = (name: string, rules: readonly string[]): string => chainText({ name, rules });
const baseChain = (name: string, hook: string, rules: readonly string[]): string =>
  chainText({ name, hook, rules });

/** Of pods of an ENI, and of those whose branch is one to them: `last` is for what no other chain decides. */
const fromEni = (name: string, last: readonly string[]): string =>
  chain(name, [
    `ct mark & ${hex(ENI_MASK)} != 0 goto by_ct`,
    'ct state new ct direction original jump begin',
    ...last,
  ]);

/**
 * Destinations that see the pod's own address. The ENIs' subnets are always included: the list comes from the metadata
 * service, which may not answer at the first start.
 */
export function exemptPrefixes(node: NodeDatapath, family: Family = 4): Cidr[] {
  const own = node.enis.flatMap((eni) => [eni.subnetCidr, ...(family === 6 ? eni.prefixes : [])]);
  const branches = standardOf(node).map(({ subnetCidr }) => subnetCidr);
  const all = [...node.vpcCidrs, ...own, ...branches, ...node.excludeSnatCidrs];
  return withoutCovered(all.filter((cidr) => familyOf(cidr.ip) === family));
}

/** The node's own address of the family on its primary ENI; undefined when it has none. */
export function nodeAddress(node: Pick<NodeDatapath, 'enis'>, family: Family): Ip | undefined {
  const { primaryIp, ownIp6 } = primaryEni(node);
  return [primaryIp, ownIp6].find((ip) => ip !== undefined && familyOf(ip) === family);
}

/** How pods' packets of the family leave the VPC. */
export const snatOf = (node: NodeDatapath, family: Family): NodeDatapath['snat'] =>
  family === 4 ? node.snat : (node.snat6 ?? 'none');

export type StructureInput = {
  node: NodeDatapath;
  /** By slot key, secondary ENIs. */
  marks: ReadonlyMap<string, number>;
  /** Link name of each ENI that has a link, by slot key. */
  linkNames: ReadonlyMap<string, string>;
};

/** The chains and sets that should be, without the pods. */
export function renderTable({ node, marks, linkNames }: StructureInput): string {
  const enis = [...node.enis].sort((a, b) => a.networkCard - b.networkCard || a.deviceIndex - b.deviceIndex);
  const six = has6(node);
  const own6 = six ? nodeAddress(node, 6) : undefined;
  const snats6 = own6 !== undefined && snatOf(node, 6) !== 'none';
  const secondary = enis.filter((eni) => !isPrimary(eni));
  const mark = (eni: Eni): number => marks.get(slotKey(eni))!;
  const exempt = exemptPrefixes(node).map(formatCidr);

  const parts = [
    setText('exempt4', 'ipv4_addr', exempt),
    ...(snats6 ? [setText('exempt6', 'ipv6_addr', exemptPrefixes(node, 6).map(formatCidr))] : []),
    `  map ${podsMap(4)} { type iface_index . ipv4_addr : verdict; }`,
    ...(six ? [`  map ${podsMap(6)} { type iface_index . ipv6_addr : verdict; }`] : []),
    ...secondary.map((eni) => chain(useChain(eni), [`${setMark(mark(eni))} accept`])),
    chain('by_ct', [
      `ct mark & ${hex(ENI_MASK)} ${vmap([
        `${hex(CT_SNAT)} : accept`,
        `${hex(CT_PRIMARY)} : accept`,
        ...secondary.map((eni) => `${hex(mark(eni))} : goto ${useChain(eni)}`),
      ])}`,
    ]),
    chain('outside', [`${setCtMark(CT_SNAT)} accept`]),
    chain('begin', [
      // The gateway address is on `lo` only so that the node answers ARP for it; packets to it are dropped.
      `ip daddr ${formatIp(POD_GATEWAY)} drop`,
      `ip daddr ${formatCidr(LINK_LOCAL)} goto outside`,
      ...(node.snat === 'none' ? [] : ['ip daddr != @exempt4 goto outside']),
      // What resolves neighbours is not tracked, and so does not come here.
      ...(six ? [`ip6 daddr ${formatCidr(ANY_LINK_LOCAL6)} drop`] : []),
      ...(own6 === undefined ? [] : [`ip6 daddr ${formatCidr(VPC_SERVICES6)} goto outside`]),
      ...(snats6 ? ['ip6 daddr != @exempt6 goto outside'] : []),
    ]),
    // Everything leaves with the node's address, by the primary ENI.
    ...(hasEgress(node)
      ? [chain(EGRESS_CHAIN, [`ct mark & ${hex(ENI_MASK)} != 0 goto by_ct`, 'goto outside'])]
      : []),
    ...enis.map((eni) => fromEni(eniChain(eni), isPrimary(eni) ? [] : [`goto ${useChain(eni)}`])),
    ...(standardOf(node).length > 0 ? [fromEni(BRANCH_CHAIN, [`${setMark(BRANCH_ENI)} accept`])] : []),
    chain('from_pod', [
      `iif . ip saddr vmap @${podsMap(4)}`,
      ...(six
        ? [
            `iif . ip6 saddr vmap @${podsMap(6)}`,
            `ip6 saddr ${formatCidr(ANY_LINK_LOCAL6)} ip6 hoplimit 255 icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept`,
          ]
        : []),
      'drop',
    ]),
    ...enis.map((eni) =>
      chain(arriveChain(eni), [`fib daddr type local ${setCtMark(isPrimary(eni) ? CT_PRIMARY : mark(eni))}`]),
    ),
    // A chain of type nat sees only the first packet of a connection, so the others cost nothing. At this priority it
    // runs before all destination NAT chains, whose verdict would end the walk.
    baseChain('arrivals', 'type nat hook prerouting priority -150; policy accept;', [
      ...arrivals(enis, linkNames),
    ]),
    baseChain('ways', 'type filter hook prerouting priority -90; policy accept;', [
      // Comparing the group's number takes half the time of a name. A cut link may still send for a moment.
      `meta iifgroup & ${hex(GROUPS_MASK)} == ${hex(GROUP_PODS)} goto from_pod`,
      `ct direction reply ct mark & ${hex(ENI_MASK)} != 0 goto by_ct`,
    ]),
    baseChain('own', 'type route hook output priority -150; policy accept;', [
      ...ownSources(secondary, 4),
      ...(six ? ownSources(secondary, 6) : []),
    ]),
    baseChain('source', 'type nat hook postrouting priority 100; policy accept;', [
      `oifname "${LINK_PREFIX}*" accept`,
      ...sourceNat(node, 4),
      ...(six ? sourceNat(node, 6) : []),
    ]),
  ];
  return tableText(TABLE, parts);
}

const setText = (name: string, type: string, list: readonly string[]): string =>
  `  set ${name} { type ${type}; flags interval;${elementsText(list)} }`;

/** What the node itself sends from a secondary ENI's own address leaves by that ENI. */
function ownSources(secondary: readonly Eni[], family: Family): string[] {
  const pairs = secondary
    .filter((eni) => familyOf(eni.primaryIp) === family)
    .map((eni) => `${formatIp(eni.primaryIp)} : goto ${useChain(eni)}`);
  return pairs.length === 0 ? [] : [`${family === 4 ? 'ip' : 'ip6'} saddr ${vmap(pairs)}`];
}

function sourceNat(node: NodeDatapath, family: Family): string[] {
  const to = nodeAddress(node, family);
  if (to === undefined) return [];
  const ip = family === 4 ? 'ip' : 'ip6';
  const how = snatOf(node, family) === 'random' ? ' fully-random' : '';
  return [
    `ct mark & ${hex(ENI_MASK)} == ${hex(CT_SNAT)} meta nfproto ipv${family} snat ${ip} to ${formatIp(to)}${how}`,
  ];
}

function arrivals(enis: readonly Eni[], linkNames: ReadonlyMap<string, string>): string[] {
  const pairs = enis.flatMap((eni) => {
    const name = linkNames.get(slotKey(eni));
    return name === undefined ? [] : [`"${name}" : goto ${arriveChain(eni)}`];
  });
  return pairs.length === 0 ? [] : [`iifname ${vmap(pairs)}`];
}

/**
 * One atomic script that makes the table match `table` and keeps the pods' map: packets meet either the old or the new
 * rules. `staleChains` are existing chains that are no longer wanted; no element may name them.
 */
export function renderUpdate(table: string, staleChains: readonly string[]): string {
  return [
    `add table ${TABLE}`,
    `add set ${TABLE} exempt4 { type ipv4_addr; flags interval; }`,
    `flush set ${TABLE} exempt4`,
    ...(table.includes(' exempt6 ')
      ? [`add set ${TABLE} exempt6 { type ipv6_addr; flags interval; }`, `flush set ${TABLE} exempt6`]
      : []),
    `flush table ${TABLE}`,
    table.trimEnd(),
    ...staleChains.map((name) => `delete chain ${TABLE} ${name}`),
    '',
  ].join('\n');
}

/** The same from nothing, for a table that was left by something with another layout. */
export const renderRebuild = (table: string): string => `${withoutTable(TABLE)}${table}`;

/** Key of a pods' map, as the kernel joins them: index of the link in the machine's byte order, then the address. */
export function podKey(ifindex: number, ip: Ip): Uint8Array {
  const address = ipToBytes(ip);
  const key = new Uint8Array(INDEX_BYTES + address.length);
  new DataView(key.buffer).setUint32(0, ifindex, true);
  key.set(address, INDEX_BYTES);
  return key;
}
