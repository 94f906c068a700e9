import assert from 'node:assert/strict';
import { once } from 'node:events';
import http from 'node:http';
import { connect, type Socket } from 'node:net';
import { test } from 'node:test';
import { boundCallers } from './callers.ts';

/** Callers are told apart by the loopback address that they call. */
async function serve(bounds: { each: number; all: number }) {
  const waiting: http.ServerResponse[] = [];
  const server = http.createServer((request, response) => {
    if (request.url === '/slow') waiting.push(response);
    else response.end('answer');
  });
  boundCallers(server, (socket) => socket.localAddress ?? '', bounds);
  server.listen(0, '0.0.0.0');
  await once(server, 'listening');
  const { port } = server.address() as { port: number };
  const sockets: Socket[] = [];
  return {
    waiting,
    /** Opens a connection and, with `path`, asks on it. */
    async open(caller: string, path?: string): Promise<Socket> {
      const socket = connect(port, caller);
      sockets.push(socket);
      socket.on('error', () => socket.destroy());
      await once(socket, 'connect');
      if (path) socket.write(`GET ${path} HTTP/1.1\r\nHost: x\r\n\r\n`);
      return socket;
    },
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy();
      server.closeAllConnections();
      server.close();
      await once(server, 'close');
    },
  };
}

const answered = async (socket: Socket): Promise<boolean> => {
  const end = once(socket, 'close').then(() => false);
  return Promise.race([once(socket, 'data').then(([chunk]) => String(chunk).includes('answer')), end]);
};
const closed = (socket: Socket) => (socket.closed ? Promise.resolve() : once(socket, 'close').then(() => {}));

const open = (sockets: Socket[]) => sockets.filter((socket) => !socket.closed).length;

test('a caller beyond its bound loses its oldest that ask nothing, and others lose none', async () => {
  await using server = await serve({ each: 4, all: 100 });
  const kept = await server.open('127.0.0.3', '/');
  assert.equal(await answered(kept), true);
  const silent: Socket[] = [];
  for (let i = 0; i < 40; i += 1) silent.push(await server.open('127.0.0.2'));
  // The one that shares its address is heard at once, before any is cut, and keeps its connection.
  const same = await server.open('127.0.0.2', '/');
  assert.equal(await answered(same), true);
  await Promise.all(silent.slice(0, 37).map(closed));
  assert.equal(open(silent.slice(37)), 3);
  for (const socket of [kept, same]) {
    socket.write('GET / HTTP/1.1\r\nHost: x\r\n\r\n');
    assert.equal(await answered(socket), true, 'it goes on');
  }
});

test('what carries a request is not cut; what has asked goes after what has not', async () => {
  await using server = await serve({ each: 3, all: 100 });
  const slow = await server.open('127.0.0.2', '/slow');
  const before = await server.open('127.0.0.2', '/');
  assert.equal(await answered(before), true);
  const silent = await server.open('127.0.0.2');
  const second = await server.open('127.0.0.2', '/slow');
  await closed(silent);
  assert.equal(before.closed, false);
  const third = await server.open('127.0.0.2', '/slow');
  await closed(before);
  const fourth = await server.open('127.0.0.2', '/slow');
  while (server.waiting.length < 4) await new Promise((resolve) => setImmediate(resolve));
  for (const response of server.waiting) response.end('answer');
  assert.deepEqual(await Promise.all([slow, second, third, fourth].map(answered)), [true, true, true, true]);
});

test('at the hard bound a silent one makes room at once; where all carry requests the new one is refused', async () => {
  await using server = await serve({ each: 1, all: 100 });
  const silent = await server.open('127.0.0.2');
  const slow: Socket[] = [];
  for (let i = 0; i < 15; i += 1) slow.push(await server.open('127.0.0.2', '/slow'));
  while (server.waiting.length < 15) await new Promise((resolve) => setImmediate(resolve));
  const last = await server.open('127.0.0.2', '/slow');
  await closed(silent);
  while (server.waiting.length < 16) await new Promise((resolve) => setImmediate(resolve));
  assert.equal(await answered(await server.open('127.0.0.2', '/')), false, 'refused');
  assert.equal(await answered(await server.open('127.0.0.3', '/')), true, 'another caller is heard');
  for (const response of server.waiting) response.end('answer');
  assert.deepEqual([...new Set(await Promise.all([...slow, last].map(answered)))], [true]);
});

test('beyond the bound of all callers the one with the most connections makes room', async () => {
  await using server = await serve({ each: 8, all: 10 });
  const greedy: Socket[] = [];
  for (let i = 0; i < 8; i += 1) greedy.push(await server.open('127.0.0.2'));
  const others: Socket[] = [];
  for (const caller of ['127.0.0.3', '127.0.0.4', '127.0.0.5', '127.0.0.6']) {
    others.push(await server.open(caller, '/'));
    assert.equal(await answered(others.at(-1)!), true, caller);
  }
  await Promise.all(greedy.slice(0, 2).map(closed));
  assert.deepEqual([open(greedy), open(others)], [6, 4]);
});
