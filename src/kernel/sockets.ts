// Sockets made inside another namespace and then used from the event loop: a socket stays in the namespace it was
// made in. Ownership of the descriptor goes to the caller (net.Server.listen({fd}) takes it over and closes it).
import { constants } from 'node:os';
import { familyOf, ipToBytes, parseIp } from '../base/ip.ts';
import { SyscallError } from './errors.ts';
import { intBytes, lastErrno, libc } from './ffi.ts';
import { type Netns, withNetns } from './netns.ts';

const AF_INET = 2;
const AF_INET6 = 10;
const SOCK_STREAM = 1;
const SOCK_DGRAM = 2;
const SOCK_NONBLOCK = 0o4000;
const SOCK_CLOEXEC = 0o2000000;
const SOL_SOCKET = 1;
const SO_REUSEADDR = 2;
const IPPROTO_IP = 0;
const IP_TTL = 2;
const IPPROTO_IPV6 = 41;
const IPV6_UNICAST_HOPS = 16;
const IPV6_V6ONLY = 26;
const SO_NETNS_COOKIE = 71; // asm-generic/socket.h, Linux 5.14
const DEFAULT_BACKLOG = 511;
const { EINPROGRESS, ENOPROTOOPT } = constants.errno;

/** struct sockaddr_in or sockaddr_in6. */
function socketAddress(address: string, port: number): { family: number; bytes: Uint8Array } {
  const ip = parseIp(address);
  const v4 = familyOf(ip) === 4;
  const bytes = new Uint8Array(v4 ? 16 : 28);
  const view = new DataView(bytes.buffer);
  view.setUint16(0, v4 ? AF_INET : AF_INET6, true);
  view.setUint16(2, port, false);
  bytes.set(ipToBytes(ip), v4 ? 4 : 8);
  return { family: v4 ? AF_INET : AF_INET6, bytes };
}

function setOption(fd: number, level: number, name: number, value: number, what: string): void {
  if (libc().setsockopt(fd, level, name, intBytes(value), 4) !== 0) throw new SyscallError(what, lastErrno());
}

function boundSocket(
  ns: Netns,
  kind: number,
  address: string,
  port: number,
  ready: (fd: number) => void,
): number {
  const { family, bytes } = socketAddress(address, port);
  const c = libc();
  return withNetns(ns, () => {
    const fd = c.socket(family, kind | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) throw new SyscallError(`socket in ${ns.path}`, lastErrno());
    try {
      setOption(fd, SOL_SOCKET, SO_REUSEADDR, 1, 'SO_REUSEADDR');
      if (family === AF_INET6) setOption(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1, 'IPV6_V6ONLY');
      if (c.bind(fd, bytes, bytes.length) !== 0) {
        throw new SyscallError(`bind ${address} port ${port} in ${ns.path}`, lastErrno());
      }
      ready(fd);
    } catch (error) {
      c.close(fd);
      throw error;
    }
    return fd;
  });
}

/** A listening TCP socket in `ns`; pass the descriptor to `server.listen({ fd })`. `ttl` as in setSocketTtl. */
export function listenTcpIn(
  ns: Netns,
  address: string,
  port: number,
  options: { ttl?: number; backlog?: number } = {},
): number {
  return boundSocket(ns, SOCK_STREAM, address, port, (fd) => {
    if (options.ttl !== undefined) setSocketTtl(fd, options.ttl, address.includes(':') ? 6 : 4);
    if (libc().listen(fd, options.backlog ?? DEFAULT_BACKLOG) !== 0) {
      throw new SyscallError(`listen ${address} port ${port} in ${ns.path}`, lastErrno());
    }
  });
}

/** A UDP socket in `ns`; pass the descriptor to `socket.bind({ fd })`. */
export const bindUdpIn = (ns: Netns, address: string, port: number): number =>
  boundSocket(ns, SOCK_DGRAM, address, port, () => {});

/**
 * A TCP socket in `ns` that is connecting: the first read or write of `new net.Socket({ fd })` tells a refusal, and until
 * then it can be written to.
 */
export function connectTcpIn(ns: Netns, address: string, port: number): number {
  const { family, bytes } = socketAddress(address, port);
  const c = libc();
  return withNetns(ns, () => {
    const fd = c.socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) throw new SyscallError(`socket in ${ns.path}`, lastErrno());
    if (c.connect(fd, bytes, bytes.length) === 0) return fd;
    const errno = lastErrno();
    if (errno === EINPROGRESS) return fd;
    c.close(fd);
    throw new SyscallError(`connect to ${address} port ${port} in ${ns.path}`, errno);
  });
}

/** Time to live of what the socket sends from now on; accepted connections inherit the listener's. */
export function setSocketTtl(fd: number, ttl: number, family: 4 | 6 = 4): void {
  if (family === 4) setOption(fd, IPPROTO_IP, IP_TTL, ttl, `IP_TTL ${ttl}`);
  else setOption(fd, IPPROTO_IPV6, IPV6_UNICAST_HOPS, ttl, `IPV6_UNICAST_HOPS ${ttl}`);
}

/**
 * A number that the kernel gives a network namespace once and never again until it boots; null on a kernel that has
 * none (before 5.14).
 */
export function netnsCookie(ns: Netns): string | null {
  const c = libc();
  return withNetns(ns, () => {
    const fd = c.socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0) throw new SyscallError(`socket in ${ns.path}`, lastErrno());
    try {
      const cookie = new Uint8Array(8);
      if (c.getsockopt(fd, SOL_SOCKET, SO_NETNS_COOKIE, cookie, intBytes(cookie.length)) !== 0) {
        const errno = lastErrno();
        if (errno === ENOPROTOOPT) return null;
        throw new SyscallError('SO_NETNS_COOKIE', errno);
      }
      return new DataView(cookie.buffer).getBigUint64(0, true).toString();
    } finally {
      c.close(fd);
    }
  });
}
