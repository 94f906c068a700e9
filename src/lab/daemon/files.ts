// Small state files of the lab: written aside and renamed, so that a reader and a restart see the old or the new one.
import { mkdirSync, readFileSync } from 'node:fs';
import { writeFileAtomic } from '../../base/files.ts';

export const writeJson = (file: string, value: unknown, mode = 0o600): void =>
  writeFileAtomic(file, `${JSON.stringify(value, null, 2)}\n`, mode);

/** The file's value, or undefined when it is absent or damaged (a half state that its owner makes anew). */
export function readJson<T>(file: string): T | undefined {
  try {
    return JSON.parse(readFileSync(file, 'utf8')) as T;
  } catch {
    return undefined;
  }
}

export const privateDir = (path: string): void => {
  mkdirSync(path, { recursive: true, mode: 0o700 });
};
