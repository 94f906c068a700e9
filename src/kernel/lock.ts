// An exclusive lock on a directory (flock(2)), which ends with the process however that ends. Nothing is written, so it
// works on a full or read-only file system. Fails by throwing SyscallError for anything but a lock that another has.
import { closeSync, constants, openSync } from 'node:fs';
import { isAt } from '../base/files.ts';
import { EAGAIN, EINTR, SyscallError } from './errors.ts';
import { lastErrno, libc } from './ffi.ts';

const LOCK_EX = 2;
const LOCK_NB = 4;

/** Between two looks at a lock that another has, in ms. */
const LOOK_MS = 1;

export type DirectoryLock = {
  release(): void;
  /** False when the path names another directory now, or none. */
  isOf(path: string): boolean;
};

/** Null while another process, or another open lock of this one, has it. */
export function tryLockDirectory(path: string): DirectoryLock | null {
  const fd = openSync(path, constants.O_RDONLY | constants.O_DIRECTORY);
  for (;;) {
    if (libc().flock(fd, LOCK_EX | LOCK_NB) === 0) {
      let isHeld = true;
      return {
        release() {
          if (isHeld) closeSync(fd);
          isHeld = false;
        },
        isOf: (named) => isHeld && isAt(fd, named),
      };
    }
    const errno = lastErrno();
    if (errno === EINTR) continue;
    closeSync(fd);
    if (errno === EAGAIN) return null;
    throw new SyscallError(`flock ${path}`, errno);
  }
}

/** As `tryLockDirectory`, after at most `boundMs` in which the thread sleeps: for what others hold for moments only. */
export function lockDirectory(path: string, boundMs: number): DirectoryLock | null {
  const nobody = new Int32Array(new SharedArrayBuffer(4));
  for (const began = performance.now(); ; Atomics.wait(nobody, 0, 0, LOOK_MS)) {
    const lock = tryLockDirectory(path);
    if (lock || performance.now() - began > boundMs) return lock;
  }
}
