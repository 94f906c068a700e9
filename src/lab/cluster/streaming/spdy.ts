// As much of SPDY/3.1 as kubectl's port-forward speaks: streams that the client opens, their data and ends, pings.
// Windows are left alone, as spdystream does on the other side. Frames of one connection are read in order.
// Fails with SpdyError on bytes that are no SPDY.
import { createInflate, type Inflate } from 'node:zlib';
import { DICTIONARY, DICTIONARY_ID } from './spdy-dictionary.ts';
import type { Source } from './websocket.ts';

const VERSION = 3;
const SYN_STREAM = 1;
const SYN_REPLY = 2;
const RST_STREAM = 3;
const PING = 6;
const GOAWAY = 7;
const FIN = 1;
const HEADER = 8;
/** Of an open stream: its id, the one that it belongs to, priority and slot. */
const SYN_BYTES = 10;
const PROTOCOL_ERROR = 1;
const CANCEL = 5;
/** One frame; kubectl copies 32 KiB at once. */
const MAX_FRAME = 1 << 20;
const MAX_HEADERS = 64 << 10;

export class SpdyError extends Error {
  override name = 'SpdyError';
}

export type SpdyHandlers = {
  accepts(headers: ReadonlyMap<string, string>): boolean;
  open(id: number, headers: ReadonlyMap<string, string>): void;
  data(id: number, bytes: Buffer): void;
  /** The client sends no more on it. */
  end(id: number): void;
  /** The client takes nothing of it any more; of none when the id is 0. */
  reset(id: number): void;
};

export class SpdyServer {
  readonly #send: (bytes: Buffer, source?: Source) => void;
  readonly #on: SpdyHandlers;
  readonly #inflate: Inflate = createInflate({ dictionary: DICTIONARY });
  readonly #inflated: Buffer[] = [];
  #held: Buffer = Buffer.alloc(0);
  #reading: Promise<void> = Promise.resolve();
  #replied = false;

  /** `send` may pause the source of the bytes. */
  constructor(send: (bytes: Buffer, source?: Source) => void, on: SpdyHandlers) {
    this.#send = send;
    this.#on = on;
    this.#inflate.on('data', (bytes: Buffer) => this.#inflated.push(bytes));
  }

  /** Resolves when the frames that end in `bytes` have been told. */
  read(bytes: Buffer): Promise<void> {
    this.#reading = this.#reading.then(() => this.#take(bytes));
    return this.#reading;
  }

  write(id: number, bytes: Buffer, source?: Source): void {
    if (bytes.length > 0) this.#send(Buffer.concat([dataHead(id, 0, bytes.length), bytes]), source);
  }

  /** Nothing more comes on the stream. */
  end(id: number): void {
    this.#send(dataHead(id, FIN, 0));
  }

  reset(id: number, status = CANCEL): void {
    const body = Buffer.alloc(8);
    body.writeUInt32BE(id);
    body.writeUInt32BE(status, 4);
    this.#send(control(RST_STREAM, body));
  }

  close(): void {
    this.#inflate.close();
  }

