// Renders what the kernel needs for pods with a branch ENI, as values: stand-in links, rules, routes, and the nft table
// `inet podway-branch`. Pure. A node without such a pod has none of it.
//
// A pod in strict mode sends every connection that it begins by its branch, and gets by its branch what begins
// elsewhere. What the node begins stays on the node both ways. A pod in standard mode uses its branch as other pods use
// their ENI (nft.ts), so its traffic with the node and the node's pods stays on the node.
//
// A stand-in is a link with the branch's MAC and the index BRANCH_INDEX + VLAN id. The program on the trunk removes the
// tag of a frame and passes it to the link with that index. The program on the stand-in adds the tag and sends by the
// trunk. nftables, conntrack and routing see each packet between the two.
//
// A connection of a strict pod with another pod of its node crosses the node twice. Conntrack needs two entries for it,
// so each strict pod has a conntrack zone, whose number is its VLAN id. What comes in by the pod's link or by its
// stand-in is in that zone. A connection between two pods in standard mode crosses the node once.
//
// The bits of BRANCH_MASK in the packet mark say which way a packet goes.
import type { BranchMode } from '../base/branch-words.ts';
import {
  addToIp,
  type Cidr,
  cidrOf,
  type Family,
  familyOf,
  formatCidr,
  formatIp,
  hostCidr,
  type Ip,
  parseIp,
} from '../base/ip.ts';
import type { Mac } from '../base/mac.ts';
import { chainText, elementsText, hex, tableText, withoutTable } from '../kernel/nft-text.ts';
import type { RouteOp, RuleOp } from '../kernel/rtnetlink.ts';
import { LOCAL_TABLE } from '../kernel/rtnetlink.ts';
import { type BranchSet, branchElements } from './branch-elements.ts';
import { type GateRule, renderGates } from './branch-gate.ts';
import { anyOf, gatewayOf, isV6, SUBNET6_LENGTH, standardOf } from './desired.ts';
import {
  ARRIVAL,
  ARRIVAL_INNER,
  ARRIVAL_MASK,
  ARRIVAL_OUTER,
  ARRIVAL_REPLY,
  ARRIVAL_REPLY_TABLE,
  ARRIVAL_TABLE,
  BRANCH_ENI,
  BRANCH_MASK,
  BRANCH_PODS_TABLE,
  BRANCH_TABLE,
  BY_BRANCH,
  branchTableOf,
  CAME_BY_BRANCH,
  CT_PRIMARY,
  CT_SNAT,
  ENI_MASK,
  GROUP_ARRIVALS,
  GROUP_BRANCHES,
  GROUP_PODS,
  GROUPS_MASK,
  KEEP_MASK,
  NODE_REPLY,
  OWN_ARRIVAL,
  OWN_ARRIVED,
  PROTOCOL,
  RULE_ARRIVAL,
  RULE_ARRIVAL_REPLY,
  RULE_BRANCH,
  RULE_BRANCH_ELSE,
  RULE_BRANCH_GUARD,
  RULE_BRANCH_PODS,
  RULE_BRANCH_PODS_ELSE,
  RULE_LOCAL,
  RULE_STANDARD,
  RULE_STANDARD_ELSE,
  RULE_STANDARD_GUARD,
  standInIndex,
  WAY_MASK,
} from './marks.ts';
import { LINK_LOCAL, VPC_SERVICES6 } from './nft.ts';
import type { NodeDatapath } from './types.ts';

/** A branch ENI on the node's trunk, and the pod that has it. */
export type Branch = {
  readonly eniId: string;
  readonly mac: Mac;
  /** 1 to 4094. */
  readonly vlan: number;
  /** IPv4 or, of an IPv6-only subnet, IPv6. */
  readonly subnetCidr: Cidr;
  /** The pod's. */
  readonly hostIfname: string;
  readonly ips: readonly Ip[];
  /** Absent: strict. */
  readonly mode?: BranchMode | undefined;
  /**
   * What the branch's groups let in, for what arrives on the node for the pod; absent: not known, nothing is let in.
   */
  readonly gate?: readonly GateRule[] | undefined;
};

type RuleValues = Omit<RuleOp, 'op'>;
type RouteValues = Omit<RouteOp, 'op'>;

export const branchesOf = (node: Pick<NodeDatapath, 'branches'>): readonly Branch[] => node.branches ?? [];

