// The netfilter hot path of one namespace: elements of nftables sets and maps in atomic batches, and connection
// tracking entries. A batch of elements is applied as a whole or not at all; NetlinkError names the first refused one.
// Structure (tables, chains, rules) is nftables.ts's.
import { familyOf, type Ip } from '../base/ip.ts';
import { ENOENT, NetlinkError } from './errors.ts';
import { type ForwardRule, howItDrops } from './forward-rules.ts';
import { ByteWriter } from './netlink/bytes.ts';
import {
  type BaseChain,
  decodeBaseChain,
  encodeChainDump,
  encodeRuleDump,
  forwardRule,
  HOOK_FORWARD,
} from './netlink/chain.ts';
import {
  type ConntrackEntry,
  type ConntrackName,
  decodeConntrack,
  decodeConntrackCount,
  decodeConntrackName,
  encodeConntrackCount,
  encodeConntrackDelete,
  encodeConntrackDump,
  encodeConntrackMark,
  entryNames,
  PLACES,
} from './netlink/conntrack.ts';
import {
  decodeCounter,
  decodeRuleCounters,
  encodeChainRuleDump,
  encodeCounterDump,
} from './netlink/counter.ts';
import type { Acknowledgement, Message } from './netlink/message.ts';
import { NFT_FAMILIES, type NftFamily } from './netlink/nfnetlink-header.ts';
import {
  beginBatch,
  decodeElements,
  encodeElementDump,
  encodeElementOp,
  encodeSetGet,
  endBatch,
  type NftElement,
  type NftElementOp,
} from './netlink/set-element.ts';
import { NETLINK_NETFILTER, NetlinkSocket } from './netlink/socket.ts';
import type { Transport } from './netlink/transport.ts';
import type { Netns } from './netns.ts';

export { NetlinkError } from './errors.ts';
export type { ConntrackEntry, TcpState, Tuple } from './netlink/conntrack.ts';
export type { NftFamily } from './netlink/nfnetlink-header.ts';
export { concatKey, type NftElement, type NftElementOp, type Verdict } from './netlink/set-element.ts';

/** One send of deletions carries at most this much; each is about 100 bytes. */
/** About a millisecond. */
const MARKS_AT_ONCE = 200;
const DELETE_BYTES = 64 << 10;

/**
 * A walk of the whole table costs the kernel about as much as bringing 10,000 entries here (measured at 262,144
 * buckets: 10 ms against 1 us an entry to send and 2 to 4 us to read), and a filtered search walks it four times.
 */
const ENTRIES_PER_FILTERED_SEARCH = 10_000;

const batch = new ByteWriter(16 << 10);

const hex = (bytes: Uint8Array) => Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('hex');

const describe = (op: NftElementOp) =>
  `${op.family} ${op.table} ${op.set}${op.key ? ` ${hex(op.key)}` : ''}${op.keyEnd ? `-${hex(op.keyEnd)}` : ''}`;

export type ForwardDrop = { family: NftFamily; table: string; chain: string; by: 'policy' | 'rule' };

export type ConntrackFilter = { family?: 4 | 6; ip?: Ip };

export class NfNetlink implements Disposable {
  readonly #socket: NetlinkSocket;
  #slow: NetlinkSocket | undefined;
  #walk: Promise<void> | undefined;
  #forgetting: Forgetting[] = [];
  #closed = false;

  private constructor(socket: NetlinkSocket) {
    this.#socket = socket;
  }

  /** Over any transport, such as the rehearsal's. */
  static over(transport: Transport): NfNetlink {
    return new NfNetlink(new NetlinkSocket(transport));
  }

  static open(ns?: Netns): NfNetlink {
    return new NfNetlink(NetlinkSocket.open(NETLINK_NETFILTER, { ns }));
  }

