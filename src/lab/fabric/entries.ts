// What the fabric keeps in the kernel, one entry per object: a plan is a map of entries by key, and so is what the
// kernel has. Links are named, not numbered: a name is resolved to the kernel's index when an entry is applied.
// Two entries of one key are the same object; `print` tells whether they say the same about it.
import { type Cidr, formatCidr, formatIp, type Ip } from '../../base/ip.ts';
import type { Mac } from '../../base/mac.ts';

/** Part of an element's key or value: the index of a router's link (also its packets' mark), or an address. */
export type Part = { port: string } | { ip: Ip };
export type ElementData = { goto: string } | { ip: Ip } | { mark: string } | { caller: string };
export type TableFamily = 'inet' | 'bridge';

/** `life`: of an instance, from one boot to the next (see lifeOf): a namespace of another life is removed and made anew. */
export type NetnsEntry = {
  kind: 'netns';
  where: string;
  role: 'router' | 'internet' | 'instance';
  life: string;
};
/** A subnet: a bridge with the router's address. */
export type BridgeEntry = { kind: 'bridge'; name: string; ip: Ip; length: number };
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
/** What a cloud image sets up at boot on the primary ENI; done once for each link, then the guest's own. */
export type BootEntry = { kind: 'boot'; port: string; where: string; ip: Ip; length: number; gateway: Ip };
/** `port` null: the ENI is not attached; the bridge still knows its MAC, so that ARP is answered. */
export type FdbEntry = { kind: 'fdb'; bridge: string; mac: Mac; port: string | null };
export type NeighbourEntry = { kind: 'neighbour'; bridge: string; ip: Ip; mac: Mac };
export type Hop =
  | { to: 'subnet'; bridge: string }
  | { to: 'eni'; bridge: string; gateway: Ip }
  | { to: 'internet' }
  | { to: 'nowhere' };
/** A route of the table of one subnet. */
export type RouteEntry = { kind: 'route'; bridge: string; dst: Cidr; hop: Hop };
/** What comes in by the bridge is routed by the bridge's table. */
export type RuleEntry = { kind: 'rule'; bridge: string };
/** A public address: the internet host reaches it by the router. */
export type PublicRouteEntry = { kind: 'public-route'; ip: Ip };
export type SetEntry = { kind: 'set'; name: string };
export type ChainEntry = { kind: 'chain'; name: string; rules: readonly string[] };
export type ElementEntry = {
  kind: 'element';
  family: TableFamily;
  set: string;
  key: readonly Part[];
  data: ElementData | null;
};

export type Entry =
  | NetnsEntry
  | BridgeEntry
  | PortEntry
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

const partText = (part: Part): string => ('port' in part ? part.port : formatIp(part.ip));

export function keyOf(entry: Entry): string {
  switch (entry.kind) {
    case 'netns':
      return `netns ${entry.where}`;
    case 'bridge':
    case 'port':
    case 'set':
    case 'chain':
      return `${entry.kind} ${entry.name}`;
    case 'boot':
      return `boot ${entry.port}`;
    case 'fdb':
      return `fdb ${entry.bridge} ${entry.mac}`;
    case 'neighbour':
      return `neighbour ${entry.bridge} ${formatIp(entry.ip)}`;
    case 'route':
      return `route ${entry.bridge} ${formatCidr(entry.dst)}`;
    case 'rule':
      return `rule ${entry.bridge}`;
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
  return 'mark' in data ? `mark of ${data.mark}` : `caller of ${data.caller}`;
}

/** Everything that an entry says beyond its key, as text: equal text, equal object. */
export function print(entry: Entry): string {
  switch (entry.kind) {
    case 'netns':
      return `${entry.role} ${entry.life}`;
    case 'bridge':
      return `${formatIp(entry.ip)}/${entry.length}`;
    case 'port':
      return stampOf(entry);
    case 'boot':
      return `${entry.where} ${formatIp(entry.ip)}/${entry.length} via ${formatIp(entry.gateway)}`;
    case 'fdb':
      return entry.port ?? 'bridge';
    case 'neighbour':
      return entry.mac;
    case 'route':
      return hopText(entry.hop);
    case 'chain':
      return entry.rules.join('\n');
    case 'element':
      return entry.data === null ? '' : dataText(entry.data);
    case 'rule':
    case 'public-route':
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
