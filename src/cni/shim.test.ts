// The process contract (12.1 of the CNI facts: P01 to P25) by the compiled plugin, with an agent and without one.
import assert from 'node:assert/strict';
import { mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { type Cause, causes, docOf } from '../base/causes.ts';
import { decodeRequest } from './request.ts';
import { FakeAgent, type Ran, run, shim } from './testing/shim.ts';
import { SUPPORTED_VERSIONS } from './versions.ts';
import { encodeAnswer, RequestDecoder } from './wire.ts';

let program: string;
let agent: FakeAgent;
/** A directory with no agent in it. */
let away: FakeAgent;

before(async () => {
  program = await shim();
  agent = new FakeAgent();
  await agent.listen();
  away = new FakeAgent();
});
after(() => {
  agent.close();
  away.close();
});

const conf = (of: FakeAgent, more: object = {}) =>
  JSON.stringify({
    cniVersion: '1.0.0',
    name: 'podway',
    type: 'podway-cni',
    agentSocket: of.socketPath,
    ...more,
  });
const env = (command: string, more: Record<string, string> = {}) => ({
  CNI_COMMAND: command,
  CNI_CONTAINERID: 'abc',
  CNI_NETNS: '/run/netns/none',
  CNI_IFNAME: 'eth0',
  CNI_PATH: '/opt/cni/bin',
  ...more,
});
const without = (variables: Record<string, string>, ...names: string[]) =>
  Object.fromEntries(Object.entries(variables).filter(([name]) => !names.includes(name)));

type ErrorObject = { cniVersion: string; code: number; msg: string; details: string };
function failed(ran: Ran, code: number): ErrorObject {
  assert.equal(ran.exit, 1, ran.stdout);
  const error = JSON.parse(ran.stdout) as ErrorObject;
  assert.equal(error.code, code, error.msg);
  assert.match(error.msg, /^[A-Z_]+: ./);
  const details = JSON.parse(error.details) as { cause: Cause; does: string; next: string; doc: string };
  const row = causes[details.cause];
  assert.equal(row.cni, code);
  assert.deepEqual([details.does, details.next], [row.does, row.next]);
  assert.equal(details.doc, docOf(details.cause));
  assert.ok(error.msg.startsWith(`${details.cause}: `));
  return error;
}
/** What takes longer has waited for something; a busy machine needs a second or two to start a process. */
const SLOW_START_MS = 10_000;

function succeeded(ran: Ran): string {
  assert.equal(ran.exit, 0, ran.stdout);
  return ran.stdout;
}

test('the causes of the C program are rows of the table', () => {
  const source = readFileSync(join(import.meta.dirname, '../../cni/podway-cni.c'), 'utf8');
  const rows = [...source.matchAll(/^\t\{(\d+), "([A-Z_]+)", "(.*)",\n\t "(.*)"\},$/gm)];
  assert.equal(rows.length, 8);
  for (const [, code, name, does, next] of rows) {
    const row = causes[name as keyof typeof causes];
    assert.deepEqual([Number(code), does, next], [row.cni, row.does, row.next], String(name));
  }
});

describe('without a verb', () => {
  test('P01 no CNI_COMMAND: about text on stderr, exit 0', async () => {
    for (const variables of [{}, { CNI_COMMAND: '' }] as Record<string, string>[]) {
      const ran = await run(program, variables, null);
      assert.equal(ran.exit, 0);
      assert.equal(ran.stdout, '');
      assert.match(ran.stderr, /podway-cni.*\n.*0\.1\.0.*1\.1\.0/);
    }
  });
  test('P25 VERSION needs nothing and names all seven', async () => {
    for (const [stdin, said] of [
      [null, '1.1.0'],
      ['', '1.1.0'],
      ['{"cniVersion":"0.4.0"}', '0.4.0'],
      ['{"cniVersion":7}', '1.1.0'],
      ['{', '1.1.0'],
    ] as const) {
      const answer = JSON.parse(succeeded(await run(program, { CNI_COMMAND: 'VERSION' }, stdin))) as object;
      assert.deepEqual(answer, { cniVersion: said, supportedVersions: [...SUPPORTED_VERSIONS] });
    }
  });
  test('a stdin that never ends holds up neither VERSION nor what is refused without it', async () => {
    succeeded(await run(program, { CNI_COMMAND: 'VERSION' }, { open: true }));
    const ran = await run(program, { CNI_COMMAND: 'ADD' }, { open: true });
    assert.equal(failed(ran, 4).cniVersion, '1.1.0');
    assert.ok(ran.ms < SLOW_START_MS, `${ran.ms} ms`);
  });
});

// What the plugin says by itself it says with the agent and without it: the same table twice.
const bad: [
  name: string,
  code: number,
  variables: Record<string, string>,
  stdin: (of: FakeAgent) => string,
  says?: RegExp,
][] = [
  ['P02 unknown command', 4, env('FROB'), conf, /FROB/],
  ['P03 lower-case command', 4, env('add'), conf, /add/],
  ...(['ADD', 'CHECK'] as const).flatMap((verb) =>
    ['CNI_CONTAINERID', 'CNI_NETNS', 'CNI_IFNAME'].map((name): (typeof bad)[number] => [
      `P04 ${verb} without ${name}`,
      4,
      without(env(verb), name),
      conf,
      new RegExp(name),
    ]),
  ),
  ...['CNI_CONTAINERID', 'CNI_IFNAME'].map((name): (typeof bad)[number] => [
    `P06 DEL without ${name}`,
    4,
    without(env('DEL'), name),
    conf,
    new RegExp(name),
  ]),
  [
    'P04 ADD with nothing names all',
    4,
    { CNI_COMMAND: 'ADD' },
    conf,
    /CNI_CONTAINERID, CNI_NETNS, CNI_IFNAME/,
  ],
  ['P06 DEL with nothing names all', 4, { CNI_COMMAND: 'DEL' }, conf, /CNI_CONTAINERID, CNI_IFNAME$/],
  [
    'P05 CHECK with empty ones names all',
    4,
    env('CHECK', { CNI_CONTAINERID: '', CNI_NETNS: '', CNI_IFNAME: '' }),
    conf,
    /CNI_CONTAINERID, CNI_NETNS, CNI_IFNAME/,
  ],
  ...['../x', '-a', 'a/b', 'a b', '.a', 'ä', 'a\n', 'x'.repeat(201)].map((id): (typeof bad)[number] => [
    `P11 container id ${JSON.stringify(id.slice(0, 9))}`,
    4,
    env('DEL', { CNI_CONTAINERID: id }),
    conf,
  ]),
  ...[
    'x'.repeat(16),
    '.',
    '..',
    'a/b',
    'a:b',
    'a b',
    'a\tb',
    'ääääääää',
    'eth%d',
    'all',
    'default',
    '\x7f',
  ].map((name): (typeof bad)[number] => [
    `P12 ifname ${JSON.stringify(name)}`,
    4,
    env('ADD', { CNI_IFNAME: name }),
    conf,
  ]),
  ...[undefined, null, '', '-x', 'a/b', 'a b', 7, 'x'.repeat(256)].map((name): (typeof bad)[number] => [
    `P13 network name ${JSON.stringify(name)?.slice(0, 9)}`,
    7,
    env('ADD'),
    (of) => conf(of, { name }),
  ]),
  ...[
    '',
    ' ',
    '{',
    '[]',
    '"x"',
    '{"a":1}}',
    '{"a":01}',
    "{'a':1}",
    '{"a":"\u0001"}',
    'null',
    '\ufeff{}',
    '['.repeat(9999),
  ].map((text): (typeof bad)[number] => [
    `P14 stdin ${JSON.stringify(text).slice(0, 9)}`,
    6,
    env('ADD'),
    () => text,
  ]),
  ...['x.y', '1.', '.1', '1.2.3.4', '1..2', 'v1.0.0', '1.0.0 ', 1, {}, true].map(
    (cniVersion): (typeof bad)[number] => [
      `P15 cniVersion ${JSON.stringify(cniVersion)}`,
      6,
      env('ADD'),
      (of) => conf(of, { cniVersion }),
    ],
  ),
  ...['9.9.9', '1.2.0', '0.3.2', '1.0', '01.0.0'].map((cniVersion): (typeof bad)[number] => [
    `P15 cniVersion ${cniVersion}`,
    1,
    env('ADD'),
    (of) => conf(of, { cniVersion }),
    new RegExp(cniVersion),
  ]),
  [
    'P18 CHECK at 0.3.1',
    1,
    env('CHECK'),
    (of) => conf(of, { cniVersion: '0.3.1', prevResult: {} }),
    /CHECK needs cniVersion 0\.4\.0/,
  ],
  ['P18 GC at 1.0.0', 1, env('GC'), conf, /GC needs/],
  ['P18 STATUS at 1.0.0', 1, env('STATUS'), conf, /STATUS needs/],
  ...['a', '=', 'a=b;;', ';', 'K=1;=2', 'a=b=c'].map((args): (typeof bad)[number] => [
    `P24 CNI_ARGS ${args}`,
    4,
    env('ADD', { CNI_ARGS: args }),
    conf,
    /CNI_ARGS/,
  ]),
  ['stdin above 4 MiB', 7, env('ADD'), (of) => conf(of, { pad: 'x'.repeat(4 << 20) })],
  ['a socket path that is none', 7, env('ADD'), (of) => conf(of, { agentSocket: 'agent.sock' })],
  ['a socket path too long', 7, env('ADD'), (of) => conf(of, { agentSocket: `/${'x'.repeat(200)}` })],
  ['a socket path with a NUL', 7, env('ADD'), (of) => conf(of, { agentSocket: '/run/a\0b' })],
  ['P21 its own namespace', 8, env('ADD', { CNI_NETNS: '/proc/self/ns/net' }), conf],
];

for (const [state, of] of [
  ['with an agent', () => agent],
  ['without an agent', () => away],
] as const) {
  describe(`refused ${state}`, () => {
    for (const [name, code, variables, stdin, says] of bad) {
      test(`${name}: code ${code}`, async () => {
        const error = failed(await run(program, variables, stdin(of())), code);
        if (says) assert.match(error.msg, says);
      });
    }
  });
}

describe('refused by the agent', () => {
  const cases: [string, number, Record<string, string>, object, RegExp][] = [
    ['P23 an unknown CNI_ARGS key', 4, env('ADD', { CNI_ARGS: 'FOO=1' }), {}, /FOO/],
    ['P23 a bad IgnoreUnknown', 4, env('ADD', { CNI_ARGS: 'IgnoreUnknown=maybe' }), {}, /maybe/],
    ['a bad MAC in CNI_ARGS', 4, env('ADD', { CNI_ARGS: 'MAC=x' }), {}, /MAC/],
    [
      'a bad runtimeConfig.mac',
      7,
      env('ADD'),
      { runtimeConfig: { mac: '01:00:00:00:00:01' } },
      /runtimeConfig\.mac/,
    ],
    ['C11 CHECK without prevResult', 7, env('CHECK'), {}, /prevResult/],
    ['G03 GC without the list', 7, env('GC'), { cniVersion: '1.1.0' }, /valid-attachments/],
  ];
  for (const [name, code, variables, more, says] of cases) {
    test(`${name}: code ${code}`, async () => {
      assert.match(failed(await run(program, variables, conf(agent, more)), code).msg, says);
    });
  }
});

describe('served', () => {
  test('P17 each version: shape and cniVersion; P16 none means 0.1.0', async () => {
    for (const cniVersion of [...SUPPORTED_VERSIONS, undefined]) {
      const out = succeeded(await run(program, env('ADD'), conf(agent, { cniVersion })));
      const result = JSON.parse(out) as Record<string, unknown>;
      assert.equal(result['cniVersion'], cniVersion ?? '0.1.0');
      assert.equal('ip4' in result, !cniVersion || cniVersion < '0.3.0');
      assert.equal(
        out.includes('"version":"4"'),
        cniVersion !== undefined && cniVersion >= '0.3.0' && cniVersion < '1.0.0',
      );
    }
  });
  test('P11, P12 names at their bounds are served', async () => {
    for (const id of ['a', 'a_b.c-1', '0', 'x'.repeat(200)]) {
      succeeded(
        await run(program, env('ADD', { CNI_CONTAINERID: id, CNI_IFNAME: 'x'.repeat(15) }), conf(agent)),
      );
      const last = agent.requests.at(-1);
      assert.ok(last?.verb === 'ADD' && last.containerId === id && last.ifname === 'x'.repeat(15));
    }
  });
  test('P10 DEL with CNI_NETNS absent, empty or gone', async () => {
    for (const variables of [without(env('DEL'), 'CNI_NETNS'), env('DEL', { CNI_NETNS: '' }), env('DEL')]) {
      assert.equal(succeeded(await run(program, variables, conf(agent))), '');
    }
  });
  test('P20 one MiB of unknown keys; four are the bound', async () => {
    for (const size of [1 << 20, (4 << 20) - 200]) {
      succeeded(await run(program, env('ADD'), conf(agent, { pad: 'y'.repeat(size) })));
    }
  });
  test('P19 one JSON document on stdout and nothing else', async () => {
    const ran = await run(program, env('ADD'), conf(agent));
    JSON.parse(succeeded(ran));
    assert.equal(ran.stderr, '');
  });
  test('P21 CNI_NETNS_OVERRIDE lets its own namespace through to the agent', async () => {
    succeeded(
      await run(
        program,
        env('ADD', { CNI_NETNS: '/proc/self/ns/net', CNI_NETNS_OVERRIDE: '1' }),
        conf(agent),
      ),
    );
  });
  test('P23 IgnoreUnknown; the environment wins over the config for the socket', async () => {
    const variables = env('ADD', {
      CNI_ARGS: 'IgnoreUnknown=1;FOO=2;K8S_POD_NAME=p',
      PODWAY_AGENT_SOCKET: agent.socketPath,
    });
    succeeded(await run(program, variables, conf(away)));
    const last = agent.requests.at(-1);
    assert.ok(last?.verb === 'ADD');
    assert.deepEqual(last.pod, { namespace: 'default', name: 'p' });
  });
  test('GC and STATUS at 1.1.0 need no variables', async () => {
    const more = { cniVersion: '1.1.0', 'cni.dev/valid-attachments': [] };
    assert.equal(succeeded(await run(program, { CNI_COMMAND: 'GC' }, conf(agent, more))), '');
    const ran = await run(program, { CNI_COMMAND: 'STATUS' }, conf(agent, more));
    assert.equal(succeeded(ran), '');
  });
  test('P22 killed during ADD: the agent learns it', async () => {
    agent.respond = (request) => (request.verb === 'ADD' ? 'silent' : { exit: 0, stdout: '' });
    const before = agent.requests.length;
    let kill = (_: NodeJS.Signals) => {};
    const ran = run(program, env('ADD'), conf(agent), (k) => {
      kill = k;
    });
    while (agent.requests.length === before) await new Promise((resolve) => setImmediate(resolve));
    kill('SIGTERM');
    const { signal, stdout } = await ran;
    assert.equal(signal, 'SIGTERM');
    assert.equal(stdout, '');
    await agent.callerGone;
  });
});

describe('an agent that fails in the middle', () => {
  const half = encodeAnswer(0, '{"cniVersion":"1.0.0","ips":[');
  for (const [name, reply] of [
    ['hangs up', 'hang-up'],
    ['dies in the middle of its answer', { bytes: half }],
    ['speaks something else', { bytes: Buffer.from('HTTP/1.1 400 Bad Request\r\n\r\n') }],
  ] as const) {
    test(`${name}: ADD 5, STATUS 50, DEL queued`, async () => {
      agent.respond = () => reply;
      failed(await run(program, env('ADD'), conf(agent)), 5);
      failed(await run(program, env('STATUS'), conf(agent, { cniVersion: '1.1.0' })), 50);
      assert.equal(succeeded(await run(program, env('DEL'), conf(agent))), '');
      assert.deepEqual(readdirSync(join(agent.dir, 'queue')), ['abc:eth0']);
    });
  }
  test('an ADD that succeeds without a result is a failure', async () => {
    agent.respond = () => ({ exit: 0, stdout: '' });
    failed(await run(program, env('ADD'), conf(agent)), 5);
  });
});

describe('no agent', () => {
  test('ADD 11, CHECK 11, GC 11, STATUS 50, each without waiting', async () => {
    const latest = {
      cniVersion: '1.1.0',
      'cni.dev/valid-attachments': [],
      prevResult: { cniVersion: '1.1.0' },
    };
    for (const [verb, code] of [
      ['ADD', 11],
      ['CHECK', 11],
      ['GC', 11],
      ['STATUS', 50],
    ] as const) {
      const ran = await run(program, env(verb), conf(away, latest));
      const error = failed(ran, code);
      assert.equal(error.cniVersion, '1.1.0');
      assert.match(error.msg, code === 11 ? /^AGENT_UNREACHABLE: / : /^STATUS_UNAVAILABLE: /);
      assert.ok(ran.ms < SLOW_START_MS, `${ran.ms} ms`);
    }
  });
  test('DEL is queued: one file per id and ifname, private, readable as a request', async () => {
    const started = Date.now();
    for (let i = 0; i < 2; i++) assert.equal(succeeded(await run(program, env('DEL'), conf(away))), '');
    succeeded(
      await run(
        program,
        env('DEL', { CNI_IFNAME: 'net1', CNI_ARGS: 'broken' }),
        conf(away, { cniVersion: '0.3.1' }),
      ),
    );
    const queue = join(away.dir, 'queue');
    assert.deepEqual(readdirSync(queue).sort(), ['abc:eth0', 'abc:net1']);
    assert.equal(statSync(queue).mode & 0o777, 0o700);
    const file = join(queue, 'abc:net1');
    assert.equal(statSync(file).mode & 0o777, 0o600);
    const call = new RequestDecoder().push(readFileSync(file));
    assert.ok(call);
    const request = decodeRequest(call.env, call.stdin);
    assert.ok(request.verb === 'DEL' && request.containerId === 'abc' && request.ifname === 'net1');
    assert.equal(request.conf.name, 'podway');
    const at = Number(call.env.get('PODWAY_QUEUED_AT'));
    assert.ok(at >= started - 1 && at <= Date.now() + 1);
  });
  test('a full queue refuses a new DEL and takes one that it has', async () => {
    const full = new FakeAgent();
    try {
      mkdirSync(join(full.dir, 'queue'), { mode: 0o700 });
      for (let i = 0; i < 4096; i++) writeFileSync(join(full.dir, 'queue', `c${i}:eth0`), '');
      assert.match(failed(await run(program, env('DEL'), conf(full)), 11).msg, /full/);
      succeeded(await run(program, env('DEL', { CNI_CONTAINERID: 'c7' }), conf(full)));
    } finally {
      full.close();
    }
  });
  test('the queue does not follow a link planted in its place', async () => {
    const planted = new FakeAgent();
    try {
      writeFileSync(join(planted.dir, 'queue'), 'a file');
      failed(await run(program, env('DEL'), conf(planted)), 11);
    } finally {
      planted.close();
    }
  });
});
