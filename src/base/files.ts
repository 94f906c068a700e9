// Small state files: written aside and renamed, so that a reader and a restart see the old or the new one. A kill may leave
// what was aside, under the writer's process number; two processes that write one file do not meet there.
import { chmodSync, fstatSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';

/** `mode` counts whatever the process's umask says. Throws the error of the file system; the file is as it was then. */
export function writeFileAtomic(file: string, text: string, mode = 0o600): void {
  const aside = `${file}.${process.pid}.new`;
  try {
    writeFileSync(aside, text, { mode });
    chmodSync(aside, mode);
    renameSync(aside, file);
  } catch (error) {
    rmSync(aside, { force: true });
    throw error;
  }
}

/** False when the path names another file or directory than the open one, or none. */
export function isAt(fd: number, path: string): boolean {
  const [open, there] = [fstatSync(fd), statSync(path, { throwIfNoEntry: false })];
  return open.ino === there?.ino && open.dev === there.dev;
}
