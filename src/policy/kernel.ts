// The policy table in the kernel, and the record of what is in it. Structure goes through libnftables, off the main
// thread; elements in batches on our own socket. Invariant: `applied` is what the kernel has, or null when that is not
// known; then only a rebuild, one transaction from nothing, may follow. Fails with NftError or NetlinkError.
import type { Ip } from '../base/ip.ts';
import type { FlowLog } from '../base/policy-words.ts';
import type { Netns } from '../kernel/netns.ts';
import { type ConntrackEntry, NfNetlink, type NftElementOp } from '../kernel/nfnetlink.ts';
import { Nft } from '../kernel/nftables.ts';
import { RtNetlink } from '../kernel/rtnetlink.ts';
import { type Changes, diffTables, type ElementChange, hasStructure } from './diff.ts';
import { COUNTERS } from './end-chains.ts';
import { CUT, rebuildText, removeText } from './render.ts';
import {
  additionText,
  type DataMap,
  type Key,
  type KeyType,
  keyBytes,
  numberBytes,
  POLICY_TABLE,
  removalText,
  type Table,
} from './table.ts';

/** Elements to a batch; the kernel takes 7 us for one, and the main thread waits. */
const BATCH = 1_000;
/** With more changes than this a rebuild is as fast, and the main thread does not wait for it. */
export const MOST_CHANGES = 4_000;

/** `equals`: the wanted map whose elements it has. */
type Applying = { readonly type: KeyType; readonly elements: Map<Key, number>; equals: DataMap | null };
type Maps = Map<string, Applying>;
type Applied = Omit<Table, 'maps'> & { readonly maps: Maps };

const copyOf = (table: Table): Applied => ({
  ...table,
  maps: new Map(
    [...table.maps].map(([name, map]) => [
      name,
      { type: map.type, elements: new Map(map.elements), equals: map },
    ]),
  ),
});

const operation = (
  op: 'add' | 'del',
  { map, type, key }: ElementChange,
  value: number | null,
): NftElementOp => ({
  op,
  family: 'inet',
  table: POLICY_TABLE,
  set: map,
  key: keyBytes(type, key),
  ...(value === null ? {} : { data: numberBytes(value) }),
});

const operationsOf = (change: ElementChange): NftElementOp[] => [
  ...(change.before === null ? [] : [operation('del', change, null)]),
  ...(change.after === null ? [] : [operation('add', change, change.after)]),
];

export class PolicyKernel {
  readonly #netns: Netns;
  readonly #nft: Nft;
  readonly #nf: NfNetlink;
  #applied: Applied | null = null;
  #flowLog: FlowLog;
  /** A rebuild that was begun: an element that is set meanwhile would be lost with the table before. */
  #rebuilding: Promise<void> | null = null;

  constructor(netns: Netns, flowLog: FlowLog = 'off') {
    this.#netns = netns;
    this.#flowLog = flowLog;
    this.#nft = Nft.open(netns);
    this.#nf = NfNetlink.open(netns);
  }

  get applied(): Table | null {
    return this.#applied;
  }

  /** Resolves when no rebuild is under way. */
  get settled(): Promise<void> {
    return this.#rebuilding ?? Promise.resolve();
  }

  get isRebuilding(): boolean {
    return this.#rebuilding !== null;
  }

  isOwn(port: number): boolean {
    return this.#nf.isOwn(port);
  }

  /** What the next rebuild tells: the table in the kernel is another's now. */
  set flowLog(flowLog: FlowLog) {
    if (flowLog === this.#flowLog) return;
    this.#flowLog = flowLog;
    this.#applied = null;
  }

  /** Packets by counter of the table, since it was made; empty without a table. */
  counters(): Map<string, number> {
    const found = this.#nf.counters('inet', POLICY_TABLE);
    return new Map(COUNTERS.flatMap((name) => (found.has(name) ? [[name, found.get(name)!]] : [])));
  }

  /** Packets by counter in the chain's rules, in their order; none when there is no such chain. */
  chainCounters(chain: string): number[] {
    return this.#nf.ruleCounters('inet', POLICY_TABLE, chain);
  }

  /** Somebody else may have changed the table. */
  doubt(): void {
    this.#applied = null;
  }

  /** The whole table in one transaction, whatever is there. */
  rebuild(table: Table): Promise<void> {
    this.#applied = null;
    const done = this.#nft.run(rebuildText(table, this.#flowLog)).then(
      () => {
        this.#applied = copyOf(table);
        this.#rebuilding = null;
      },
      (error) => {
        this.#rebuilding = null;
        throw error;
      },
    );
    this.#rebuilding = done.catch(() => undefined);
    return done;
  }

