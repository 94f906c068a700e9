// The runtime's side is Node's own HTTP/2, which checks the frames that are sent to it.
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type Http2Server, type ServerHttp2Session, type ServerHttp2Stream } from 'node:http2';
import { createServer as createPlain } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { listSandboxes } from './sandboxes.ts';

const dir = mkdtempSync(join(tmpdir(), 'podway-cri-'));
after(() => rmSync(dir, { recursive: true, force: true }));
let count = 0;

const field = (number: number, bytes: Uint8Array): Buffer => {
  const length: number[] = [];
  for (let rest = bytes.length; ; rest >>>= 7) {
    length.push(rest > 127 ? (rest & 127) | 128 : rest);
    if (rest <= 127) break;
  }
  return Buffer.concat([Buffer.from([number * 8 + 2, ...length]), bytes]);
};
/** PodSandbox with metadata, state (a number), and labels that make it as long as real ones. */
const sandbox = (id: string): Buffer =>
  Buffer.concat([
    field(1, Buffer.from(id)),
    field(2, field(1, Buffer.from('web'))),
    Buffer.from([3 * 8, 1]),
    Buffer.from([4 * 8, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]),
    field(5, Buffer.alloc(400, 'x')),
  ]);
function answer(ids: readonly string[]): Buffer {
  const message = Buffer.concat(ids.map((id) => field(1, sandbox(id))));
  const head = Buffer.alloc(5);
  head.writeUInt32BE(message.length, 1);
  return Buffer.concat([head, message]);
}

async function withRuntime(
  serve: (stream: ServerHttp2Stream, asked: string, body: Buffer) => void,
  ask: (path: string) => Promise<void>,
): Promise<void> {
  const path = join(dir, `${count++}.sock`);
  const server: Http2Server = createServer();
  const sessions = new Set<ServerHttp2Session>();
  server.on('session', (session) => sessions.add(session));
  server.on('stream', (given, headers) => {
    const stream = given as ServerHttp2Stream;
    const pieces: Buffer[] = [];
    stream.on('data', (piece: Buffer) => pieces.push(piece));
    stream.on('error', () => undefined);
    stream.on('end', () =>
      serve(
        stream,
        `${headers[':method']} ${headers[':path']} ${headers['content-type']}`,
        Buffer.concat(pieces),
      ),
    );
  });
  await new Promise<void>((resolve) => server.listen(path, resolve));
  try {
    await ask(path);
  } finally {
    for (const session of sessions) session.destroy();
    await new Promise((resolve) => server.close(resolve));
  }
}
const respond = (stream: ServerHttp2Stream, body: Buffer) => {
  stream.respond({ ':status': 200, 'content-type': 'application/grpc' }, { waitForTrailers: true });
  stream.once('wantTrailers', () => stream.sendTrailers({ 'grpc-status': '0' }));
  stream.end(body);
};

test('all sandboxes of a runtime, also when they are many', async () => {
  for (const many of [0, 1, 2_000]) {
    const ids = Array.from({ length: many }, (_, at) => `sandbox-${at}`);
    let asked = '';
    await withRuntime(
      (stream, what, body) => {
        asked = `${what} ${body.toString('hex')}`;
        respond(stream, answer(ids));
      },
      async (path) => assert.deepEqual([...(await listSandboxes(path))], ids),
    );
    assert.equal(asked, 'POST /runtime.v1.RuntimeService/ListPodSandbox application/grpc 0000000000');
  }
});

const failures: [string, (stream: ServerHttp2Stream) => void, RegExp][] = [
  [
    'a refusal',
    (stream) => stream.respond({ ':status': 200, 'grpc-status': '12' }, { endStream: true }),
    /refuses, or speaks no runtime\.v1/,
  ],
  ['a reset', (stream) => stream.close(8), /ends the call/],
  ['half an answer', (stream) => respond(stream, answer(['a', 'b']).subarray(0, 300)), /has 295 of/],
  ['a compressed answer', (stream) => respond(stream, Buffer.from([1, 0, 0, 0, 0])), /compressed/],
  ['no protobuf', (stream) => respond(stream, Buffer.from([0, 0, 0, 0, 2, 0x0f, 0xff])), /kind 7/],
];
for (const [name, serve, message] of failures)
  test(`fails: ${name}`, () =>
    withRuntime(serve, async (path) => {
      await assert.rejects(listSandboxes(path), { message });
    }));

test('fails: no runtime, and one that is no gRPC', async () => {
  await assert.rejects(listSandboxes(join(dir, 'none')), /none does not tell its sandboxes: .*ENOENT/);
  const path = join(dir, 'plain.sock');
  const server = createPlain((socket) => socket.resume().end('go away'));
  await new Promise<void>((resolve) => server.listen(path, resolve));
  await assert.rejects(listSandboxes(path), /ended before the answer|EPIPE|ECONNRESET/);
  await new Promise((resolve) => server.close(resolve));
});
