// The plugin under address and undefined-behaviour sanitizers, given environments, configs and answers of all kinds:
// each run ends by itself with one valid document and an exit code that fits it, and says what the agent would say.
import assert from 'node:assert/strict';
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import fc from 'fast-check';
import { PodwayError } from '../base/errors.ts';
import { buildProgram, findCompiler, ProgramError } from '../base/programs.ts';
import { decodeRequest } from './request.ts';
import { environment, nearlyConf } from './testing/arbitrary.ts';
import { FakeAgent, type Ran, run, sanitizedShim } from './testing/shim.ts';

let program: string | null = null;
let reason = '';
const agent = new FakeAgent();
const away = new FakeAgent();

before(async () => {
  await agent.listen();
  try {
    program = await sanitizedShim();
  } catch (error) {
    if (!(error instanceof ProgramError)) throw error;
    reason = `the compiler has no sanitizers: ${error.message}`;
  }
});
after(() => {
  agent.close();
  away.close();
});

const settings = { ASAN_OPTIONS: 'exitcode=86:detect_leaks=0', UBSAN_OPTIONS: 'halt_on_error=1:exitcode=86' };
/** Variables cannot hold a NUL. */
const clean = (env: object): Record<string, string> =>
  Object.fromEntries(Object.entries(env).map(([name, value]) => [name, String(value).replaceAll('\0', '')]));

function judge(ran: Ran, verb: string | undefined): void {
  assert.equal(ran.signal, null, ran.stderr);
  assert.ok(ran.exit === 0 || ran.exit === 1, `exit ${ran.exit}: ${ran.stderr}`);
  if (!verb) {
    assert.equal(ran.stdout, '');
    return;
  }
  assert.equal(ran.stderr, '');
  if (ran.exit === 0 && ran.stdout === '') {
    assert.notEqual(verb, 'ADD');
    return;
  }
  const document = JSON.parse(ran.stdout) as {
    cniVersion: string;
    code?: number;
    msg?: string;
    details?: string;
  };
  assert.match(document.cniVersion, /^[0-9.]+$/);
  assert.equal(document.code === undefined, ran.exit === 0);
  if (ran.exit === 0) return;
  assert.ok(document.code && document.code > 0 && document.msg);
  JSON.parse(document.details ?? '');
}

test('environments and configs of all kinds', async (t) => {
  const file = program;
  if (!file) return t.skip(reason);
  const stdin = fc.oneof(
    { weight: 4, arbitrary: nearlyConf.map((text) => Buffer.from(text)) },
    { weight: 1, arbitrary: fc.uint8Array({ maxLength: 200 }) },
  );
  await fc.assert(
    fc.asyncProperty(environment, stdin, fc.boolean(), async (wild, bytes, isUp) => {
      const env = clean(wild);
      const socket = (isUp ? agent : away).socketPath;
      const ran = await run(file, { ...env, ...settings, PODWAY_AGENT_SOCKET: socket }, bytes);
      judge(ran, env['CNI_COMMAND']);
      // What is wrong with the call itself is told the same way with the agent and without.
      try {
        if (env['CNI_COMMAND']) decodeRequest(env, bytes);
      } catch (error) {
        assert.ok(error instanceof PodwayError);
        const code = (JSON.parse(ran.stdout || '{}') as { code?: number }).code;
        if (isUp || code !== (env['CNI_COMMAND'] === 'STATUS' ? 50 : 11)) {
          if (ran.stdout !== '' || isUp) assert.equal(code, error.cni, `${error.message} / ${ran.stdout}`);
        }
      }
    }),
    { numRuns: 150 },
  );
});

test('JSON cut, mangled and doubled', async (t) => {
  const file = program;
  if (!file) return t.skip(reason);
  const whole = Buffer.from(
    '{"cniVersion":"1.0.0","name":"pod\\u0077ay","\\ud83d\\ude00":["\\ud800",-1.5e+3,true,false,null,{"a":{}}],"agentSocket":"/\\u00fc\\/x","name":"two"}',
  );
  const env = {
    CNI_COMMAND: 'ADD',
    CNI_CONTAINERID: 'a',
    CNI_NETNS: '/x',
    CNI_IFNAME: 'e',
    ...settings,
    PODWAY_AGENT_SOCKET: agent.socketPath,
  };
  await fc.assert(
    fc.asyncProperty(
      fc.nat(whole.length),
      fc.nat(whole.length),
      fc.nat(255),
      fc.nat(3),
      async (at, to, byte, how) => {
        const bytes = Buffer.from(whole);
        if (how === 0) bytes[Math.min(at, bytes.length - 1)] = byte;
        const mangled =
          how === 1
            ? bytes.subarray(0, at)
            : how === 2
              ? Buffer.concat([bytes.subarray(0, at), bytes.subarray(to)])
              : bytes;
        const ran = await run(file, env, mangled);
        judge(ran, 'ADD');
        const code = ran.exit === 0 ? 0 : (JSON.parse(ran.stdout) as { code: number }).code;
        let expected = 0;
        try {
          decodeRequest(env, mangled);
        } catch (error) {
          expected = (error as PodwayError).cni;
        }
        assert.equal(code, expected, mangled.toString('latin1'));
      },
    ),
    { numRuns: 120 },
  );
});

