// The pods' built-in server: who it says it is and whose address it sees, over TCP, UDP and HTTP, in both families.
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { connect, createServer } from 'node:net';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { buildProgram } from '../base/programs.ts';

const srcRoot = join(import.meta.dirname, '../..');
let server: ChildProcess;
let port: number;
let log = '';

before(async () => {
  const { path } = await buildProgram('pod-server', { srcRoot, outDir: join(srcRoot, 'build') });
  const probe = createServer().listen(0);
  await once(probe, 'listening');
  port = (probe.address() as { port: number }).port;
  probe.close();
  server = spawn(path, ['--name', 'web-1', '--port', String(port)], { stdio: ['ignore', 'pipe', 'inherit'] });
  server.stdout?.on('data', (bytes: Buffer) => {
    log += bytes.toString();
  });
  for (const deadline = Date.now() + 5000; ; ) {
    const socket = connect(port, '127.0.0.1');
    const up = await new Promise((resolve) =>
      socket.once('connect', () => resolve(true)).once('error', () => resolve(false)),
    );
    socket.destroy();
    if (up) break;
    assert.ok(Date.now() < deadline, 'the server does not listen');
  }
});
after(() => server.kill('SIGKILL'));

/** All that comes back for `lines`, sent one by one, until the server ends or has said `wanted` bytes. */
async function talk(host: string, lines: string[], wanted: number): Promise<string> {
  const socket = connect(port, host);
  let got = '';
  socket.setEncoding('latin1').on('data', (text) => {
    got += text;
    if (got.length >= wanted) socket.end();
  });
  for (const line of lines) socket.write(line);
  await once(socket, 'close', { signal: AbortSignal.timeout(30_000) });
  return got;
}

test('the first line is answered, what follows comes back', async () => {
  const answer = 'web-1 127.0.0.1\n';
  assert.equal(await talk('127.0.0.1', ['hello\n'], answer.length), answer);
  assert.equal(await talk('::1', ['hello\nmore\n', 'and more'], 23), 'web-1 ::1\nmore\nand more');
  const long = 'x'.repeat(300_000);
  assert.equal(await talk('127.0.0.1', ['a\n', long], answer.length + long.length), answer + long);
});

test('a stream that ends without a line is answered too', async () => {
  const socket = connect({ port, host: '127.0.0.1', allowHalfOpen: true }).end();
  const [bytes] = (await once(socket, 'data')) as [Buffer];
  assert.equal(bytes.toString(), 'web-1 127.0.0.1\n');
});

test('HTTP in HTTP', async () => {
  const answer = await fetch(`http://127.0.0.1:${port}/any`, { headers: { 'x-pad': 'y'.repeat(4000) } });
  assert.equal(await answer.text(), 'web-1 127.0.0.1\n');
  assert.match(await talk('127.0.0.1', ['HEAD / HTTP/1.0\r\n', '\r\n'], 1e6), /Connection: close\r\n\r\n$/);
});

test('a datagram is answered from the address that it was sent to', async () => {
  for (const [type, host, seen] of [
    ['udp4', '127.0.0.2', '127.0.0.1'],
    ['udp6', '::1', '::1'],
  ] as const) {
    const socket = createSocket(type);
    socket.send('hi', port, host);
    const [bytes, from] = (await once(socket, 'message', { signal: AbortSignal.timeout(30_000) })) as [
      Buffer,
      { address: string },
    ];
    socket.close();
    assert.equal(bytes.toString(), `web-1 ${seen}\n`);
    assert.equal(from.address, host);
  }
});

test('each request is logged; SIGTERM ends it with 0 at once', async () => {
  server.kill('SIGTERM');
  const [code] = (await once(server, 'exit')) as [number];
  assert.equal(code, 0);
  const lines = log.trim().split('\n');
  assert.ok(lines.length >= 8);
  for (const line of lines)
    assert.match(line, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z (tcp|udp) (127\.0\.0\.1|\[::1\]):\d+$/);
});
