// The desired rules, routes and ENI addresses of a node. Pure. The nft table is in nft.ts, a pod's own route in
// podRoute(). Invariant: everything here carries PROTOCOL or lies in a table of ours, so an observed object with these
// marks that is not desired may be deleted.

import { EGRESS4, isEgress } from '../base/egress.ts';
import {
  addToIp,
  bitsOf,
  type Cidr,
  cidrCovers,
  cidrOf,
  compareIp,
  type Family,
  familyOf,
  hostCidr,
  type Ip,
  type Ipv4,
  ipFromBytes,
  parseIp,
} from '../base/ip.ts';
import { type Mac, macToBytes } from '../base/mac.ts';
import type { RouteOp, RuleOp } from '../kernel/rtnetlink.ts';
import type { Branch } from './branch.ts';
import {
  BRANCH_PODS_TABLE,
  ENI_MASK,
  eniTable,
  isPrimary,
  PODS_TABLE,
  PROTOCOL,
  RULE_ENI,
  RULE_PODS,
  RULE_UNHELD,
  RULE_UNREACHABLE,
  slotKey,
  UNHELD_TABLE,
  UNREACHABLE_TABLE,
} from './marks.ts';
import type { Eni, HeldPod, NodeDatapath } from './types.ts';

/** The pods' gateway: link-local, so it costs no address of the VPC and is the same in every pod. */
export const POD_GATEWAY = 0xa9fe0101 as Ipv4; // 169.254.1.1
/** The same of IPv6: an address of each pod's host link. */
export const POD_GATEWAY6 = parseIp('fe80::1');
export const podGateway = (family: Family): Ip => (family === 4 ? POD_GATEWAY : POD_GATEWAY6);

/** The VPC's router, on every link, beside its address by EUI-64 (AWS VPC user guide, subnet CIDR blocks). */
const ROUTER6 = parseIp('fe80:ec2::1');
/** A subnet of EC2 has at least this many addresses in common: a /64. */
export const SUBNET6_LENGTH = 64;

type RuleValues = Omit<RuleOp, 'op'>;
type RouteValues = Omit<RouteOp, 'op'>;

/** The primary ENI; RangeError when the node has none. */
export function primaryEni(node: Pick<NodeDatapath, 'enis'>): Eni {
  const eni = node.enis.find(isPrimary);
  if (!eni) throw new RangeError('a node has a primary ENI (card 0, device 0): none was given');
  return eni;
}

/** The subnet's router: of IPv4 its first address, as EC2 reserves it. */
export const gatewayOf = (eni: Pick<Eni, 'gateway' | 'subnetCidr'>, family: Family): Ip =>
  family === 6 ? ROUTER6 : (eni.gateway ?? addToIp(eni.subnetCidr.ip, 1));

/** The ENI's own address or one that it carries is of the family. */
export const carries = (eni: Eni, family: Family): boolean =>
  familyOf(eni.primaryIp) === family ||
  eni.addresses.some((ip) => familyOf(ip) === family) ||
  eni.prefixes.some(({ ip }) => familyOf(ip) === family);

/** Branches of pods in standard mode. */
export const standardOf = ({ branches = [] }: Pick<NodeDatapath, 'branches'>): readonly Branch[] =>
  branches.filter(({ mode }) => mode === 'standard');

const onBranch = ({ branches = [] }: Pick<NodeDatapath, 'branches'>, family: Family): boolean =>
  branches.some(({ ips }) => ips.some((ip) => familyOf(ip) === family));

/** The address families of the node's ENIs and branches. */
export function familiesOf(node: Pick<NodeDatapath, 'enis' | 'branches'>): Family[] {
  const has = ([4, 6] as const).filter(
    (family) => node.enis.some((eni) => carries(eni, family)) || onBranch(node, family),
  );
  return has.length > 0 ? has : [4];
}

/** True where the node has an IPv4 address and pods of IPv6 alone may use it. */
export const hasEgress = (node: Pick<NodeDatapath, 'enis' | 'branches' | 'egress4'>): boolean =>
  node.egress4 === true && familiesOf(node).includes(4);

/** True where pods can have IPv6 addresses. */
export const has6 = (node: Pick<NodeDatapath, 'enis' | 'branches'>): boolean =>
  node.enis.some((eni) => carries(eni, 6)) || onBranch(node, 6);

