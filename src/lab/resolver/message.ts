// DNS messages (RFC 1035), as far as a resolver without upstream needs them: one question in, addresses out. Pure.
import { type Ip, ipToBytes } from '../../base/ip.ts';

export const A = 1;
export const AAAA = 28;
export const ANY = 255;
const IN = 1;
export type Rcode = 'ok' | 'form-error' | 'no-name' | 'not-implemented';
const RCODES: Record<Rcode, number> = { ok: 0, 'form-error': 1, 'no-name': 3, 'not-implemented': 4 };

const HEAD = 12;
const MAX_NAME = 255;
const MAX_LABEL = 63;
/** What any client takes by UDP (RFC 1035, 2.3.4); more addresses than fit are left out, and the answer says so. */
const MAX_MESSAGE = 512;
/** Seconds, as the VPC's resolver says of its own names. */
const TTL = 60;

export type Question = {
  id: number;
  recursionDesired: boolean;
  /** In small letters, without the dot at the end. */
  name: string;
  type: number;
  /** The question as it came: an answer begins with it. */
  bytes: Uint8Array;
};

/** `undefined`: to be left without an answer. */
export function readQuestion(message: Uint8Array): Question | { id: number; refusal: Rcode } | undefined {
  if (message.length < HEAD) return undefined;
  const view = new DataView(message.buffer, message.byteOffset, message.length);
  const id = view.getUint16(0);
  const flags = view.getUint16(2);
  if ((flags & 0x8000) !== 0) return undefined;
  if ((flags & 0x7800) !== 0) return { id, refusal: 'not-implemented' };
  if (view.getUint16(4) !== 1) return { id, refusal: 'form-error' };
  const labels: string[] = [];
  let at = HEAD;
  for (;;) {
    const length = message[at];
    if (length === undefined || length > MAX_LABEL) return { id, refusal: 'form-error' };
    at += 1;
    if (length === 0) break;
    if (at + length > message.length || at + length - HEAD > MAX_NAME) return { id, refusal: 'form-error' };
    labels.push(
      Buffer.from(message.subarray(at, at + length))
        .toString('latin1')
        .toLowerCase(),
    );
    at += length;
  }
  if (at + 4 > message.length) return { id, refusal: 'form-error' };
  const type = view.getUint16(at);
  if (view.getUint16(at + 2) !== IN) return { id, refusal: 'not-implemented' };
  const bytes = message.slice(HEAD, at + 4);
  return { id, recursionDesired: (flags & 0x0100) !== 0, name: labels.join('.'), type, bytes };
}

export function refusalOf(id: number, rcode: Rcode): Uint8Array {
  const message = new Uint8Array(HEAD);
  const view = new DataView(message.buffer);
  view.setUint16(0, id);
  view.setUint16(2, 0x8080 | RCODES[rcode]);
  return message;
}

/** An answer with these addresses, or with none. */
export function answerOf(question: Question, rcode: Rcode, addresses: readonly Ip[]): Uint8Array {
  const records: number[] = [];
  let count = 0;
  for (const ip of addresses) {
    const bytes = ipToBytes(ip);
    if (HEAD + question.bytes.length + records.length + 12 + bytes.length > MAX_MESSAGE) break;
    const type = bytes.length === 4 ? A : AAAA;
    // 0xc00c: the name of the question.
    records.push(0xc0, HEAD, 0, type, 0, IN, 0, 0, 0, TTL, 0, bytes.length, ...bytes);
    count++;
  }
  const cut = count < addresses.length ? 0x0200 : 0;
  const message = new Uint8Array(HEAD + question.bytes.length + records.length);
  const view = new DataView(message.buffer);
  view.setUint16(0, question.id);
  view.setUint16(2, 0x8080 | cut | (question.recursionDesired ? 0x0100 : 0) | RCODES[rcode]);
  view.setUint16(4, 1);
  view.setUint16(6, count);
  message.set(question.bytes, HEAD);
  message.set(records, HEAD + question.bytes.length);
  return message;
}
