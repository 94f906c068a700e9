// From entries to kernel operations, and from the kernel's dumps back to entries. Pure: values to values.
// All objects of these kinds in the router's namespace are ours: nothing else uses it.
import { type Cidr, cidrContains, familyOf, hostCidr, type Ip, ipToBytes, parseCidr } from '../../base/ip.ts';
import type { Mac } from '../../base/mac.ts';
import { concatKey, type NftElementOp } from '../../kernel/nfnetlink.ts';
import type { Address, BridgePort, Fdb, Link, Neighbour, Route, RtOp, Rule } from '../../kernel/rtnetlink.ts';
import { type ElementEntry, type Entry, keyOf, type Part } from './entries.ts';
import {
  GATEWAY_LINK,
  HOLDERS_PRIORITY,
  HOLDERS_TABLE,
  HOST_SCOPE,
  IMDS_PORT,
  INTERNET_HOST,
  INTERNET_HOST6,
  INTERNET_ROUTER,
  INTERNET_ROUTER6,
  isTagEnd,
  NFT_TABLE,
  ROUTER,
  ROUTER_LINK_LOCAL,
  ROUTER_MAC,
  RULE_PRIORITY,
  TABLE_BASE,
  VPC_MTU,
} from './names.ts';
import { callerAddress, callerAddress6, type IndexOf } from './ruleset.ts';

/** Nothing passes from port to port, nothing is learned or flooded: the router decides. ARP is answered in place. */
export const PORT_FLAGS: BridgePort = {
  isolated: true,
  proxyArp: true,
  neighSuppress: false,
  learning: false,
  flood: false,
  mcastFlood: false,
  bcastFlood: false,
};

/** Sets the bridge up after its creation; also completes a half made bridge. */
export const bridgeOps = (entry: Extract<Entry, { kind: 'bridge' }>, index: number): RtOp[] => [
  // Only an MTU that was changed, not one that the bridge was born with, stays when its last port leaves.
  { op: 'link-set', index, mtu: VPC_MTU, mac: ROUTER_MAC, up: true },
  ...(entry.ip === null ? [] : [{ op: 'addr-replace' as const, index, ip: entry.ip, length: entry.length }]),
];

/** Plugs the new link in; the guest's end is still down. */
export const portOps = (entry: Extract<Entry, { kind: 'port' }>, indexOf: IndexOf): RtOp[] => [
  {
    op: 'link-set',
    index: indexOf(entry.name),
    master: indexOf(entry.bridge),
    port: PORT_FLAGS,
  },
  { op: 'link-set', index: indexOf(entry.name), up: true },
  // A branch's far end is the router's own, and nobody else brings it up.
  ...(entry.where === ROUTER ? [{ op: 'link-set' as const, name: entry.guestName, up: true }] : []),
];

const tableOf = (bridge: string, indexOf: IndexOf): number => TABLE_BASE + indexOf(bridge);

function routeOp(
  op: 'route-replace' | 'route-del',
  entry: Extract<Entry, { kind: 'route' | 'holder' }>,
  indexOf: IndexOf,
): RtOp {
  const table = entry.kind === 'holder' ? HOLDERS_TABLE : tableOf(entry.bridge, indexOf);
  const route = { op, dst: entry.dst, table };
  if (op === 'route-del') return route;
  switch (entry.hop.to) {
    case 'nowhere':
      return { ...route, type: 'blackhole' };
    case 'holder':
      return { ...route, type: 'throw' };
    case 'internet': {
      const gateway = familyOf(entry.dst.ip) === 4 ? INTERNET_HOST : INTERNET_HOST6;
      return { ...route, gateway, oif: indexOf(GATEWAY_LINK), onlink: true };
    }
    case 'subnet':
      return { ...route, oif: indexOf(entry.hop.bridge), scope: 'link' };
    case 'eni':
      return { ...route, gateway: entry.hop.gateway, oif: indexOf(entry.hop.bridge), onlink: true };
  }
}

/** Operations in the router's namespace that make the entry true; none for kinds that are made elsewhere. */
export function addOps(entry: Entry, indexOf: IndexOf): RtOp[] {
  switch (entry.kind) {
    case 'fdb':
      return entry.port === null
        ? [{ op: 'fdb-replace', index: indexOf(entry.bridge), mac: entry.mac, permanent: 'bridge' }]
        : [{ op: 'fdb-replace', index: indexOf(entry.port), mac: entry.mac, permanent: 'master-static' }];
    case 'neighbour':
      return [{ op: 'neigh-replace', index: indexOf(entry.bridge), ip: entry.ip, mac: entry.mac }];
    case 'route':
    case 'holder':
      return [routeOp('route-replace', entry, indexOf)];
    case 'bridge6':
      return routerAddresses(entry).map((one) => ({
        op: 'addr-replace' as const,
        index: indexOf(entry.name),
        noDad: true,
        ...one,
      }));
    case 'resolver':
      return [{ op: 'addr-replace', ...onLoopback(entry.ip, indexOf) }];
    case 'rule':
    case 'rule6':
      return [{ ...ruleOf(entry, indexOf), op: 'rule-add' }];
    default:
      return [];
  }
}

