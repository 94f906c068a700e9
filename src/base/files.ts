// Small state files: written aside and renamed, so that a reader and a restart see the old or the new one. A kill may leave
// what was aside, under the writer's process number; two processes that write one file do not meet there.
import { chmodSync, renameSync, rmSync, writeFileSync } from 'node:fs';

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
