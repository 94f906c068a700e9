import { homedir } from 'node:os';
import { join, resolve } from 'node:path';

const here = import.meta.dirname;
const built = import.meta.filename.endsWith('.js');

/** The folder that holds bin/, data/, cni/ and native/. */
export const packageRoot = resolve(here, built ? '../../../..' : '../../..');
const codeRoot = resolve(here, '../..');
const extension = built ? '.js' : '.ts';

/** An entry below src/, as `lab/daemon/main`. */
export const entryFile = (path: string): string => join(codeRoot, `${path}${extension}`);

/** C programs: in the checkout's build/, else (a package may be read-only) in the user's cache. */
export function programsDir(): string {
  if (!built) return join(packageRoot, 'build');
  const cache = process.env['XDG_CACHE_HOME'] || join(homedir(), '.cache');
  return join(cache, 'podway', 'programs');
}

export const nodeCommand = (path: string, flags: readonly string[] = []): string[] => [
  process.execPath,
  ...flags,
  '--disable-warning=ExperimentalWarning',
  entryFile(path),
];
