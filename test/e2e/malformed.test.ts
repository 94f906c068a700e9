// Calls that no runtime should make, mixed with good ones, from the compiled plugin to a running agent: each is answered
// as the CNI specification says, the agent lives through all of them, and afterwards the node is as it was before. The
// sockets of agent and lab are given garbage too, and another user of the machine is given nothing.
// PODWAY_SEED repeats a run; PODWAY_SOAK=1 makes twenty times as many calls.
import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { after, afterEach, before, type TestContext, test } from 'node:test';
import fc from 'fast-check';
import type { Cloud } from '../../src/cloud/port.ts';
import { nearlyConf } from '../../src/cni/testing/arbitrary.ts';
import { SUPPORTED_VERSIONS, VERBS } from '../../src/cni/versions.ts';
import { encodeRequest } from '../../src/cni/wire.ts';
import { createNetns, deleteNetns, NETNS_DIR, openNetns } from '../../src/kernel/netns.ts';
import { RtNetlink } from '../../src/kernel/rtnetlink.ts';
import { TestLab } from '../support/lab.ts';
import { cloudOf, difference, traces } from '../support/leaks.ts';
import { full, skip } from '../support/storm.ts';
import { eventually } from '../support/wait.ts';

const NODE = 'node-1';
const CALLS = full ? 8_000 : 250;
const GARBAGE = full ? 2_000 : 150;
const AT_ONCE = 6;
/** A call that takes longer hangs: the longest bound of the plugin for what is asked here is 15 s. */
const CALL_MS = 20_000;
const BACK_MS = 30_000;
const seed = Number(process.env['PODWAY_SEED'] ?? Date.now() % 1_000_000);

const lab = new TestLab(`fuzz-${process.pid}`, { nodes: 1, set: ['cooldown=0s', 'idleRelease=0s'] });
const paths = lab.paths.node(NODE);
const sandboxes = [1, 2, 3, 4, 5, 6].map((n) => `pwt-fuzz-${process.pid}-${n}`);
const folder = join(lab.paths.root, 'fuzz');
const file = (name: string): string => join(folder, name);

let node: string;
let agentPid: number;
let labPid: unknown;
let cloud: Cloud;
let clean: string[];

