// Routes (rtnetlink RTM_*ROUTE, struct rtmsg). Every route that we add carries our protocol number unless the caller
// names another, and a deletion matches that number too, so that a foreign route is never deleted by its prefix alone.
import { type Cidr, cidrOf, familyOf, type Ip, type Ipv4, type Ipv6 } from '../../base/ip.ts';
import { AF_INET, AF_INET6, afOf } from './address.ts';
import { Attributes, beginNest, endNest, putIp, putU32 } from './attribute.ts';
import type { ByteWriter } from './bytes.ts';
import {
  beginMessage,
  endMessage,
  type Message,
  NLM_F_CREATE,
  NLM_F_DUMP,
  NLM_F_EXCL,
  NLM_F_REPLACE,
} from './message.ts';

/** Protocol number of our routes and rules (rtm_protocol, FRA_PROTOCOL). 0x50 is free in iproute2's rt_protos. */
export const PROTOCOL = 0x50;

export const RTM_NEWROUTE = 24;
export const RTM_DELROUTE = 25;
const RTM_GETROUTE = 26;

const RTA_DST = 1;
const RTA_OIF = 4;
const RTA_GATEWAY = 5;
const RTA_PRIORITY = 6;
const RTA_PREFSRC = 7;
const RTA_METRICS = 8;
const RTA_TABLE = 15;
const RTAX_MTU = 2;
const RTAX_ADVMSS = 8;
const RTNH_F_ONLINK = 4;
const RTM_F_CLONED = 0x200;
/** rtm_table of a table that does not fit its byte and stands in the attribute (RT_TABLE_UNSPEC). */
const TABLE_IN_ATTRIBUTE = 0;

const TYPES = {
  unicast: 1,
  local: 2,
  broadcast: 3,
  multicast: 5,
  blackhole: 6,
  unreachable: 7,
  prohibit: 8,
  throw: 9,
} as const;
const SCOPES = { universe: 0, site: 200, link: 253, host: 254, nowhere: 255 } as const;

export type RouteType = keyof typeof TYPES;
export type RouteScope = keyof typeof SCOPES;

const typeNames = new Map<number, RouteType>(
  Object.entries(TYPES).map(([name, n]) => [n, name as RouteType]),
);
const scopeNames = new Map<number, RouteScope>(
  Object.entries(SCOPES).map(([name, n]) => [n, name as RouteScope]),
);

export type RouteOp = {
  op: 'route-add' | 'route-replace' | 'route-del';
  /** 0.0.0.0/0 or ::/0 for the default route. */
  dst: Cidr;
  table: number;
  type?: 'unicast' | 'blackhole' | 'unreachable' | 'prohibit' | 'throw' | 'local';
  gateway?: Ip;
  /** Index of the outgoing link. */
  oif?: number;
  /** Preferred source address. */
  src?: Ip;
  /** Default as `ip route`: link without a gateway, universe with one, host for local; any for a deletion. */
  scope?: 'universe' | 'link' | 'host' | 'nowhere';
  /** Default PROTOCOL; 0 in a deletion matches any. */
  protocol?: number;
  metric?: number;
  /** The gateway is on the link although no address says so. */
  onlink?: boolean;
  /** Bytes. */
  mtu?: number;
  /** Bytes. */
  advmss?: number;
};

export type Route = {
  dst: Cidr;
  table: number;
  type: RouteType;
  gateway: Ip | null;
  oif: number | null;
  src: Ip | null;
  scope: RouteScope;
  protocol: number;
  metric: number;
  onlink: boolean;
  mtu: number | null;
  advmss: number | null;
};

export type RouteFilter = { family?: 4 | 6; table?: number; protocol?: number; oif?: number };

const FLAGS = {
  'route-add': NLM_F_CREATE | NLM_F_EXCL,
  'route-replace': NLM_F_CREATE | NLM_F_REPLACE,
  'route-del': 0,
} as const;

/** struct rtmsg. */
function putHeader(
  w: ByteWriter,
  header: {
    family: number;
    length?: number;
    table: number;
    protocol?: number;
    scope?: number;
    type?: number;
    flags?: number;
  },
): void {
  const at = w.take(12);
  w.bytes[at] = header.family;
  w.bytes[at + 1] = header.length ?? 0;
  w.bytes[at + 4] = header.table > 255 ? TABLE_IN_ATTRIBUTE : header.table;
  w.bytes[at + 5] = header.protocol ?? 0;
  w.bytes[at + 6] = header.scope ?? 0;
  w.bytes[at + 7] = header.type ?? 0;
  w.view.setUint32(at + 8, header.flags ?? 0, true);
}

