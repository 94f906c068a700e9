// The desired rules, routes and ENI addresses of a node. Pure. The nft table is in nft.ts, a pod's own route in
// podRoute(). Invariant: everything here carries PROTOCOL or lies in a table of ours, so an observed object with these
// marks that is not desired may be deleted.
import {
  addToIp,
  bitsOf,
  type Cidr,
  cidrCovers,
  compareIp,
  type Family,
  familyOf,
  hostCidr,
  type Ip,
  type Ipv4,
} from '../base/ip.ts';
import type { RouteOp, RuleOp } from '../kernel/rtnetlink.ts';
import {
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
import type { Eni, NodeDatapath } from './types.ts';

/** The pods' gateway: link-local, so it costs no address of the VPC and is the same in every pod. */
export const POD_GATEWAY = 0xa9fe0101 as Ipv4; // 169.254.1.1

type RuleValues = Omit<RuleOp, 'op'>;
type RouteValues = Omit<RouteOp, 'op'>;

/** The primary ENI; RangeError when the node has none. */
export function primaryEni(node: Pick<NodeDatapath, 'enis'>): Eni {
  const eni = node.enis.find(isPrimary);
  if (!eni) throw new RangeError('a node has a primary ENI (card 0, device 0): none was given');
  return eni;
}

/** The subnet's router: its first address, as EC2 reserves it. */
export const gatewayOf = (eni: Pick<Eni, 'gateway' | 'subnetCidr'>): Ip =>
  eni.gateway ?? addToIp(eni.subnetCidr.ip, 1);

/** The address families of the node's ENIs; always includes IPv4. */
export function familiesOf(node: Pick<NodeDatapath, 'enis'>): Family[] {
  const has6 = node.enis.some((eni) =>
    [eni.primaryIp, ...eni.addresses, ...eni.prefixes.map((prefix) => prefix.ip)].some(
      (ip) => familyOf(ip) === 6,
    ),
  );
  return has6 ? [4, 6] : [4];
}

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
      if (isPrimary(eni) || familyOf(eni.primaryIp) !== family) continue;
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
  const subnets = withoutCovered(node.enis.map((eni) => eni.subnetCidr).filter(ofFamily));
  const within = [...unheldCidrs(node), ...node.pods.flatMap((pod) => pod.ips.map(hostCidr))].filter(
    ofFamily,
  );
  const isInside = (one: Cidr) => subnets.some((subnet) => cidrCovers(subnet, one));
  return subnets.length > 0 && within.every(isInside) ? subnets : [undefined];
}

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
  const gateway = gatewayOf(eni);
  const family = familyOf(gateway);
  const any: Cidr = family === 4 ? { ip: 0 as Ip, length: 0 } : { ip: 0n as Ip, length: 0 };
  const common = { table: eniTable(eni), oif, protocol: PROTOCOL };
  return [
    { ...common, dst: hostCidr(gateway), scope: 'link' },
    // onlink: the ENI's own address is a /32, so nothing else says that the router is a neighbour.
    { ...common, dst: any, gateway, onlink: true, scope: 'universe' },
  ];
}

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

/** The node's route to a pod, without a preferred source: with one the kernel deletes it when that address changes. */
export const podRoute = (ip: Ip, oif: number): RouteValues => ({
  dst: hostCidr(ip),
  table: PODS_TABLE,
  oif,
  scope: familyOf(ip) === 4 ? 'link' : 'universe',
  protocol: PROTOCOL,
});

/** A secondary ENI's own address: a host address, so that the main table gets no second route to the subnet. */
export const eniAddress = (eni: Eni) => ({
  ip: eni.primaryIp,
  length: bitsOf(familyOf(eni.primaryIp)),
  noPrefixRoute: true,
});
