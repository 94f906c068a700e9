import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { encodeAnswer, RequestDecoder } from '../cni/wire.ts';
import { tryLockDirectory } from '../kernel/lock.ts';
import { serveUnix } from './http.ts';
import { listenPrivately } from './listen.ts';
import { HANDOVER, Succession, takeOver } from './succession.ts';

const silent = { debug() {}, info() {}, warn() {}, error() {} };
const never = new AbortController().signal;
const ok = () => ({ status: 200, contentType: 'text/plain', body: 'ok' });

function room() {
  const runDir = mkdtempSync(join(tmpdir(), 'podway-seat-'));
  const servers: Server[] = [];
  return {
    runDir,
    apiSocket: join(runDir, 'api.sock'),
    cniSocket: join(runDir, 'agent.sock'),
    servers,
    [Symbol.dispose]() {
      for (const server of servers) server.close();
      rmSync(runDir, { recursive: true });
    },
  };
}

test('a run directory has one agent; its end in any way frees the place', async () => {
  using at = room();
  const first = await takeOver(at, () => assert.fail('nobody is there'), silent, never);
  assert.equal(tryLockDirectory(at.runDir), null);
  first.release();
  tryLockDirectory(at.runDir)!.release();
});

test('another agent is asked to hand over after the new one is announced; calls that wait are passed on', async () => {
  using at = room();
  const steps: string[] = [];
  const seat = tryLockDirectory(at.runDir)!;
  const old = new Succession(at.cniSocket, never);
  const handover = async () => {
    steps.push('asked');
    const freed = old.handOver();
    steps.push('released');
    seat.release();
    old.freed();
    await freed;
    return ok();
  };
  at.servers.push(await serveUnix(at.apiSocket, { '/healthz': ok, [`POST ${HANDOVER}`]: handover }));
  assert.equal(old.relay(), null);
  const lock = await takeOver(
    at,
    async () => {
      steps.push('announced');
      const server = createServer((socket) => {
        const decoder = new RequestDecoder();
        socket.on('data', (bytes: Buffer) => {
          const call = decoder.push(bytes);
          if (call) socket.end(encodeAnswer(0, `served ${call.env.get('CNI_COMMAND')} ${call.stdin}`));
        });
      });
      at.servers.push(await listenPrivately(server, at.cniSocket));
    },
    silent,
    never,
  );
  assert.deepEqual(steps, ['announced', 'asked', 'released']);
  assert.ok(old.signal.aborted);
  const call = { env: new Map([['CNI_COMMAND', 'ADD']]), stdin: Buffer.from('{}') };
  assert.deepEqual(await old.relay()!(call, never), { exit: 0, stdout: 'served ADD {}' });
  // It stays while its successor serves, and goes when that is gone.
  const standing = old.standBy(at.runDir, never);
  lock.release();
  await standing;
});

test('an agent that holds the directory and says nothing is told by name; its socket is left to it', async () => {
  using at = room();
  using _seat = { [Symbol.dispose]: tryLockDirectory(at.runDir)!.release };
  await assert.rejects(
    takeOver(at, () => assert.fail('announced'), silent, never, 100),
    (error: Error) => error.message.includes(at.runDir) && /does not hand over/.test(error.message),
  );
});
