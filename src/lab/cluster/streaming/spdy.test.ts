import assert from 'node:assert/strict';
import { test } from 'node:test';
import { constants, createDeflate, type Deflate, inflateSync } from 'node:zlib';
import fc from 'fast-check';
import { SpdyServer } from './spdy.ts';
import { DICTIONARY } from './spdy-dictionary.ts';

/** kubectl's side: frames as spdystream writes them. */
class Client {
  readonly #deflate: Deflate = createDeflate({ dictionary: DICTIONARY });
  readonly #out: Buffer[] = [];

  constructor() {
    this.#deflate.on('data', (bytes: Buffer) => this.#out.push(bytes));
  }

  async open(id: number, headers: Record<string, string>, flags = 0): Promise<Buffer> {
    const parts = [word(Object.keys(headers).length)];
    for (const [name, value] of Object.entries(headers))
      parts.push(word(name.length), Buffer.from(name), word(value.length), Buffer.from(value));
    this.#out.length = 0;
    this.#deflate.write(Buffer.concat(parts));
    await new Promise<void>((resolve) => this.#deflate.flush(constants.Z_SYNC_FLUSH, resolve));
    return frame(1, flags, Buffer.concat([word(id), word(0), Buffer.of(0, 0), ...this.#out]));
  }
}

function word(value: number): Buffer {
  const out = Buffer.alloc(4);
  out.writeUInt32BE(value);
  return out;
}

function frame(type: number, flags: number, body: Buffer, version = 3): Buffer {
  const head = Buffer.concat([word(0), word(body.length)]);
  head.writeUInt16BE(0x8000 | version);
  head.writeUInt16BE(type, 2);
  head[4] = flags;
  return Buffer.concat([head, body]);
}

function data(id: number, flags: number, body: Buffer): Buffer {
  const head = Buffer.concat([word(id), word(body.length)]);
  head[4] = flags;
  return Buffer.concat([head, body]);
}

function listening(accepts = true) {
  const told: string[] = [];
  const sent: Buffer[] = [];
  const server = new SpdyServer((bytes) => sent.push(bytes), {
    accepts: () => accepts,
    open: (id, headers) => told.push(`open ${id} ${JSON.stringify([...headers])}`),
    data: (id, bytes) => told.push(`data ${id} ${bytes}`),
    end: (id) => told.push(`end ${id}`),
    reset: (id) => told.push(`reset ${id}`),
  });
  return { server, told, sent };
}

test('frames are told in their order, wherever the bytes are cut', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(fc.integer({ min: 1, max: 40 }), { maxLength: 30 }), async (cuts) => {
      const client = new Client();
      const bytes = Buffer.concat([
        await client.open(1, { StreamType: 'error', Port: '80' }, 1),
        await client.open(3, { streamtype: 'data', port: '80' }),
        data(3, 0, Buffer.from('hello')),
        frame(6, 0, word(7)),
        data(3, 1, Buffer.alloc(0)),
        frame(3, 0, Buffer.concat([word(3), word(5)])),
      ]);
      const { server, told, sent } = listening();
      let at = 0;
      for (const cut of [...cuts, bytes.length]) {
        await server.read(bytes.subarray(at, at + cut));
        at += cut;
      }
      assert.deepEqual(told, [
        'open 1 [["streamtype","error"],["port","80"]]',
        'end 1',
        'open 3 [["streamtype","data"],["port","80"]]',
        'data 3 hello',
        'end 3',
        'reset 3',
      ]);
      assert.ok(
        sent.some((each) => each.equals(frame(6, 0, word(7)))),
        'the ping came back',
      );
      server.close();
    }),
    { numRuns: 50 },
  );
});

test('the answers to openings are one zlib stream of headers without any', async () => {
  const client = new Client();
  const { server, sent } = listening();
  for (const id of [1, 3, 5]) await server.read(await client.open(id, { a: 'b' }));
  assert.deepEqual(
    sent.map((each) => [each.readUInt16BE(2), each.readUInt32BE(8)]),
    [
      [2, 1],
      [2, 3],
      [2, 5],
    ],
  );
  const packed = Buffer.concat(sent.map((each) => each.subarray(12)));
  const options = { dictionary: DICTIONARY, finishFlush: constants.Z_SYNC_FLUSH };
  assert.deepEqual(inflateSync(packed, options), Buffer.alloc(12));
  server.close();
});

test('a stream that is not accepted is reset; data and ends go out as frames', async () => {
  const { server, sent, told } = listening(false);
  await server.read(await new Client().open(1, {}));
  assert.deepEqual([told, sent], [[], [frame(3, 0, Buffer.concat([word(1), word(1)]))]]);
  server.write(1, Buffer.from('x'));
  server.end(1);
  assert.deepEqual(sent.slice(1), [data(1, 0, Buffer.from('x')), data(1, 1, Buffer.alloc(0))]);
  server.close();
});

test('what is no SPDY is refused', async () => {
  const client = new Client();
  const cut = await client.open(1, { a: 'b' });
  for (const [bytes, words] of [
    [frame(6, 0, word(1), 2), /SPDY version 2/],
    [Buffer.concat([word(1), word(0x00200000)]), /a frame of 2097152 bytes/],
    [frame(1, 0, Buffer.alloc(4)), /an opening of 4 bytes/],
    [frame(1, 0, Buffer.concat([cut.subarray(8, 18), Buffer.from('nonsense')])), /header/],
  ] as [Buffer, RegExp][]) {
    const { server } = listening();
    await assert.rejects(server.read(bytes), words);
    server.close();
  }
});
