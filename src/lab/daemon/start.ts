// Starts a lab's daemon when none answers: a detached process in a session of its own that writes to lab.log. Two
// starters at once are no harm: the second daemon finds the lock taken and leaves. When it was a `lab down` that had the
// lock, the next daemon is started after it.
import { spawn } from 'node:child_process';
import { closeSync, openSync, readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { ControlClient } from './client.ts';
import { LabError } from './errors.ts';
import { privateDir } from './files.ts';
import { MARK, makeMark } from './mark.ts';
import { nodeCommand } from './parts.ts';
import { LABS_ROOT, type LabPaths } from './paths.ts';

const START_BOUND_MS = 30_000;
/** Between two daemons of one start: the first found the lock taken. */
const AGAIN_MS = 500;

export async function startDaemon(paths: LabPaths): Promise<void> {
  const control = new ControlClient(paths.lab, paths.control);
  if (await control.alive()) return;
  const end = performance.now() + START_BOUND_MS;
  let daemon = launch(paths);
  for (let pause = 5; performance.now() < end; pause = Math.min(pause * 1.5, 100)) {
    if (await control.alive()) return;
    const { ended } = daemon;
    if (ended !== undefined && ended.code !== 0)
      throw new LabError(
        'LAB_START',
        `lab ${paths.lab} did not start: ${lastLine(paths.log)}`,
        `read ${paths.log}`,
      );
    // Another process holds the lab: a daemon, which will answer, or a `lab down`, which will be done.
    if (ended !== undefined && performance.now() - ended.at > AGAIN_MS) daemon = launch(paths);
    await sleep(pause);
  }
  throw new LabError(
    'LAB_START',
    `lab ${paths.lab} did not answer within ${START_BOUND_MS / 1000} s`,
    `read ${paths.log}`,
  );
}

type Launched = { ended?: { code: number; at: number } };

function launch(paths: LabPaths): Launched {
  const launched: Launched = {};
  let mark: string;
  let log: number;
  try {
    privateDir(LABS_ROOT);
    privateDir(paths.root);
    mark = makeMark(paths);
    log = openSync(paths.log, 'a', 0o600);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    // A `lab down` takes the folder away at this moment: after it, there is one.
    launched.ended = { code: 0, at: performance.now() };
    return launched;
  }
  const [program, ...args] = nodeCommand('lab/daemon/main');
  const child = spawn(program!, [...args, paths.lab], {
    cwd: '/',
    detached: true,
    stdio: ['ignore', log, log],
    env: { ...daemonEnvironment(), [MARK]: mark },
  });
  closeSync(log);
  child.once('exit', (code) => {
    launched.ended = { code: code ?? 1, at: performance.now() };
  });
  child.unref();
  return launched;
}

/** The daemon's own life only: an AWS profile or a proxy of the caller's shell is none of its business. */
function daemonEnvironment(): NodeJS.ProcessEnv {
  const kept = [
    'PATH',
    'HOME',
    'NODE_COMPILE_CACHE',
    'LANG',
    'TZ',
    'PODWAY_DEBUG',
    'PODWAY_FAULT',
    'XDG_CACHE_HOME',
  ];
  return Object.fromEntries(
    kept.filter((name) => process.env[name] !== undefined).map((name) => [name, process.env[name]]),
  );
}

function lastLine(file: string): string {
  try {
    const lines = readFileSync(file, 'utf8').trim().split('\n');
    const last = lines.at(-1) ?? '';
    const parsed = last.startsWith('{')
      ? (JSON.parse(last) as { msg?: string; err?: { message?: string } })
      : undefined;
    return parsed ? (parsed.err?.message ?? parsed.msg ?? last) : last;
  } catch {
    return 'no log';
  }
}
