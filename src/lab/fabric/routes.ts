// Route tables of the VPC as routes of the kernel, per subnet. Pure.
// A VPC's "local" route becomes one route per subnet, so that a packet is handed to the right bridge; the rest of the
// VPC's range leads nowhere. Every table ends in a default, so that no lookup falls through to another table.
import { type Cidr, cidrCovers, formatCidr, parseCidr, parseIp } from '../../base/ip.ts';
import { parseMac } from '../../base/mac.ts';
import { ipv6CidrsOf } from '../vpc/ipv6.ts';
import type { Route, RouteTable, RouteTarget, Subnet, VpcState } from '../vpc/model.ts';
import type { Hop, RouteEntry } from './entries.ts';
import { bridgeName, linkLocalOf } from './names.ts';

/** The table that the subnet is associated with, else its VPC's main table. */
export function tableOf(state: VpcState, subnet: Subnet): RouteTable | undefined {
  const tables = Object.values(state.routeTables).filter((table) => table.vpcId === subnet.vpcId);
  return (
    tables.find((table) => table.associations.some((one) => one.subnetId === subnet.id)) ??
    tables.find((table) => table.associations.some((one) => one.main))
  );
}

type ParsedRoute = { dst: Cidr; target: RouteTarget };

const parseRoutes = (routes: readonly Route[], family: 4 | 6): ParsedRoute[] =>
  routes
    .filter((route) => route.destination.includes(':') === (family === 6))
    .map((route) => ({ dst: parseCidr(route.destination, { mask: true }), target: route.target }));

function hopTo(state: VpcState, vpcId: string, target: RouteTarget, family: 4 | 6): Hop {
  switch (target.kind) {
    case 'local':
      return { to: family === 4 ? 'nowhere' : 'holder' };
    case 'internet-gateway':
      return state.internetGateways[target.id]?.vpcId === vpcId ? { to: 'internet' } : { to: 'nowhere' };
    case 'egress-only-internet-gateway':
      return state.egressOnlyInternetGateways[target.id]?.vpcId === vpcId
        ? { to: 'internet' }
        : { to: 'nowhere' };
    case 'nat-gateway': {
      const gateway = state.natGateways[target.id];
      const eni = state.networkInterfaces[gateway?.networkInterfaceId ?? ''];
      if (gateway?.state !== 'available' || !eni) return { to: 'nowhere' };
      const ip = family === 4 ? parseIp(eni.privateIps[0]!) : linkLocalOf(parseMac(eni.mac));
      return { to: 'eni', bridge: bridgeName(eni.subnetId), gateway: ip };
    }
    case 'network-interface': {
      const eni = state.networkInterfaces[target.id];
      const instance = eni?.attachment && state.instances[eni.attachment.instanceId];
      const gateway = family === 4 ? parsed(eni?.privateIps[0]) : eni && linkLocalOf(parseMac(eni.mac));
      // With its destination check on, an ENI accepts only packets to its own addresses.
      if (!eni || eni.sourceDestCheck || gateway === undefined) return { to: 'nowhere' };
      if (eni.attachment?.status !== 'attached' || instance?.state !== 'running') return { to: 'nowhere' };
      return { to: 'eni', bridge: bridgeName(eni.subnetId), gateway };
    }
  }
}

const parsed = (ip: string | undefined) => (ip === undefined ? undefined : parseIp(ip));

/**
 * The IPv6 side of a subnet's table. A "local" route passes the packet on to the table of holders; a route more specific
 * than "local" (a middlebox between subnets) wins by its length, but never for the subnet itself.
 */
export function subnetRoutes6(state: VpcState, subnet: Subnet): RouteEntry[] {
  const bridge = bridgeName(subnet.id);
  const routes = new Map<string, RouteEntry>();
  const put = (dst: Cidr, hop: Hop) => routes.set(formatCidr(dst), { kind: 'route', bridge, dst, hop });
  put(parseCidr('::/0'), { to: 'nowhere' });
  for (const block of ipv6CidrsOf(state.vpcs[subnet.vpcId])) put(parseCidr(block), { to: 'holder' });
  for (const route of parseRoutes(tableOf(state, subnet)?.routes ?? [], 6))
    put(route.dst, hopTo(state, subnet.vpcId, route.target, 6));
  for (const block of ipv6CidrsOf(subnet)) put(parseCidr(block), { to: 'holder' });
  return [...routes.values()];
}

export function subnetRoutes(state: VpcState, subnet: Subnet): RouteEntry[] {
  const bridge = bridgeName(subnet.id);
  const routes = new Map<string, RouteEntry>();
  const put = (dst: Cidr, hop: Hop) => routes.set(formatCidr(dst), { kind: 'route', bridge, dst, hop });

  const given = parseRoutes(tableOf(state, subnet)?.routes ?? [], 4);
  put(parseCidr('0.0.0.0/0'), { to: 'nowhere' });
  // A VPC's own ranges are local whether or not a table says so.
  for (const one of state.vpcs[subnet.vpcId]?.cidrs ?? [])
    put(parseCidr(one.cidr, { mask: true }), { to: 'nowhere' });
  for (const route of given) put(route.dst, hopTo(state, subnet.vpcId, route.target, 4));
  for (const other of Object.values(state.subnets)) {
    if (other.vpcId !== subnet.vpcId || other.ipv6Native) continue;
    const cidr = parseCidr(other.cidr, { mask: true });
    // A route more specific than "local" takes the subnets that it covers (a middlebox between subnets).
    const best = given
      .filter((route) => cidrCovers(route.dst, cidr))
      .reduce<ParsedRoute | null>((a, b) => (a === null || b.dst.length > a.dst.length ? b : a), null);
    const isLocal =
      best === null ||
      best.target.kind === 'local' ||
      best.dst.length === 0 ||
      !isInVpc(state, subnet.vpcId, best.dst);
    if (isLocal || other.id === subnet.id) put(cidr, { to: 'subnet', bridge: bridgeName(other.id) });
  }
  return [...routes.values()];
}

/** Is the destination within the VPC's ranges, so that it can be more specific than "local"? */
const isInVpc = (state: VpcState, vpcId: string, dst: Cidr): boolean =>
  (state.vpcs[vpcId]?.cidrs ?? []).some((one) => cidrCovers(parseCidr(one.cidr, { mask: true }), dst));
