// Errors of the kernel interface: one class each for system calls, namespaces, netlink and nft, with the errno, its
// name and the kernel's own sentence, if any (NETLINK_EXT_ACK). Nothing here is retried or swallowed.
import { constants } from 'node:os';
import { getSystemErrorMessage } from 'node:util';

/** Kernel-internal numbers that reach user space and have no name in libc (include/linux/errno.h). */
const KERNEL_ONLY: ReadonlyMap<number, string> = new Map([
  [524, 'ENOTSUPP'],
  [512, 'ERESTARTSYS'],
]);

const names = new Map<number, string>();
for (const [name, number] of Object.entries(constants.errno)) {
  // EWOULDBLOCK and EOPNOTSUPP share numbers with EAGAIN and ENOTSUP: the kernel's documents use these.
  if (name !== 'EWOULDBLOCK' && name !== 'ENOTSUP') names.set(number, name);
}

export const ENOENT = constants.errno.ENOENT;
export const EEXIST = constants.errno.EEXIST;
export const EAGAIN = constants.errno.EAGAIN;
export const EINTR = constants.errno.EINTR;
export const ENODEV = constants.errno.ENODEV;
export const ENOBUFS = constants.errno.ENOBUFS;

/** `EEXIST` for 17; `E524` style for numbers without a name. */
export const errnoName = (errno: number): string => names.get(errno) ?? KERNEL_ONLY.get(errno) ?? `E${errno}`;

export function errnoText(errno: number): string {
  try {
    return getSystemErrorMessage(-errno) ?? errnoName(errno);
  } catch {
    return errnoName(errno);
  }
}

/** A system call failed: `call` names it and its object. */
export class SyscallError extends Error {
  override name = 'SyscallError';
  readonly errno: number;
  readonly code: string;

  constructor(call: string, errno: number) {
    super(`${call}: ${errnoName(errno)} (${errnoText(errno)})`);
    this.errno = errno;
    this.code = errnoName(errno);
  }
}

/** A namespace cannot be opened, entered, made or removed. */
export class NetnsError extends Error {
  override name = 'NetnsError';
  readonly path: string;
  readonly errno: number;
  readonly code: string;

  constructor(what: string, path: string, errno: number, options?: ErrorOptions) {
    super(`${what} ${path}: ${errnoName(errno)} (${errnoText(errno)})`, options);
    this.path = path;
    this.errno = errno;
    this.code = errnoName(errno);
  }
}

export type NetlinkFailure = {
  /** What was asked, e.g. `route-add`. */
  op: string;
  /** Place of the operation in the batch; 0 for a single request. */
  index: number;
  errno: number;
  /** The kernel's sentence, empty when it gave none. */
  kernelText: string;
  /** The operation's own values, for the message. */
  detail?: string;
  /** Byte offset of the attribute that the kernel objects to, within our message; absent when it names none. */
  offset?: number;
};

/** The kernel refused a request. */
export class NetlinkError extends Error {
  override name = 'NetlinkError';
  readonly op: string;
  readonly index: number;
  readonly errno: number;
  readonly code: string;
  readonly kernelText: string;
  readonly offset: number | undefined;

  constructor(failure: NetlinkFailure) {
    const what = failure.detail ? `${failure.op} ${failure.detail}` : failure.op;
    const text = failure.kernelText === '' ? errnoText(failure.errno) : failure.kernelText;
    super(`${what}: ${errnoName(failure.errno)}: ${text}`);
    this.op = failure.op;
    this.index = failure.index;
    this.errno = failure.errno;
    this.code = errnoName(failure.errno);
    this.kernelText = failure.kernelText;
    this.offset = failure.offset;
  }
}

/** libnftables refused a script; nothing of it was applied. `text` is the library's own explanation. */
export class NftError extends Error {
  override name = 'NftError';
  readonly text: string;
  /** Not enumerable: a log line needs the text, not the whole ruleset. */
  declare readonly script: string;

  constructor(text: string, script: string) {
    super(text.trim() === '' ? 'nft refused the script and said nothing' : text.trim());
    this.text = text;
    Object.defineProperty(this, 'script', { value: script, enumerable: false });
  }
}
