// Runs one plugin once: finds it, gives it environment and stdin, reads its answer, and makes sure that it ends.
// Bounded in time and in bytes; a plugin that takes too long dies with all it started.
// Every failure is a CniError: the plugin's own where it left one, else one that tells exit status and stderr.
import { type ChildProcess, spawn } from 'node:child_process';
import { statSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { CniError } from '../errors.ts';
import { isObject } from '../fields.ts';

/** A binary that is being replaced by writing into it: tried again this often (ETXTBSY). */
const BUSY_RETRIES = 5;
const BUSY_PAUSE_MS = 200;
const MAX_STDOUT = 4 << 20;
const MAX_STDERR = 64 << 10;
/** Longer than the 60 s that our own plugin gives its agent. */
export const DEFAULT_TIMEOUT_MS = 90_000;

export type ExecOptions = {
  timeoutMs?: number;
  signal?: AbortSignal;
  /** Called around the fork, to run the plugin in another namespace: `(start) => withNetns(ns, start)`. */
  enter?: <T>(start: () => T) => T;
  /** What the plugin wrote to stderr, when it wrote something. */
  onStderr?: (text: string) => void;
};

export type ExecResult = { stdout: string; stderr: string; exit: number };

/** The first executable of that name. Throws CniError 7 when there is none or the name is a path. */
export function findPlugin(type: string, binDirs: readonly string[]): string {
  if (type === '' || type.includes('/') || type === '.' || type === '..') {
    throw new CniError(
      7,
      `INVALID_CONFIG: invalid plugin name ${JSON.stringify(type)}: it must not be a path`,
    );
  }
  for (const dir of binDirs) {
    const file = join(dir, type);
    if (dir !== '' && statSync(file, { throwIfNoEntry: false })?.isFile()) return file;
  }
  throw new CniError(
    7,
    `INVALID_CONFIG: failed to find plugin ${JSON.stringify(type)} in path [${binDirs.join(' ')}]`,
  );
}

/** Ends the plugin and what it started: it leads a process group of its own. */
function kill(child: ChildProcess): void {
  try {
    if (child.pid !== undefined) process.kill(-child.pid, 'SIGKILL');
  } catch {
    child.kill('SIGKILL');
  }
}

function runOnce(
  file: string,
  env: NodeJS.ProcessEnv,
  stdin: string,
  options: ExecOptions,
): Promise<ExecResult> {
  const { timeoutMs = DEFAULT_TIMEOUT_MS, signal, enter = (start) => start() } = options;
  signal?.throwIfAborted();
  return new Promise((resolve, reject) => {
    // A throw in here rejects: spawn throws ETXTBSY at once and reports ENOENT and EACCES later.
    const child = enter(() =>
      spawn(file, [], { env, cwd: '/', stdio: ['pipe', 'pipe', 'pipe'], detached: true }),
    );
    const out: Buffer[] = [];
    const err: Buffer[] = [];
    let outLength = 0;
    let errLength = 0;
    const settle = (act: () => void) => {
      clearTimeout(timer);
      signal?.removeEventListener('abort', onAbort);
      act();
    };
    const giveUp = (error: unknown) => {
      kill(child);
      child.stdout.destroy();
      child.stderr.destroy();
      settle(() => reject(error));
    };
    const onAbort = () => giveUp(signal?.reason);
    const timer = setTimeout(
      () => giveUp(new CniError(11, `plugin ${file} did not end within ${timeoutMs} ms and was killed`)),
      timeoutMs,
    );
    signal?.addEventListener('abort', onAbort, { once: true });
    child.on('error', (error) => settle(() => reject(error)));
    // A plugin need not read its stdin.
    child.stdin.on('error', () => {});
    child.stdin.end(stdin);
    child.stdout.on('data', (bytes: Buffer) => {
      outLength += bytes.length;
      out.push(bytes);
      if (outLength > MAX_STDOUT)
        giveUp(new CniError(6, `plugin ${file} wrote more than ${MAX_STDOUT} bytes`));
    });
    child.stderr.on('data', (bytes: Buffer) => {
      if (errLength < MAX_STDERR) err.push(bytes);
      errLength += bytes.length;
    });
    child.on('close', (code, killedBy) => {
      const stderr = Buffer.concat(err).toString('utf8');
      const exit = code ?? 128;
      const note = killedBy ? `killed by ${killedBy}` : '';
      settle(() => resolve({ stdout: Buffer.concat(out).toString('utf8'), stderr: stderr || note, exit }));
    });
  });
}

/** Runs the plugin, again while its file is busy. Throws CniError when it cannot be run or is killed. */
export async function runPlugin(
  file: string,
  env: Readonly<Record<string, string>>,
  stdin: string,
  options: ExecOptions = {},
): Promise<ExecResult> {
  const inherited = Object.entries(process.env).filter(([name]) => !name.startsWith('CNI_'));
  const environment = { ...Object.fromEntries(inherited), ...env };
  for (let attempt = 0; ; attempt++) {
    try {
      const result = await runOnce(file, environment, stdin, options);
      if (result.stderr) options.onStderr?.(result.stderr);
      return result;
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (error instanceof CniError || options.signal?.aborted) throw error;
      if (code !== 'ETXTBSY' || attempt >= BUSY_RETRIES) {
        throw new CniError(999, `plugin ${file} cannot be run: ${(error as Error).message}`, '', {
          cause: error,
        });
      }
      await sleep(BUSY_PAUSE_MS * 2 ** attempt, undefined, options.signal ? { signal: options.signal } : {});
    }
  }
}

const shown = (text: string): string => JSON.stringify(text.trim().slice(0, 512));

/** The error that a failed plugin left, or one made of what there is. */
export function errorOf(file: string, { stdout, stderr, exit }: ExecResult): CniError {
  if (stdout.trim() === '') {
    return new CniError(
      999,
      `plugin ${file} failed with exit status ${exit}: ${stderr ? shown(stderr) : 'it left no message'}`,
    );
  }
  try {
    const error: unknown = JSON.parse(stdout);
    if (isObject(error) && (typeof error['code'] === 'number' || typeof error['msg'] === 'string')) {
      const { code, msg, details } = error;
      return new CniError(
        typeof code === 'number' ? code : 999,
        typeof msg === 'string' ? msg : `plugin ${file} failed`,
        typeof details === 'string' ? details : '',
      );
    }
  } catch {
    // Told below.
  }
  return new CniError(
    999,
    `plugin ${file} failed with exit status ${exit} and a message that is no CNI error: ${shown(stdout)}`,
  );
}
