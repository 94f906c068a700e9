// Calls that no runtime should make, mixed with good ones, from the compiled plugin to a running agent: each is answered
// as the CNI specification says, the agent lives through all of them, and afterwards the node is as it was before. The
// sockets of agent and lab are given garbage too, and another user of the machine is given nothing.
// PODWAY_SEED repeats a run; PODWAY_SOAK=1 makes twenty times as many calls.
import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, afterEach, before, type TestContext, test } from 'node:test';
import fc from 'fast-check';
import type { Cloud } from '../../src/cloud/port.ts';
import { encodeRequest } from '../../src/cni/wire.ts';
import { createNetns, deleteNetns, NETNS_DIR, openNetns } from '../../src/kernel/netns.ts';
import { RtNetlink } from '../../src/kernel/rtnetlink.ts';
import { TestLab } from '../support/lab.ts';
import { cloudOf, difference, traces, tracesAtRest } from '../support/leaks.ts';
import { type Call, goodCall, malformedCalls } from '../support/malformed-calls.ts';
import { askedByNobody } from '../support/nobody.ts';
import { full, skip } from '../support/storm.ts';
import { drip, talk } from '../support/talk.ts';
import { eventually } from '../support/wait.ts';

const NODE = 'node-1';
const CALLS = full ? 8_000 : 250;
const GARBAGE = full ? 2_000 : 150;
const AT_ONCE = 6;
/** A call that takes longer hangs: the longest bound of the plugin for what is asked here is 15 s. */
const CALL_MS = 45_000;
const BACK_MS = 30_000;
const seed = Number(process.env['PODWAY_SEED'] ?? Date.now() % 1_000_000);

const lab = new TestLab(`fuzz-${process.pid}`, {
  nodes: 1,
  set: ['cooldown=0s', 'idleRelease=0s', 'warm=5'],
});
const paths = lab.paths.node(NODE);
const sandboxes = [1, 2, 3, 4, 5, 6].map((n) => `pwt-fuzz-${process.pid}-${n}`);
const folder = join(lab.paths.root, 'fuzz');
const file = (name: string): string => join(folder, name);
const refusals = ['blackhole', 'unreachable'];

let node: string;
let agentPid: number;
let labPid: unknown;
let cloud: Cloud;
let clean: string[];
let made: ReturnType<typeof malformedCalls>;

before(async () => {
  if (skip) return;
  await lab.up();
  node = (await lab.status()).nodes[0]!.netnsPath;
  made = malformedCalls({
    agentSocket: paths.agentSocket,
    cniBinDir: paths.cniBinDir,
    folder,
    sandboxes,
    nodeNetns: node,
    atOnce: AT_ONCE,
  });
  for (const name of sandboxes) createNetns(name).close();
  execFileSync('mkdir', [folder]);
  execFileSync('mkfifo', [file('fifo')]);
  symlinkSync(`${NETNS_DIR}/${sandboxes[0]}`, file('link'));
  symlinkSync(file('nothing'), file('dangling'));
  symlinkSync(file('loop'), file('loop'));
  writeFileSync(file('plain'), '');
  agentPid = lab.agentOf(NODE)!.pid;
  labPid = daemon();
  cloud = await cloudOf(lab);
  await tracesAtRest(lab, cloud, BACK_MS);
  clean = await eventually('the node rests', async () => {
    const first = await everything();
    const second = await everything();
    return difference(first, second).length === 0 && second;
  });
});
afterEach((t) => {
  if (!skip && !(t as TestContext).passed) console.error(`PODWAY_SEED=${seed}\n${lab.lastWords(5)}`);
});
after(async () => {
  if (skip) return;
  await lab.down();
  for (const name of sandboxes) deleteNetns(name);
});

const daemon = (): unknown => JSON.parse(readFileSync(lab.paths.pid, 'utf8'));

/** What pods leave marks in, and all links, addresses, routes and rules of the node and the sandboxes, whosever they are. */
async function everything(): Promise<string[]> {
  const found = await traces(lab, cloud);
  for (const path of [node, ...sandboxes.map((name) => `${NETNS_DIR}/${name}`)]) {
    using netns = openNetns(path);
    using rt = RtNetlink.open(netns);
    const rows = {
      link: rt.links().map(({ name, up }) => ({ name, up })),
      address: rt.addresses(),
      // Free addresses, each with its refusals, are compared by their number.
      route: rt.routes().map((route) => (refusals.includes(route.type) ? { ...route, dst: null } : route)),
      rule: rt.rules(),
    };
    const text = (_: string, value: unknown) => (typeof value === 'bigint' ? String(value) : value);
    for (const [kind, list] of Object.entries(rows))
      found.push(...list.map((row) => `${path}: ${kind} ${JSON.stringify(row, text)}`));
  }
  return found;
}

