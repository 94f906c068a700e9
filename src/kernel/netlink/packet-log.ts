// Messages of nfnetlink_log (linux/netfilter/nfnetlink_log.h): asking for a group's packets, and the packets.
import { Attributes, putBytes, putU32be } from './attribute.ts';
import type { ByteWriter } from './bytes.ts';
import { endMessage, type Message } from './message.ts';
import { beginNetfilter, NFGEN_LENGTH } from './nfnetlink-header.ts';

const SUBSYSTEM_LOG = 4;
const NFULNL_MSG_PACKET = 0;
const NFULNL_MSG_CONFIG = 1;
const NFULA_CFG_CMD = 1;
const NFULA_CFG_MODE = 2;
const NFULA_CFG_TIMEOUT = 4;
const NFULA_CFG_QTHRESH = 5;
const NFULNL_CFG_CMD_BIND = 1;
const NFULNL_COPY_PACKET = 2;
const NFULA_PAYLOAD = 9;
const NFULA_PREFIX = 10;

export type LoggedPacket = {
  /** As the rule says it. */
  prefix: string;
  /** From the IP header on, as much as the rule asks for. */
  payload: Uint8Array;
};

/** Binds the socket to the group: packets come singly, at most `bytes` of each. */
export function encodeLogBind(w: ByteWriter, group: number, bytes: number): void {
  const message = beginNetfilter(w, SUBSYSTEM_LOG, NFULNL_MSG_CONFIG, 0, 0, group);
  putBytes(w, NFULA_CFG_CMD, Uint8Array.of(NFULNL_CFG_CMD_BIND));
  const mode = new Uint8Array(6);
  new DataView(mode.buffer).setUint32(0, bytes, false);
  mode[4] = NFULNL_COPY_PACKET;
  putBytes(w, NFULA_CFG_MODE, mode);
  putU32be(w, NFULA_CFG_QTHRESH, 1);
  putU32be(w, NFULA_CFG_TIMEOUT, 10);
  endMessage(w, message);
}

/** Null for anything else. The payload is a copy. */
export function decodeLogged(message: Message): LoggedPacket | null {
  if (message.type !== ((SUBSYSTEM_LOG << 8) | NFULNL_MSG_PACKET)) return null;
  const attributes = new Attributes(message.bytes, message.start + NFGEN_LENGTH, message.end);
  const payload = attributes.payload(NFULA_PAYLOAD);
  if (!payload) return null;
  return { prefix: attributes.text(NFULA_PREFIX) ?? '', payload: payload.slice() };
}
