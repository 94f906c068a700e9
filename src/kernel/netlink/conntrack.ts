// Connection tracking entries (ctnetlink). Dumps are filtered by one address in one place of one direction, which the
// kernel has done since 5.8 (CTA_FILTER); an entry is deleted by its original tuple and id, so that a new connection
// with the same tuple is never deleted.
import { type Ip, ipFromBytes } from '../../base/ip.ts';
import { AF_INET, AF_INET6, afOf } from './address.ts';
import {
  Attributes,
  beginNest,
  eachAttribute,
  endNest,
  putBytes,
  putIp,
  putU32,
  putU32be,
} from './attribute.ts';
import type { ByteWriter } from './bytes.ts';
import { endMessage, type Message, NLM_F_DUMP } from './message.ts';
import { beginNetfilter, NFGEN_LENGTH, SUBSYSTEM_CONNTRACK } from './nfnetlink-header.ts';

export const IPCTNL_MSG_CT_NEW = 0;
const IPCTNL_MSG_CT_GET = 1;
export const IPCTNL_MSG_CT_DELETE = 2;

const IPCTNL_MSG_CT_GET_STATS = 5;
const CTA_STATS_GLOBAL_ENTRIES = 1;

const CTA_TUPLE_ORIG = 1;
const CTA_TUPLE_REPLY = 2;
const CTA_STATUS = 3;
const CTA_PROTOINFO = 4;
const CTA_TIMEOUT = 7;
const CTA_MARK = 8;
const CTA_ID = 12;
const CTA_ZONE = 18;
const CTA_MARK_MASK = 21;
const CTA_FILTER = 25;
const CTA_TUPLE_IP = 1;
const CTA_TUPLE_PROTO = 2;
const CTA_IP_V4_SRC = 1;
const CTA_IP_V6_SRC = 3;
const CTA_PROTO_NUM = 1;
const CTA_PROTO_SRC_PORT = 2;
const CTA_PROTO_DST_PORT = 3;
const CTA_PROTO_ICMP_ID = 4;
const CTA_PROTO_ICMP_TYPE = 5;
const CTA_PROTO_ICMP_CODE = 6;
const CTA_PROTO_ICMPV6_ID = 7;
const CTA_PROTO_ICMPV6_TYPE = 8;
const CTA_PROTO_ICMPV6_CODE = 9;
const CTA_PROTOINFO_TCP = 1;
const CTA_PROTOINFO_TCP_STATE = 1;
const CTA_FILTER_ORIG_FLAGS = 1;
const CTA_FILTER_REPLY_FLAGS = 2;
/** CTA_FILTER_F_CTA_IP_SRC and _DST (net/netfilter/nf_internals.h). */
const FILTER_SOURCE = 1;
const FILTER_DESTINATION = 2;

/** enum tcp_conntrack. */
const TCP_STATES = [
  'none',
  'syn-sent',
  'syn-recv',
  'established',
  'fin-wait',
  'close-wait',
  'last-ack',
  'time-wait',
  'close',
  'syn-sent2',
] as const;
export type TcpState = (typeof TCP_STATES)[number];

export type Tuple = {
  src: Ip;
  dst: Ip;
  /** IP protocol number. */
  protocol: number;
  /** Ports of TCP, UDP, SCTP and DCCP. */
  sport?: number;
  dport?: number;
  icmp?: { id: number; type: number; code: number };
};

export type ConntrackEntry = {
  id: number;
  orig: Tuple;
  reply: Tuple;
  /** IPS_* bits. */
  status: number;
  /** Unsigned. */
  mark: number;
  /** Seconds until the entry expires; absent in notifications of its end. */
  timeout: number;
  zone: number;
  tcpState?: TcpState;
};

/** An entry as it must be named to delete it. */
export type ConntrackName = { family: number; id: number; origTuple: Uint8Array; zone: Uint8Array | null };

export const PLACES = ['orig-src', 'orig-dst', 'reply-src', 'reply-dst'] as const;
/** Where in an entry an address may stand. */
export type ConntrackPlace = (typeof PLACES)[number];