/** Waits until nothing differs from what was there before any call. */
async function assertClean(): Promise<void> {
  let left: string[] = [];
  await eventually(
    'all is as it was',
    async () => {
      left = difference(clean, await everything());
      return left.length === 0;
    },
    BACK_MS,
  ).catch((error: Error) => assert.fail(`${error.message}\n${left.join('\n')}`));
  await lab.agreed();
}

type Ran = { exit: number | null; signal: string | null; stdout: string; stderr: string };

/** The plugin as a runtime of the node executes it: in the node's namespace, with this environment and no other. */
function plugin({ env, stdin }: Call, program = [join(paths.cniBinDir, 'podway-cni')]): Promise<Ran> {
  return new Promise((resolve, reject) => {
    const child = spawn('nsenter', [`--net=${node}`, '--', ...program], {
      env: { ...env, PATH: process.env['PATH']! },
      timeout: CALL_MS,
      killSignal: 'SIGKILL',
    });
    const ran = { stdout: '', stderr: '' };
    for (const stream of ['stdout', 'stderr'] as const) {
      child[stream].setEncoding('utf8').on('data', (text: string) => {
        ran[stream] += text;
      });
    }
    child.once('error', reject);
    child.once('close', (exit, signal) => resolve({ exit, signal, ...ran }));
    child.stdin.on('error', () => {});
    child.stdin.end(stdin);
  });
}

const good = (verb: string, containerId: string, netns?: string): Call =>
  goodCall(paths.agentSocket, verb, containerId, netns);

/** The contract of the CNI specification: exit code, and what stdout then holds. */
function judge({ env, stdin, away = false }: Call, { exit, signal, stdout, stderr }: Ran): void {
  const verb = env['CNI_COMMAND'] ?? '';
  const said = `${JSON.stringify(env).slice(0, 2000)} < ${stdin.toString('latin1').slice(0, 2000)}\nexit ${exit} ${signal}: ${stdout}${stderr}`;
  assert.equal(signal, null, said);
  if (verb === '') {
    assert.deepEqual([exit, stdout], [0, ''], said);
    return;
  }
  assert.equal(stderr, '', said);
  assert.ok(exit === 0 || exit === 1, said);
  if (exit === 0 && verb !== 'ADD' && verb !== 'VERSION') {
    assert.equal(stdout, '', said);
    return;
  }
  const document = JSON.parse(stdout) as Record<string, unknown>;
  assert.match(String(document['cniVersion']), /^\d+(\.\d+){0,2}$/, said);
  if (exit === 0) {
    assert.ok(!('code' in document), said);
    const result = verb === 'VERSION' ? document['supportedVersions'] : (document['ips'] ?? document['ip4']);
    assert.ok(result, said);
    return;
  }
  const { code, msg, details } = document;
  assert.ok(Number.isInteger(code) && (code as number) > 0, said);
  assert.match(String(msg), /^[A-Z_]+: ./, said);
  JSON.parse(String(details));
  // A caller's mistake has a name of its own; CHECK tells by INTERNAL what is not as ADD left it.
  assert.ok(verb === 'CHECK' || code !== 999, said);
  assert.ok(away || !String(msg).startsWith('AGENT_UNREACHABLE'), said);
}

/** After a failure no more is begun; what was begun has ended when this does. */
async function inParallel<T>(all: readonly T[], work: (one: T) => Promise<void>): Promise<void> {
  const left = [...all];
  const failures: unknown[] = [];
  const worker = async () => {
    for (let one = left.shift(); one !== undefined && failures.length === 0; one = left.shift()) {
      await work(one).catch((error: unknown) => failures.push(error));
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, worker));
  if (failures.length > 0) throw failures[0];
}

async function assertAgentLives(): Promise<void> {
  assert.equal(lab.agentOf(NODE)?.pid, agentPid, 'the agent is another process');
  const status = await plugin(good('STATUS', ''));
  assert.deepEqual([status.exit, status.stdout], [0, '']);
}

