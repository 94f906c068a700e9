// The router's nft tables as text: the fixed part, and scripts for what a plan adds, changes and removes. Pure.
// Bridge family: who may send what on which port (source check, ARP), the mark that names the port, and the step up to
// routing. Inet family: conntrack, security groups, public addresses, callers of IMDS. Ip6 family, where a VPC has IPv6:
// the same of IPv6 (ruleset6.ts).
// A script is one transaction, so that no packet sees half of it; it never removes and remakes a base chain, because
// a new base chain holds no rules, and so drops everything, from the moment it is named to the end of the transaction.
import { addToIp, formatCidr, formatIp, type Ip } from '../../base/ip.ts';
import { chainText, tableText, withoutTable } from '../../kernel/nft-text.ts';
import type { ChainEntry, Changes, ElementEntry, Entry, Part, SetEntry } from './entries.ts';
import { RECEIVER_CHAIN } from './gates.ts';
import {
  EC2_ADDRESS,
  EGRESS_UNTRACKED,
  GATEWAY_LINK,
  IMDS_ADDRESS,
  IMDS_CALLERS,
  IMDS_CALLERS6,
  IMDS_PORT,
  INGRESS_UNTRACKED,
  KUBE_ADDRESS,
  NFT_TABLE,
  ROUTER_MAC,
} from './names.ts';
import { BRIDGE_CHAINS6, CHAINS6, type FixedChains, SETS6 } from './ruleset6.ts';

/** Frames on trunks with a tag that no branch has. */
const UNKNOWN_TAGS = 'unknown_tags';

/** Sets and maps that every fabric has; members_… come with the plan. */
const SETS = {
  bridge: {
    // Who may send what on which port; the value is the mark that names the port in routing.
    sources: 'map sources { type iface_index . ipv4_addr : mark; }',
    unchecked: 'map unchecked { type iface_index : mark; }',
    sources6: 'map sources6 { type iface_index . ipv6_addr : mark; }',
    prefixes6: 'map prefixes6 { type iface_index . ipv6_addr : mark; }',
  },
  inet: {
    senders: 'map senders { type mark : verdict; }',
    receivers: 'map receivers { type ipv4_addr : verdict; }',
    imds: 'map imds { type mark : ipv4_addr . inet_service; }',
    public: 'set public { type ipv4_addr; }',
    public_to_private: 'map public_to_private { type ipv4_addr : ipv4_addr; }',
    private_to_public: 'map private_to_public { type ipv4_addr : ipv4_addr; }',
  },
  ip6: SETS6,
} as const;

const BRIDGE_CHAINS: FixedChains = {
  from_guest: {
    hook: 'type filter hook prerouting priority 0; policy drop;',
    rules: [
      // Tags of branches were taken off before.
      `ether type vlan counter name ${UNKNOWN_TAGS} drop`,
      'ether type arp arp operation request goto asked',
      'ether type ip6 goto from_guest6',
      'ether type != ip drop',
      'ether daddr & 01:00:00:00:00:00 == 01:00:00:00:00:00 drop',
      'meta mark set iif . ip saddr map @sources goto enter',
      'meta mark set iif map @unchecked goto enter',
    ],
  },
  // Every packet is routed, also one to an ENI of the same subnet: conntrack and the groups act in routing.
  enter: {
    rules: [
      // The VPC has no hops: what lives for one hop still arrives (the router takes one off).
      'ip ttl 1 ip ttl set 2',
      `ether daddr set ${ROUTER_MAC} meta pkttype set host accept`,
    ],
  },
  ...BRIDGE_CHAINS6,
  // The bridge answers for the addresses that it has neighbours for. An ENI that asks for its own gets silence, so
  // that duplicate address detection passes; who asks under another's address is answered and teaches nobody anything.
  asked: {
    rules: [
      'meta mark set iif . arp daddr ip map @sources drop',
      'meta mark set iif . arp saddr ip map @sources accept',
      'arp saddr ip set 0.0.0.0 accept',
    ],
  },
};

