// Logs and exec through the API's server, in this process's own network namespace. Entering one needs root.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { appendFileSync, existsSync, writeFileSync } from 'node:fs';
import { request } from 'node:https';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { WebSocket } from 'ws';
import { buildProgram } from '../../../base/programs.ts';
import { type Pod, pods, readKubeConfig } from '../../../kube/index.ts';
import { packageRoot, programsDir } from '../../daemon/parts.ts';
import { aPod, type Harness, startApi, until } from '../api/testing.ts';
import { EXEC_PROTOCOLS } from './exec.ts';

const skip = process.getuid?.() === 0 ? false : 'needs root';
const PATH = '/api/v1/namespaces/default/pods/a';

async function withPod(t: TestContext) {
  const h = await startApi();
  t.after(() => h[Symbol.asyncDispose]());
  h.api.store.create(pods, aPod('a') as Pod);
  const log = join(h.dir, 'log');
  const state = { running: true };
  h.api.servePods({
    running: () =>
      state.running
        ? { netns: '/proc/self/ns/net', env: { PATH: process.env['PATH'], WHO: 'a' } }
        : undefined,
    logFile: () => log,
    dial: () => assert.fail('nothing is dialled'),
    ttyProgram: async () =>
      (await buildProgram('pod-tty', { srcRoot: packageRoot, outDir: programsDir() })).path,
  });
  return { h, log, state };
}

type Ended = {
  out: string;
  err: string;
  end: { status: string; details?: { causes: { message: string }[] } };
};

async function open(h: Harness, query: string, protocols = EXEC_PROTOCOLS): Promise<WebSocket> {
  const { ca, token } = await readKubeConfig(h.kubeconfigPath);
  const url = `${h.server.replace('https', 'wss')}${PATH}/${query}`;
  return new WebSocket(url, protocols, { ca: ca!, headers: { authorization: `Bearer ${token}` } });
}

async function exec(h: Harness, query: string, talk: (socket: WebSocket) => void = () => {}): Promise<Ended> {
  const socket = await open(h, `exec?${query}`);
  const got = ['', '', '', ''];
  socket.on('message', (message: Buffer) => {
    got[message[0]!] += message.subarray(1).toString();
  });
  await once(socket, 'open');
  talk(socket);
  await once(socket, 'close');
  return { out: got[1]!, err: got[2]!, end: JSON.parse(got[3]!) };
}

const sh = (script: string) => `command=sh&command=-c&command=${encodeURIComponent(script)}`;

/** What the server answers instead of a handshake. */
async function refusal(h: Harness, query: string, headers: Record<string, string> = {}) {
  const { ca, token } = await readKubeConfig(h.kubeconfigPath);
  return new Promise<{ code: number; message: string }>((resolve, reject) => {
    const asked = {
      connection: 'upgrade',
      upgrade: 'websocket',
      'sec-websocket-version': '13',
      'sec-websocket-key': 'dGhlIHNhbXBsZSBub25jZQ==',
      'sec-websocket-protocol': EXEC_PROTOCOLS[0]!,
      authorization: `Bearer ${token}`,
      ...headers,
    };
    const sent = request(`${h.server}${PATH}/${query}`, { ca: ca!, headers: asked }, async (response) => {
      const { message } = JSON.parse((await response.toArray()).join('')) as { message: string };
      resolve({ code: response.statusCode!, message });
    });
    sent.on('upgrade', () => reject(new Error('it was accepted')));
    sent.on('error', reject);
    sent.end();
  });
}

test('exec: both outputs, the environment, the exit code', { skip }, async (t) => {
  const { h } = await withPod(t);
  const done = await exec(h, `stdout=true&stderr=true&${sh('echo $WHO; echo no >&2; exit 3')}`);
  assert.deepEqual([done.out, done.err], ['a\n', 'no\n']);
  assert.equal(done.end.details?.causes[0]?.message, '3');
  assert.equal((await exec(h, `stdout=true&${sh('true')}`)).end.status, 'Success');
  const killed = await exec(h, `stdout=true&${sh('kill -9 $$')}`);
  assert.equal(killed.end.details?.causes[0]?.message, '137');
  const missing = await exec(h, 'stderr=true&command=no-such-program');
  assert.equal(missing.end.details?.causes[0]?.message, '127');
});

test('exec: much input comes back, and its end is told alone', { skip }, async (t) => {
  const { h } = await withPod(t);
  const chunk = Buffer.alloc(64 << 10, 'x');
  const { out, end } = await exec(h, 'stdin=true&stdout=true&command=cat', (socket) => {
    for (let i = 0; i < 64; i++) socket.send(Buffer.concat([Buffer.of(0), chunk]));
    socket.send(Buffer.of(255, 0));
  });
  assert.equal(out.length, 64 * chunk.length);
  assert.equal(end.status, 'Success');
});

