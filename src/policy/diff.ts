// The changes between two tables. Pure. Structure apart from elements: the first goes through libnftables, the second in
// element batches. Applied in the order added, changes, removed, the table judges by the old or the new one at each step.
import type { DataMap, Key, KeyType, Structure, Table } from './table.ts';

export type ElementChange = {
  readonly map: string;
  readonly type: KeyType;
  readonly key: Key;
  /** Null: it was not there. */
  readonly before: number | null;
  /** Null: it goes. */
  readonly after: number | null;
};

export type Changes = {
  readonly added: Structure;
  readonly removed: Structure;
  /** Adds to maps that only classes read, then changes of what addresses are, then deletions. */
  readonly elements: readonly ElementChange[];
};

function missing<K, V>(one: ReadonlyMap<K, V>, other: ReadonlyMap<K, unknown>): Map<K, V> {
  const found = new Map<K, V>();
  for (const [name, value] of one) if (!other.has(name)) found.set(name, value);
  return found;
}

/** What `one` has and `other` has not. */
function more(one: Table, other: Table): Structure {
  const verdicts = new Map<string, ReadonlyMap<number, string>>();
  for (const [name, its] of one.verdicts) {
    const old = other.verdicts.get(name);
    if (old === its) continue;
    const fresh = old ? missing(its, old) : new Map();
    if (fresh.size > 0) verdicts.set(name, fresh);
  }
  return {
    chains: missing(one.chains, other.chains),
    statics: missing(one.statics, other.statics),
    maps: new Map([...missing(one.maps, other.maps)].map(([name, { type }]) => [name, type])),
    verdictMaps: missing(one.verdicts, other.verdicts),
    verdicts,
  };
}

export const hasStructure = ({ chains, statics, maps, verdictMaps, verdicts }: Structure): boolean =>
  chains.size + statics.size + maps.size + verdictMaps.size + verdicts.size > 0;

const NOTHING: ReadonlyMap<Key, number> = new Map();

function elementChanges(name: string, before: DataMap | undefined, after: DataMap): ElementChange[] {
  const { type, elements } = after;
  const old = before?.elements ?? NOTHING;
  const changes: ElementChange[] = [];
  for (const [key, value] of elements) {
    const had = old.get(key) ?? null;
    if (had !== value) changes.push({ map: name, type, key, before: had, after: value });
  }
  for (const [key, value] of old)
    if (!elements.has(key)) changes.push({ map: name, type, key, before: value, after: null });
  return changes;
}

/** Maps that say what an address is: a change of theirs puts a class or an identity in force. */
export const ADDRESS_MAPS: ReadonlySet<string> = new Set([
  'from4',
  'from6',
  'to4',
  'to6',
  'peers4',
  'peers6',
]);

/** Peers before classes: a class that is new meets the identities that its rules know. */
function order({ map, after }: ElementChange): number {
  if (after === null) return 3;
  if (!ADDRESS_MAPS.has(map)) return 0;
  return map.startsWith('peers') ? 1 : 2;
}

/** A table of which is known which maps of a wanted one it equals, without comparing. */
export type Compared = Omit<Table, 'maps'> & {
  readonly maps: ReadonlyMap<string, DataMap & { readonly equals?: DataMap | null }>;
};

export function diffTables(before: Compared, after: Table): Changes {
  const elements: ElementChange[] = [];
  for (const [name, map] of after.maps) {
    const old = before.maps.get(name);
    if (old !== map && old?.equals !== map) elements.push(...elementChanges(name, old, map));
  }
  return {
    added: more(after, before),
    removed: more(before, after),
    // A map that is removed takes its elements with it.
    elements: elements
      .map((change) => ({ change, order: order(change) }))
      .sort((a, b) => a.order - b.order)
      .map(({ change }) => change),
  };
}
