// The system calls behind a netlink socket: opens it in its namespace, sends and receives bytes. It parses nothing.
// Calls return a count or a negative errno; opening fails with SyscallError and leaves no descriptor.

import { SyscallError } from '../errors.ts';
import { intBytes, type Libc, lastErrno, libc } from '../ffi.ts';
import { Netns, withNetns } from '../netns.ts';

const AF_NETLINK = 16;
const SOCK_RAW = 3;
const SOCK_CLOEXEC = 0o2000000;
const SOCK_NONBLOCK = 0o4000;
const SOL_SOCKET = 1;
const SO_SNDBUFFORCE = 32;
const SO_RCVBUFFORCE = 33;
const SOL_NETLINK = 270;
const NETLINK_ADD_MEMBERSHIP = 1;
const NETLINK_CAP_ACK = 10;
const NETLINK_EXT_ACK = 11;
const NETLINK_GET_STRICT_CHK = 12;
/** linux/sockios.h: the namespace of a socket, as a descriptor. */
const SIOCGSKNS = 0x894c;
const MSG_TRUNC = 0x20;
const MSG_DONTWAIT = 0x40;

/** Room for the refusals of a whole batch (each costs the kernel about 1 kB) and for bursts of notifications. */
const RECEIVE_ROOM = 8 << 20;

export type SocketOptions = {
  ns?: Netns | undefined;
  /** Check dump requests strictly and honour their filters (rtnetlink only). */
  strict?: boolean;
  /** Multicast groups to listen to. */
  groups?: readonly number[];
  /** A socket for one batch without dumps: the kernel's default buffer holds the answers. */
  brief?: boolean;
};

export interface Transport {
  /** For poll(2). */
  readonly fd: number;
  send(bytes: Uint8Array, length: number): number;
  /** The same on a pool thread, whose errno stays there: a failure is -1. */
  sendAsync(bytes: Uint8Array): Promise<number>;
  /** The datagram's whole length, which may be more than `into` holds; -EAGAIN when none waits. */
  receive(into: Uint8Array): number;
  receiveAsync(into: Uint8Array): Promise<number>;
  /** Makes room for one datagram of that many bytes. Throws SyscallError. */
  makeSendRoom(length: number): void;
  /** The port that the kernel knows the socket by; 0 until it has sent something. Throws SyscallError. */
  port(): number;
  /** A new socket of the same protocol in the same namespace, even if that namespace has no name any more. */
  sibling(options: Omit<SocketOptions, 'ns'>): Transport;
  close(): void;
}

function pooled(call: Libc['send'], fd: number, bytes: Uint8Array, flags: number): Promise<number> {
  return new Promise((resolve, reject) => {
    call.async(fd, bytes, bytes.length, flags, (error, result) => (error ? reject(error) : resolve(result)));
  });
}

function setOption(fd: number, level: number, name: number, value: number): void {
  if (libc().setsockopt(fd, level, name, intBytes(value), 4) !== 0) {
    throw new SyscallError(`netlink socket option ${level}/${name}`, lastErrno());
  }
}

/** Port 0 is the kernel's: a socket that has no port yet receives no notifications. */
function bindAnyPort(fd: number): void {
  const address = new Uint8Array(12);
  new DataView(address.buffer).setUint16(0, AF_NETLINK, true);
  if (libc().bind(fd, address, address.length) !== 0) throw new SyscallError('netlink bind', lastErrno());
}

export function openTransport(protocol: number, options: SocketOptions = {}): Transport {
  const c = libc();
  const make = () => c.socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, protocol);
  const fd = options.ns ? withNetns(options.ns, make) : make();
  if (fd < 0) throw new SyscallError(`netlink socket of protocol ${protocol}`, lastErrno());
  try {
    setOption(fd, SOL_NETLINK, NETLINK_EXT_ACK, 1);
    if (options.brief) return new KernelTransport(fd, protocol);
    setOption(fd, SOL_NETLINK, NETLINK_CAP_ACK, 1);
    if (options.strict) setOption(fd, SOL_NETLINK, NETLINK_GET_STRICT_CHK, 1);
    setOption(fd, SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_ROOM);
    if (options.groups) {
      bindAnyPort(fd);
      for (const group of options.groups) setOption(fd, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, group);
    }
  } catch (error) {
    c.close(fd);
    throw error;
  }
  return new KernelTransport(fd, protocol);
}

class KernelTransport implements Transport {
  readonly fd: number;
  readonly #protocol: number;

  constructor(fd: number, protocol: number) {
    this.fd = fd;
    this.#protocol = protocol;
  }

  send(bytes: Uint8Array, length: number): number {
    const sent = libc().send(this.fd, bytes, length, 0);
    return sent < 0 ? -lastErrno() : sent;
  }

  sendAsync(bytes: Uint8Array): Promise<number> {
    return pooled(libc().send, this.fd, bytes, 0);
  }

  receive(into: Uint8Array): number {
    const length = libc().recv(this.fd, into, into.length, MSG_DONTWAIT | MSG_TRUNC);
    return length < 0 ? -lastErrno() : length;
  }

  receiveAsync(into: Uint8Array): Promise<number> {
    return pooled(libc().recv, this.fd, into, MSG_DONTWAIT | MSG_TRUNC);
  }

  makeSendRoom(length: number): void {
    setOption(this.fd, SOL_SOCKET, SO_SNDBUFFORCE, length);
  }

  port(): number {
    const address = new Uint8Array(12);
    if (libc().getsockname(this.fd, address, intBytes(address.length)) !== 0) {
      throw new SyscallError('netlink getsockname', lastErrno());
    }
    return new DataView(address.buffer).getInt32(4, true);
  }

  sibling(options: Omit<SocketOptions, 'ns'>): Transport {
    const fd = libc().ioctl(this.fd, SIOCGSKNS);
    if (fd < 0) throw new SyscallError('SIOCGSKNS', lastErrno());
    using ns = new Netns(fd, 'the namespace of a netlink socket');
    return openTransport(this.#protocol, { ...options, ns });
  }

  close(): void {
    libc().close(this.fd);
  }
}