  changesTo(table: Table): Changes | null {
    return this.#applied && diffTables(this.#applied, table);
  }

  /** Adds what `changes` needs and nothing refers to yet. */
  async addStructure({ added }: Changes): Promise<void> {
    if (!hasStructure(added)) return;
    const applied = this.#applied;
    await this.#nft.run(additionText(added));
    // Somebody may have removed the table meanwhile.
    if (applied === null || applied !== this.#applied) return;
    const maps = [...added.maps].map(
      ([name, type]) => [name, { type, elements: new Map<Key, number>(), equals: null }] as const,
    );
    const verdicts = new Map([...applied.verdicts, ...added.verdictMaps]);
    for (const [name, its] of added.verdicts) verdicts.set(name, new Map([...verdicts.get(name)!, ...its]));
    this.#applied = {
      chains: new Map([...applied.chains, ...added.chains]),
      statics: new Map([...applied.statics, ...added.statics]),
      maps: new Map([...applied.maps, ...maps]),
      verdicts,
    };
  }

  /** Synchronous. After a failure the table is in doubt. */
  setElements(changes: readonly ElementChange[]): void {
    const applied = this.#applied;
    if (!applied) throw new Error('the policy table is not known: it is to be rebuilt');
    for (let at = 0; at < changes.length; at += BATCH) {
      const some = changes.slice(at, at + BATCH);
      try {
        this.#nf.elements(some.flatMap(operationsOf));
      } catch (error) {
        this.#applied = null;
        throw error;
      }
      for (const { map, key, after } of some) {
        const its = applied.maps.get(map)!;
        its.equals = null;
        if (after === null) its.elements.delete(key);
        else its.elements.set(key, after);
      }
    }
  }

  /** All elements are as in `table`: the next comparison passes over maps that are the same objects. */
  agree(table: Table): void {
    for (const [name, map] of table.maps) {
      const its = this.#applied?.maps.get(name);
      if (its) its.equals = map;
    }
  }

  /** Removes what `changes` leaves behind. */
  async dropStructure({ removed }: Changes): Promise<void> {
    const applied = this.#applied;
    if (!applied || !hasStructure(removed)) return;
    await this.#nft.run(removalText(removed));
    if (applied !== this.#applied) return;
    const without = <K, V>(all: ReadonlyMap<K, V>, gone: ReadonlyMap<K, unknown> | undefined) =>
      new Map([...all].filter(([key]) => !gone?.has(key)));
    const verdicts = without(applied.verdicts, removed.verdictMaps);
    this.#applied = {
      chains: without(applied.chains, removed.chains),
      statics: without(applied.statics, removed.statics),
      maps: without(applied.maps, removed.maps),
      verdicts: new Map([...verdicts].map(([name, its]) => [name, without(its, removed.verdicts.get(name))])),
    };
  }

  /** Marks the connections that `isCut` names, and takes the mark from all others; how many were changed. */
  cut(isCut: (entry: ConntrackEntry) => boolean): Promise<number> {
    return this.#nf.conntrackMark(CUT, (entry) => (isCut(entry) ? CUT : 0));
  }

  /** Addresses of the node's own links. */
  ownAddresses(): Set<Ip> {
    using rt = RtNetlink.open(this.#netns);
    return new Set(rt.addresses().map(({ ip }) => ip));
  }

  /** True when the table is there. */
  isThere(): boolean {
    return this.#nf.hasSet('inet', POLICY_TABLE, 'peers4');
  }

  /** Takes the table away. */
  async remove(): Promise<void> {
    this.#applied = null;
    await this.#nft.run(removeText);
  }

  async close(): Promise<void> {
    await this.#nft.close();
    this.#nf.close();
  }
}
