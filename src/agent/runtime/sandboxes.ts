// Which pod sandboxes the container runtime has: one call, runtime.v1.RuntimeService/ListPodSandbox, by gRPC over the
// runtime's unix socket. A hundred lines of HTTP/2 (RFC 9113) and protobuf instead of a client that would take megabytes of
// a daemon on every node: the request is a constant, of the answer only the data frames are read. Bounded in time and
// bytes. Fails with Error, which names the socket.
import { connect } from 'node:net';

const TIMEOUT_MS = 10_000;
/** Bytes: 1,000 sandboxes with labels and annotations are under 2 MB. */
const MAX_ANSWER = 32 << 20;

const DATA = 0;
const HEADERS = 1;
const RST_STREAM = 3;
const SETTINGS = 4;
const PING = 6;
const GOAWAY = 7;
const WINDOW_UPDATE = 8;
const END_STREAM = 0x1;
const ACK = 0x1;
const END_HEADERS = 0x4;
const PADDED = 0x8;
/** Octets that the runtime may send before it must wait; we read all, so it never has to. */
const WINDOW = MAX_ANSWER;

function frame(type: number, flags: number, stream: number, payload: Uint8Array): Buffer {
  const head = Buffer.alloc(9);
  head.writeUIntBE(payload.length, 0, 3);
  head[3] = type;
  head[4] = flags;
  head.writeUInt32BE(stream, 5);
  return Buffer.concat([head, payload]);
}

/** HPACK: literals without indexing, without Huffman code (RFC 7541, 6.2.2). */
function headerBlock(headers: readonly (readonly [string, string])[]): Buffer {
  const text = (value: string) => Buffer.concat([Buffer.from([value.length]), Buffer.from(value, 'latin1')]);
  return Buffer.concat(headers.flatMap(([name, value]) => [Buffer.from([0]), text(name), text(value)]));
}

function uint32(...values: number[]): Buffer {
  const bytes = Buffer.alloc(values.length * 4);
  for (const [at, value] of values.entries()) bytes.writeUInt32BE(value, at * 4);
  return bytes;
}

function request(): Buffer {
  const setting = Buffer.alloc(12);
  setting.writeUInt16BE(2, 0); // ENABLE_PUSH 0
  setting.writeUInt16BE(4, 6); // INITIAL_WINDOW_SIZE
  setting.writeUInt32BE(WINDOW, 8);
  const headers = headerBlock([
    [':method', 'POST'],
    [':scheme', 'http'],
    [':path', '/runtime.v1.RuntimeService/ListPodSandbox'],
    [':authority', 'localhost'],
    ['content-type', 'application/grpc'],
    ['te', 'trailers'],
    ['user-agent', 'podway'],
  ]);
  return Buffer.concat([
    Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'),
    frame(SETTINGS, 0, 0, setting),
    frame(WINDOW_UPDATE, 0, 0, uint32(WINDOW)),
    frame(HEADERS, END_HEADERS, 1, headers),
    // Not compressed, no bytes: the request without a filter.
    frame(DATA, END_STREAM, 1, Buffer.alloc(5)),
  ]);
}

