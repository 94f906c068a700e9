// Neighbours (ARP and ND entries) and bridge forwarding entries: one message type of rtnetlink, struct ndmsg, told
// apart by the family (AF_BRIDGE is the forwarding database).
import type { Ip } from '../../base/ip.ts';
import type { Mac } from '../../base/mac.ts';
import { AF_INET, AF_INET6, afOf } from './address.ts';
import { Attributes, putIp, putMac, putU32 } from './attribute.ts';
import type { ByteWriter } from './bytes.ts';
import {
  beginMessage,
  endMessage,
  type Message,
  NLM_F_CREATE,
  NLM_F_DUMP,
  NLM_F_REPLACE,
} from './message.ts';

export const RTM_NEWNEIGH = 28;
export const RTM_DELNEIGH = 29;
const RTM_GETNEIGH = 30;

const AF_BRIDGE = 7;
const NDA_DST = 1;
const NDA_LLADDR = 2;
const NDA_IFINDEX = 8;
const NDA_MASTER = 9;
const NTF_SELF = 0x02;
const NTF_MASTER = 0x04;
const NTF_PROXY = 0x08;
const NTF_EXT_LEARNED = 0x10;

const STATES = {
  incomplete: 0x01,
  reachable: 0x02,
  stale: 0x04,
  delay: 0x08,
  probe: 0x10,
  failed: 0x20,
  noarp: 0x40,
  permanent: 0x80,
} as const;
export type NeighbourState = keyof typeof STATES | 'none';
const stateNames = new Map<number, NeighbourState>(
  Object.entries(STATES).map(([name, n]) => [n, name as NeighbourState]),
);

export type NeighbourOp = {
  op: 'neigh-replace' | 'neigh-del';
  index: number;
  ip: Ip;
  mac?: Mac;
  /** Default permanent. */
  state?: 'permanent' | 'reachable';
  /** The kernel neither ages nor probes the entry: user space maintains it (NTF_EXT_LEARNED). */
  extLearn?: boolean;
  /** Answer requests for this address on the link (proxy ARP or ND); no mac. */
  proxy?: boolean;
};

export type FdbOp = {
  op: 'fdb-replace' | 'fdb-del';
  /** Index of the bridge port. */
  index: number;
  mac: Mac;
  /**
   * master-static: the entry neither ages nor moves (`bridge fdb … master static`). bridge: it points at the bridge
   * itself, whose index `index` then is (`bridge fdb … self local`). Otherwise it ages as a learned one.
   */
  permanent?: 'master-static' | 'bridge';
};

export type Neighbour = {
  index: number;
  ip: Ip;
  mac: Mac | null;
  state: NeighbourState;
  extLearn: boolean;
  proxy: boolean;
};

export type Fdb = {
  /** Index of the port. */
  index: number;
  mac: Mac;
  /** Index of the bridge; 0 for an entry of the link itself. */
  masterIndex: number;
  /** permanent: the bridge's own; noarp: static; else learned. */
  state: NeighbourState;
  extLearn: boolean;
};

/** struct ndmsg. */
function putHeader(w: ByteWriter, family: number, index: number, state: number, flags: number): void {
  const at = w.take(12);
  w.bytes[at] = family;
  w.view.setInt32(at + 4, index, true);
  w.view.setUint16(at + 8, state, true);
  w.bytes[at + 10] = flags;
}

/** The kernel's states of a forwarding entry: permanent is the bridge's own, noarp is static, reachable ages. */
const FDB_STATES = {
  'master-static': STATES.noarp | STATES.reachable,
  bridge: STATES.permanent,
  learned: STATES.reachable,
} as const;
const REPLACE = NLM_F_CREATE | NLM_F_REPLACE;

export function encodeNeighbourOp(w: ByteWriter, op: NeighbourOp): number {
  const adds = op.op === 'neigh-replace';
  const message = beginMessage(w, adds ? RTM_NEWNEIGH : RTM_DELNEIGH, adds ? REPLACE : 0);
  const flags = (op.extLearn ? NTF_EXT_LEARNED : 0) | (op.proxy ? NTF_PROXY : 0);
  putHeader(w, afOf(op.ip), op.index, op.proxy ? 0 : STATES[op.state ?? 'permanent'], flags);
  putIp(w, NDA_DST, op.ip);
  if (op.mac !== undefined) putMac(w, NDA_LLADDR, op.mac);
  endMessage(w, message);
  return 1;
}

export function encodeFdbOp(w: ByteWriter, op: FdbOp): number {
  const adds = op.op === 'fdb-replace';
  const message = beginMessage(w, adds ? RTM_NEWNEIGH : RTM_DELNEIGH, adds ? REPLACE : 0);
  putHeader(
    w,
    AF_BRIDGE,
    op.index,
    FDB_STATES[op.permanent ?? 'learned'],
    op.permanent === 'bridge' ? NTF_SELF : NTF_MASTER,
  );
  putMac(w, NDA_LLADDR, op.mac);
  endMessage(w, message);
  return 1;
}

/** Neighbours of both families, or of one link. */
export function encodeNeighbourDump(w: ByteWriter, index: number | undefined, proxy = false): void {
  const message = beginMessage(w, RTM_GETNEIGH, NLM_F_DUMP);
  putHeader(w, 0, 0, 0, proxy ? NTF_PROXY : 0);
  if (index !== undefined) putU32(w, NDA_IFINDEX, index);
  endMessage(w, message);
}

export function encodeFdbDump(w: ByteWriter): void {
  const message = beginMessage(w, RTM_GETNEIGH, NLM_F_DUMP);
  putHeader(w, AF_BRIDGE, 0, 0, 0);
  endMessage(w, message);
}

type Parts = { family: number; index: number; state: NeighbourState; flags: number; attributes: Attributes };

function parts(message: Message): Parts {
  const { bytes, start } = message;
  const view = new DataView(bytes.buffer, bytes.byteOffset + start, 12);
  return {
    family: bytes[start]!,
    index: view.getInt32(4, true),
    state: stateNames.get(view.getUint16(8, true)) ?? 'none',
    flags: bytes[start + 10]!,
    attributes: new Attributes(bytes, start + 12, message.end),
  };
}

/** Null for entries of other families (the forwarding database among them). */
export function decodeNeighbour(message: Message): Neighbour | null {
  const { family, index, state, flags, attributes } = parts(message);
  const ip = family === AF_INET || family === AF_INET6 ? attributes.ip(NDA_DST) : undefined;
  if (ip === undefined) return null;
  return {
    index,
    ip,
    mac: attributes.mac(NDA_LLADDR) ?? null,
    state,
    extLearn: (flags & NTF_EXT_LEARNED) !== 0,
    proxy: (flags & NTF_PROXY) !== 0,
  };
}

export function decodeFdb(message: Message): Fdb | null {
  const { family, index, state, flags, attributes } = parts(message);
  const mac = attributes.mac(NDA_LLADDR);
  if (family !== AF_BRIDGE || mac === undefined) return null;
  return {
    index,
    mac,
    masterIndex: attributes.u32(NDA_MASTER) ?? 0,
    state,
    extLearn: (flags & NTF_EXT_LEARNED) !== 0,
  };
}
