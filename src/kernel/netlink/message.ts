// Netlink messages (struct nlmsghdr: length u32, type u16, flags u16, sequence u32, port u32) in a buffer.
// First stage of parsing only: where a message's body begins and ends. Families read the bodies.
// The kernel's answers NLMSG_ERROR and NLMSG_DONE are read here, with the extended acknowledgement's sentence.
import { Attributes, MalformedMessage } from './attribute.ts';
import { align4, type ByteWriter } from './bytes.ts';

export const HEADER_LENGTH = 16;

export const NLMSG_ERROR = 2;
export const NLMSG_DONE = 3;

export const NLM_F_REQUEST = 0x1;
export const NLM_F_ACK = 0x4;
export const NLM_F_ECHO = 0x8;
export const NLM_F_DUMP_INTR = 0x10;
export const NLM_F_DUMP = 0x300;
export const NLM_F_REPLACE = 0x100;
export const NLM_F_EXCL = 0x200;
export const NLM_F_CREATE = 0x400;
const NLM_F_CAPPED = 0x100;
const NLM_F_ACK_TLVS = 0x200;

const NLMSGERR_ATTR_MSG = 1;
const NLMSGERR_ATTR_OFFS = 2;

/** Opens a message; give the result to `endMessage`. The sequence number is set when the batch is sent. */
export function beginMessage(w: ByteWriter, type: number, flags: number): number {
  const at = w.take(HEADER_LENGTH);
  w.view.setUint16(at + 4, type, true);
  w.view.setUint16(at + 6, flags | NLM_F_REQUEST, true);
  return at;
}

export function endMessage(w: ByteWriter, at: number): void {
  w.view.setUint32(at, w.length - at, true);
  w.pad4();
}

/** One message of a received datagram; `start` and `end` bound the body in `bytes`. */
export type Message = {
  type: number;
  flags: number;
  sequence: number;
  /** Port of the socket whose request this answers or tells of; 0: the kernel's own doing. */
  port: number;
  bytes: Uint8Array;
  start: number;
  end: number;
};

/** Walks the messages in `bytes[0..length)`. */
export function eachMessage(bytes: Uint8Array, length: number, visit: (message: Message) => void): void {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let at = 0;
  while (at + HEADER_LENGTH <= length) {
    const size = view.getUint32(at, true);
    if (size < HEADER_LENGTH || at + size > length) {
      throw new MalformedMessage(`message at ${at} says ${size} bytes, ${length - at} are left`);
    }
    visit({
      type: view.getUint16(at + 4, true),
      flags: view.getUint16(at + 6, true),
      sequence: view.getUint32(at + 8, true),
      port: view.getInt32(at + 12, true),
      bytes,
      start: at + HEADER_LENGTH,
      end: at + size,
    });
    at += align4(size);
  }
}

/** What NLMSG_ERROR (an acknowledgement when errno is 0) or NLMSG_DONE says. errno is positive. */
export type Acknowledgement = { errno: number; kernelText: string; offset?: number };

export function readAcknowledgement(message: Message): Acknowledgement {
  const { bytes, start, end, flags, type } = message;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (start + 4 > end) return { errno: 0, kernelText: '' };
  const answer: Acknowledgement = { errno: -view.getInt32(start, true), kernelText: '' };
  if ((flags & NLM_F_ACK_TLVS) === 0) return answer;
  let at = start + 4;
  if (type === NLMSG_ERROR) {
    // The request's header follows, and with NETLINK_CAP_ACK unset its body too.
    const requestLength = view.getUint32(at, true);
    at += (flags & NLM_F_CAPPED) !== 0 ? HEADER_LENGTH : align4(requestLength);
  }
  const attributes = new Attributes(bytes, at, end);
  answer.kernelText = attributes.text(NLMSGERR_ATTR_MSG) ?? '';
  const offset = attributes.u32(NLMSGERR_ATTR_OFFS);
  if (offset !== undefined) answer.offset = offset;
  return answer;
}