const onLoopback = (ip: Ip, indexOf: IndexOf) => ({
  index: indexOf('lo'),
  ip,
  length: 32,
  scope: HOST_SCOPE,
});

const ruleOf = ({ kind, bridge }: Extract<Entry, { kind: 'rule' | 'rule6' }>, indexOf: IndexOf) => ({
  family: kind === 'rule' ? (4 as const) : (6 as const),
  priority: RULE_PRIORITY,
  iifname: bridge,
  table: tableOf(bridge, indexOf),
});

/** With the link-local range, so that the router answers guests under it. */
const routerAddresses = (entry: Extract<Entry, { kind: 'bridge6' }>) => [
  { ip: ROUTER_LINK_LOCAL, length: 10 },
  ...(entry.ip === ROUTER_LINK_LOCAL ? [] : [{ ip: entry.ip, length: 128 }]),
];

/** The reverse; the kernel may have done it already when a link left. */
export function removeOps(entry: Entry, indexOf: IndexOf): RtOp[] {
  switch (entry.kind) {
    case 'fdb': {
      const permanent = entry.port === null ? ('bridge' as const) : ('master-static' as const);
      return [{ op: 'fdb-del', index: indexOf(entry.port ?? entry.bridge), mac: entry.mac, permanent }];
    }
    case 'neighbour':
      return [{ op: 'neigh-del', index: indexOf(entry.bridge), ip: entry.ip }];
    case 'route':
    case 'holder':
      return [routeOp('route-del', entry, indexOf)];
    case 'bridge6':
      return routerAddresses(entry).map((one) => ({
        op: 'addr-del' as const,
        index: indexOf(entry.name),
        ...one,
      }));
    case 'resolver':
      return [{ op: 'addr-del', ...onLoopback(entry.ip, indexOf) }];
    case 'rule':
    case 'rule6':
      return [{ ...ruleOf(entry, indexOf), op: 'rule-del' }];
    default:
      return [];
  }
}

/** The internet host's way to a VPC's IPv6 block. */
export const internetRouteOp = (op: 'route-replace' | 'route-del', dst: Cidr, oif: number): RtOp =>
  op === 'route-del'
    ? { op, dst, table: 254 }
    : { op, dst, table: 254, gateway: INTERNET_ROUTER6, oif, onlink: true };

/** The internet host's way to a public address. */
export const publicRouteOp = (op: 'route-replace' | 'route-del', ip: Ip, oif: number): RtOp =>
  op === 'route-del'
    ? { op, dst: hostCidr(ip), table: 254 }
    : { op, dst: hostCidr(ip), table: 254, gateway: INTERNET_ROUTER, oif, onlink: true };

const u32 = (value: number): Uint8Array => {
  const bytes = new Uint8Array(4);
  // Marks and interface indexes are in host order, and every machine that we run on is little-endian.
  new DataView(bytes.buffer).setUint32(0, value, true);
  return bytes;
};
const u16be = (value: number): Uint8Array => Uint8Array.of(value >>> 8, value & 255);

export function elementOp(op: 'add' | 'del', entry: ElementEntry, indexOf: IndexOf): NftElementOp {
  const part = (it: Part) => ('port' in it ? u32(indexOf(it.port)) : ipToBytes(it.ip));
  const where = {
    op,
    family: entry.family,
    table: NFT_TABLE,
    set: entry.set,
    key: concatKey(...entry.key.map(part)),
  };
  const { data } = entry;
  if (op === 'del' || data === null) return where;
  if ('goto' in data) return { ...where, verdict: { kind: 'goto', chain: data.goto } };
  if ('ip' in data) return { ...where, data: ipToBytes(data.ip) };
  if ('mark' in data) return { ...where, data: u32(indexOf(data.mark)) };
  const caller =
    'caller' in data ? callerAddress(indexOf(data.caller)) : callerAddress6(indexOf(data.caller6));
  return { ...where, data: concatKey(ipToBytes(caller), u16be(IMDS_PORT)) };
}

/** What the router's loopback has beside the VPCs' resolvers. */
const OWN = ['127.0.0.0/8', '169.254.169.0/24'].map((text) => parseCidr(text));

export type Dumps = {
  links: readonly Link[];
  addresses: readonly Address[];
  neighbours: readonly Neighbour[];
  fdb: readonly Fdb[];
  routes: readonly Route[];
  rules: readonly Rule[];
};

