// Podway as a user meets it: its command line, run on this machine or on a machine of a test's own (machine.ts). Owns no
// state. A command's end is a value (exit code and both outputs); only `ok` and `json` throw, with all that was said.
import { spawn } from 'node:child_process';
import { join } from 'node:path';

export const ROOT = join(import.meta.dirname, '../..');
export const PODWAY = join(ROOT, 'bin/podway');
export const PROBE = join(ROOT, 'build/pod-probe');

/** Why a test that makes namespaces cannot run here, or false. */
export const skip = process.getuid?.() === 0 ? false : 'needs root for network namespaces';

/** A command that takes longer hangs. */
const COMMAND_BOUND_MS = 120_000;

export type Ran = { code: number; stdout: string; stderr: string };
export type Env = Record<string, string | undefined>;

/** Runs to the end; the exit code is 128 and the signal's number when a signal ended it, 124 when the bound did. */
export function execute(command: string[], env: Env = {}, boundMs = COMMAND_BOUND_MS): Promise<Ran> {
  return new Promise((resolve, reject) => {
    const child = spawn(command[0]!, command.slice(1), {
      env: { ...process.env, PODWAY_LAB: undefined, NO_COLOR: '1', ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let stdout = '';
    let stderr = '';
    let late = false;
    const timer = setTimeout(() => {
      late = true;
      child.kill('SIGKILL');
    }, boundMs);
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      stdout += text;
    });
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      stderr += text;
    });
    child.once('error', reject);
    child.once('close', (code) => {
      clearTimeout(timer);
      resolve({ code: late ? 124 : (code ?? 137), stdout, stderr });
    });
  });
}

export const told = (command: string[], { code, stdout, stderr }: Ran): string =>
  `${command.join(' ')}: exit ${code}\n${stdout}${stderr}`;

export async function executeOk(command: string[], env: Env = {}, boundMs?: number): Promise<string> {
  const ran = await execute(command, env, boundMs);
  if (ran.code !== 0) throw new Error(told(command, ran));
  return ran.stdout;
}

export const podway = (...args: string[]): Promise<Ran> => execute([PODWAY, ...args]);
export const ok = (...args: string[]): Promise<string> => executeOk([PODWAY, ...args]);
export const json = async <T>(...args: string[]): Promise<T> =>
  JSON.parse(await ok(...args, '-o', 'json')) as T;