  async #take(bytes: Buffer): Promise<void> {
    let rest = this.#held.length === 0 ? bytes : Buffer.concat([this.#held, bytes]);
    while (rest.length >= HEADER) {
      const length = rest.readUIntBE(5, 3);
      if (length > MAX_FRAME) throw new SpdyError(`a frame of ${length} bytes; the limit is ${MAX_FRAME}`);
      if (rest.length < HEADER + length) break;
      await this.#frame(rest.subarray(0, HEADER), rest.subarray(HEADER, HEADER + length));
      rest = rest.subarray(HEADER + length);
    }
    this.#held = Buffer.from(rest);
  }

  async #frame(head: Buffer, body: Buffer): Promise<void> {
    const flags = head[4]!;
    const first = head.readUInt32BE(0);
    if (first < 0x80000000) {
      if (body.length > 0) this.#on.data(first, body);
      if (flags & FIN) this.#on.end(first);
      return;
    }
    const version = head.readUInt16BE(0) & 0x7fff;
    if (version !== VERSION) throw new SpdyError(`SPDY version ${version}; this is ${VERSION}`);
    const type = head.readUInt16BE(2);
    if (type === SYN_STREAM) return this.#opened(body, flags);
    if (type === RST_STREAM) this.#on.reset(body.readUInt32BE(0) & 0x7fffffff);
    // One that the client sent comes back as it is.
    else if (type === PING && (body.readUInt32BE(0) & 1) === 1) this.#send(control(PING, Buffer.from(body)));
    else if (type === GOAWAY) this.#on.reset(0);
  }

  async #opened(body: Buffer, flags: number): Promise<void> {
    if (body.length < SYN_BYTES) throw new SpdyError(`an opening of ${body.length} bytes`);
    const id = body.readUInt32BE(0) & 0x7fffffff;
    const headers = headersIn(await this.#unpack(body.subarray(SYN_BYTES)));
    if (!this.#on.accepts(headers)) return this.reset(id, PROTOCOL_ERROR);
    this.#send(this.#reply(id));
    this.#on.open(id, headers);
    if (flags & FIN) this.#on.end(id);
  }

  /** All headers of a connection are one zlib stream. */
  async #unpack(bytes: Buffer): Promise<Buffer> {
    this.#inflated.length = 0;
    await new Promise<void>((resolve, reject) => {
      this.#inflate.once('error', reject);
      this.#inflate.write(bytes, (error) => {
        this.#inflate.off('error', reject);
        if (error) reject(error);
        else resolve();
      });
    });
    const out = Buffer.concat(this.#inflated);
    if (out.length > MAX_HEADERS)
      throw new SpdyError(`headers of ${out.length} bytes; the limit is ${MAX_HEADERS}`);
    return out;
  }

  /**
   * An answer without headers. It is not worth compressing: a stored block (RFC 1951 3.2.4) of the number 0, and an empty
   * one, at which a reader hands out what it has.
   */
  #reply(id: number): Buffer {
    const stream = Buffer.alloc(4);
    stream.writeUInt32BE(id);
    const start = Buffer.alloc(6);
    start.writeUInt16BE(0x78bb);
    start.writeUInt32BE(DICTIONARY_ID, 2);
    const block = Buffer.of(0, 4, 0, 0xfb, 0xff, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff);
    const body = Buffer.concat([stream, ...(this.#replied ? [] : [start]), block]);
    this.#replied = true;
    return control(SYN_REPLY, body);
  }
}

/** A count, then names and values with their lengths. Names are in small letters; of several values the first counts. */
function headersIn(bytes: Buffer): Map<string, string> {
  const out = new Map<string, string>();
  let at = 4;
  const text = (): string => {
    if (at + 4 > bytes.length) throw new SpdyError('headers are cut off');
    const end = at + 4 + bytes.readUInt32BE(at);
    if (end > bytes.length) throw new SpdyError('headers are cut off');
    const value = bytes.toString('utf8', at + 4, end);
    at = end;
    return value;
  };
  if (bytes.length < 4) throw new SpdyError('headers are cut off');
  for (let left = bytes.readUInt32BE(0); left > 0; left--) {
    const name = text().toLowerCase();
    out.set(name, text().split('\0')[0]!);
  }
  return out;
}

function control(type: number, body: Buffer): Buffer {
  const head = Buffer.alloc(HEADER);
  head.writeUInt16BE(0x8000 | VERSION);
  head.writeUInt16BE(type, 2);
  head.writeUIntBE(body.length, 5, 3);
  return Buffer.concat([head, body]);
}

function dataHead(id: number, flags: number, length: number): Buffer {
  const head = Buffer.alloc(HEADER);
  head.writeUInt32BE(id);
  head[4] = flags;
  head.writeUIntBE(length, 5, 3);
  return head;
}
