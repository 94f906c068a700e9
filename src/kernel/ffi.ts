// All calls to C: libc through koffi, loaded at first use so that importing src/kernel costs nothing.
// Every function here returns what libc returns; callers turn a negative result into an error with `lastErrno()`,
// at once, before any other call. Only little-endian Linux is supported (x64 and arm64): the codecs write host order.
import { createRequire } from 'node:module';
import { endianness } from 'node:os';
import type koffiTypes from 'koffi';

type Koffi = typeof koffiTypes;
type Pointer = Uint8Array | bigint | string | null;

/** The calls that Podway makes. Buffers are passed by address and never copied. */
export type Libc = {
  socket(domain: number, type: number, protocol: number): number;
  bind(fd: number, address: Uint8Array, length: number): number;
  listen(fd: number, backlog: number): number;
  connect(fd: number, address: Uint8Array, length: number): number;
  setsockopt(fd: number, level: number, name: number, value: Uint8Array, length: number): number;
  /** `length` is an int: the value's room going in, its length coming back. */
  getsockopt(fd: number, level: number, name: number, value: Uint8Array, length: Uint8Array): number;
  send: ((fd: number, bytes: Uint8Array, length: number, flags: number) => number) & AsyncCall;
  recv: ((fd: number, bytes: Uint8Array, length: number, flags: number) => number) & AsyncCall;
  /** `length` in host order, in and out. */
  getsockname(fd: number, address: Uint8Array, length: Uint8Array): number;
  close(fd: number): number;
  setns(fd: number, type: number): number;
  unshare(flags: number): number;
  mount(source: Pointer, target: string, type: Pointer, flags: number, data: Pointer): number;
  umount2(target: string, flags: number): number;
  ioctl(fd: number, request: number): number;
  flock(fd: number, operation: number): number;
  /** bpf(2): command, union bpf_attr and its size. */
  bpf(command: number, attributes: Uint8Array, size: number): number;
};

/** koffi's pool-thread variant of a call; the buffers must stay referenced until the callback. */
type AsyncCall = {
  async(
    fd: number,
    bytes: Uint8Array,
    length: number,
    flags: number,
    done: (error: unknown, result: number) => void,
  ): void;
};

let onSystemCall: ((name: string) => void) | undefined;

/**
 * Calls `hook` with the name before and after each call from now on: tests end the process there. Must be set before
 * the first call, in this thread; without a hook the calls are libc's own and cost nothing more.
 */
export function watchSystemCalls(hook: (name: string) => void): void {
  onSystemCall = hook;
  loadedLibc = undefined;
}

let loadedKoffi: Koffi | undefined;
let loadedLibc: Libc | undefined;

/** koffi itself, for the libraries that src/kernel loads (libnftables). */
export function koffi(): Koffi {
  if (loadedKoffi === undefined) {
    if (process.platform !== 'linux' || endianness() !== 'LE') {
      throw new Error(
        `the kernel interface needs little-endian Linux, not ${process.platform} ${endianness()}`,
      );
    }
    loadedKoffi = createRequire(import.meta.url)('koffi') as Koffi;
  }
  return loadedKoffi;
}

export function libc(): Libc {
  if (loadedLibc === undefined) {
    const library = koffi().load(null);
    loadedLibc = {
      socket: library.func('int socket(int, int, int)'),
      bind: library.func('int bind(int, const void *, uint32_t)'),
      listen: library.func('int listen(int, int)'),
      connect: library.func('int connect(int, const void *, uint32_t)'),
      setsockopt: library.func('int setsockopt(int, int, int, const void *, uint32_t)'),
      getsockopt: library.func('int getsockopt(int, int, int, _Out_ void *, _Inout_ void *)'),
      send: library.func('intptr_t send(int, const void *, size_t, int)') as Libc['send'],
      recv: library.func('intptr_t recv(int, void *, size_t, int)') as Libc['recv'],
      getsockname: library.func('int getsockname(int, void *, void *)'),
      close: library.func('int close(int)'),
      setns: library.func('int setns(int, int)'),
      unshare: library.func('int unshare(int)'),
      mount: library.func('int mount(const char *, const char *, const char *, unsigned long, const char *)'),
      umount2: library.func('int umount2(const char *, int)'),
      ioctl: library.func('int ioctl(int, unsigned long)'),
      flock: library.func('int flock(int, int)'),
      bpf: bpfOf(library),
    } as Libc;
    if (onSystemCall) loadedLibc = watched(loadedLibc, onSystemCall);
  }
  return loadedLibc;
}

/** libc has no name for bpf(2); the number is asm-generic's on arm64. */
function bpfOf(library: ReturnType<Koffi['load']>): Libc['bpf'] {
  const number = process.arch === 'arm64' ? 280 : 321;
  let call: ((number: number, command: number, attributes: Uint8Array, size: number) => number) | undefined;
  return (command, attributes, size) => {
    call ??= library.func('long syscall(long, long, void *, long)');
    return call(number, command, attributes, size);
  };
}

type AnyCall = ((...args: unknown[]) => unknown) & { async?: (...args: unknown[]) => void };

function watched(calls: Libc, hook: (name: string) => void): Libc {
  const around = ([name, call]: [string, AnyCall]) => {
    const wrapped: AnyCall = (...args) => {
      hook(`${name}:before`);
      const result = call(...args);
      hook(`${name}:after`);
      return result;
    };
    wrapped.async = (...args) => {
      const done = args.pop() as (error: unknown, result: unknown) => void;
      hook(`${name}:pooled:before`);
      call.async?.(...args, (error: unknown, result: unknown) => {
        hook(`${name}:pooled:after`);
        done(error, result);
      });
    };
    return [name, wrapped];
  };
  return Object.fromEntries(Object.entries(calls as unknown as Record<string, AnyCall>).map(around)) as Libc;
}

export const lastErrno = (): number => koffi().errno();

/** Where a buffer lies, for structures that name others by address. It must stay referenced while the kernel may read it. */
export const addressOf = (bytes: Uint8Array): bigint => koffi().address(bytes);

/** An int in host order, as setsockopt wants it. */
export function intBytes(value: number): Uint8Array {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setInt32(0, value, true);
  return bytes;
}