const isStrict = ({ mode }: Branch): boolean => mode !== 'standard';
export const strictOf = (node: Pick<NodeDatapath, 'branches'>): readonly Branch[] =>
  branchesOf(node).filter(isStrict);

/** The other end of the pair, as a router: a permanent neighbour of each end. */
export const acrossPair = (family: Family): Ip => ACROSS[family];
const ACROSS = { 4: parseIp('169.254.1.2'), 6: parseIp('fe80::2') };

const familiesOfBranches = (branches: readonly Branch[]): Family[] =>
  ([4, 6] as const).filter((family) => branches.some(({ ips }) => ips.some((ip) => familyOf(ip) === family)));

/**
 * Names what a branch needs beside its own parts: the pair, guards, prefixes, chains. Branches with the same name need
 * the same shared parts.
 */
export const wayOf = (branch: Pick<Branch, 'mode' | 'subnetCidr' | 'ips'>): string => {
  const { mode, subnetCidr, ips } = branch;
  const families = ([4, 6] as const).filter((family) => ips.some((ip) => familyOf(ip) === family));
  if (mode !== 'standard') return ['strict', ...families].join(' ');
  const six = ips.filter(isV6).map((ip) => formatCidr(cidrOf(ip, SUBNET6_LENGTH)));
  return ['standard', ...families, formatCidr(subnetCidr), ...six].join(' ');
};

export const waysOf = (node: Pick<NodeDatapath, 'branches'>): Set<string> =>
  new Set(branchesOf(node).map(wayOf));

/**
 * Before the addresses of the node itself, so that a pod reaches its own node by its branch: the kernel's rule for them
 * moves behind ours (RULE_LOCAL). Only packets that leave by a branch walk the rules of the branches. What has lost its
 * branch is dropped, and so is what came in by a branch and is for no pod of it.
 */
export function branchRules(node: Pick<NodeDatapath, 'branches' | 'judged'>): RuleValues[] {
  const branches = branchesOf(node);
  const isIn = (family: Family) => (branch: Branch) => branch.ips.some((ip) => familyOf(ip) === family);
  return familiesOfBranches(branches).flatMap((family): RuleValues[] => {
    const common = { family, protocol: PROTOCOL };
    const strict = strictOf(node).filter(isIn(family));
    const standard = standardOf(node).filter(isIn(family));
    const leaves = { fwmark: BY_BRANCH, fwmask: WAY_MASK };
    const came = { fwmark: CAME_BY_BRANCH, fwmask: WAY_MASK };
    const arrives = (fwmark: number) => ({ fwmark, fwmask: BRANCH_MASK });
    const { mark = 0, mask = 0 } = node.judged ?? {};
    const byLink =
      (priority: number) =>
      ({ hostIfname, vlan }: Branch) => ({
        ...common,
        priority,
        iifname: hostIfname,
        table: branchTableOf(vlan),
      });
    const past = (goto: number) => ({ invert: true, action: 'goto', goto, table: 0 }) as const;
    const afterAll = { fwmark: BRANCH_ENI, fwmask: ENI_MASK };
    return [
      ...(strict.length === 0
        ? []
        : [
            { ...common, ...leaves, ...past(RULE_LOCAL), priority: RULE_BRANCH_GUARD },
            {
              ...common,
              ...arrives(ARRIVAL_REPLY),
              priority: RULE_ARRIVAL_REPLY,
              table: ARRIVAL_REPLY_TABLE,
            },
            ...strict.map(byLink(RULE_BRANCH)),
            { ...common, ...leaves, priority: RULE_BRANCH_ELSE, action: 'blackhole', table: 0 } as const,
            { ...common, priority: RULE_LOCAL, table: LOCAL_TABLE },
            {
              ...common,
              ...{ fwmark: ARRIVAL, fwmask: ARRIVAL_MASK },
              priority: RULE_ARRIVAL,
              table: ARRIVAL_TABLE,
            },
            { ...common, ...arrives(OWN_ARRIVED), priority: RULE_ARRIVAL, table: BRANCH_PODS_TABLE },
          ]),
      ...(standard.length === 0
        ? []
        : [
            { ...common, ...afterAll, ...past(RULE_STANDARD_ELSE), priority: RULE_STANDARD_GUARD },
            ...standard.map(byLink(RULE_STANDARD)),
            { ...common, ...afterAll, priority: RULE_STANDARD_ELSE, action: 'blackhole', table: 0 } as const,
          ]),
      // What the node sends, its replies to pods (NODE_REPLY) aside.
      {
        ...common,
        priority: RULE_BRANCH_PODS,
        iifname: 'lo',
        fwmark: 0,
        fwmask: WAY_MASK,
        table: BRANCH_PODS_TABLE,
      },
      {
        ...common,
        priority: RULE_BRANCH_PODS,
        fwmark: CAME_BY_BRANCH | mark,
        fwmask: (WAY_MASK | mask) >>> 0,
        table: BRANCH_PODS_TABLE,
      },
      { ...common, ...came, priority: RULE_BRANCH_PODS_ELSE, action: 'blackhole', table: 0 },
    ];
  });
}