function defaultScope(op: RouteOp): number {
  if (op.op === 'route-del') return SCOPES.nowhere;
  if (familyOf(op.dst.ip) === 6) return SCOPES.universe;
  if (op.type === 'local') return SCOPES.host;
  if (op.type !== undefined && op.type !== 'unicast') return SCOPES.universe;
  return op.gateway === undefined ? SCOPES.link : SCOPES.universe;
}

export function encodeRouteOp(w: ByteWriter, op: RouteOp): number {
  const message = beginMessage(w, op.op === 'route-del' ? RTM_DELROUTE : RTM_NEWROUTE, FLAGS[op.op]);
  // A deletion without a type matches any (RTN_UNSPEC), as `ip route del` does.
  const type = op.type ?? (op.op === 'route-del' ? undefined : 'unicast');
  putHeader(w, {
    family: afOf(op.dst.ip),
    length: op.dst.length,
    table: op.table,
    protocol: op.protocol ?? PROTOCOL,
    scope: op.scope === undefined ? defaultScope(op) : SCOPES[op.scope],
    type: type === undefined ? 0 : TYPES[type],
    flags: op.onlink ? RTNH_F_ONLINK : 0,
  });
  if (op.dst.length > 0) putIp(w, RTA_DST, op.dst.ip);
  if (op.table > 255) putU32(w, RTA_TABLE, op.table);
  if (op.gateway !== undefined) putIp(w, RTA_GATEWAY, op.gateway);
  if (op.oif !== undefined) putU32(w, RTA_OIF, op.oif);
  if (op.src !== undefined) putIp(w, RTA_PREFSRC, op.src);
  if (op.metric !== undefined) putU32(w, RTA_PRIORITY, op.metric);
  if (op.mtu !== undefined || op.advmss !== undefined) {
    const at = beginNest(w, RTA_METRICS);
    if (op.mtu !== undefined) putU32(w, RTAX_MTU, op.mtu);
    if (op.advmss !== undefined) putU32(w, RTAX_ADVMSS, op.advmss);
    endNest(w, at);
  }
  endMessage(w, message);
  return 1;
}

/** Asks for the routes of one family that match; the kernel filters when the socket is strict. */
export function encodeRouteDump(w: ByteWriter, family: 4 | 6, filter: RouteFilter): void {
  const message = beginMessage(w, RTM_GETROUTE, NLM_F_DUMP);
  putHeader(w, {
    family: family === 4 ? AF_INET : AF_INET6,
    table: filter.table ?? 0,
    ...(filter.protocol === undefined ? {} : { protocol: filter.protocol }),
  });
  if (filter.table !== undefined && filter.table > 255) putU32(w, RTA_TABLE, filter.table);
  if (filter.oif !== undefined) putU32(w, RTA_OIF, filter.oif);
  endMessage(w, message);
}

/** Null for cached clones, other families, and route types that IP hosts do not use. */
export function decodeRoute(message: Message): Route | null {
  const { bytes, start } = message;
  const family = bytes[start];
  if (family !== AF_INET && family !== AF_INET6) return null;
  const view = new DataView(bytes.buffer, bytes.byteOffset + start, 12);
  const flags = view.getUint32(8, true);
  const type = typeNames.get(bytes[start + 7]!);
  if ((flags & RTM_F_CLONED) !== 0 || type === undefined) return null;
  const attributes = new Attributes(bytes, start + 12, message.end);
  const metrics = attributes.nest(RTA_METRICS);
  const dst = attributes.ip(RTA_DST) ?? (family === AF_INET ? (0 as Ipv4) : (0n as Ipv6));
  return {
    dst: cidrOf(dst, bytes[start + 1]!),
    table: attributes.u32(RTA_TABLE) ?? bytes[start + 4]!,
    type,
    gateway: attributes.ip(RTA_GATEWAY) ?? null,
    oif: attributes.u32(RTA_OIF) ?? null,
    src: attributes.ip(RTA_PREFSRC) ?? null,
    scope: scopeNames.get(bytes[start + 6]!) ?? 'universe',
    protocol: bytes[start + 5]!,
    metric: attributes.u32(RTA_PRIORITY) ?? 0,
    onlink: (flags & RTNH_F_ONLINK) !== 0,
    mtu: metrics?.u32(RTAX_MTU) ?? null,
    advmss: metrics?.u32(RTAX_ADVMSS) ?? null,
  };
}

export function routeMatches(route: Route, filter: RouteFilter): boolean {
  return (
    (filter.table === undefined || route.table === filter.table) &&
    (filter.protocol === undefined || route.protocol === filter.protocol) &&
    (filter.oif === undefined || route.oif === filter.oif)
  );
}
