// Compiles the C programs at their first use and when their sources change. The published package ships sources, so
// that no binary of a stranger is run. A program is what its stamp says (a hash of sources and flags), or it is made
// again: written aside and renamed, so that two makers and a running copy do no harm.
// Fails with ProgramError, which names what to install.
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  accessSync,
  constants,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { delimiter, dirname, extname, join } from 'node:path';
import { promisify } from 'node:util';

/** Name of each program and its source below the project's root; headers beside it belong to it. */
export const programs = {
  'podway-cni': 'cni/podway-cni.c',
  'pod-server': 'native/pod-server.c',
  'pod-probe': 'native/pod-probe.c',
  pause: 'native/pause.c',
  nat64: 'native/nat64.c',
  'pod-tty': 'native/pod-tty.c',
} as const;
export type ProgramName = keyof typeof programs;

/** Static, so that it runs wherever a runtime puts it and starts in a third of a millisecond. */
const FLAGS = ['-std=gnu11', '-O2', '-Wall', '-Wextra', '-Werror', '-static', '-s'];
const COMPILERS = ['gcc', 'cc', 'clang'];
/** A compiler that takes longer hangs. */
const COMPILE_TIMEOUT_MS = 120_000;

export class ProgramError extends Error {
  override name = 'ProgramError';
  readonly code: 'COMPILER_MISSING' | 'COMPILE_FAILED';
  readonly next: string;

  constructor(code: ProgramError['code'], message: string, next: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
    this.next = next;
  }
}

/** The first C compiler on the path, or null. */
export function findCompiler(path: string = process.env['PATH'] ?? ''): string | null {
  for (const name of COMPILERS) {
    for (const dir of path.split(delimiter)) {
      const file = join(dir, name);
      try {
        if (dir === '') continue;
        accessSync(file, constants.X_OK);
        return file;
      } catch {
        // Not here.
      }
    }
  }
  return null;
}

function hashOf(source: string, flags: readonly string[]): string {
  const hash = createHash('sha256').update(flags.join(' '));
  const dir = dirname(source);
  const headers = readdirSync(dir)
    .filter((name) => extname(name) === '.h')
    .sort()
    .map((name) => join(dir, name));
  for (const file of [source, ...headers]) hash.update('\0').update(readFileSync(file));
  return hash.digest('hex');
}

function isCurrent(path: string, stamp: string, hash: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return readFileSync(stamp, 'utf8') === hash;
  } catch {
    return false;
  }
}

export type BuildOptions = {
  /** The project's root. */
  srcRoot: string;
  outDir: string;
  /** Flags instead of the usual ones: sanitizers in tests. */
  flags?: readonly string[];
  signal?: AbortSignal;
};

/** The path of the program, compiled now if it must be. */
export async function buildProgram(
  name: ProgramName,
  { srcRoot, outDir, flags = FLAGS, signal }: BuildOptions,
): Promise<{ path: string; compiled: boolean }> {
  const source = join(srcRoot, programs[name]);
  const path = join(outDir, name);
  const stamp = join(outDir, `.${name}.stamp`);
  const hash = hashOf(source, flags);
  if (isCurrent(path, stamp, hash)) return { path, compiled: false };
  const compiler = findCompiler();
  if (!compiler) {
    throw new ProgramError(
      'COMPILER_MISSING',
      `${name} must be compiled and there is no C compiler (${COMPILERS.join(', ')}) on the path`,
      'Install one: apt-get install gcc libc6-dev.',
    );
  }
  mkdirSync(outDir, { recursive: true });
  const aside = `${path}.${process.pid}`;
  try {
    await promisify(execFile)(compiler, [...flags, '-o', aside, source], {
      timeout: COMPILE_TIMEOUT_MS,
      ...(signal ? { signal } : {}),
    });
    // Old stamp away, program in place, new stamp: cut off anywhere, the program is only made again.
    rmSync(stamp, { force: true });
    renameSync(aside, path);
    writeFileSync(`${stamp}.${process.pid}`, hash);
    renameSync(`${stamp}.${process.pid}`, stamp);
  } catch (error) {
    rmSync(aside, { force: true });
    const said = (error as { stderr?: string }).stderr?.trim().split('\n').slice(0, 4).join(' | ');
    throw new ProgramError(
      'COMPILE_FAILED',
      `${compiler} did not compile ${programs[name]}: ${said || (error as Error).message}`,
      'Install the C library for static linking (apt-get install libc6-dev; glibc-static on Fedora).',
      { cause: error },
    );
  }
  return { path, compiled: true };
}