test('answers of all kinds: half a document is never printed', async (t) => {
  const file = program;
  if (!file) return t.skip(reason);
  const conf = JSON.stringify({ cniVersion: '1.0.0', name: 'podway' });
  const answer = fc.oneof(
    fc.uint8Array({ maxLength: 100 }).map((bytes) => Buffer.from(bytes)),
    fc
      .tuple(fc.constantFrom('0', '1', '2', ''), fc.string({ maxLength: 40 }))
      .map(([exit, body]) => Buffer.from(`PODWAY-CNI/1 ${exit}\n${body}`)),
    fc
      .nat(40)
      .map((length) => Buffer.from('PODWAY-CNI/1 0\n{"cniVersion":"1.0.0","ips":[]}'.slice(0, length + 10))),
  );
  await fc.assert(
    fc.asyncProperty(answer, fc.constantFrom('ADD', 'DEL'), async (bytes, verb) => {
      agent.respond = () => ({ bytes });
      const env = {
        CNI_COMMAND: verb,
        CNI_CONTAINERID: 'a',
        CNI_NETNS: '/x',
        CNI_IFNAME: 'e',
        ...settings,
        PODWAY_AGENT_SOCKET: agent.socketPath,
      };
      const ran = await run(file, env, conf);
      assert.equal(ran.signal, null);
      assert.ok(ran.exit === 0 || ran.exit === 1, ran.stderr);
      assert.equal(ran.stderr, '');
      if (ran.stdout !== '') JSON.parse(ran.stdout);
      if (verb === 'ADD' || ran.exit === 1) assert.notEqual(ran.stdout, '');
    }),
    { numRuns: 80 },
  );
});

test('the reader of JSON agrees with JSON.parse on long and deep texts', async (t) => {
  const file = program;
  if (!file) return t.skip(reason);
  const env = { CNI_COMMAND: 'STATUS', ...settings, PODWAY_AGENT_SOCKET: away.socketPath };
  const deep = (levels: number) =>
    `{"name":"n","cniVersion":"1.1.0","x":${'['.repeat(levels)}${']'.repeat(levels)}}`;
  for (const [text, code] of [
    [deep(511), 50],
    [deep(512), 6],
    [deep(100_000), 6],
    [`{"name":"n","cniVersion":"1.1.0","x":"${'\\u00e9'.repeat(100_000)}"}`, 50],
    [`{"name":"n","cniVersion":"1.1.0","${'k'.repeat(100_000)}":1}`, 50],
  ] as const) {
    const ran = await run(file, env, text);
    judge(ran, 'STATUS');
    assert.equal((JSON.parse(ran.stdout) as { code: number }).code, code);
    if (code === 50) decodeRequest(env, text);
    else assert.throws(() => decodeRequest(env, text), PodwayError);
  }
});

test('a program is compiled once, again after a change, and a missing compiler is named', async () => {
  const dir = mkdtempSync(join(tmpdir(), 'pwt-cni-build-'));
  try {
    cpSync(join(import.meta.dirname, '../../native'), join(dir, 'native'), { recursive: true });
    const options = { srcRoot: dir, outDir: join(dir, 'build') };
    assert.equal((await buildProgram('pod-server', options)).compiled, true);
    assert.equal((await buildProgram('pod-server', options)).compiled, false);
    const source = join(dir, 'native/pod-server.c');
    writeFileSync(source, `${readFileSync(source, 'utf8')}\n// changed\n`);
    assert.equal((await buildProgram('pod-server', options)).compiled, true);
    writeFileSync(source, 'int main(void) { return nothing; }\n');
    await assert.rejects(
      buildProgram('pod-server', options),
      (error) =>
        error instanceof ProgramError && error.code === 'COMPILE_FAILED' && /nothing/.test(error.message),
    );
    assert.equal(findCompiler(dir), null);
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
});