export const isV6 = (ip: Ip): boolean => familyOf(ip) === 6;

/**
 * Three rules for each subnet of ours and one for each secondary ENI, however many pods there are. The kernel walks the
 * rules for every packet; a prefix in the rule saves the lookup in its table.
 */
export function desiredRules(node: NodeDatapath, marks: ReadonlyMap<string, number>): RuleValues[] {
  const rules: RuleValues[] = [];
  for (const family of familiesOf(node)) {
    const common = { family, protocol: PROTOCOL };
    for (const to of podPrefixes(node, family)) {
      const towards = { ...common, ...(to === undefined ? {} : { to }) };
      const toPods = { ...towards, priority: RULE_PODS, table: PODS_TABLE };
      if (node.judged) {
        rules.push({ ...toPods, fwmark: node.judged.mark, fwmask: node.judged.mask });
        // Packets that the node itself sends carry no judged mark.
        rules.push({ ...toPods, iifname: 'lo' });
      } else {
        rules.push(toPods);
      }
      // A blackhole route would give a process of the node EINVAL.
      rules.push({ ...towards, priority: RULE_UNREACHABLE, iifname: 'lo', table: UNREACHABLE_TABLE });
      rules.push({ ...towards, priority: RULE_UNHELD, table: UNHELD_TABLE });
    }
    for (const eni of node.enis) {
      if (isPrimary(eni) || !carries(eni, family)) continue;
      rules.push({
        ...common,
        priority: RULE_ENI,
        fwmark: marks.get(slotKey(eni))!,
        fwmask: ENI_MASK,
        table: eniTable(eni),
      });
    }
  }
  return rules;
}

/** Prefixes that contain all pod addresses and black holes: the ENIs' subnets, or everything if one lies outside. */
function podPrefixes(node: NodeDatapath, family: Family): (Cidr | undefined)[] {
  const ofFamily = (cidr: Cidr) => familyOf(cidr.ip) === family;
  const ofBranches = standardOf(node).flatMap(({ subnetCidr, ips }) => [
    subnetCidr,
    ...ips.filter(isV6).map((ip) => cidrOf(ip, SUBNET6_LENGTH)),
  ]);
  const subnets = withoutCovered([...node.enis.flatMap(subnetsOf), ...ofBranches].filter(ofFamily));
  const plain = node.pods.filter((pod) => pod.vlan === undefined);
  const held = plain.flatMap((pod) => pod.ips.filter((ip) => !isEgress(ip)).map(hostCidr));
  const within = [...unheldCidrs(node), ...held].filter(ofFamily);
  const isInside = (one: Cidr) => subnets.some((subnet) => cidrCovers(subnet, one));
  if (subnets.length === 0 || !within.every(isInside)) return [undefined];
  return family === 4 && hasEgress(node) ? [...subnets, EGRESS4] : subnets;
}

/** The ENI's subnet; of IPv6 the part of it that the ENI's prefixes are in. */
const subnetsOf = (eni: Eni): Cidr[] => [
  eni.subnetCidr,
  ...eni.prefixes.filter(({ ip }) => isV6(ip)).map(({ ip }) => cidrOf(ip, SUBNET6_LENGTH)),
];

/** The list's prefixes that no other prefix of the list covers, in order. */
export function withoutCovered(cidrs: readonly Cidr[]): Cidr[] {
  const sorted = [...cidrs].sort((a, b) => compareIp(a.ip, b.ip) || a.length - b.length);
  const kept: Cidr[] = [];
  for (const cidr of sorted) {
    if (!kept.some((other) => cidrCovers(other, cidr))) kept.push(cidr);
  }
  return kept;
}

/**
 * Black holes for all addresses of our ENIs. A pod's route wins over its black hole (RULE_PODS is before RULE_UNHELD),
 * so when the route is deleted, the black hole applies at once and DEL need not add one.
 */
export function unheldCidrs(node: Pick<NodeDatapath, 'enis'>): Cidr[] {
  const all = node.enis.flatMap((eni) => [...eni.addresses.map(hostCidr), ...eni.prefixes]);
  return withoutCovered(all);
}

const unheldRoutes = (dst: Cidr): RouteValues[] => [
  { dst, table: UNHELD_TABLE, type: 'blackhole', protocol: PROTOCOL },
  { dst, table: UNREACHABLE_TABLE, type: 'unreachable', protocol: PROTOCOL },
];