/** Each branch's way to its subnet's router, and the pair's two. Routes to the pods are podRoutes'. */
export function branchRoutes(node: Pick<NodeDatapath, 'branches'>): RouteValues[] {
  const across = (family: Family, table: number, oif: number): RouteValues => ({
    ...{ table, oif, protocol: PROTOCOL, dst: anyOf(family), gateway: acrossPair(family) },
    ...(family === 4 ? { onlink: true, scope: 'universe' } : {}),
  });
  const pair = familiesOfBranches(strictOf(node)).flatMap((family) => [
    across(family, ARRIVAL_TABLE, ARRIVAL_OUTER.index),
    across(family, ARRIVAL_REPLY_TABLE, ARRIVAL_INNER.index),
  ]);
  const own = branchesOf(node).flatMap(({ vlan, subnetCidr, ips }) => {
    const common = { table: branchTableOf(vlan), oif: standInIndex(vlan), protocol: PROTOCOL };
    return familiesOfBranches([{ ips } as Branch]).flatMap((family): RouteValues[] => {
      if (family === 6) return [{ ...common, dst: anyOf(6), gateway: gatewayOf({ subnetCidr }, 6) }];
      const gateway = addToIp(subnetCidr.ip, 1);
      return [
        { ...common, dst: hostCidr(gateway), scope: 'link' },
        { ...common, dst: anyOf(4), gateway, onlink: true, scope: 'universe' },
      ];
    });
  });
  return [...own, ...pair];
}

const TABLE = `inet ${BRANCH_TABLE}`;
const FREE = hex((~BRANCH_MASK & 0xffffffff) >>> 0);
const mark = (value: number): string => `meta mark set meta mark & ${FREE} | ${hex(value)}`;

/**
 * The whole table, elements included, which are those of strict pods. `indexes`: of the pods' host links, by name; a
 * branch without its link is left out.
 */