/** All entries, those of one family, or those that have `ip` in one place. */
export function encodeConntrackDump(
  w: ByteWriter,
  family: 0 | 4 | 6,
  at?: { ip: Ip; place: ConntrackPlace },
): void {
  const af = at ? afOf(at.ip) : family === 0 ? 0 : family === 4 ? AF_INET : AF_INET6;
  const message = beginNetfilter(w, SUBSYSTEM_CONNTRACK, IPCTNL_MSG_CT_GET, NLM_F_DUMP, af);
  if (at) {
    const isOrig = at.place.startsWith('orig');
    const isSource = at.place.endsWith('src');
    const tuple = beginNest(w, isOrig ? CTA_TUPLE_ORIG : CTA_TUPLE_REPLY);
    const ipNest = beginNest(w, CTA_TUPLE_IP);
    putIp(w, (af === AF_INET ? CTA_IP_V4_SRC : CTA_IP_V6_SRC) + (isSource ? 0 : 1), at.ip);
    endNest(w, ipNest);
    endNest(w, tuple);
    const filter = beginNest(w, CTA_FILTER);
    const flags = isSource ? FILTER_SOURCE : FILTER_DESTINATION;
    putU32(w, CTA_FILTER_ORIG_FLAGS, isOrig ? flags : 0);
    putU32(w, CTA_FILTER_REPLY_FLAGS, isOrig ? 0 : flags);
    endNest(w, filter);
  }
  endMessage(w, message);
}

export function encodeConntrackDelete(w: ByteWriter, name: ConntrackName): void {
  const message = beginNetfilter(w, SUBSYSTEM_CONNTRACK, IPCTNL_MSG_CT_DELETE, 0, name.family);
  const at = beginNest(w, CTA_TUPLE_ORIG);
  w.raw(name.origTuple);
  endNest(w, at);
  if (name.zone) putBytes(w, CTA_ZONE, name.zone);
  // The id is compared as raw bytes in the order that the kernel gave them: both ways it is network order.
  const id = new Uint8Array(4);
  new DataView(id.buffer).setUint32(0, name.id, false);
  putBytes(w, CTA_ID, id);
  endMessage(w, message);
}

/** Sets the mark's bits of `mask` to those of `value`, of an entry that is there (ctnetlink_change_mark). */
export function encodeConntrackMark(w: ByteWriter, name: ConntrackName, value: number, mask: number): void {
  const message = beginNetfilter(w, SUBSYSTEM_CONNTRACK, IPCTNL_MSG_CT_NEW, 0, name.family);
  const at = beginNest(w, CTA_TUPLE_ORIG);
  w.raw(name.origTuple);
  endNest(w, at);
  if (name.zone) putBytes(w, CTA_ZONE, name.zone);
  putU32be(w, CTA_MARK, value);
  putU32be(w, CTA_MARK_MASK, mask);
  endMessage(w, message);
}

/** Asks how many entries the namespace has. */
export function encodeConntrackCount(w: ByteWriter): void {
  endMessage(w, beginNetfilter(w, SUBSYSTEM_CONNTRACK, IPCTNL_MSG_CT_GET_STATS, 0, 0));
}

export const decodeConntrackCount = (message: Message): number =>
  attributesOf(message).u32be(CTA_STATS_GLOBAL_ENTRIES) ?? 0;