/** A secondary ENI's routes: everything, peers of its own subnet too, goes through the subnet's router. */
function eniRoutes(eni: Eni, oif: number): RouteValues[] {
  const common = { table: eniTable(eni), oif, protocol: PROTOCOL };
  const routes: RouteValues[] = [];
  if (carries(eni, 4)) {
    const gateway = gatewayOf(eni, 4);
    routes.push(
      { ...common, dst: hostCidr(gateway), scope: 'link' },
      // onlink: the ENI's own address is a /32, so nothing else says that the router is a neighbour.
      { ...common, dst: anyOf(4), gateway, onlink: true, scope: 'universe' },
    );
  }
  // A link-local gateway is a neighbour on its link.
  if (carries(eni, 6)) routes.push({ ...common, dst: anyOf(6), gateway: gatewayOf(eni, 6) });
  return routes;
}

/** Every destination of the family. */
export const anyOf = (family: Family): Cidr =>
  family === 4 ? { ip: 0 as Ip, length: 0 } : { ip: 0n as Ip, length: 0 };

/** Ends the look into our tables: what the main table says of the address counts. */
const elsewhereRoutes = (ip: Ip): RouteValues[] =>
  [UNHELD_TABLE, UNREACHABLE_TABLE].map((table) => ({
    dst: hostCidr(ip),
    table,
    type: 'throw',
    protocol: PROTOCOL,
  }));

/**
 * All our routes except the pods'. `links` maps slot keys to link indexes; ENIs without a link are left out. `elsewhere`
 * are addresses of our ENIs that another network plugin routes to a pod of its own: they get no black hole.
 */
export function desiredRoutes(
  node: NodeDatapath,
  links: ReadonlyMap<string, number>,
  elsewhere: ReadonlySet<Ip> = new Set(),
): RouteValues[] {
  const isElsewhere = ({ ip, length }: Cidr) => length === bitsOf(familyOf(ip)) && elsewhere.has(ip);
  const routes = unheldCidrs(node)
    .filter((cidr) => !isElsewhere(cidr))
    .flatMap(unheldRoutes);
  routes.push(...[...elsewhere].flatMap(elsewhereRoutes));
  for (const eni of node.enis) {
    const oif = links.get(slotKey(eni));
    if (!isPrimary(eni) && oif !== undefined) routes.push(...eniRoutes(eni, oif));
  }
  return routes;
}

/**
 * The node's routes to a pod, without a preferred source: with one the kernel deletes it when that address changes. A
 * pod in standard mode is found by what came in by its branch and by what is on the node.
 */
export const podRoutes = (
  { ips, vlan, mode }: Pick<HeldPod, 'ips' | 'vlan' | 'mode'>,
  oif: number,
): RouteValues[] => {
  const tables =
    vlan === undefined
      ? [PODS_TABLE]
      : mode === 'standard'
        ? [PODS_TABLE, BRANCH_PODS_TABLE]
        : [BRANCH_PODS_TABLE];
  return ips.flatMap((ip) =>
    tables.map(
      (table): RouteValues => ({
        dst: hostCidr(ip),
        table,
        oif,
        scope: familyOf(ip) === 4 ? 'link' : 'universe',
        protocol: PROTOCOL,
      }),
    ),
  );
};

/**
 * The link-local address that the kernel would give by itself (RFC 4291, appendix A), but usable at once: with duplicate
 * address detection a new link could ask for its neighbours only after a second.
 */
export function linkLocalOn(index: number, mac: Mac) {
  const [a, b, c, d, e, f] = macToBytes(mac);
  const bytes = Uint8Array.of(0xfe, 0x80, 0, 0, 0, 0, 0, 0, a! ^ 2, b!, c!, 0xff, 0xfe, d!, e!, f!);
  return { index, ip: ipFromBytes(bytes), length: 64, noDad: true } as const;
}

/** A secondary ENI's own address: a host address, so that the main table gets no second route to the subnet. */
export const eniAddress = (eni: Eni) => ({
  ip: eni.primaryIp,
  length: bitsOf(familyOf(eni.primaryIp)),
  noPrefixRoute: true,
  ...(isV6(eni.primaryIp) ? { noDad: true } : {}),
});