const guard = `oifname "${GATEWAY_LINK}"`;
const INET_CHAINS: FixedChains = {
  translate_in: {
    hook: 'type nat hook prerouting priority dstnat; policy accept;',
    rules: [
      `iifname "${GATEWAY_LINK}" dnat ip to ip daddr map @public_to_private`,
      `ip daddr ${formatIp(IMDS_ADDRESS)} tcp dport 80 dnat ip to meta mark map @imds`,
    ],
  },
  translate_out: {
    hook: 'type nat hook postrouting priority srcnat; policy accept;',
    rules: [`${guard} snat ip to ip saddr map @private_to_public`],
  },
  forward: {
    hook: 'type filter hook forward priority filter; policy drop;',
    rules: [
      `ct state established ct mark & ${EGRESS_UNTRACKED | INGRESS_UNTRACKED} == 0 accept`,
      // IPv6 is judged in a table of its own (ruleset6.ts).
      'meta nfproto ipv6 accept',
      'ct state related accept',
      'ct state invalid drop',
      `${guard} ip saddr != @public drop`,
      // Of flows that are not tracked, the packets of the first direction are judged again, each time.
      'ct state established ct direction reply accept',
      `iifname "${GATEWAY_LINK}" ct status dnat goto ${RECEIVER_CHAIN}`,
      `iifname "${GATEWAY_LINK}" drop`,
      `ct state established ct mark & ${EGRESS_UNTRACKED} == 0 goto ${RECEIVER_CHAIN}`,
      'meta mark vmap @senders',
    ],
  },
  [RECEIVER_CHAIN]: {
    rules: [
      `${guard} accept`,
      `ct state established ct mark & ${INGRESS_UNTRACKED} == 0 accept`,
      'rt ip nexthop vmap @receivers',
    ],
  },
  input: {
    hook: 'type filter hook input priority filter; policy drop;',
    rules: [
      'iif "lo" accept',
      'meta nfproto ipv6 accept',
      'ct state established,related accept',
      'icmp type echo-request accept',
      `iifname "${GATEWAY_LINK}" drop`,
      'udp dport 53 accept',
      `ip daddr ${formatCidr(IMDS_CALLERS)} tcp dport ${IMDS_PORT} ct status dnat accept`,
      `ip daddr ${formatIp(EC2_ADDRESS)} tcp dport 80 accept`,
      `ip daddr ${formatIp(KUBE_ADDRESS)} tcp dport 443 accept`,
      // Other requests to the router are refused, which is quicker for the caller than a drop.
      'meta l4proto tcp reject with tcp reset',
    ],
  },
};

const CHAINS = { bridge: BRIDGE_CHAINS, inet: INET_CHAINS, ip6: CHAINS6 } as const;
type Family = keyof typeof CHAINS;
const FAMILIES = ['bridge', 'inet', 'ip6'] as const satisfies Family[];

/** Index of a router's link by its name; throws for one that is not there. */
export type IndexOf = (link: string) => number;

/** Sets and chains that a table has now, by name. */
export type Existing = Record<Family, { sets: string[]; maps: string[]; chains: string[] }>;

export const nothing: Existing = {
  bridge: { sets: [], maps: [], chains: [] },
  inet: { sets: [], maps: [], chains: [] },
  ip6: { sets: [], maps: [], chains: [] },
};

/** Reads names from `nft -j list ruleset`. */
export function existingNames(objects: readonly Record<string, unknown>[]): Existing {
  const found: Existing = structuredClone(nothing);
  for (const object of objects) {
    for (const kind of ['set', 'map', 'chain'] as const) {
      const it = object[kind] as { family: string; table: string; name: string } | undefined;
      if (it === undefined || it.table !== NFT_TABLE || !(it.family in found)) continue;
      found[it.family as Family][`${kind}s`].push(it.name);
    }
  }
  return found;
}

/** Deletes all tables, whether or not they are there. */
export const withoutTables = FAMILIES.map((family) => withoutTable(`${family} ${NFT_TABLE}`)).join('');

const setsOf = (family: Family): Readonly<Record<string, string>> => SETS[family];

/** An element's key and value as nft text. Interface indexes are written as numbers. */
export function elementText(entry: ElementEntry, indexOf: IndexOf): string {
  const part = (it: Part) => ('port' in it ? String(indexOf(it.port)) : formatIp(it.ip));
  const key = entry.key.map(part).join(' . ');
  const { data } = entry;
  if (data === null) return key;
  if ('goto' in data) return `${key} : goto ${data.goto}`;
  if ('ip' in data) return `${key} : ${formatIp(data.ip)}`;
  if ('mark' in data) return `${key} : ${indexOf(data.mark)}`;
  if ('caller' in data) return `${key} : ${formatIp(callerAddress(indexOf(data.caller)))} . ${IMDS_PORT}`;
  return `${key} : ${formatIp(callerAddress6(indexOf(data.caller6)))} . ${IMDS_PORT}`;
}

export const callerAddress = (index: number): Ip => ((IMDS_CALLERS.ip as number) + index) as Ip;
export const callerAddress6 = (index: number): Ip => addToIp(IMDS_CALLERS6.ip, index);

/** Elements per command: nft's line stays readable in an error. */
const ELEMENTS_PER_LINE = 500;

function elementLines(verb: 'add' | 'delete', entries: readonly ElementEntry[], indexOf: IndexOf): string[] {
  const bySet = new Map<string, string[]>();
  for (const entry of entries) {
    const set = `${entry.family} ${NFT_TABLE} ${entry.set}`;
    const list = bySet.get(set) ?? [];
    list.push(verb === 'add' ? elementText(entry, indexOf) : elementText({ ...entry, data: null }, indexOf));
    bySet.set(set, list);
  }
  const lines: string[] = [];
  for (const [set, elements] of bySet) {
    for (let i = 0; i < elements.length; i += ELEMENTS_PER_LINE) {
      lines.push(`${verb} element ${set} { ${elements.slice(i, i + ELEMENTS_PER_LINE).join(', ')} }`);
    }
  }
  return lines;
}

const only = <K extends Entry['kind']>(entries: readonly Entry[], kind: K) =>
  entries.filter((entry): entry is Extract<Entry, { kind: K }> => entry.kind === kind);

