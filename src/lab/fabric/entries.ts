// What the fabric keeps in the kernel, one entry per object: a plan is a map of entries by key, and so is what the
// kernel has. Links are named, not numbered: a name is resolved to the kernel's index when an entry is applied.
// Two entries of one key are the same object; `print` tells whether they say the same about it.
import { type Cidr, formatCidr, formatIp, type Ip } from '../../base/ip.ts';
import type { Mac } from '../../base/mac.ts';

/** Part of an element's key or value: the index of a router's link (also its packets' mark), or an address. */
export type Part = { port: string } | { ip: Ip };
export type ElementData =
  | { goto: string }
  | { ip: Ip }
  | { mark: string }
  | { caller: string }
  | { caller6: string };
export type TableFamily = 'inet' | 'bridge' | 'ip6';

/** `life`: of an instance, from one boot to the next (see lifeOf): a namespace of another life is removed and made anew. */
export type NetnsEntry = {
  kind: 'netns';
  where: string;
  role: 'router' | 'internet' | 'instance' | 'nat';
  life: string;
};
/** A subnet: a bridge with the router's address, null without IPv4. */
export type BridgeEntry = { kind: 'bridge'; name: string; ip: Ip | null; length: number };
/** An attached ENI: a bridge port whose other end is `guestName` in the instance's namespace. */
export type PortEntry = {
  kind: 'port';
  name: string;
  bridge: string;
  where: string;
  guestName: string;
  mac: Mac;
  eniId: string;
  instanceId: string;
  attachmentId: string;
};
/** What a branch's port sends leaves by its trunk's port with the tag. */
export type TagEntry = { kind: 'tag'; port: string; vlan: number; trunk: string };
/** What comes in by a trunk's port with a tag comes in by the port of its branch. By VLAN id. */
export type TagsEntry = { kind: 'tags'; port: string; tags: readonly { vlan: number; port: string }[] };
/** The router forwards IPv6: its settings, its addresses, its table `ip6`. There when any VPC has an IPv6 block. */
export type Ipv6Entry = { kind: 'ipv6' };
/** A subnet's IPv6: the router's link-local address, and one of the subnet for its ICMP errors. */
export type Bridge6Entry = { kind: 'bridge6'; name: string; ip: Ip };
/** What holds an IPv6 address or prefix; `nowhere`: the rest of a subnet. */
export type HolderEntry = { kind: 'holder'; dst: Cidr; hop: Hop };
export type Rule6Entry = { kind: 'rule6'; bridge: string };
/** The router answers DNS at this address of a VPC. */
export type ResolverEntry = { kind: 'resolver'; ip: Ip };
/** A NAT gateway's namespace translates to this address. */
export type NatEntry = { kind: 'nat'; where: string; ip: Ip };
/** A VPC's IPv6 block is reached from the internet. */
export type InternetRouteEntry = { kind: 'internet-route'; dst: Cidr };
/** As `boot`, for IPv6: done when the primary ENI gets its first address, as a DHCPv6 client would. */
export type Boot6Entry = { kind: 'boot6'; port: string; where: string; ip: Ip };
/** What a cloud image sets up at boot on the primary ENI; done once for each link, then the guest's own. */
export type BootEntry = { kind: 'boot'; port: string; where: string; ip: Ip; length: number; gateway: Ip };
/** `port` null: the ENI is not attached; the bridge still knows its MAC, so that ARP is answered. */
export type FdbEntry = { kind: 'fdb'; bridge: string; mac: Mac; port: string | null };
export type NeighbourEntry = { kind: 'neighbour'; bridge: string; ip: Ip; mac: Mac };
export type Hop =
  | { to: 'subnet'; bridge: string }
  | { to: 'eni'; bridge: string; gateway: Ip }
  /** Of IPv6: the holders decide. */
  | { to: 'holder' }
  | { to: 'internet' }
  | { to: 'nowhere' };
/** A route of the table of one subnet. */
export type RouteEntry = { kind: 'route'; bridge: string; dst: Cidr; hop: Hop };
/** What comes in by the bridge is routed by the bridge's table. */
export type RuleEntry = { kind: 'rule'; bridge: string };
/** A public address: the internet host reaches it by the router. */
export type PublicRouteEntry = { kind: 'public-route'; ip: Ip };
/** `family`: inet when absent. */
export type SetEntry = { kind: 'set'; name: string; family?: 'ip6' };
export type ChainEntry = { kind: 'chain'; name: string; rules: readonly string[]; family?: 'ip6' };
export type ElementEntry = {
  kind: 'element';
  family: TableFamily;
  set: string;
  key: readonly Part[];
  data: ElementData | null;
};

export type Entry =
  | Ipv6Entry
  | Bridge6Entry
  | HolderEntry
  | Rule6Entry
  | InternetRouteEntry
  | Boot6Entry
  | NetnsEntry
  | NatEntry
  | ResolverEntry
  | BridgeEntry
  | PortEntry
  | TagEntry
  | TagsEntry
  | BootEntry
  | FdbEntry
  | NeighbourEntry
  | RouteEntry
  | RuleEntry
  | PublicRouteEntry
  | SetEntry
  | ChainEntry
  | ElementEntry;

export type Entries = ReadonlyMap<string, Entry>;
/** How a plan takes its entries. */
export type Put = (entry: Entry) => void;

const partText = (part: Part): string => ('port' in part ? part.port : formatIp(part.ip));

