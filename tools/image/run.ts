// The programs that build the image, and how they fail: a code, a sentence, the next step.
import { spawnSync } from 'node:child_process';
import { homedir } from 'node:os';
import { join } from 'node:path';

export class ImageError extends Error {
  override name = 'ImageError';
  readonly code: string;
  readonly next: string;
  constructor(code: string, message: string, next: string) {
    super(message);
    this.code = code;
    this.next = next;
  }
}

const MAX_OUTPUT = 64 << 20;

function call(program: string, args: string[], stdio: 'inherit' | 'pipe', env?: NodeJS.ProcessEnv) {
  const done = spawnSync(program, args, {
    encoding: 'utf8',
    maxBuffer: MAX_OUTPUT,
    stdio: ['ignore', stdio === 'inherit' ? 2 : 'pipe', stdio === 'inherit' ? 2 : 'pipe'],
    ...(env ? { env: { ...process.env, ...env } } : {}),
  });
  if ((done.error as NodeJS.ErrnoException | undefined)?.code === 'ENOENT')
    throw new ImageError(
      'PROGRAM_MISSING',
      `${program} is not installed`,
      'apt-get install buildah mmdebstrap; or build deploy/Dockerfile with any builder',
    );
  return done;
}

const failed = (program: string, args: string[], status: number | null, said: string): ImageError =>
  new ImageError(
    'BUILD_FAILED',
    `${program} ${args.slice(0, 2).join(' ')} ended with ${status ?? 'a signal'}${said ? `: ${said}` : ''}`,
    'see its words above',
  );

/** Runs to its end, its words on standard error. */
export function run(program: string, args: string[], env?: NodeJS.ProcessEnv): void {
  const { status } = call(program, args, 'inherit', env);
  if (status !== 0) throw failed(program, args, status, '');
}

/** Its standard output. */
export function capture(program: string, args: string[]): string {
  const { status, stdout, stderr } = call(program, args, 'pipe');
  if (status !== 0) throw failed(program, args, status, stderr.trim().split('\n').at(-1) ?? '');
  return stdout;
}

/** Below the cache, so that a machine's own containers are no business of ours. */
export const cache = join(process.env['XDG_CACHE_HOME'] || join(homedir(), '.cache'), 'podway', 'image');
/** vfs works on every file system and in a container; chroot needs no namespaces and no runtime. */
const OWN = ['--root', join(cache, 'storage'), '--runroot', join(cache, 'run'), '--storage-driver', 'vfs'];

/** Its standard output without the newline at its end. */
export function buildah(args: string[]): string {
  return capture('buildah', [...OWN, ...args]).trim();
}
/** True when it did something: exit 0, and an answer where it lists. */
buildah.try = (args: string[]): boolean => {
  const { status, stdout } = call('buildah', [...OWN, ...args], 'pipe');
  return status === 0 && stdout.trim() !== '';
};
buildah.shown = (args: string[], env: NodeJS.ProcessEnv): void => run('buildah', [...OWN, ...args], env);