/** Ids of all sandboxes, also of those that are not ready. */
export function listSandboxes(path: string, signal?: AbortSignal): Promise<Set<string>> {
  return new Promise((resolve, reject) => {
    let pending: Buffer = Buffer.alloc(0);
    const pieces: Buffer[] = [];
    let size = 0;
    const socket = connect(path);
    const fail = (why: string, cause?: unknown) => {
      settle();
      reject(new Error(`${path} does not tell its sandboxes: ${why}`, { cause }));
    };
    const onAbort = () => fail('the agent ends');
    const settle = () => {
      clearTimeout(limit);
      signal?.removeEventListener('abort', onAbort);
      socket.destroy();
    };
    const limit = setTimeout(() => fail(`no answer within ${TIMEOUT_MS / 1000} s`), TIMEOUT_MS);
    signal?.addEventListener('abort', onAbort, { once: true });
    const end = () => {
      try {
        const ids = sandboxIds(messageOf(Buffer.concat(pieces)));
        settle();
        resolve(ids);
      } catch (error) {
        fail((error as Error).message, error);
      }
    };
    /** True when the answer is whole, or will not come. */
    const take = (type: number, flags: number, payload: Buffer): boolean => {
      if (type === SETTINGS && !(flags & ACK)) socket.write(frame(SETTINGS, ACK, 0, Buffer.alloc(0)));
      if (type === PING && !(flags & ACK)) socket.write(frame(PING, ACK, 0, payload));
      if (type === RST_STREAM || type === GOAWAY) {
        fail(
          type === GOAWAY
            ? `the runtime ends the connection: ${payload.subarray(8)}`
            : 'the runtime ends the call',
        );
        return true;
      }
      if (type === DATA) {
        const piece = flags & PADDED ? payload.subarray(1, payload.length - payload[0]!) : payload;
        pieces.push(piece);
        size += piece.length;
        if (size > MAX_ANSWER) {
          fail(`it answers more than ${MAX_ANSWER >> 20} MiB`);
          return true;
        }
      }
      if ((type === DATA || type === HEADERS) && flags & END_STREAM) {
        end();
        return true;
      }
      return false;
    };
    socket.on('data', (chunk: Buffer) => {
      pending = pending.length > 0 ? Buffer.concat([pending, chunk]) : chunk;
      while (pending.length >= 9) {
        const length = pending.readUIntBE(0, 3);
        if (pending.length < 9 + length) break;
        const payload = pending.subarray(9, 9 + length);
        const [type = 0, flags = 0] = [pending[3], pending[4]];
        pending = pending.subarray(9 + length);
        if (take(type, flags, payload)) return;
      }
    });
    socket.once('error', (error) => fail(error.message, error));
    socket.once('end', () => fail('the connection ended before the answer'));
    socket.write(request());
  });
}

/** The one message of a gRPC answer: a compression flag and the length come first. */
function messageOf(body: Buffer): Buffer {
  if (body.length === 0) throw new Error('it refuses, or speaks no runtime.v1');
  if (body[0] !== 0) throw new Error('the answer is compressed');
  const length = body.readUInt32BE(1);
  if (body.length !== 5 + length) throw new Error(`the answer has ${body.length - 5} of ${length} bytes`);
  return body.subarray(5);
}

/** ListPodSandboxResponse: items = 1; PodSandbox: id = 1. */
function sandboxIds(message: Buffer): Set<string> {
  const ids = new Set<string>();
  for (const [number, item] of fields(message)) {
    if (number !== 1 || !item) continue;
    for (const [inner, value] of fields(item)) if (inner === 1 && value) ids.add(value.toString('utf8'));
  }
  return ids;
}

/** A message's fields; those that are not of bytes have a null. */
function* fields(message: Buffer): Generator<[number, Buffer | null]> {
  for (let at = 0; at < message.length; ) {
    const varint = (): number => {
      let value = 0;
      for (let shift = 0; ; shift += 7) {
        const byte = message[at++];
        if (byte === undefined || shift > 63) throw new Error('the answer is cut off');
        value += (byte & 0x7f) * 2 ** shift;
        if (byte < 0x80) return value;
      }
    };
    const key = varint();
    const kind = key % 8;
    const number = Math.floor(key / 8);
    if (kind === 0) {
      varint();
      yield [number, null];
    } else if (kind === 1 || kind === 5) {
      at += kind === 1 ? 8 : 4;
      yield [number, null];
    } else if (kind === 2) {
      const length = varint();
      if (at + length > message.length) throw new Error('the answer is cut off');
      yield [number, message.subarray(at, at + length)];
      at += length;
    } else throw new Error(`the answer has a field of kind ${kind}`);
  }
}