// ---- tests ---------------------------------------------------------------------------------------------------------

test('calls of all kinds are answered as CNI says, and after the DELs nothing is left', {
  skip,
  timeout: 3_000_000,
}, async (t) => {
  const held = new Map<string, Call>();
  const count = { calls: 0, added: 0, refused: 0 };
  const attempt = async (call: Call) => {
    const ran = await plugin(call);
    const { CNI_COMMAND: verb, CNI_CONTAINERID: id, CNI_IFNAME: ifname } = call.env;
    if (verb === 'ADD' && ran.exit === 0) held.set(`${id}/${ifname}`, call);
    judge(call, ran);
    count.calls++;
    if (ran.exit === 1) count.refused++;
    else if (verb === 'ADD') count.added++;
  };
  const release = async ([name, { env }]: [string, Call]) => {
    const call = good('DEL', env['CNI_CONTAINERID']!);
    call.env['CNI_IFNAME'] = env['CNI_IFNAME']!;
    for (let time = 0; time < 2; time++) assert.equal((await plugin(call)).exit, 0);
    held.delete(name);
  };
  const { calls, inTurn } = made;
  try {
    for (let at = 0; at < inTurn.length; at += AT_ONCE) {
      await inParallel(inTurn.slice(at, at + AT_ONCE), attempt);
      await inParallel([...held], release);
    }
    await inParallel(fc.sample(calls, { seed, numRuns: CALLS }), attempt);
    await assertAgentLives();
  } finally {
    await inParallel([...held], release);
  }
  assert.ok(count.added > CALLS / 20 && count.refused > CALLS / 4, JSON.stringify(count));
  t.diagnostic(JSON.stringify(count));
  await assertClean();
});

test('bytes that are no text, in the variables', { skip }, async () => {
  for (const name of ['CNI_COMMAND', 'CNI_CONTAINERID', 'CNI_IFNAME', 'CNI_NETNS', 'CNI_ARGS']) {
    const call = good('ADD', 'c1', `${NETNS_DIR}/${sandboxes[0]}`);
    const program = join(paths.cniBinDir, 'podway-cni');
    const ran = await plugin(call, ['sh', '-c', `export ${name}="$(printf 'a\\377\\300')"; exec ${program}`]);
    judge(call, ran);
    assert.equal(ran.exit, 1, name);
  }
  await assertClean();
});

test('a caller who goes away during ADD leaves nothing', { skip }, async () => {
  for (let i = 0; i < 20; i++) {
    const { env, stdin } = good('ADD', `gone-${i}`, `${NETNS_DIR}/${sandboxes[1]}`);
    await talk(
      paths.agentSocket,
      [encodeRequest(Object.entries(env), stdin)],
      i % 2 === 0 ? 'destroy' : 'end',
    );
    const del = await plugin(good('DEL', `gone-${i}`));
    assert.equal(del.exit, 0);
  }
  await assertAgentLives();
  await assertClean();
});

