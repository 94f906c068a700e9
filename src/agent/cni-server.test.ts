// The socket and the handler together, with attachments that a test can make fail: what callers see on the wire.
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, statSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import fc from 'fast-check';
import { PodwayError } from '../base/errors.ts';
import { decodeAnswer, encodeRequest } from '../cni/wire.ts';
import type { Attachments } from './attachments.ts';
import { createCniHandler } from './cni-handler.ts';
import { serveCni } from './cni-server.ts';
import { createMetrics } from './metrics.ts';

const dir = mkdtempSync(join(tmpdir(), 'podway-cni-'));
const path = join(dir, 'agent.sock');
const metrics = createMetrics();
let add: (signal: AbortSignal) => Promise<unknown> = async () => assert.fail('no ADD was expected');
let statusError: PodwayError | null = null;
let server: Awaited<ReturnType<typeof serveCni>>;

before(async () => {
  const attachments = {
    add: (_: unknown, signal: AbortSignal) => add(signal),
    del: async () => {},
    check: async () => {},
    gc: async () => {},
  } as unknown as Attachments;
  const handler = createCniHandler({
    attachments: () => attachments,
    metrics,
    now: () => 0,
    status: () => statusError,
    onAdd: () => {},
    onFailure: () => {},
  });
  server = await serveCni(path, handler);
});
after(() => {
  server.close();
  rmSync(dir, { recursive: true, force: true });
});

function ask(bytes: Uint8Array): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const socket = connect(path);
    const chunks: Buffer[] = [];
    socket.on('data', (chunk: Buffer) => chunks.push(chunk));
    socket.on('error', reject);
    socket.on('close', () => resolve(Buffer.concat(chunks)));
    socket.write(bytes);
  });
}

const call = (command: string, config: object, more: [string, string][] = []) =>
  ask(
    encodeRequest(
      [
        ['CNI_COMMAND', command],
        ['CNI_CONTAINERID', 'c1'],
        ['CNI_NETNS', '/run/netns/x'],
        ['CNI_IFNAME', 'eth0'],
        ...more,
      ],
      JSON.stringify(config),
    ),
  ).then(decodeAnswer);

const config = { cniVersion: '1.0.0', name: 'podway', type: 'podway-cni' };

test('only the owner may open the socket', () => {
  assert.equal(statSync(path).mode & 0o777, 0o600);
});

test('ADD answers with the result in the version of the config', async () => {
  add = async () => ({
    interfaces: [{ name: 'eth0', sandbox: '/run/netns/x' }],
    ips: [{ address: '10.0.0.5/32', interface: 0 }],
    routes: [],
    dns: {},
  });
  const answer = await call('ADD', { ...config, cniVersion: '0.3.1' });
  assert.equal(answer.exit, 0);
  const result = JSON.parse(answer.stdout);
  assert.equal(result.cniVersion, '0.3.1');
  assert.deepEqual(result.ips, [{ version: '4', address: '10.0.0.5/32', interface: 0 }]);
});

test('a typed cause reaches the caller with its number, its numbers and the next step', async () => {
  add = async () => {
    throw new PodwayError('ADDRESS_LIMIT', 'm5.large takes 27', { object: 'm5.large', has: 27, limit: 27 });
  };
  const answer = await call('ADD', config);
  assert.equal(answer.exit, 1);
  const error = JSON.parse(answer.stdout);
  assert.equal(error.code, 100);
  assert.equal(error.msg, 'ADDRESS_LIMIT: m5.large takes 27');
  assert.deepEqual(JSON.parse(error.details).limit, 27);
});

test('what nobody expected is code 999 and never a crash', async () => {
  add = async () => {
    throw new TypeError('boom');
  };
  assert.equal(JSON.parse((await call('ADD', config)).stdout).code, 999);
});

test('STATUS tells why no pod can start', async () => {
  statusError = new PodwayError('STATUS_UNAVAILABLE', 'no pod can start');
  assert.equal(JSON.parse((await call('STATUS', { ...config, cniVersion: '1.1.0' })).stdout).code, 50);
  statusError = null;
  assert.deepEqual(await call('STATUS', { ...config, cniVersion: '1.1.0' }), { exit: 0, stdout: '' });
});

test('a caller that goes away aborts its ADD', async () => {
  const started = Promise.withResolvers<void>();
  const aborted = Promise.withResolvers<unknown>();
  add = (signal) => {
    started.resolve();
    return new Promise((_, reject) => {
      signal.addEventListener('abort', () => {
        aborted.resolve(signal.reason);
        reject(signal.reason);
      });
    });
  };
  const socket = connect(path);
  socket.write(
    encodeRequest(
      [
        ['CNI_COMMAND', 'ADD'],
        ['CNI_CONTAINERID', 'c1'],
        ['CNI_NETNS', '/x'],
        ['CNI_IFNAME', 'eth0'],
      ],
      JSON.stringify(config),
    ),
  );
  await started.promise;
  socket.destroy();
  assert.match(String(await aborted.promise), /went away/);
});

test('bytes that are no request end the connection, and the server goes on', async () => {
  await fc.assert(
    fc.asyncProperty(fc.uint8Array({ minLength: 1, maxLength: 300 }), async (bytes) => {
      const withEnd = Buffer.concat([Buffer.from(bytes), Buffer.from('\nend\n')]);
      if (withEnd.toString('latin1').startsWith('PODWAY-CNI/1\n')) return;
      assert.equal((await ask(Buffer.concat([withEnd, Buffer.alloc(200, 0x0a)]))).length, 0);
    }),
    { numRuns: 30 },
  );
  assert.equal((await call('VERSION', { cniVersion: '1.1.0' })).exit, 0);
});