const ruleLines = (family: Family, name: string, rules: readonly string[]): string[] =>
  rules.map((rule) => `add rule ${family} ${NFT_TABLE} ${name} ${rule}`);

/** The whole ruleset: existing rules and elements are replaced, objects that the plan lacks are deleted. */
export function fullScript(entries: Iterable<Entry>, existing: Existing, indexOf: IndexOf): string {
  const all = [...entries];
  const isIpv6Wanted = all.some((entry) => entry.kind === 'ipv6');
  const lines: string[] = [];
  for (const family of FAMILIES) {
    const table = `${family} ${NFT_TABLE}`;
    const own = only(all, 'chain').filter((chain) => familyOf(chain) === family);
    const ownSets = only(all, 'set').filter((set) => familyOf(set) === family);
    const has = existing[family];
    if (family === 'ip6' && !isIpv6Wanted) {
      if (has.chains.length > 0) lines.push(withoutTable(table).trimEnd());
      continue;
    }
    lines.push(`add table ${table}`);
    for (const name of [...has.sets, ...has.maps]) {
      lines.push(`flush ${has.maps.includes(name) ? 'map' : 'set'} ${table} ${name}`);
    }
    for (const name of has.chains) lines.push(`flush chain ${table} ${name}`);
    const fixed = CHAINS[family];
    const parts = [
      ...(family === 'bridge' ? [`  counter ${UNKNOWN_TAGS} { }`] : []),
      ...Object.values(setsOf(family)).map((text) => `  ${text}`),
      ...ownSets.map((set) => `  set ${set.name} ${setType(set)}`),
      ...Object.entries(fixed).map(([name, chain]) => chainText({ name, ...chain })),
      ...own.map(({ name, rules }) => chainText({ name, rules })),
    ];
    lines.push(tableText(table, parts).trimEnd());
    const elements = only(all, 'element').filter((entry) => entry.family === family);
    lines.push(...elementLines('add', elements, indexOf));

    const knownChains = new Set([...Object.keys(fixed), ...own.map((chain) => chain.name)]);
    const knownSets = new Set([...Object.keys(setsOf(family)), ...ownSets.map((set) => set.name)]);
    for (const name of has.chains) if (!knownChains.has(name)) lines.push(`delete chain ${table} ${name}`);
    for (const name of has.sets) if (!knownSets.has(name)) lines.push(`delete set ${table} ${name}`);
    for (const name of has.maps) if (!knownSets.has(name)) lines.push(`delete map ${table} ${name}`);
  }
  return `${lines.join('\n')}\n`;
}

export const isStructure = (entry: Entry): boolean =>
  entry.kind === 'chain' || entry.kind === 'set' || entry.kind === 'ipv6';

const familyOf = (entry: ChainEntry | SetEntry): Family => entry.family ?? 'inet';
const tableOf = (entry: ChainEntry | SetEntry): string => `${familyOf(entry)} ${NFT_TABLE}`;
const setType = (set: SetEntry): string =>
  `{ type ${familyOf(set) === 'inet' ? 'ipv4_addr' : 'ipv6_addr'}; }`;

/** The table of IPv6 without what a plan adds to it. */
const bareTable6 = (): string =>
  tableText(`ip6 ${NFT_TABLE}`, [
    ...Object.values(SETS6).map((text) => `  ${text}`),
    ...Object.entries(CHAINS6).map(([name, chain]) => chainText({ name, ...chain })),
  ]).trimEnd();

/** What changes, as one transaction: for changes of structure, with the elements that go with them. */
export function changeScript(changes: Changes, indexOf: IndexOf): string {
  const changed = changes.change.map((one) => one.to);
  const before = changes.change.map((one) => one.from);
  const rewritten: ChainEntry[] = [...only(changes.add, 'chain'), ...only(changed, 'chain')];
  const name = (it: ChainEntry | SetEntry) => `${tableOf(it)} ${it.name}`;
  const lines = [
    ...only(changes.add, 'ipv6').map(bareTable6),
    ...only(changes.add, 'set').map((set) => `add set ${name(set)} ${setType(set)}`),
    ...only(changes.add, 'chain').map((chain) => `add chain ${name(chain)}`),
    ...only(changed, 'chain').map((chain) => `flush chain ${name(chain)}`),
    ...rewritten.flatMap((chain) => ruleLines(familyOf(chain), chain.name, chain.rules)),
    ...elementLines('delete', [...only(changes.remove, 'element'), ...only(before, 'element')], indexOf),
    ...elementLines('add', [...only(changes.add, 'element'), ...only(changed, 'element')], indexOf),
    ...only(changes.remove, 'chain').map((chain) => `flush chain ${name(chain)}`),
    ...only(changes.remove, 'chain').map((chain) => `delete chain ${name(chain)}`),
    ...only(changes.remove, 'set').map((set) => `delete set ${name(set)}`),
    ...only(changes.remove, 'ipv6').map(() => withoutTable(`ip6 ${NFT_TABLE}`).trimEnd()),
  ];
  return lines.length === 0 ? '' : `${lines.join('\n')}\n`;
}