/** Name of a link that is gone, by the index that its leavings name; `indexOfName` reads it back. */
export const goneName = (index: number): string => `#${index}`;

/** The router's entries as the kernel has them. What was made by halves reads as something else than planned. */
export function observedEntries(dumps: Dumps): Map<string, Entry> {
  const entries = new Map<string, Entry>();
  const put = (entry: Entry) => entries.set(keyOf(entry), entry);
  const byIndex = new Map(dumps.links.map((link) => [link.index, link]));
  const nameOf = (index: number) => byIndex.get(index)?.name ?? goneName(index);
  const isBridge = (index: number) => byIndex.get(index)?.kind === 'bridge';

  for (const link of dumps.links) {
    if (link.kind === 'bridge') {
      const address = dumps.addresses.find((one) => one.index === link.index && familyOf(one.ip) === 4);
      const whole = link.up && link.mtu === VPC_MTU && link.mac === ROUTER_MAC;
      put({
        kind: 'bridge',
        name: link.name,
        ip: address?.ip ?? null,
        length: whole ? (address?.length ?? 0) : -1,
      });
      const six = dumps.addresses.filter((one) => one.index === link.index && familyOf(one.ip) === 6);
      if (six.some((one) => one.ip === ROUTER_LINK_LOCAL)) {
        const own = six.find((one) => one.ip !== ROUTER_LINK_LOCAL && one.length === 128);
        put({ kind: 'bridge6', name: link.name, ip: own?.ip ?? ROUTER_LINK_LOCAL });
      }
    } else if (link.kind === 'veth' && link.name !== GATEWAY_LINK && !isTagEnd(link.name)) {
      put(observedPort(link, nameOf));
    }
  }
  const lo = dumps.links.find((link) => link.name === 'lo')?.index;
  for (const { index, ip } of dumps.addresses)
    if (index === lo && familyOf(ip) === 4 && !OWN.some((range) => cidrContains(range, ip)))
      put({ kind: 'resolver', ip });
  for (const one of dumps.fdb) {
    if (!isBridge(one.masterIndex)) continue;
    const own = one.index === one.masterIndex;
    if (one.state !== (own ? 'permanent' : 'noarp') || (own && one.mac === ROUTER_MAC)) continue;
    put({ kind: 'fdb', bridge: nameOf(one.masterIndex), mac: one.mac, port: own ? null : nameOf(one.index) });
  }
  for (const one of dumps.neighbours) {
    if (one.state !== 'permanent' || !isBridge(one.index) || one.mac === null) continue;
    // The kernel keeps permanent entries of its own for multicast.
    if (familyOf(one.ip) === 6 && (one.ip as bigint) >> 120n === 0xffn) continue;
    put({ kind: 'neighbour', bridge: nameOf(one.index), ip: one.ip, mac: one.mac });
  }
  for (const one of dumps.routes) {
    const bridge = nameOf(one.table - TABLE_BASE);
    const oif = one.oif === null ? '' : nameOf(one.oif);
    const hop =
      one.type === 'blackhole'
        ? ({ to: 'nowhere' } as const)
        : one.type === 'throw'
          ? ({ to: 'holder' } as const)
          : oif === GATEWAY_LINK
            ? ({ to: 'internet' } as const)
            : one.gateway === null
              ? ({ to: 'subnet', bridge: oif } as const)
              : ({ to: 'eni', bridge: oif, gateway: one.gateway } as const);
    if (one.table === HOLDERS_TABLE) put({ kind: 'holder', dst: one.dst, hop });
    else put({ kind: 'route', bridge, dst: one.dst, hop });
  }
  for (const one of dumps.rules) {
    if (one.priority === HOLDERS_PRIORITY) {
      put({ kind: 'ipv6' });
      continue;
    }
    // A rule to another table than its bridge's was left by an earlier bridge of that name.
    const bridge = nameOf(one.table - TABLE_BASE);
    const kind = one.family === 4 ? 'rule' : 'rule6';
    put({ kind, bridge: bridge === one.iifname ? bridge : goneName(one.table - TABLE_BASE) });
  }
  return entries;
}

function observedPort(link: Link, nameOf: (index: number) => string): Extract<Entry, { kind: 'port' }> {
  const [eniId = '', instanceId = '', attachmentId = '', bridge = '', where = '', guestName = '', mac = ''] =
    (link.alias ?? '').split(' ');
  const flags = Object.entries(PORT_FLAGS) as [keyof BridgePort, boolean][];
  const whole =
    link.up &&
    link.port &&
    nameOf(link.masterIndex) === bridge &&
    flags.every(([flag, is]) => link.port?.[flag] === is);
  const stamp = { eniId, instanceId, attachmentId, bridge, where, guestName, mac: mac as Mac };
  return { kind: 'port', name: link.name, ...stamp, guestName: whole ? guestName : '' };
}
