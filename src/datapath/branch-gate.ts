// Renders the chains that judge what arrives on the node for pods with branches: at host ports, and at NodePorts that
// keep the sender's address. They apply the ingress rules of the pod's security groups, statefully, as the VPC does at
// the branch. Pure. A pod whose rules are not known gets nothing this way. The sets `asked4` and `asked6` hold for half
// a minute for whom something arrived.
import { type Cidr, familyOf, formatCidr, formatIp } from '../base/ip.ts';
import { chainText, elementsText, hex } from '../kernel/nft-text.ts';
import type { Branch } from './branch.ts';
import { withoutCovered } from './desired.ts';
import { ARRIVAL_OUTER, GROUP_BRANCHES, GROUP_PODS, GROUPS_MASK } from './marks.ts';

/** One of a security group's ingress rules. */
export type GateRule = {
  /** IANA's number; null: every protocol. */
  readonly protocol: number | null;
  /** First and last port of TCP, UDP and SCTP; of ICMP and ICMPv6 the type, twice; null: every. */
  readonly ports: readonly [number, number] | null;
  /** Of an ICMP type; absent: every. */
  readonly code?: number | undefined;
  readonly sources: readonly Cidr[];
};

/** Sets of pods that something arrived for. */
export const ASKED_SETS = ['asked4', 'asked6'] as const;
const ASKED_FOR = '30s';

const ICMP: Readonly<Record<number, string>> = { 1: 'icmp', 58: 'icmpv6' };

function matchOf({ protocol, ports, code }: GateRule): string {
  if (protocol === null) return '';
  if (ports === null) return `meta l4proto ${protocol} `;
  const [first, last] = ports;
  const range = first === last ? `${first}` : `${first}-${last}`;
  const icmp = ICMP[protocol];
  if (icmp === undefined) return `meta l4proto ${protocol} th dport ${range} `;
  return `${icmp} type ${range} ${code === undefined ? '' : `${icmp} code ${code} `}`;
}

/** A group's rule as rules of nft, one for each family of its sources. */
const rulesOf = (rule: GateRule): string[] =>
  ([4, 6] as const).flatMap((family) => {
    const sources = rule.sources.filter(({ ip }) => familyOf(ip) === family);
    if (sources.length === 0) return [];
    const isAny = sources.some(({ length }) => length === 0);
    const list = withoutCovered(sources).map(formatCidr).join(', ');
    const from = isAny ? `meta nfproto ipv${family}` : `${family === 4 ? 'ip' : 'ip6'} saddr { ${list} }`;
    return [`${from} ${matchOf(rule)}accept`];
  });

const gateOf = (vlan: number): string => `gate_${vlan}`;

/** Sets, maps and chains of the branches' table. `standard`: the links of pods in standard mode, by index. */
export function renderGates(
  branches: readonly Pick<Branch, 'vlan' | 'ips' | 'gate'>[],
  standard: readonly string[],
): string[] {
  const known = branches.filter(({ gate }) => gate !== undefined);
  const verdicts = (family: 4 | 6) =>
    known
      .flatMap(({ ips, vlan }) =>
        ips.filter((ip) => familyOf(ip) === family).map((ip) => `${formatIp(ip)} : goto ${gateOf(vlan)}`),
      )
      .sort();
  const asked = (name: string, type: string) =>
    `  set ${name} { type ${type}; size 4096; flags dynamic,timeout; timeout ${ASKED_FOR}; }`;
  return [
    asked(ASKED_SETS[0], 'ipv4_addr'),
    asked(ASKED_SETS[1], 'ipv6_addr'),
    `  set standard { type iface_index;${elementsText(standard)} }`,
    ...known.map(({ vlan, gate }) =>
      chainText({ name: gateOf(vlan), rules: [...new Set((gate ?? []).flatMap(rulesOf)), 'drop'] }),
    ),
    `  map gates4 { type ipv4_addr : verdict;${elementsText(verdicts(4))} }`,
    `  map gates6 { type ipv6_addr : verdict;${elementsText(verdicts(6))} }`,
    chainText({
      name: 'judge',
      rules: [
        'ct state established,related accept',
        `update @${ASKED_SETS[0]} { ip daddr }`,
        `update @${ASKED_SETS[1]} { ip6 daddr }`,
        'ip daddr vmap @gates4',
        'ip6 daddr vmap @gates6',
        'drop',
      ],
    }),
    // What came by a branch the VPC has judged; what a pod of the node sends stays on the node.
    chainText({
      name: 'arrivals',
      hook: 'type filter hook forward priority -10; policy accept;',
      rules: [
        `oif ${ARRIVAL_OUTER.index} goto judge`,
        `oif @standard meta iifgroup & ${hex(GROUPS_MASK)} != ${hex(GROUP_PODS)} meta iifgroup != ${hex(GROUP_BRANCHES)} goto judge`,
      ],
    }),
  ];
}
