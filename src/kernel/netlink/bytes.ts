// One growing buffer to write netlink messages into, and typed reads. Host byte order is little endian (ffi.ts checks);
// what the protocols want in network order says `be`. Everything in netlink is padded to four bytes with zeros.
// A writer is reused from batch to batch: it never shrinks, and its bytes are valid until the next `reset`.

export const align4 = (length: number): number => (length + 3) & ~3;

const encoder = new TextEncoder();
const decoder = new TextDecoder();

export class ByteWriter {
  bytes: Uint8Array;
  view: DataView;
  length = 0;

  constructor(capacity = 4096) {
    this.bytes = new Uint8Array(capacity);
    this.view = new DataView(this.bytes.buffer);
  }

  reset(): void {
    this.length = 0;
  }

  /** Makes room for `size` more bytes, all zero, and returns the offset where they begin. */
  take(size: number): number {
    const at = this.length;
    const end = at + size;
    if (end > this.bytes.length) this.#grow(end);
    this.bytes.fill(0, at, end);
    this.length = end;
    return at;
  }

  #grow(needed: number): void {
    const next = new Uint8Array(Math.max(needed, this.bytes.length * 2));
    next.set(this.bytes.subarray(0, this.length));
    this.bytes = next;
    this.view = new DataView(next.buffer);
  }

  u8(value: number): void {
    const at = this.take(1);
    this.bytes[at] = value;
  }

  u16(value: number): void {
    const at = this.take(2);
    this.view.setUint16(at, value, true);
  }

  u32(value: number): void {
    const at = this.take(4);
    this.view.setUint32(at, value, true);
  }

  raw(value: Uint8Array): void {
    const at = this.take(value.length);
    this.bytes.set(value, at);
  }

  pad4(): void {
    this.take(align4(this.length) - this.length);
  }

  /** A copy of what was written. */
  copy(): Uint8Array {
    return this.bytes.slice(0, this.length);
  }
}

export const textBytes = (text: string): Uint8Array => encoder.encode(text);

/** Text up to the first NUL. */
export function textFromBytes(bytes: Uint8Array): string {
  const end = bytes.indexOf(0);
  return decoder.decode(end < 0 ? bytes : bytes.subarray(0, end));
}
