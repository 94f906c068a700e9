// Addresses of links (rtnetlink RTM_*ADDR, struct ifaddrmsg).
import { bitsOf, familyOf, type Ip } from '../../base/ip.ts';
import { Attributes, putIp, putU32 } from './attribute.ts';
import type { ByteWriter } from './bytes.ts';
import {
  beginMessage,
  endMessage,
  type Message,
  NLM_F_CREATE,
  NLM_F_DUMP,
  NLM_F_EXCL,
  NLM_F_REPLACE,
} from './message.ts';

export const RTM_NEWADDR = 20;
export const RTM_DELADDR = 21;
const RTM_GETADDR = 22;

export const AF_INET = 2;
export const AF_INET6 = 10;
export const afOf = (ip: Ip): number => (familyOf(ip) === 4 ? AF_INET : AF_INET6);

const IFA_ADDRESS = 1;
const IFA_LOCAL = 2;
const IFA_FLAGS = 8;
const IFA_TARGET_NETNSID = 10;
const IFA_F_SECONDARY = 0x01;
const IFA_F_NODAD = 0x02;
const IFA_F_NOPREFIXROUTE = 0x200;

export type AddressOp = {
  op: 'addr-add' | 'addr-replace' | 'addr-del';
  index: number;
  ip: Ip;
  /** Prefix length, bits. */
  length: number;
  /** The kernel adds no route to the prefix. */
  noPrefixRoute?: boolean;
  /** 0 universe (default), 253 link, 254 host. */
  scope?: number;
  /** IPv6: usable at once, without duplicate address detection. */
  noDad?: boolean;
};

export type Address = {
  index: number;
  ip: Ip;
  length: number;
  noPrefixRoute: boolean;
  scope: number;
  /** IPv4: the link has an earlier address of the same prefix; deleting that one may delete this one too. */
  secondary: boolean;
};

const FLAGS = {
  'addr-add': NLM_F_CREATE | NLM_F_EXCL,
  'addr-replace': NLM_F_CREATE | NLM_F_REPLACE,
  'addr-del': 0,
} as const;

/** struct ifaddrmsg. */
function putHeader(
  w: ByteWriter,
  family: number,
  length: number,
  flags: number,
  scope: number,
  index: number,
): void {
  const at = w.take(8);
  w.bytes[at] = family;
  w.bytes[at + 1] = length;
  w.bytes[at + 2] = flags & 0xff;
  w.bytes[at + 3] = scope;
  w.view.setUint32(at + 4, index, true);
}

export function encodeAddressOp(w: ByteWriter, op: AddressOp): number {
  const message = beginMessage(w, op.op === 'addr-del' ? RTM_DELADDR : RTM_NEWADDR, FLAGS[op.op]);
  if (op.length > bitsOf(familyOf(op.ip))) throw new RangeError(`prefix length ${op.length}`);
  const adds = op.op !== 'addr-del';
  const flags = adds ? (op.noPrefixRoute ? IFA_F_NOPREFIXROUTE : 0) | (op.noDad ? IFA_F_NODAD : 0) : 0;
  putHeader(w, afOf(op.ip), op.length, flags, op.scope ?? 0, op.index);
  putIp(w, IFA_LOCAL, op.ip);
  putIp(w, IFA_ADDRESS, op.ip);
  // The header holds the low byte only; the attribute stands above it.
  if (flags > 0xff) putU32(w, IFA_FLAGS, flags);
  endMessage(w, message);
  return 1;
}

/** All addresses, or those of one link; `netnsId`: of the namespace that the socket's own knows by this id. */
export function encodeAddressDump(w: ByteWriter, index: number | undefined, netnsId?: number): void {
  const message = beginMessage(w, RTM_GETADDR, NLM_F_DUMP);
  putHeader(w, 0, 0, 0, 0, index ?? 0);
  if (netnsId !== undefined) putU32(w, IFA_TARGET_NETNSID, netnsId);
  endMessage(w, message);
}

/** Null for families other than IP. */
export function decodeAddress(message: Message): Address | null {
  const { bytes, start } = message;
  const family = bytes[start];
  if (family !== AF_INET && family !== AF_INET6) return null;
  const attributes = new Attributes(bytes, start + 8, message.end);
  const ip = attributes.ip(IFA_LOCAL) ?? attributes.ip(IFA_ADDRESS);
  if (ip === undefined) return null;
  const flags = attributes.u32(IFA_FLAGS) ?? bytes[start + 2]!;
  return {
    index: new DataView(bytes.buffer, bytes.byteOffset + start, 8).getUint32(4, true),
    ip,
    length: bytes[start + 1]!,
    noPrefixRoute: (flags & IFA_F_NOPREFIXROUTE) !== 0,
    scope: bytes[start + 3]!,
    secondary: family === AF_INET && (flags & IFA_F_SECONDARY) !== 0,
  };
}
