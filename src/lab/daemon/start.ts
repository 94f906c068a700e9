// Starts a lab's daemon when none answers: a detached process in a session of its own that writes to lab.log. Two
// starters at once are no harm: the second daemon finds the lock taken and leaves.
import { spawn } from 'node:child_process';
import { closeSync, openSync, readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { ControlClient } from './client.ts';
import { LabError } from './errors.ts';
import { privateDir } from './files.ts';
import { nodeCommand } from './parts.ts';
import { LABS_ROOT, type LabPaths } from './paths.ts';

const START_BOUND_MS = 30_000;

export async function startDaemon(paths: LabPaths): Promise<void> {
  const control = new ControlClient(paths.lab, paths.control);
  if (await control.alive()) return;
  privateDir(LABS_ROOT);
  privateDir(paths.root);
  const log = openSync(paths.log, 'a', 0o600);
  const [program, ...args] = nodeCommand('lab/daemon/main');
  const child = spawn(program!, [...args, paths.lab], {
    cwd: '/',
    detached: true,
    stdio: ['ignore', log, log],
    env: daemonEnvironment(),
  });
  closeSync(log);
  let ended: number | undefined;
  child.once('exit', (code) => {
    ended = code ?? 1;
  });
  child.unref();
  const end = performance.now() + START_BOUND_MS;
  for (let pause = 5; performance.now() < end; pause = Math.min(pause * 1.5, 100)) {
    if (await control.alive()) return;
    // Exit 0: another daemon holds the lab and will answer.
    if (ended !== undefined && ended !== 0)
      throw new LabError(
        'LAB_START',
        `lab ${paths.lab} did not start: ${lastLine(paths.log)}`,
        `read ${paths.log}`,
      );
    await sleep(pause);
  }
  throw new LabError(
    'LAB_START',
    `lab ${paths.lab} did not answer within ${START_BOUND_MS / 1000} s`,
    `read ${paths.log}`,
  );
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