test('garbage on the sockets of agent and lab harms nobody', { skip, timeout: 600_000 }, async () => {
  const request = encodeRequest(Object.entries(good('STATUS', '').env), good('STATUS', '').stdin);
  const mangled = fc.tuple(fc.nat(request.length), fc.nat(255), fc.nat(4)).map(([at, byte, how]) => {
    const changed = Buffer.from(request);
    changed[Math.min(at, changed.length - 1)] = byte;
    return [
      request.subarray(0, at),
      changed,
      Buffer.concat([request, request.subarray(at)]),
      Buffer.concat([request.subarray(0, at), request.subarray(at + byte)]),
      Buffer.concat([request.subarray(0, at), Buffer.alloc(byte * 1000, byte), request.subarray(at)]),
    ][how]!;
  });
  const http = fc
    .constantFrom(
      ...[
        'GET /v1/ipam',
        'GET //',
        'GET /%zz',
        'GET /../v1/ipam',
        'POST /v1/check',
        'GET http://[',
        'OPTIONS *',
        'GET /__proto__',
      ],
      ...[`GET /${'x'.repeat(100_000)}`, 'CONNECT x:1', 'PRI *', '\u0000'],
    )
    .map((line) =>
      Buffer.from(`${line} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 5\r\n\r\n{`),
    );
  const frames = fc.oneof(
    mangled,
    http,
    fc.uint8Array({ maxLength: 500 }).map((some) => Buffer.from(some)),
  );
  const { ec2Endpoint, kubernetesEndpoint } = await lab.status();
  const ports = [ec2Endpoint, kubernetesEndpoint].map((url) => Number(new URL(url).port));
  const where = [paths.agentSocket, paths.agentSocket, paths.apiSocket, lab.paths.control, ...ports];
  const wild = fc.record({
    where: fc.constantFrom(...where),
    pieces: fc.array(frames, { maxLength: 3 }),
    goes: fc.constantFrom('destroy' as const, 'end' as const),
  });
  // Callers that never finish, or take their time, are sent away in the end, and keep nobody waiting meanwhile.
  const half = Array.from({ length: 100 }, (_, i) =>
    talk(paths.agentSocket, [request.subarray(0, i)], 'stay'),
  );
  half.push(drip(paths.agentSocket, request));
  await inParallel(fc.sample(wild, { seed, numRuns: GARBAGE }), async ({ where, pieces, goes }) => {
    await talk(where, pieces, goes);
  });
  await assertAgentLives();
  assert.deepEqual(daemon(), labPid, 'the lab is another process');
  assert.deepEqual(
    (await Promise.all(half)).filter((heard) => heard !== ''),
    [],
  );
  assert.match(await talk(paths.agentSocket, [request], 'stay'), /^PODWAY-CNI\/1 0\n$/);
  await assertClean();
});

test('SIGTERM of the agent amid ADDs: each is answered, and after the DELs nothing is left', {
  skip,
}, async () => {
  // More than the pool has ready: some wait for EC2 when the signal comes.
  const adds = Array.from({ length: 18 }, (_, i) => {
    const call = good('ADD', `term-${i}`, `${NETNS_DIR}/${sandboxes[i % sandboxes.length]}`);
    call.env['CNI_IFNAME'] = `term${i}`;
    return { ...call, away: true };
  });
  const ran = Promise.all(adds.map((call) => plugin(call)));
  await eventually('an ADD is served', async () => (await lab.show())[0]!.totals.held > 0);
  process.kill(agentPid, 'SIGTERM');
  for (const [i, each] of (await ran).entries()) judge(adds[i]!, each);
  await eventually('another agent serves', async () => {
    agentPid = lab.agentOf(NODE)?.pid ?? agentPid;
    return (await plugin(good('STATUS', ''))).exit === 0;
  });
  await inParallel(adds, async ({ env, stdin }) => {
    assert.equal((await plugin({ env: { ...env, CNI_COMMAND: 'DEL' }, stdin })).exit, 0);
  });
  await assertClean();
});

test('another user of the machine gets nothing', { skip }, async () => {
  const status = await lab.status();
  const places = {
    files: [
      lab.paths.root,
      lab.paths.kubeconfig,
      lab.paths.keys,
      lab.paths.log,
      paths.run,
      paths.agentConfig,
      paths.kubeconfig,
    ],
    sockets: [paths.agentSocket, paths.apiSocket, lab.paths.control],
    urls: [
      `${status.ec2Endpoint}/?Action=DescribeInstances&Version=2016-11-15`,
      ...['/api/v1/pods', '/api/v1/nodes', '/apis', '/metrics'].map(
        (path) => `${status.kubernetesEndpoint}${path}`,
      ),
    ],
    metrics: `http://${status.nodes[0]!.ips[0]}${listen()}/metrics`,
  };
  const got = await askedByNobody(places);
  for (const path of [...places.files, ...places.sockets]) assert.equal(got[path], 'EACCES', path);
  for (const url of places.urls) assert.match(got[url] ?? '', /^(401|403)$/, url);
  // The node's own addresses are of the lab's VPC: the machine has no way there.
  assert.doesNotMatch(got[places.metrics] ?? '', /^200$/);
  // Root finds what was asked for: it is not the question that is wrong.
  assert.ok(readFileSync(lab.paths.kubeconfig, 'utf8').includes('"token"'));
  assert.equal(status.nodes[0]!.ready, true);
});

/** `:PORT` */
const listen = (): string =>
  (JSON.parse(readFileSync(paths.agentConfig, 'utf8')) as { listen: string }).listen;
