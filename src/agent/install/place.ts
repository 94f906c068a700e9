// Puts a file into a directory of the host so that a reader and a crash see the old or the new one: written aside, synced,
// renamed, and the directory synced. Fails with HOST_UNWRITABLE, which names the path and the system's word.
import {
  closeSync,
  fchmodSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeSync,
} from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { PodwayError, unwritableText } from '../../base/errors.ts';

const unwritable = (path: string, error: unknown): PodwayError =>
  new PodwayError('HOST_UNWRITABLE', unwritableText(path, error), { object: path }, { cause: error });

/** No reader takes it for a config or a plugin: runtimes load `.conf`, `.conflist` and `.json`. */
const asideOf = (path: string): string => join(dirname(path), `.${basename(path)}.podway-new`);

/** `bytes` become the file at `path`, with `mode`. */
export function placeFile(path: string, bytes: Uint8Array, mode: number): void {
  const aside = asideOf(path);
  try {
    mkdirSync(dirname(path), { recursive: true });
    // What a kill left; O_EXCL below never follows a link.
    rmSync(aside, { force: true });
    const fd = openSync(aside, 'wx', mode);
    try {
      for (let rest = bytes; rest.length > 0; ) rest = rest.subarray(writeSync(fd, rest));
      fchmodSync(fd, mode);
      fsyncSync(fd);
    } finally {
      closeSync(fd);
    }
    renameSync(aside, path);
    syncDirectory(dirname(path));
  } catch (error) {
    rmSync(aside, { force: true });
    throw unwritable(path, error);
  }
}

/** False when there was none. */
export function removeFile(path: string): boolean {
  try {
    rmSync(asideOf(path), { force: true });
    if (!statSync(path, { throwIfNoEntry: false })) return false;
    rmSync(path);
    syncDirectory(dirname(path));
    return true;
  } catch (error) {
    throw unwritable(path, error);
  }
}

function syncDirectory(path: string): void {
  const fd = openSync(path, 'r');
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}

/** Changes with the file; null where there is none. */
export function stampOf(path: string): string | null {
  const found = statSync(path, { throwIfNoEntry: false });
  return found ? `${found.ino} ${found.size} ${found.mtimeMs} ${found.mode}` : null;
}

/** Null where there is none. */
export function bytesOf(path: string): Buffer | null {
  try {
    return readFileSync(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null;
    throw unwritable(path, error);
  }
}

/** Empty where there is no directory. */
export function namesIn(path: string): string[] {
  try {
    return readdirSync(path).sort();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw unwritable(path, error);
  }
}
