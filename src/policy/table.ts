// One nftables table as a value: content-named chains and fixed maps, which are made and removed; and data maps, whose
// elements come and go. Pure. All verdicts stand in the structure: a kernel that is given one verdict element walks every
// chain that the table's maps name (0.5 ms at 10,000 elements), and for an element with data it does not (12 us).
import { formatIp, type Ip, ipToBytes } from '../base/ip.ts';
import { concatKey } from '../kernel/nfnetlink.ts';
import { chainText, elementsText, hex, tableText } from '../kernel/nft-text.ts';

export const POLICY_TABLE = 'podway-policy';
export const TABLE = `inet ${POLICY_TABLE}`;

/** A number is a classid to nft, since it passes through the packet's priority. */
export const KEY_TYPES = {
  ip4: 'ipv4_addr',
  ip6: 'ipv6_addr',
  number: 'classid',
  pair: 'classid . inet_proto',
} as const;
export type KeyType = keyof typeof KEY_TYPES;
/** ip4, ip6: the address; number: itself; pair: number × 256 + protocol. */
export type Key = number | bigint;

export type DataMap = { readonly type: KeyType; readonly elements: ReadonlyMap<Key, number> };

export type Table = {
  /** Rules by name of the chain. Equal names have equal rules. */
  readonly chains: ReadonlyMap<string, readonly string[]>;
  /** Whole text by name: maps of address ranges. Equal names have equal texts. */
  readonly statics: ReadonlyMap<string, string>;
  /**
   * Verdict by number, of each dispatching map: of all classes of a direction, and of the rulings of one chain. One map of
   * all rulings would be a loop to the kernel, which follows every path through maps before it takes a change.
   */
  readonly verdicts: ReadonlyMap<string, ReadonlyMap<number, string>>;
  readonly maps: ReadonlyMap<string, DataMap>;
};

export const pairKey = (number: number, protocol: number): number => number * 256 + protocol;

function keyText(type: KeyType, key: Key): string {
  if (type === 'ip4' || type === 'ip6') return formatIp(key as Ip);
  if (type === 'number') return hex(key as number);
  return `${hex(Math.floor((key as number) / 256))} . ${(key as number) % 256}`;
}

/** Numbers as the kernel keeps them: the machine's byte order. */
export function numberBytes(value: number): Uint8Array {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, value, true);
  return bytes;
}

export function keyBytes(type: KeyType, key: Key): Uint8Array {
  if (type === 'ip4' || type === 'ip6') return ipToBytes(key as Ip);
  if (type === 'number') return numberBytes(key as number);
  return concatKey(numberBytes(Math.floor((key as number) / 256)), Uint8Array.of((key as number) % 256));
}

const mapText = (name: string, { type, elements }: DataMap): string =>
  `  map ${name} { type ${KEY_TYPES[type]} : classid;${elementsText(
    [...elements].map(([key, value]) => `${keyText(type, key)} : ${hex(value)}`),
  )} }`;

const verdictPairs = (verdicts: ReadonlyMap<number, string>): string[] =>
  [...verdicts].map(([number, verdict]) => `${hex(number)} : ${verdict}`);

const verdictMapText = (name: string, verdicts: ReadonlyMap<number, string>): string =>
  `  map ${name} { type classid : verdict;${elementsText(verdictPairs(verdicts))} }`;

const chainTexts = (chains: Table['chains']): string[] =>
  [...chains].map(([name, rules]) => chainText({ name, rules }));

/** The parts as text; `fixed` are those that are the same in every table. */
export const partsText = (table: Table, fixed: readonly string[]): string[] => [
  ...[...table.verdicts].map(([name, verdicts]) => verdictMapText(name, verdicts)),
  ...[...table.maps].map(([name, map]) => mapText(name, map)),
  ...table.statics.values(),
  ...fixed,
  ...chainTexts(table.chains),
];

/** What a later table has more. Elements of maps that were there are apart from maps that are new. */
export type Structure = {
  readonly chains: Table['chains'];
  readonly statics: Table['statics'];
  /** Type by name; without elements. */
  readonly maps: ReadonlyMap<string, KeyType>;
  /** Whole dispatching maps. */
  readonly verdictMaps: Table['verdicts'];
  readonly verdicts: Table['verdicts'];
};

/** A script that adds structure; nothing refers to it before an element does. */
export function additionText({ chains, statics, maps, verdictMaps, verdicts }: Structure): string {
  const parts = [
    ...[...maps].map(([name, type]) => mapText(name, { type, elements: new Map() })),
    ...[...verdictMaps].map(([name, its]) => verdictMapText(name, its)),
    ...statics.values(),
    ...chainTexts(chains),
  ];
  return [
    ...(parts.length === 0 ? [] : [tableText(TABLE, parts)]),
    ...elementLines('add', verdicts),
    '',
  ].join('\n');
}

/** A script that removes structure to which no element refers any more. */
export function removalText({ chains, statics, maps, verdictMaps, verdicts }: Structure): string {
  const names = [...chains.keys()];
  return [
    ...elementLines('delete', verdicts),
    ...names.map((name) => `flush chain ${TABLE} ${name}`),
    ...[...verdictMaps.keys(), ...statics.keys(), ...maps.keys()].map(
      (name) => `delete map ${TABLE} ${name}`,
    ),
    ...names.map((name) => `delete chain ${TABLE} ${name}`),
    '',
  ].join('\n');
}

const elementLines = (verb: 'add' | 'delete', verdicts: Table['verdicts']): string[] =>
  [...verdicts].map(([name, its]) => `${verb} element ${TABLE} ${name} { ${verdictPairs(its).join(', ')} }`);