export function keyOf(entry: Entry): string {
  switch (entry.kind) {
    case 'netns':
      return `netns ${entry.where}`;
    case 'nat':
      return `nat ${entry.where}`;
    case 'ipv6':
      return 'ipv6';
    case 'bridge':
    case 'bridge6':
    case 'port':
      return `${entry.kind} ${entry.name}`;
    case 'set':
    case 'chain':
      return `${entry.kind} ${entry.family === undefined ? '' : `${entry.family} `}${entry.name}`;
    case 'boot':
    case 'boot6':
    case 'tag':
    case 'tags':
      return `${entry.kind} ${entry.port}`;
    case 'holder':
    case 'internet-route':
      return `${entry.kind} ${formatCidr(entry.dst)}`;
    case 'fdb':
      return `fdb ${entry.bridge} ${entry.mac}`;
    case 'neighbour':
      return `neighbour ${entry.bridge} ${formatIp(entry.ip)}`;
    case 'route':
      return `route ${entry.bridge} ${formatCidr(entry.dst)}`;
    case 'rule':
    case 'rule6':
      return `${entry.kind} ${entry.bridge}`;
    case 'resolver':
      return `resolver ${formatIp(entry.ip)}`;
    case 'public-route':
      return `public-route ${formatIp(entry.ip)}`;
    case 'element':
      return `element ${entry.family} ${entry.set} ${entry.key.map(partText).join(' . ')}`;
  }
}

const hopText = (hop: Hop): string => {
  switch (hop.to) {
    case 'subnet':
      return `dev ${hop.bridge}`;
    case 'eni':
      return `via ${formatIp(hop.gateway)} dev ${hop.bridge}`;
    default:
      return hop.to;
  }
};

function dataText(data: ElementData): string {
  if ('goto' in data) return `goto ${data.goto}`;
  if ('ip' in data) return formatIp(data.ip);
  if ('mark' in data) return `mark of ${data.mark}`;
  return 'caller' in data ? `caller of ${data.caller}` : `caller of ${data.caller6}`;
}

/** Everything that an entry says beyond its key, as text: equal text, equal object. */
export function print(entry: Entry): string {
  switch (entry.kind) {
    case 'netns':
      return `${entry.role} ${entry.life}`;
    case 'bridge':
      return `${entry.ip === null ? 'none' : formatIp(entry.ip)}/${entry.length}`;
    case 'port':
      return stampOf(entry);
    case 'boot':
      return `${entry.where} ${formatIp(entry.ip)}/${entry.length} via ${formatIp(entry.gateway)}`;
    case 'tag':
      return `${entry.vlan} by ${entry.trunk}`;
    case 'tags':
      return entry.tags.map(({ vlan, port }) => `${vlan} to ${port}`).join('\n');
    case 'fdb':
      return entry.port ?? 'bridge';
    case 'neighbour':
      return entry.mac;
    case 'route':
    case 'holder':
      return hopText(entry.hop);
    case 'bridge6':
    case 'nat':
      return formatIp(entry.ip);
    case 'chain':
      return entry.rules.join('\n');
    case 'element':
      return entry.data === null ? '' : dataText(entry.data);
    // Another address later is the guest's to take: a boot is done once.
    case 'boot6':
    case 'ipv6':
    case 'internet-route':
    case 'rule':
    case 'rule6':
    case 'public-route':
    case 'resolver':
    case 'set':
      return '';
  }
}

/** Written as the link's alias at creation, so that a later process knows the link's purpose. */
export const stampOf = (port: Omit<PortEntry, 'kind' | 'name'>): string =>
  [port.eniId, port.instanceId, port.attachmentId, port.bridge, port.where, port.guestName, port.mac].join(
    ' ',
  );

export type Changes = { add: Entry[]; change: { from: Entry; to: Entry }[]; remove: Entry[] };

/** The changes from the present entries to the wanted ones. */
export function diffEntries(is: Entries, should: Entries): Changes {
  const changes: Changes = { add: [], change: [], remove: [] };
  for (const [key, to] of should) {
    const from = is.get(key);
    if (from === undefined) changes.add.push(to);
    else if (from !== to && print(from) !== print(to)) changes.change.push({ from, to });
  }
  for (const [key, from] of is) if (!should.has(key)) changes.remove.push(from);
  return changes;
}

/** Links that an entry of tags speaks of, by name. */
export const linksOfTags = (entry: TagEntry | TagsEntry): string[] =>
  entry.kind === 'tag' ? [entry.port, entry.trunk] : [entry.port, ...entry.tags.map((one) => one.port)];

/** The entries as they would be without these ports and what hangs on them, and without these namespaces. */
export function withoutPorts(
  entries: Entries,
  ports: ReadonlySet<string>,
  places: ReadonlySet<string>,
): Map<string, Entry> {
  const left = new Map<string, Entry>();
  for (const [key, entry] of entries) {
    switch (entry.kind) {
      case 'netns':
        if (!places.has(entry.where)) left.set(key, entry);
        break;
      case 'port':
        if (!ports.has(entry.name)) left.set(key, entry);
        break;
      case 'boot':
      case 'boot6':
        if (!ports.has(entry.port)) left.set(key, entry);
        break;
      case 'tag':
      case 'tags':
        if (!linksOfTags(entry).some((link) => ports.has(link))) left.set(key, entry);
        break;
      case 'fdb':
        left.set(key, entry.port !== null && ports.has(entry.port) ? { ...entry, port: null } : entry);
        break;
      case 'element':
        if (!entry.key.some((part) => 'port' in part && ports.has(part.port))) left.set(key, entry);
        break;
      default:
        left.set(key, entry);
    }
  }
  return left;
}
