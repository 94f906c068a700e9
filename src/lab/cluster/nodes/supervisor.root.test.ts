// A supervised process and its record live and die together, wherever the daemon is killed.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { endAll, isAlive, type ProcessId, processesWith } from '../../daemon/processes.ts';
import { type ProcessSpec, Supervisor } from './supervisor.ts';

const isRoot = process.getuid?.() === 0;
const options = { skip: !isRoot && 'needs root: enters a network namespace', timeout: 90_000 };
const OURS = 'PODWAY_SUPERVISOR_TEST';

type Bench = {
  spec: ProcessSpec;
  /** As the next daemon makes it. */
  supervise(): Supervisor;
  /** How often the process has begun. */
  ran(): number;
  left(): ProcessId[];
};

/** A process that writes a line when it begins. */
async function withProcess(work: (bench: Bench) => Promise<void>): Promise<void> {
  const dir = mkdtempSync(join(tmpdir(), 'pwt-supervisor-'));
  const own = randomUUID();
  const begun = join(dir, 'begun');
  const spec: ProcessSpec = {
    netnsPath: '/proc/self/ns/net',
    command: ['sh', '-c', 'echo begun >>"$0"; exec sleep 300', begun],
    pidFile: join(dir, 'records', 'it.pid'),
    logFile: join(dir, 'it.log'),
    env: { [OURS]: own },
  };
  const ran = () => (existsSync(begun) ? readFileSync(begun, 'utf8').split('\n').length - 1 : 0);
  const left = () => processesWith(OURS, own);
  const supervisors: Supervisor[] = [];
  const supervise = () => {
    const made = new Supervisor(spec);
    supervisors.push(made);
    made.start();
    return made;
  };
  try {
    await work({ spec, supervise, ran, left });
  } finally {
    for (const one of supervisors) one.detach();
    await endAll(left(), 0);
    rmSync(dir, { recursive: true, force: true });
  }
}

async function until(what: string, isSo: () => boolean): Promise<void> {
  for (const end = performance.now() + 30_000; !isSo(); await sleep(20))
    assert.ok(performance.now() < end, `not within 30 s: ${what}`);
}

/** A daemon of its own that starts it, and is killed when the record cannot be written: its folder is not there. */
function killedAtRecord(spec: ProcessSpec): void {
  const script = `
    const { Supervisor } = await import(${JSON.stringify(new URL('./supervisor.ts', import.meta.url).href)});
    try { new Supervisor(${JSON.stringify(spec)}).start(); } finally { process.kill(process.pid, 'SIGKILL'); }`;
  const { signal, stderr } = spawnSync(process.execPath, ['--input-type=module', '-e', script], {
    encoding: 'utf8',
  });
  assert.equal(signal, 'SIGKILL', stderr);
}

test('a daemon that is killed between the start and its record leaves nothing that runs', options, () =>
  withProcess(async ({ spec, supervise, ran, left }) => {
    killedAtRecord(spec);
    mkdirSync(join(spec.pidFile, '..'));
    const supervisor = supervise();
    await until('it runs', () => ran() > 0);
    await until('the one before is gone', () => left().length === 1);
    assert.equal(ran(), 1);
    await supervisor.stop();
    assert.deepEqual(left(), []);
  }),
);

test('a process outlives its daemon, and the next daemon adopts it', options, () =>
  withProcess(async ({ spec, supervise, ran, left }) => {
    mkdirSync(join(spec.pidFile, '..'));
    const first = supervise();
    await until('it runs', () => ran() > 0);
    first.detach();
    const next = supervise();
    assert.ok(next.adopted && next.running);
    const record = JSON.parse(readFileSync(spec.pidFile, 'utf8')) as ProcessId;
    assert.deepEqual(left(), [record]);
    await next.stop();
    assert.ok(!isAlive(record) && !existsSync(spec.pidFile));
    assert.equal(ran(), 1);
  }),
);
