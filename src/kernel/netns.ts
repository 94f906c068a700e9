// Network namespaces: open, make, remove, and run a synchronous function inside one.
// Invariant: the calling thread is back in its own namespace whenever control returns to the event loop, so nothing
// asynchronous ever runs in a foreign namespace. Fails with NetnsError (path and errno).
import {
  closeSync,
  constants as files,
  fstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  rmSync,
  statSync,
} from 'node:fs';
import { constants } from 'node:os';
import { NetnsError } from './errors.ts';
import { lastErrno, libc } from './ffi.ts';
import { lockDirectory } from './lock.ts';

export { NetnsError } from './errors.ts';

/** Where `ip netns` keeps its names. */
export const NETNS_DIR = '/run/netns';
const THREAD_NETNS = '/proc/thread-self/ns/net';
export const CLONE_NEWNET = 0x40000000; // linux/sched.h
const NS_GET_NSTYPE = 0xb703; // linux/nsfs.h
const MS_BIND = 0x1000;
const MS_REC = 0x4000;
const MS_SHARED = 1 << 20;
const MNT_DETACH = 2;
/** A holder of the directory's lock that has not let go after this (ms) is not waited for. */
const LOCK_MS = 2_000;
/** Non-blocking, since the path comes from a caller: opening a FIFO would block the whole process. */
const OPEN_FLAGS = files.O_RDONLY | files.O_NONBLOCK | files.O_NOCTTY;
const { EINVAL, ENOENT, EEXIST, ENAMETOOLONG } = constants.errno;

/** An open namespace. The descriptor keeps it alive; close it. */
export class Netns implements Disposable {
  readonly fd: number;
  readonly path: string;
  /** Identity of the namespace: two paths to one namespace have the same. */
  readonly inode: bigint;
  #open = true;

  constructor(fd: number, path: string) {
    this.fd = fd;
    this.path = path;
    this.inode = fstatSync(fd, { bigint: true }).ino;
  }

