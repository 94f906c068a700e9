// Netlink attributes (struct nlattr: length u16, type u16, payload, padding to four). Writing is by functions over a
// ByteWriter; reading is one pass that remembers where each attribute's payload lies and copies nothing.
// A malformed attribute (length under 4 or past the end) throws MalformedMessage: the kernel sends none.
import { type Ip, ipFromBytes, ipToBytes } from '../../base/ip.ts';
import { type Mac, macFromBytes, macToBytes } from '../../base/mac.ts';
import { align4, type ByteWriter, textBytes, textFromBytes } from './bytes.ts';

export const NLA_F_NESTED = 0x8000;
const NLA_TYPE_MASK = 0x3fff;
const HEADER = 4;
const MAX_LENGTH = 0xffff;

export class MalformedMessage extends Error {
  override name = 'MalformedMessage';
}

function header(w: ByteWriter, type: number, payload: number): number {
  const length = HEADER + payload;
  if (length > MAX_LENGTH)
    throw new RangeError(`attribute ${type} of ${payload} bytes exceeds ${MAX_LENGTH}`);
  const at = w.take(HEADER + align4(payload));
  w.view.setUint16(at, length, true);
  w.view.setUint16(at + 2, type, true);
  return at + HEADER;
}

export function putU8(w: ByteWriter, type: number, value: number): void {
  const at = header(w, type, 1);
  w.bytes[at] = value;
}

export function putU32(w: ByteWriter, type: number, value: number): void {
  const at = header(w, type, 4);
  w.view.setUint32(at, value, true);
}

export function putU32be(w: ByteWriter, type: number, value: number): void {
  const at = header(w, type, 4);
  w.view.setUint32(at, value, false);
}

export function putU64be(w: ByteWriter, type: number, value: bigint): void {
  const at = header(w, type, 8);
  w.view.setBigUint64(at, value, false);
}

export function putBytes(w: ByteWriter, type: number, value: Uint8Array): void {
  const at = header(w, type, value.length);
  w.bytes.set(value, at);
}

/** Text with the NUL that most families expect. */
export function putText(w: ByteWriter, type: number, value: string): void {
  const text = textBytes(value);
  const at = header(w, type, text.length + 1);
  w.bytes.set(text, at);
}

export const putIp = (w: ByteWriter, type: number, ip: Ip): void =>
  typeof ip === 'number' ? putU32be(w, type, ip) : putBytes(w, type, ipToBytes(ip));

export const putMac = (w: ByteWriter, type: number, mac: Mac): void => putBytes(w, type, macToBytes(mac));

/** Opens a nest; give the result to `endNest`. */
export function beginNest(w: ByteWriter, type: number): number {
  const at = w.take(HEADER);
  w.view.setUint16(at + 2, type | NLA_F_NESTED, true);
  return at;
}

export function endNest(w: ByteWriter, at: number): void {
  const length = w.length - at;
  if (length > MAX_LENGTH) throw new RangeError(`nest of ${length} bytes exceeds ${MAX_LENGTH}`);
  w.view.setUint16(at, length, true);
}

/** The attributes of one message or nest, by type. When a type repeats, the last stands; `each` sees them all. */
export class Attributes {
  readonly bytes: Uint8Array;
  readonly #view: DataView;
  /** type -> offset * 2^16 + length of the payload: one number, no object per attribute. */
  readonly #places = new Map<number, number>();

  constructor(bytes: Uint8Array, start: number, end: number) {
    this.bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    eachAttribute(bytes, start, end, (type, at, length) => {
      this.#places.set(type, at * 65536 + length);
    });
  }

  has(type: number): boolean {
    return this.#places.has(type);
  }

  #at(type: number, size: number): number | undefined {
    const place = this.#places.get(type);
    if (place === undefined) return undefined;
    if (place % 65536 < size) throw new MalformedMessage(`attribute ${type} has fewer than ${size} bytes`);
    return Math.floor(place / 65536);
  }

  u8(type: number): number | undefined {
    const at = this.#at(type, 1);
    return at === undefined ? undefined : this.bytes[at];
  }

  u16(type: number): number | undefined {
    const at = this.#at(type, 2);
    return at === undefined ? undefined : this.#view.getUint16(at, true);
  }

  u32(type: number): number | undefined {
    const at = this.#at(type, 4);
    return at === undefined ? undefined : this.#view.getUint32(at, true);
  }

  i32(type: number): number | undefined {
    const at = this.#at(type, 4);
    return at === undefined ? undefined : this.#view.getInt32(at, true);
  }

  u16be(type: number): number | undefined {
    const at = this.#at(type, 2);
    return at === undefined ? undefined : this.#view.getUint16(at, false);
  }

  u32be(type: number): number | undefined {
    const at = this.#at(type, 4);
    return at === undefined ? undefined : this.#view.getUint32(at, false);
  }

  u64be(type: number): bigint | undefined {
    const at = this.#at(type, 8);
    return at === undefined ? undefined : this.#view.getBigUint64(at, false);
  }

  /** A view of the payload, valid until the receive buffer is used again: slice() it to keep it. */
  payload(type: number): Uint8Array | undefined {
    const place = this.#places.get(type);
    if (place === undefined) return undefined;
    const at = Math.floor(place / 65536);
    return this.bytes.subarray(at, at + (place % 65536));
  }

  text(type: number): string | undefined {
    const payload = this.payload(type);
    return payload === undefined ? undefined : textFromBytes(payload);
  }

  ip(type: number): Ip | undefined {
    const payload = this.payload(type);
    return payload === undefined ? undefined : ipFromBytes(payload);
  }

  mac(type: number): Mac | undefined {
    const payload = this.payload(type);
    return payload === undefined || payload.length !== 6 ? undefined : macFromBytes(payload);
  }

  nest(type: number): Attributes | undefined {
    const place = this.#places.get(type);
    if (place === undefined) return undefined;
    const at = Math.floor(place / 65536);
    return new Attributes(this.bytes, at, at + (place % 65536));
  }

  get types(): number[] {
    return [...this.#places.keys()];
  }
}

/** Walks the attributes between two offsets; `at` and `length` are the payload's. */
export function eachAttribute(
  bytes: Uint8Array,
  start: number,
  end: number,
  visit: (type: number, at: number, length: number) => void,
): void {
  let at = start;
  while (at + HEADER <= end) {
    const length = bytes[at]! | (bytes[at + 1]! << 8);
    const type = (bytes[at + 2]! | (bytes[at + 3]! << 8)) & NLA_TYPE_MASK;
    if (length < HEADER || at + length > end) {
      throw new MalformedMessage(`attribute ${type} at ${at} says ${length} bytes, ${end - at} are left`);
    }
    visit(type, at + HEADER, length - HEADER);
    at += align4(length);
  }
}