/** One pass without an object per attribute: a look through a hundred thousand entries decodes two of them each. */
function decodeTuple(bytes: Uint8Array, start: number, length: number): Tuple | null {
  let src: Ip | undefined;
  let dst: Ip | undefined;
  const tuple: Partial<Tuple> = { protocol: 0 };
  let id: number | undefined;
  let icmpType = 0;
  let icmpCode = 0;
  const address = (type: number, at: number, size: number) => {
    if (type === CTA_IP_V4_SRC || type === CTA_IP_V6_SRC) src = ipFromBytes(bytes.subarray(at, at + size));
    else if (type === CTA_IP_V4_SRC + 1 || type === CTA_IP_V6_SRC + 1)
      dst = ipFromBytes(bytes.subarray(at, at + size));
  };
  const protocol = (type: number, at: number) => {
    if (type === CTA_PROTO_NUM) tuple.protocol = bytes[at]!;
    else if (type === CTA_PROTO_SRC_PORT) tuple.sport = numberBe(bytes, at, 2);
    else if (type === CTA_PROTO_DST_PORT) tuple.dport = numberBe(bytes, at, 2);
    else if (type === CTA_PROTO_ICMP_ID || type === CTA_PROTO_ICMPV6_ID) id = numberBe(bytes, at, 2);
    else if (type === CTA_PROTO_ICMP_TYPE || type === CTA_PROTO_ICMPV6_TYPE) icmpType = bytes[at]!;
    else if (type === CTA_PROTO_ICMP_CODE || type === CTA_PROTO_ICMPV6_CODE) icmpCode = bytes[at]!;
  };
  eachAttribute(bytes, start, start + length, (type, at, size) => {
    if (type === CTA_TUPLE_IP) eachAttribute(bytes, at, at + size, address);
    else if (type === CTA_TUPLE_PROTO) eachAttribute(bytes, at, at + size, protocol);
  });
  if (src === undefined || dst === undefined) return null;
  if (id !== undefined) tuple.icmp = { id, type: icmpType, code: icmpCode };
  return { ...tuple, src, dst } as Tuple;
}

const attributesOf = (message: Message) =>
  new Attributes(message.bytes, message.start + NFGEN_LENGTH, message.end);

export function decodeConntrack({ bytes, start, end }: Message): ConntrackEntry | null {
  let orig: Tuple | null = null;
  let reply: Tuple | null = null;
  const entry = { id: 0, status: 0, mark: 0, timeout: 0, zone: 0 };
  let state: number | undefined;
  eachAttribute(bytes, start + NFGEN_LENGTH, end, (type, at, length) => {
    if (type === CTA_TUPLE_ORIG) orig = decodeTuple(bytes, at, length);
    else if (type === CTA_TUPLE_REPLY) reply = decodeTuple(bytes, at, length);
    else if (type === CTA_PROTOINFO)
      state = new Attributes(bytes, at, at + length).nest(CTA_PROTOINFO_TCP)?.u8(CTA_PROTOINFO_TCP_STATE);
    else if (type === CTA_ZONE) entry.zone = numberBe(bytes, at, 2);
    else {
      const name = NUMBERS.get(type);
      if (name) entry[name] = numberBe(bytes, at, 4);
    }
  });
  if (!orig || !reply) return null;
  const name = state === undefined ? undefined : TCP_STATES[state];
  return { ...entry, orig, reply, ...(name === undefined ? {} : { tcpState: name }) };
}

const NUMBERS = new Map<number, 'id' | 'status' | 'mark' | 'timeout'>([
  [CTA_ID, 'id'],
  [CTA_STATUS, 'status'],
  [CTA_MARK, 'mark'],
  [CTA_TIMEOUT, 'timeout'],
]);

/** Unsigned. */
function numberBe(bytes: Uint8Array, at: number, size: number): number {
  let value = 0;
  for (let next = at; next < at + size; next++) value = (value << 8) | bytes[next]!;
  return value >>> 0;
}

/** What a deletion needs of a dumped entry, copied out of the receive buffer; null when the entry lacks it. */
export function decodeConntrackName(message: Message): ConntrackName | null {
  const attributes = attributesOf(message);
  const origTuple = attributes.payload(CTA_TUPLE_ORIG)?.slice();
  const id = attributes.u32be(CTA_ID);
  if (origTuple === undefined || id === undefined) return null;
  return {
    family: message.bytes[message.start]!,
    id,
    origTuple,
    zone: attributes.payload(CTA_ZONE)?.slice() ?? null,
  };
}

export const entryNames = (entry: ConntrackEntry, ip: Ip): boolean =>
  entry.orig.src === ip || entry.orig.dst === ip || entry.reply.src === ip || entry.reply.dst === ip;