before(async () => {
  if (skip) return;
  await lab.up();
  node = (await lab.status()).nodes[0]!.netnsPath;
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
  clean = await eventually('the pool rests', async () => {
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
  for (const name of sandboxes) deleteNetns(name);
  await lab.down();
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
      // Free addresses, each with its black hole, are compared by their number.
      route: rt.routes().map((route) => (route.type === 'blackhole' ? { ...route, dst: null } : route)),
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

/** `away`: its config names a socket that is nobody's. */
type Call = { env: Record<string, string>; stdin: Buffer; away?: boolean };
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

const conf = { cniVersion: '1.1.0', name: 'podway', type: 'podway-cni', agentSocket: paths.agentSocket };
const good = (verb: string, containerId: string, netns = ''): Call => ({
  env: { CNI_COMMAND: verb, CNI_CONTAINERID: containerId, CNI_NETNS: netns, CNI_IFNAME: 'eth0' },
  stdin: Buffer.from(JSON.stringify(conf)),
});

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

// ---- what is called ------------------------------------------------------------------------------------------------

const often = <T>(...some: T[]) => ({ weight: 4, arbitrary: fc.constantFrom(...some) });
const once = <T>(...some: T[]) => ({ weight: 1, arbitrary: fc.constantFrom(...some) });
const long = (length: number) => 'x'.repeat(length);

const oddCommands = ['', 'add', 'ADD ', 'UPDATE', '__proto__', long(4000), 'ADD\n', 'DEL;ADD'];
const commands = fc.oneof(
  { weight: 6, arbitrary: fc.constantFrom('ADD', 'ADD', 'ADD', 'DEL', 'DEL', ...VERBS) },
  once(...oddCommands),
);
const oddIds = [
  '',
  '.',
  '..',
  '-c',
  '../c1',
  'c/1',
  'c 1',
  'c\n',
  'cä',
  '__proto__',
  'constructor',
  long(201),
  long(9000),
];
const containerIds = fc.oneof(often('c1', 'c2', 'c3', 'c4', long(200)), once(...oddIds));
const oddNetnses = [
  ...['', '/', '.', folder, file('fifo'), file('plain'), file('dangling'), file('loop'), file('nothing')],
  ...[`${NETNS_DIR}/podway_${lab.name}_${NODE}`, '/proc/1/ns/net', '/proc/self/ns/net', '/proc/self/ns/mnt'],
  ...[paths.agentSocket, '/dev/null', '/dev/zero', '/dev/tty', '/proc/self/fd/0', `/${long(5000)}`, 'a\nb'],
  ...[`${NETNS_DIR}/${sandboxes[0]}/`, `run/netns/${sandboxes[0]}`, `../..${NETNS_DIR}/${sandboxes[0]}`],
];
const netnses = fc.oneof(
  often(...sandboxes.map((name) => `${NETNS_DIR}/${name}`), file('link')),
  once(...oddNetnses),
);
const oddIfnames = [
  ...['', '.', '..', 'a/b', 'a:b', 'a b', 'a\tb', 'a\u00a0b', '\x01', '\x7f', long(15), long(16), 'ääääääää'],
  ...[
    'lo',
    'all',
    'default',
    'eth%d',
    '%d',
    '%s',
    'pw0123456789ab',
    '-',
    '"',
    "'",
    '\\',
    '$(id)',
    '__proto__',
  ],
];
const ifnames = fc.oneof(often('eth0', 'net1'), once(...oddIfnames));
const oddArgs = [
  ...['a', '=', '=b', 'a=', 'a=b=c', ';', ';;', 'a=b', 'a=b;', 'IgnoreUnknown=maybe', 'IgnoreUnknown=1;a=b'],
  ...['IP=10.0.0.9', 'IP=10.0.0', 'IP=::1', 'MAC=zz', 'MAC=02:00:00:00:00:05', 'MAC=01:00:00:00:00:05'],
  ...[
    '__proto__=1',
    'K8S_POD_NAME=../../x;K8S_POD_NAMESPACE=a/b',
    `a=${long(100_000)}`,
    'IgnoreUnknown=1;\u0001=\u2028',
  ],
];
const args = fc.oneof(
  often(
    '',
    'IgnoreUnknown=1;K8S_POD_NAMESPACE=ns;K8S_POD_NAME=web;K8S_POD_INFRA_CONTAINER_ID=c1;K8S_POD_UID=u',
  ),
  once(...oddArgs),
);
const environments = fc.record(
  {
    CNI_COMMAND: commands,
    CNI_CONTAINERID: containerIds,
    CNI_NETNS: netnses,
    CNI_IFNAME: ifnames,
    CNI_ARGS: args,
    CNI_PATH: fc.constantFrom('', paths.cniBinDir, ':::', long(10_000)),
    CNI_NETNS_OVERRIDE: fc.constantFrom('', '1', 'true', 'x'),
  },
  { requiredKeys: ['CNI_COMMAND'] },
);

const nonsense: unknown[] = [
  ...[null, true, 0, -1, 1.5, 1e99, 4294967296, '', 'x', long(300), '\u0000', '\u2028"\\', '__proto__'],
  ...[[], [null], [[]], [{}], ['x'], {}, { a: {} }, { name: 7 }, { toString: 1 }],
];
const results: unknown[] = [
  { cniVersion: '1.1.0', interfaces: [{ name: 'x' }], ips: [{ address: '10.9.9.9/24', interface: 7 }] },
  { cniVersion: '0.2.0', ip4: { ip: '10.9.9.9/24', routes: [{ dst: '0.0.0.0/0' }] } },
  { cniVersion: '9.9.9', ips: [] },
  { ips: [{ address: '10.0.0.5' }] },
  { interfaces: [{ name: 'eth0', mac: 'no', sandbox: '/x', mtu: -1 }], dns: { nameservers: 'x' } },
];
const routes: unknown[] = [
  ...[
    { dst: '10.0.0.0/8' },
    { dst: '0.0.0.0/0' },
    { dst: '::/0' },
    { dst: '10.0.0.0/33' },
    { dst: '0.0.0.0/0', gw: '10.0.0.1' },
  ],
  ...[
    { dst: '10.1.0.0/16', gw: '::1' },
    { dst: '10.0.0.0/8', scope: 253 },
    { dst: '10.0.0.0/8', scope: 7 },
    { gw: '10.0.0.1' },
  ],
  ...[
    { dst: '10.0.0.0/8', gw: '127.0.0.1' },
    { dst: '10.0.0.0/8', gw: '224.0.0.1' },
    { dst: '10.0.0.0/8', gw: '0.0.0.0' },
  ],
  ...[
    { dst: '224.0.0.0/4' },
    { dst: '127.0.0.0/8' },
    { dst: '169.254.1.1/32' },
    { dst: '255.255.255.255/32' },
  ],
  ...[
    { dst: '10.0.0.0/8', mtu: 4294967295 },
    { dst: '10.0.0.0/8', mtu: 1 },
    { dst: '10.0.0.0/8', advmss: 4294967295 },
  ],
  ...[
    { dst: '10.0.0.0/8', table: 0 },
    { dst: '10.0.0.0/8', table: 255 },
    { dst: '10.0.0.0/8', table: 4294967295 },
  ],
  ...[
    { dst: '10.0.0.0/8', priority: 4294967295 },
    { dst: '10.0.0.0/8', scope: 254 },
    { dst: '10.0.0.0/8', scope: 254, gw: '10.0.0.1' },
  ],
];
const valuesOf: Record<string, unknown[]> = {
  cniVersion: [...SUPPORTED_VERSIONS, '2.0.0', '1', '1.1', '1.1.0 ', '01.1.0', '999999999999.1.1'],
  name: ['podway', 'other', '../x', '-x', 'a b', 'ä', long(255), long(256), '.'],
  type: ['podway-cni', '../../bin/sh'],
  mtu: [1500, 575, 576, 9001, 9002, 65535, 65536, '1500'],
  dns: [
    { nameservers: ['10.0.0.2'], search: ['a'] },
    { nameservers: [1] },
    { nameservers: ['not an address'] },
    { domain: 7 },
  ],
  routes: [
    ...routes.map((route) => [route]),
    routes.slice(0, 2),
    [{ dst: '10.0.0.0/8' }, { dst: '10.0.0.0/8' }],
  ],
  args: [{ cni: { mac: '02:00:00:00:00:07' } }, { cni: { ips: ['10.0.0.9'] } }, { cni: [] }],
  runtimeConfig: [
    ...[{ mac: '02:00:00:00:00:06' }, { mac: 'ff:ff:ff:ff:ff:ff' }, { mac: '00:00:00:00:00:00' }, { mac: 7 }],
    ...[
      { ips: ['10.0.0.9/32'] },
      { ips: 'x' },
      { dns: { servers: ['10.0.0.2'] } },
      { portMappings: [{}] },
      { dns: [] },
    ],
  ],
  capabilities: [{ mac: true }],
  prevResult: results,
  ipam: [{ type: 'host-local' }, { type: '/bin/sh' }],
  defaultRoute: [false, 'false', 'no'],
  'cni.dev/valid-attachments': [
    [{ containerID: 'c1', ifname: 'eth0' }],
    [{ containerID: '../x', ifname: 'eth0' }],
  ],
  agentSocket: ['relative.sock', `/${long(200)}`, 'a\u0000b', file('plain'), file('nowhere.sock'), folder],
};
const fields = fc
  .constantFrom(...Object.keys(valuesOf))
  .chain((key) =>
    fc.tuple(
      fc.constant(key),
      fc.oneof(often(...valuesOf[key]!), { weight: 2, arbitrary: fc.constantFrom(...nonsense) }),
    ),
  );
const confs = fc
  .array(fields, { maxLength: 2 })
  .map((changes) => Buffer.from(JSON.stringify({ ...conf, ...Object.fromEntries(changes) })));

const whole = JSON.stringify({ ...conf, prevResult: results[0], 'é\u{1f600}': ['\\ud800', -1.5e3, true] });
const cut = fc.nat(whole.length).map((at) => Buffer.from(whole.slice(0, at)));
const flipped = fc.tuple(fc.nat(whole.length - 1), fc.nat(255)).map(([at, byte]) => {
  const bytes = Buffer.from(whole);
  bytes[at] = byte;
  return bytes;
});
const { agentSocket: _, ...noSocket } = conf;
const deep = (levels: number): string =>
  JSON.stringify({ ...conf, x: 0 }).replace('"x":0', `"x":${'['.repeat(levels)}${']'.repeat(levels)}`);
const texts = fc
  .constantFrom(
    ...[
      '',
      ' ',
      'null',
      '[]',
      '{}',
      '"x"',
      '7',
      '{',
      '{"a"',
      '\u0000',
      `\ufeff${whole}`,
      `${whole}${whole}`,
      `${whole}\n\n`,
    ],
    ...[
      deep(500),
      deep(600),
      deep(100_000),
      '['.repeat(200_000),
      JSON.stringify({ ...conf, x: long(1 << 20) }),
    ],
    ...[
      `{"cniVersion":"0.4.0",${whole.slice(1)}`,
      whole.replace('"podway"', '"a\\u0000b"'),
      JSON.stringify({ ...noSocket }),
    ],
  )
  .map((text) => Buffer.from(text));
const bytes = fc.oneof(
  fc.uint8Array({ maxLength: 300 }).map((some) => Buffer.from(some)),
  fc.constantFrom(
    Buffer.concat([
      Buffer.from(whole.slice(0, -1)),
      Buffer.from(',"x":"'),
      Buffer.from([0xff, 0xc0, 0x80]),
      Buffer.from('"}'),
    ]),
    Buffer.alloc(1000),
  ),
);
const stdins = fc.oneof(
  { weight: 8, arbitrary: confs },
  { weight: 2, arbitrary: nearlyConf.map((text) => Buffer.from(text)) },
  ...[cut, flipped, texts, bytes].map((arbitrary) => ({ weight: 1, arbitrary })),
);

/** A DEL is queued beside the socket that its config names: any but these few are told the lab's by a variable. */
const sockets = new Set([paths.agentSocket, ...valuesOf['agentSocket']!]);
function aimed(env: Record<string, string>, stdin: Buffer): Call {
  let named: unknown;
  try {
    named = (JSON.parse(stdin.toString()) as { agentSocket?: unknown } | null)?.agentSocket;
  } catch {
    // No config at all.
  }
  const sayable = Object.entries(env).map(([name, value]) => [name, value.replaceAll('\0', '')]);
  const aim = sockets.has(named) ? {} : { PODWAY_AGENT_SOCKET: paths.agentSocket };
  const away = sockets.has(named) && named !== paths.agentSocket;
  return { env: { ...Object.fromEntries(sayable), ...aim }, stdin, away };
}
const calls: fc.Arbitrary<Call> = fc.oneof(
  {
    weight: 3,
    arbitrary: fc
      .tuple(environments, stdins)
      .map(([env, stdin]) => aimed(env as Record<string, string>, stdin)),
  },
  // One thing wrong, or two: the environment or the config is good.
  {
    weight: 2,
    arbitrary: environments.map((env) => aimed(env as Record<string, string>, good('ADD', 'c1').stdin)),
  },
  {
    weight: 3,
    arbitrary: fc
      .tuple(
        fc.constantFrom('ADD', 'ADD', 'ADD', 'DEL', 'DEL', 'CHECK', 'GC'),
        fc.nat(sandboxes.length - 1),
        stdins,
      )
      .map(([verb, at, stdin]) => aimed(good(verb, `c${at}`, `${NETNS_DIR}/${sandboxes[at]}`).env, stdin)),
  },
  // Nothing wrong.
  {
    weight: 2,
    arbitrary: fc
      .tuple(fc.constantFrom('ADD', 'DEL'), fc.nat(sandboxes.length - 1))
      .map(([verb, at]) => good(verb, `c${at}`, `${NETNS_DIR}/${sandboxes[at]}`)),
  },
);

/** Everything above that can be wrong, alone; a sandbox each for as many as are called at once. */
const inTurn: Call[] = [
  ...Object.entries({
    CNI_COMMAND: oddCommands,
    CNI_CONTAINERID: oddIds,
    CNI_NETNS: oddNetnses,
    CNI_IFNAME: oddIfnames,
    CNI_ARGS: oddArgs,
  }).flatMap(([name, values]) => values.map((value) => ({ env: { [name]: value }, change: {} }))),
  ...Object.entries(valuesOf).flatMap(([key, values]) =>
    values.map((value) => ({ env: {}, change: { [key]: value } })),
  ),
].map(({ env, change }, i) =>
  aimed(
    { ...good('ADD', `one-${i}`, `${NETNS_DIR}/${sandboxes[i % AT_ONCE]}`).env, ...env },
    Buffer.from(JSON.stringify({ ...conf, ...change })),
  ),
);

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

/** Writes the pieces and hears what comes until the other side ends it, or goes at once. Never fails, never waits long. */
function talk(where: string | number, pieces: Buffer[], goes: 'destroy' | 'end' | 'stay'): Promise<string> {
  return new Promise((resolve) => {
    const socket = connect(where as string);
    let heard = '';
    socket.setTimeout(CALL_MS, () => socket.destroy());
    socket.setEncoding('latin1').on('data', (text: string) => {
      heard += text;
    });
    socket.on('error', () => {});
    socket.on('close', () => resolve(heard));
    socket.on('connect', () => {
      for (const piece of pieces) socket.write(piece);
      if (goes === 'end') socket.end();
      if (goes === 'destroy') setImmediate(() => socket.destroy());
    });
  });
}

/** A piece every second, for much longer than a request may take. */
function drip(socketPath: string, bytes: Buffer): Promise<string> {
  let at = 0;
  const timer = setInterval(() => socket.write(bytes.subarray(at, ++at)), 1000);
  const socket = connect(socketPath);
  return new Promise((resolve) => {
    const late = setTimeout(() => resolve('not sent away'), CALL_MS);
    socket.on('error', () => {});
    socket.resume().on('close', () => {
      clearInterval(timer);
      clearTimeout(late);
      resolve('');
    });
  });
}

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
      ...[`GET /${long(100_000)}`, 'CONNECT x:1', 'PRI *', '\u0000'],
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
    metrics: `http://${status.nodes[0]!.ips[0]}:${metricsPort()}/metrics`,
  };
  const child = spawn(process.execPath, ['-e', NOBODY, JSON.stringify(places)], {
    env: {},
    cwd: '/',
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let out = '';
  for await (const text of child.stdout.setEncoding('utf8')) out += text;
  const got = JSON.parse(out) as Record<string, string>;
  for (const path of [...places.files, ...places.sockets]) assert.equal(got[path], 'EACCES', path);
  for (const url of places.urls) assert.match(got[url] ?? '', /^(401|403)$/, url);
  // The node's own addresses are of the lab's VPC: the machine has no way there.
  assert.doesNotMatch(got[places.metrics] ?? '', /^200$/);
  // Root finds what was asked for: it is not the question that is wrong.
  assert.ok(readFileSync(lab.paths.kubeconfig, 'utf8').includes('"token"'));
  assert.equal(status.nodes[0]!.ready, true);
});

const metricsPort = (): number =>
  (JSON.parse(readFileSync(paths.agentConfig, 'utf8')) as { metricsPort: number }).metricsPort;

/** Run by the pinned Node: becomes the user `nobody` without groups, asks for everything, tells each answer. */
const NOBODY = `
const fs = require('node:fs'), net = require('node:net');
process.env.NODE_TLS_REJECT_UNAUTHORIZED = '0';
process.removeAllListeners('warning');
process.setgroups([]); process.setgid(65534); process.setuid(65534);
const { files, sockets, urls, metrics } = JSON.parse(process.argv[1]);
const got = {};
for (const file of files) {
  try { fs.readdirSync(file); got[file] = 'listed'; } catch (error) {
    if (error.code !== 'ENOTDIR') got[file] = error.code;
    else try { fs.readFileSync(file); got[file] = 'read'; } catch (error) { got[file] = error.code; }
  }
}
const dial = (path) => new Promise((done) => {
  const socket = net.connect(path, () => { done('connected'); socket.destroy(); });
  socket.on('error', (error) => done(error.code));
});
const credentials = [{}, { authorization: 'Bearer x' }, { authorization: 'AWS4-HMAC-SHA256 Credential=AKIAX/20260101/us-west-2/ec2/aws4_request, SignedHeaders=host, Signature=00' }];
const fetched = (url, headers) => fetch(url, { headers, signal: AbortSignal.timeout(1500) }).then((answer) => String(answer.status), (error) => String(error.cause?.code ?? error.name));
(async () => {
  for (const path of sockets) got[path] = await dial(path);
  for (const url of urls) got[url] = [...new Set(await Promise.all(credentials.map((headers) => fetched(url, headers))))].join();
  got[metrics] = await fetched(metrics, {});
  console.log(JSON.stringify(got));
})();
`;