export function renderBranchTable(
  node: Pick<NodeDatapath, 'branches' | 'nodeLocal'>,
  indexes: ReadonlyMap<string, number>,
): string {
  const all = branchesOf(node).flatMap((branch) => {
    const index = indexes.get(branch.hostIfname);
    return index === undefined ? [] : [{ ...branch, index }];
  });
  const pods = all.flatMap((branch) => branchElements(branch, branch.index));
  const of = (set: BranchSet): string[] => pods.flatMap((one) => (one.set === set ? one.text : [])).sort();
  const nodeLocal = (family: Family) =>
    (node.nodeLocal ?? [])
      .filter((ip) => familyOf(ip) === family)
      .map(formatIp)
      .sort();
  const staying = [
    `ip daddr ${formatCidr(LINK_LOCAL)} accept`,
    `ip6 daddr { ${formatCidr(VPC_SERVICES6)}, fe80::/10 } accept`,
    // Of those that are listed, what is not on the node is a Service's, whose way is that of its backend.
    'ip daddr @node_local4 fib daddr type local accept',
    'ip6 daddr @node_local6 fib daddr type local accept',
  ];
  return tableText(TABLE, [
    `  map zones { typeof iif : ct zone;${elementsText(of('zones'))} }`,
    `  map zones4 { typeof ip saddr : ct zone;${elementsText(of('zones4'))} }`,
    `  map zones6 { typeof ip6 saddr : ct zone;${elementsText(of('zones6'))} }`,
    `  set pods4 { type ipv4_addr;${elementsText(of('pods4'))} }`,
    `  set pods6 { type ipv6_addr;${elementsText(of('pods6'))} }`,
    `  set node_local4 { type ipv4_addr;${elementsText(nodeLocal(4))} }`,
    `  set node_local6 { type ipv6_addr;${elementsText(nodeLocal(6))} }`,
    `  set links { type iface_index;${elementsText(of('links'))} }`,
    ...renderGates(all, of('standard')),
    // What stays on the node has no zone: its replies come in by other links.
    chainText({
      name: 'zones_in',
      hook: 'type filter hook prerouting priority -300; policy accept;',
      rules: [
        ...staying,
        // Across the pair: into the pod's zone, and back into none.
        `iif ${ARRIVAL_INNER.index} ct zone set ip daddr map @zones4 accept`,
        `iif ${ARRIVAL_INNER.index} ct zone set ip6 daddr map @zones6 accept`,
        `iif ${ARRIVAL_OUTER.index} accept`,
        'ct zone set iif map @zones',
        // The second way of what a pod sends to its own node. The first rule's zone stands where it was set.
        'fib daddr type local ct zone set ip saddr map @zones4',
        'fib daddr type local ct zone set ip6 saddr map @zones6',
      ],
    }),
    chainText({
      name: 'zones_out',
      hook: 'type filter hook output priority -300; policy accept;',
      rules: [
        `ip saddr ${formatCidr(LINK_LOCAL)} accept`,
        `ip6 saddr { ${formatCidr(VPC_SERVICES6)}, fe80::/10 } accept`,
        'ip saddr @node_local4 accept',
        'ip6 saddr @node_local6 accept',
        'ct zone set oif map @zones',
      ],
    }),
    chainText({
      name: 'from_pod',
      rules: [
        `ct direction reply ct mark & ${hex(ENI_MASK)} == ${hex(CT_PRIMARY)} ${mark(ARRIVAL_REPLY)} accept`,
        ...staying,
        // A reply to the node itself: a probe, exec.
        'ct direction reply fib daddr type local accept',
        `${mark(BY_BRANCH)} accept`,
      ],
    }),
    // After the chain `ways`, which drops sources that the link does not hold.
    chainText({
      name: 'ways',
      hook: 'type filter hook prerouting priority -89; policy accept;',
      rules: [
        // In the pod's zone: arrived on the node, so that replies are known.
        `iif ${ARRIVAL_INNER.index} ct direction original ct mark set ct mark & ${hex(KEEP_MASK)} | ${hex(CT_PRIMARY)}`,
        `iif ${ARRIVAL_INNER.index} meta mark & ${hex(BRANCH_MASK)} == ${hex(OWN_ARRIVAL)} ${mark(OWN_ARRIVED)} accept`,
        `meta iifgroup ${hex(GROUP_BRANCHES)} ${mark(CAME_BY_BRANCH)} accept`,
        `meta iifgroup ${hex(GROUP_ARRIVALS)} meta mark set meta mark & ${FREE} accept`,
        'iif @links goto from_pod',
        // Answers of the VPC's services, which see the node's address.
        ...['ip daddr @pods4', 'ip6 daddr @pods6'].map(
          (to) =>
            `${to} ct direction reply ct mark & ${hex(ENI_MASK)} == ${hex(CT_SNAT)} ${mark(CAME_BY_BRANCH)} accept`,
        ),
        // By somebody's destination NAT, from elsewhere than a pod: a host port, a NodePort.
        ...['ip daddr @pods4', 'ip6 daddr @pods6'].map(
          (to) =>
            `meta iifgroup & ${hex(GROUPS_MASK)} != ${hex(GROUP_PODS)} ${to} ct direction original ct status dnat ${mark(ARRIVAL)}`,
        ),
      ],
    }),
    // What a pod began goes back the way it came: by the VPC.
    chainText({
      name: 'replies',
      hook: 'type route hook output priority -149; policy accept;',
      rules: [`oif @links ct direction reply ct zone != 0 ${mark(NODE_REPLY)}`],
    }),
    // The node's own packets to a Service, a host port or a NodePort of its own: after everybody's destination NAT,
    // which has the first tuple outside the pod's zone.
    chainText({
      name: 'own_arrivals',
      hook: 'type route hook output priority -89; policy accept;',
      rules: ['ip daddr @pods4', 'ip6 daddr @pods6'].map(
        (to) => `${to} ct direction original ct status dnat ${mark(OWN_ARRIVAL)}`,
      ),
    }),
  ]);
}

/** One transaction that puts the table in place of whatever is there; null: away with it. */
export const renderBranchScript = (table: string | null): string => `${withoutTable(TABLE)}${table ?? ''}`;