  close(): void {
    if (!this.#open) return;
    this.#open = false;
    closeSync(this.fd);
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/** Opens a network namespace by path; refuses any other file with EINVAL. */
export function openNetns(path: string): Netns {
  let fd: number;
  try {
    fd = openSync(path, OPEN_FLAGS);
  } catch (cause) {
    throw new NetnsError(
      'cannot open network namespace',
      path,
      -((cause as NodeJS.ErrnoException).errno ?? 0),
      {
        cause,
      },
    );
  }
  if (libc().ioctl(fd, NS_GET_NSTYPE) !== CLONE_NEWNET) {
    closeSync(fd);
    throw new NetnsError('not a network namespace:', path, EINVAL);
  }
  return new Netns(fd, path);
}

/** True for the first process's namespace: on a node it is the node's own, in a lab the user's machine's. */
export function isMachineNetns(ns: Netns): boolean {
  try {
    return statSync('/proc/1/ns/net', { bigint: true }).ino === ns.inode;
  } catch {
    return false;
  }
}

/** The namespace that the calling thread is in. */
export const currentNetns = (): Netns => openNetns(THREAD_NETNS);

/** Where the calling thread is now: the innermost withNetns(), or the thread's own namespace. */
let here: Netns | undefined;

/**
 * Runs `fn` in `ns` and comes back, whatever happens. `fn` must be synchronous (TypeError otherwise) and start nothing
 * that goes on after it, children aside, which inherit the namespace: a thread made inside would stay there.
 */
export function withNetns<T>(ns: Netns, fn: () => T): T {
  if (fn.constructor.name === 'AsyncFunction') throw new TypeError('withNetns takes no async function');
  here ??= currentNetns();
  const result = ns.inode === here.inode ? fn() : inside(here, ns, fn);
  if (typeof (result as { then?: unknown } | null | undefined)?.then === 'function') {
    throw new TypeError('withNetns takes no function that returns a promise');
  }
  return result;
}

function inside<T>(before: Netns, ns: Netns, fn: () => T): T {
  const c = libc();
  if (c.setns(ns.fd, CLONE_NEWNET) !== 0) throw new NetnsError('cannot enter', ns.path, lastErrno());
  here = ns;
  try {
    return fn();
  } finally {
    here = before;
    // A thread that cannot come back would do all later work in the wrong namespace, so the process is aborted.
    if (c.setns(before.fd, CLONE_NEWNET) !== 0) {
      process.stderr.write(
        `cannot return from ${ns.path} to the own network namespace: errno ${lastErrno()}\n`,
      );
      process.abort();
    }
  }
}

function netnsPath(name: string): string {
  if (!/^[^/\0]{1,255}$/.test(name) || name === '.' || name === '..') {
    throw new NetnsError(
      'not a namespace name:',
      JSON.stringify(name),
      name.length > 255 ? ENAMETOOLONG : EINVAL,
    );
  }
  return `${NETNS_DIR}/${name}`;
}

/**
 * Makes the directory a shared mount of its own, as `ip netns` does, so that other mount namespaces see removals. Under the
 * lock that `ip netns` takes too: of two mounts, one on the other, the upper one would hide names that the lower one has.
 */
function shareNetnsDir(): void {
  mkdirSync(NETNS_DIR, { recursive: true, mode: 0o755 });
  if (isNetnsDirShared()) return;
  const lock = lockDirectory(NETNS_DIR, LOCK_MS);
  try {
    if (!isNetnsDirShared()) mountNetnsDir();
  } finally {
    lock?.release();
  }
}

/** Shares it where it is a mount. */
function isNetnsDirShared(): boolean {
  if (libc().mount('', NETNS_DIR, 'none', MS_SHARED | MS_REC, null) === 0) return true;
  if (lastErrno() !== EINVAL) throw new NetnsError('cannot share', NETNS_DIR, lastErrno());
  return false;
}

function mountNetnsDir(): void {
  if (libc().mount(NETNS_DIR, NETNS_DIR, 'none', MS_BIND | MS_REC, null) !== 0)
    throw new NetnsError('cannot mount', NETNS_DIR, lastErrno());
  if (!isNetnsDirShared()) throw new NetnsError('cannot share', NETNS_DIR, EINVAL);
}

/** Like `ip netns add`. EEXIST when the name is taken. The caller stays where it is. */
export function createNetns(name: string): Netns {
  const path = netnsPath(name);
  shareNetnsDir();
  try {
    closeSync(openSync(path, 'ax', 0o000));
  } catch (cause) {
    throw new NetnsError('cannot create', path, -((cause as NodeJS.ErrnoException).errno ?? -EEXIST), {
      cause,
    });
  }
  const c = libc();
  here ??= currentNetns();
  let failure: NetnsError | undefined;
  if (c.unshare(CLONE_NEWNET) !== 0) {
    failure = new NetnsError('cannot unshare for', path, lastErrno());
  } else {
    if (c.mount(THREAD_NETNS, path, 'none', MS_BIND, null) !== 0) {
      failure = new NetnsError('cannot bind a namespace to', path, lastErrno());
    }
    if (c.setns(here.fd, CLONE_NEWNET) !== 0) process.abort(); // as in withNetns
  }
  if (failure) {
    rmSync(path, { force: true });
    throw failure;
  }
  return openNetns(path);
}

/** A namespace without a name: it ends with the last descriptor, process or link that holds it. */
export function createAnonymousNetns(): Netns {
  const c = libc();
  here ??= currentNetns();
  if (c.unshare(CLONE_NEWNET) !== 0)
    throw new NetnsError('cannot unshare', 'a network namespace', lastErrno());
  try {
    return currentNetns();
  } finally {
    if (c.setns(here.fd, CLONE_NEWNET) !== 0) process.abort(); // as in withNetns
  }
}

/** Like `ip netns del`: takes the name away; the namespace itself goes with its last user. Idempotent. */
export function deleteNetns(name: string): void {
  const path = netnsPath(name);
  const c = libc();
  // More than one mount may be stacked on the name; EINVAL: not a mount (a stale plain file), ENOENT: gone.
  while (c.umount2(path, MNT_DETACH) === 0);
  const errno = lastErrno();
  if (errno !== EINVAL && errno !== ENOENT) throw new NetnsError('cannot unmount', path, errno);
  rmSync(path, { force: true });
}

/** Names under /run/netns, sorted. */
export function listNetns(): string[] {
  try {
    return readdirSync(NETNS_DIR).sort();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw error;
  }
}