test('exec: a terminal has the size that the client tells, and changes it', { skip }, async (t) => {
  const { h } = await withPod(t);
  const script = 'until [ "$(stty size)" = "40 100" ]; do sleep 0.02; done; tty; read line; stty size';
  const { out, end } = await exec(h, `stdin=true&stdout=true&tty=true&${sh(script)}`, (socket) => {
    const size = (Width: number, Height: number) =>
      socket.send(Buffer.concat([Buffer.of(4), Buffer.from(JSON.stringify({ Width, Height }))]));
    size(100, 40);
    socket.on('message', (message: Buffer) => {
      if (!message.subarray(1).toString().includes('/dev/pts/')) return;
      size(0, -1);
      size(90, 30);
      setTimeout(() => socket.send(Buffer.concat([Buffer.of(0), Buffer.from('\r')])), 100);
    });
  });
  assert.match(out, /\/dev\/pts\/\d+\r\n.*30 90\r\n$/s);
  assert.equal(end.status, 'Success');
});

test('exec: the command ends with its connection', { skip }, async (t) => {
  const { h } = await withPod(t);
  for (const more of ['', 'tty=true&']) {
    const script = "trap '' HUP TERM; echo $$; sleep 600";
    const socket = await open(h, `exec?stdout=true&${more}${sh(script)}`);
    let pid = '';
    socket.on('message', (message: Buffer) => {
      if (message[0] === 1) pid += message.subarray(1).toString().trim();
    });
    await until('the command runs', () => pid !== '');
    socket.terminate();
    await until('the command is gone', () => !existsSync(`/proc/${pid}`));
  }
});

test('a server that closes ends its streams', { skip }, async (t) => {
  const { h } = await withPod(t);
  const socket = await open(h, 'exec?stdout=true&command=sleep&command=600');
  await once(socket, 'open');
  socket.on('error', () => {});
  const ended = once(socket, 'close');
  await h.restart();
  await ended;
});

test('streams that cannot be served are refused with a Status', { skip }, async (t) => {
  const { h, state } = await withPod(t);
  const one = `exec?stdout=true&${sh('true')}`;
  const cases: [string, Record<string, string>, number, RegExp][] = [
    ['exec?stdout=true', {}, 400, /at least 1 command/],
    [`exec?${sh('true')}`, {}, 400, /at least 1 of stdin, stdout, stderr/],
    [`${one}&container=other`, {}, 400, /container other is not valid for pod a/],
    [one, { 'sec-websocket-protocol': 'v9' }, 400, /unable to negotiate protocol: client supports \["v9"\]/],
    [one, { upgrade: 'SPDY/3.1' }, 400, /by WebSocket, not by spdy\/3\.1: take kubectl 1\.31/],
    [one, { authorization: 'Bearer x' }, 401, /Unauthorized/],
    ['attach?stdout=true', {}, 400, /pods\/attach is not served here: kubectl logs -f a/],
    ['nothing', {}, 404, /could not find/],
    ['../b/exec?command=x', {}, 404, /pods "b" not found/],
  ];
  for (const [query, headers, code, words] of cases) {
    const { code: got, message } = await refusal(h, query, headers);
    assert.match(message, words);
    assert.equal(got, code, message);
  }
  state.running = false;
  assert.match((await refusal(h, one)).message, /container not found \("main"\)/);
  const plain = await h.raw('POST', `${PATH}/exec`, { body: '{}' });
  assert.match(plain.json.message, /has to ask for a WebSocket/);
});

test('logs: all, the tail, followed until the pod ends, and what is not served', { skip }, async (t) => {
  const { h, log, state } = await withPod(t);
  const get = async (query: string) => h.raw('GET', `${PATH}/log${query}`);
  assert.match((await get('')).json.message, /is waiting to start: ContainerCreating/);
  const text = Array.from({ length: 20_000 }, (_, i) => `line ${i}\n`).join('');
  writeFileSync(log, text);
  assert.equal((await get('')).text, text);
  const tails: [string, string][] = [
    ['?tailLines=0', ''],
    ['?tailLines=1', 'line 19999\n'],
    ['?tailLines=15000', text.slice(text.indexOf('line 5000\n'))],
    ['?tailLines=99999', text],
    ['?limitBytes=6', 'line 0'],
    ['?previous=false&tailLines=1&limitBytes=4&container=main', 'line'],
  ];
  for (const [query, expected] of tails) assert.equal((await get(query)).text, expected, query);
  appendFileSync(log, 'no end');
  assert.equal((await get('?tailLines=2')).text, 'line 19999\nno end');
  const refused: [string, RegExp][] = [
    ['?previous=true', /previous terminated container "main" in pod "a" not found/],
    ['?timestamps=true', /timestamps is not served here: lines have no times/],
    ['?sinceSeconds=5', /sinceSeconds is not served here/],
    ['?stream=Stdout', /stream "Stdout" is not served here/],
    ['?tailLines=-1', /tailLines must be a number/],
    ['?container=x', /container x is not valid/],
  ];
  for (const [query, words] of refused) {
    const { code, json } = await get(query);
    assert.match(json.message, words);
    assert.equal(code, 400);
  }
  const followed = get('?follow=true&tailLines=1');
  appendFileSync(log, ', here it is\n');
  setTimeout(() => {
    appendFileSync(log, 'last\n');
    state.running = false;
  }, 50);
  assert.equal((await followed).text, 'no end, here it is\nlast\n');
});