  /** True when a notification's port says that a request of this object made the change. */
  isOwn(port: number): boolean {
    return port !== 0 && (port === this.#socket.port || port === this.#slow?.port);
  }

  /** One atomic batch. ENOENT: the set or a deleted element is not there; EEXIST: an added element is. */
  elements(ops: readonly NftElementOp[]): void {
    if (ops.length === 0) return;
    batch.reset();
    beginBatch(batch);
    for (const op of ops) encodeElementOp(batch, op);
    endBatch(batch);
    let refusal: { place: number; answer: Acknowledgement } | undefined;
    this.#socket.transactBatch(batch, (place, answer) => {
      if (refusal === undefined || place < refusal.place) refusal = { place, answer };
    });
    if (refusal === undefined) return;
    const { place, answer } = refusal;
    const index = Math.min(Math.max(place - 1, 0), ops.length - 1);
    const op = ops[index]!;
    throw new NetlinkError({ op: `element-${op.op}`, index, detail: describe(op), ...answer });
  }

  /**
   * Chains on the forward hook whose policy drops, or that have an unconditional drop rule, unless rules before accept
   * all from and to links of the prefix. Own socket, pool threads: with many foreign chains the kernel takes milliseconds.
   */
  async forwardDrops(prefix: string): Promise<ForwardDrop[]> {
    using socket = this.#socket.sibling();
    const chains: BaseChain[] = [];
    const keep = (message: Message) => {
      const chain = decodeBaseChain(message);
      if (chain?.hook === HOOK_FORWARD) chains.push(chain);
    };
    await socket.dumpAsync(request(encodeChainDump), 'chains', keep, () => chains.splice(0));
    const found: ForwardDrop[] = [];
    for (const chain of chains) {
      const by = howItDrops(chain.drops ? 'drop' : 'accept', await forwardRules(socket, chain, prefix));
      const family = Object.entries(NFT_FAMILIES).find(([, number]) => number === chain.family)?.[0];
      if (by !== null) found.push({ family: family as NftFamily, table: chain.table, chain: chain.name, by });
    }
    return found;
  }

  /** True when there is such a set or map. */
  hasSet(family: NftFamily, table: string, set: string): boolean {
    batch.reset();
    encodeSetGet(batch, family, table, set);
    const refusal = this.#socket.get(batch, () => {});
    if (refusal && refusal.errno !== ENOENT) {
      throw new NetlinkError({ op: `set ${family} ${table} ${set}`, index: 0, ...refusal });
    }
    return refusal === undefined;
  }

  /** Elements of a set or map; NetlinkError with code ENOENT when there is no such set. */
  listElements(family: NftFamily, table: string, set: string): NftElement[] {
    batch.reset();
    encodeElementDump(batch, family, table, set);
    let found: NftElement[] = [];
    this.#socket.dump(
      batch,
      `elements of ${family} ${table} ${set}`,
      (message) => {
        found.push(...decodeElements(message));
      },
      () => {
        found = [];
      },
    );
    return found;
  }

  /** Packets by named counter of the table; empty when there is no such table. */
  counters(family: NftFamily, table: string): Map<string, number> {
    const found = new Map<string, number>();
    batch.reset();
    encodeCounterDump(batch, family, table);
    this.#dumpOrNone(`counters of ${family} ${table}`, (message) => {
      const counter = decodeCounter(message, table);
      if (counter) found.set(counter.name, counter.packets);
    });
    return found;
  }

  /** Packets by counter within the chain's rules, in their order; none when there is no such chain. */
  ruleCounters(family: NftFamily, table: string, chain: string): number[] {
    let found: number[] = [];
    batch.reset();
    encodeChainRuleDump(batch, family, table, chain);
    this.#dumpOrNone(
      `rules of ${family} ${table} ${chain}`,
      (message) => found.push(...decodeRuleCounters(message)),
      () => {
        found = [];
      },
    );
    return found;
  }

  /** Nothing, where the kernel has no such object. */
  #dumpOrNone(what: string, part: (message: Message) => void, restart = noRestart): void {
    try {
      this.#socket.dump(batch, what, part, restart);
    } catch (error) {
      if (!(error instanceof NetlinkError && error.errno === ENOENT)) throw error;
    }
  }

  /** Entries of the namespace: all, of one family, or those that name an address in any place of either direction. */
  conntrack(filter: ConntrackFilter = {}): ConntrackEntry[] {
    const found = new Map<number, ConntrackEntry>();
    const keep = (message: Message) => {
      const entry = decodeConntrack(message);
      if (entry && (filter.ip === undefined || entryNames(entry, filter.ip))) found.set(entry.id, entry);
    };
    for (const request of dumpRequests(filter)) {
      // An entry seen twice is one entry: a disturbed dump may go on without forgetting.
      this.#socket.dump(request, 'conntrack', keep, () => {});
    }
    return [...found.values()];
  }

  /**
   * Deletes every entry that names one of the addresses in any place; returns how many there were. Walking the
   * kernel's table takes it milliseconds (10 at 262,144 buckets): prefer conntrackForget on a busy thread.
   */
  conntrackDelete(filter: { ip: Ip } | { ips: Iterable<Ip> }): number {
    const ips = new Set('ip' in filter ? [filter.ip] : filter.ips);
    if (ips.size === 0) return 0;
    const found = new Map<number, NamedEntry>();
    for (const request of searchRequests(ips, this.#conntrackCount(this.#socket))) {
      this.#socket.dump(request, 'conntrack', (message) => keepName(found, message, ips), noRestart);
    }
    return deleteEntries(this.#socket, [...found.values()]);
  }

  /**
   * As `conntrackDelete` for one address, with the walk on a pool thread and a socket of its own. Addresses that are
   * asked for while a walk runs share the next one. Resolves with the number of entries that named the address.
   */
  conntrackForget(ip: Ip): Promise<number> {
    return new Promise((resolve, reject) => {
      this.#forgetting.push({ ip, resolve, reject });
      if (this.#walk === undefined) {
        this.#walk = this.#forgetAll();
      }
    });
  }

  /** Walks until no request waits. Never rejects: a failed walk rejects the requests that it served. */
  async #forgetAll(): Promise<void> {
    await Promise.resolve(); // what is asked in one step shares the walk, and #walk is set before it is cleared
    while (this.#forgetting.length > 0) {
      const asked = this.#forgetting;
      this.#forgetting = [];
      try {
        if (this.#closed) throw new Error('the netfilter socket is closed');
        this.#slow ??= this.#socket.sibling();
        const slow = this.#slow;
        const ips = new Set(asked.map((one) => one.ip));
        const found = new Map<number, NamedEntry>();
        for (const request of searchRequests(ips, this.#conntrackCount(slow))) {
          await slow.dumpAsync(request, 'conntrack', (message) => keepName(found, message, ips), noRestart);
        }
        const entries = [...found.values()];
        deleteEntries(slow, entries);
        for (const one of asked) one.resolve(entries.filter((entry) => entry.named.includes(one.ip)).length);
      } catch (error) {
        for (const one of asked) one.reject(error);
      }
    }
    // Cleared in the same step that found the queue empty, so that the next request starts a new walk.
    this.#walk = undefined;
  }

  /** Deletes the entries that the judge names, with the walk on a pool thread; resolves with how many there were. */
  async conntrackRemove(judge: (entry: ConntrackEntry) => boolean): Promise<number> {
    using socket = this.#socket.sibling();
    const found = new Map<number, ConntrackName>();
    const keep = (message: Message) => {
      const entry = decodeConntrack(message);
      const name = entry && judge(entry) ? decodeConntrackName(message) : null;
      if (name) found.set(name.id, name);
    };
    await socket.dumpAsync(
      request((w) => encodeConntrackDump(w, 0)),
      'conntrack',
      keep,
      noRestart,
    );
    deleteEntries(socket, [...found.values()]);
    return found.size;
  }

  /**
   * Sets the mark's bits of `mask` where the judge says otherwise than the entry has; null leaves it. The walk runs on a
   * pool thread. Resolves with how many were changed; entries that end meanwhile are none.
   */
  async conntrackMark(mask: number, judge: (entry: ConntrackEntry) => number | null): Promise<number> {
    using socket = this.#socket.sibling();
    const found = new Map<number, { name: ConntrackName; value: number }>();
    const look = (message: Message) => {
      const entry = decodeConntrack(message);
      const value = entry && judge(entry);
      if (!entry || value === null || (entry.mark & mask) === value) return;
      const name = decodeConntrackName(message);
      if (name) found.set(name.id, { name, value });
    };
    await socket.dumpAsync(
      request((w) => encodeConntrackDump(w, 0)),
      'conntrack',
      look,
      noRestart,
    );
    const all = [...found.values()];
    let changed = 0;
    // Others take their turn meanwhile: a hundred thousand marks take most of a second.
    for (let at = 0; at < all.length; at += MARKS_AT_ONCE) {
      if (at > 0) await new Promise((resolve) => setImmediate(resolve));
      changed += inBatches(all.slice(at, at + MARKS_AT_ONCE), socket, ({ name, value }) =>
        encodeConntrackMark(batch, name, value, mask),
      );
    }
    return changed;
  }

  /** Entries in the namespace now. */
  conntrackCount(): number {
    return this.#conntrackCount(this.#socket);
  }

  #conntrackCount(socket: NetlinkSocket): number {
    batch.reset();
    encodeConntrackCount(batch);
    let count = 0;
    const refusal = socket.get(batch, (message) => {
      count = decodeConntrackCount(message);
    });
    if (refusal) throw new NetlinkError({ op: 'conntrack-count', index: 0, ...refusal });
    return count;
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#socket.close();
    // A pool thread may be inside the slow socket: close it when that is done.
    void (this.#walk ?? Promise.resolve()).then(() => this.#slow?.close());
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

type Forgetting = { ip: Ip; resolve: (count: number) => void; reject: (error: unknown) => void };
type NamedEntry = ConntrackName & { named: Ip[] };

/** Entries are kept by id across a repeated dump, so that an entry that is listed twice counts once. */
const noRestart = () => {};

async function forwardRules(socket: NetlinkSocket, chain: BaseChain, prefix: string): Promise<ForwardRule[]> {
  const rules: ForwardRule[] = [];
  await socket.dumpAsync(
    request((w) => encodeRuleDump(w, chain)),
    `rules of ${chain.table} ${chain.name}`,
    (message) => rules.push(forwardRule(message, prefix)),
    () => rules.splice(0),
  );
  return rules;
}

function request(encode: (w: ByteWriter) => void): ByteWriter {
  const w = new ByteWriter(128);
  encode(w);
  return w;
}

/** The dumps that together find what the filter names: one per place of an address. */
function dumpRequests(filter: ConntrackFilter): ByteWriter[] {
  const { ip } = filter;
  if (ip === undefined) return [request((w) => encodeConntrackDump(w, filter.family ?? 0))];
  return PLACES.map((place) => request((w) => encodeConntrackDump(w, 0, { ip, place })));
}

/** The cheaper of one walk that brings all entries here, and four walks per address that bring only its own. */
function searchRequests(ips: ReadonlySet<Ip>, entries: number): ByteWriter[] {
  if (entries > ENTRIES_PER_FILTERED_SEARCH * ips.size) return [...ips].flatMap((ip) => dumpRequests({ ip }));
  const families = new Set([...ips].map(familyOf));
  return [...families].flatMap((family) => dumpRequests({ family }));
}

function keepName(found: Map<number, NamedEntry>, message: Message, ips: ReadonlySet<Ip>): void {
  // Checked here after a filtered dump too: an entry that does not name the address is never deleted.
  const entry = decodeConntrack(message);
  if (!entry) return;
  const { orig, reply } = entry;
  const named = [...new Set([orig.src, orig.dst, reply.src, reply.dst])].filter((ip) => ips.has(ip));
  if (named.length === 0) return;
  const name = decodeConntrackName(message);
  if (name) found.set(name.id, { ...name, named });
}

/** Returns how many were deleted; entries that had already expired are not counted. */
const deleteEntries = (socket: NetlinkSocket, names: readonly ConntrackName[]): number =>
  inBatches(names, socket, (name) => encodeConntrackDelete(batch, name));

function inBatches<T>(items: readonly T[], socket: NetlinkSocket, encode: (item: T) => void): number {
  let gone = 0;
  for (let next = 0; next < items.length; ) {
    batch.reset();
    while (next < items.length && batch.length < DELETE_BYTES) encode(items[next++]!);
    let failure: NetlinkError | undefined;
    socket.transact(batch, (_place, answer) => {
      if (answer.errno === ENOENT) gone++;
      else failure ??= new NetlinkError({ op: 'conntrack-change', index: 0, ...answer });
    });
    if (failure) throw failure;
  }
  return items.length - gone;
}
