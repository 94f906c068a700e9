// Packets that no socket of the kernel makes: with another's source, with options and extension headers, ICMP errors. Sent
// in a pod's namespace.
import { type Ip, ipToBytes } from '../../src/base/ip.ts';
import { libc } from '../../src/kernel/ffi.ts';
import { type Netns, withNetns } from '../../src/kernel/netns.ts';

const SOCK_RAW = 3;
const FLAGS = 0o2004000; // SOCK_CLOEXEC | SOCK_NONBLOCK
const IPPROTO_RAW = 255;
const AF = { 4: 2, 6: 10 } as const;

const sumOf = (bytes: Uint8Array, from = 0): number => {
  let sum = from;
  for (let at = 0; at < bytes.length; at += 2) sum += (bytes[at]! << 8) + (bytes[at + 1] ?? 0);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return sum;
};

export type Udp = { readonly src: Ip; readonly dst: Ip; readonly sport: number; readonly port: number };

/** With a checksum over addresses, as IPv6 wants it. */
export function udpBytes({ src, dst, sport, port }: Udp, payload: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(8 + payload.length);
  const view = new DataView(bytes.buffer);
  view.setUint16(0, sport);
  view.setUint16(2, port);
  view.setUint16(4, bytes.length);
  bytes.set(payload, 8);
  const pseudo = Uint8Array.from([
    ...ipToBytes(src),
    ...ipToBytes(dst),
    0,
    17,
    bytes.length >> 8,
    bytes.length & 255,
  ]);
  view.setUint16(6, ~sumOf(bytes, sumOf(pseudo)) & 0xffff || 0xffff);
  return bytes;
}

/** `options`: of IPv4, a multiple of 4 bytes. `offset`: of a fragment, in bytes; -1 is a whole packet. */
export function ipv4Bytes(
  { src, dst }: { src: Ip; dst: Ip },
  protocol: number,
  body: Uint8Array,
  { options = new Uint8Array(0), offset = -1, more = false, id = 0 } = {},
): Uint8Array {
  const length = 20 + options.length;
  const bytes = new Uint8Array(length + body.length);
  const view = new DataView(bytes.buffer);
  bytes[0] = 0x40 | (length / 4);
  view.setUint16(2, bytes.length);
  view.setUint16(4, id);
  if (offset >= 0) view.setUint16(6, (more ? 0x2000 : 0) | (offset / 8));
  bytes[8] = 64;
  bytes[9] = protocol;
  bytes.set(ipToBytes(src), 12);
  bytes.set(ipToBytes(dst), 16);
  bytes.set(options, 20);
  view.setUint16(10, ~sumOf(bytes.subarray(0, length)) & 0xffff);
  bytes.set(body, length);
  return bytes;
}

/** With a destination options header of eight bytes of padding before the body. */
export function ipv6Bytes(
  { src, dst }: { src: Ip; dst: Ip },
  protocol: number,
  body: Uint8Array,
): Uint8Array {
  const bytes = new Uint8Array(48 + body.length);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, 6 << 28);
  view.setUint16(4, 8 + body.length);
  bytes[6] = 60; // destination options
  bytes[7] = 64;
  bytes.set(ipToBytes(src), 8);
  bytes.set(ipToBytes(dst), 24);
  bytes.set([protocol, 0, 1, 4], 40);
  bytes.set(body, 48);
  return bytes;
}

/** "Fragmentation needed" (RFC 1191) for a packet of which `quoted` are the first bytes. */
export function tooBig(mtu: number, quoted: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(8 + quoted.length);
  const view = new DataView(bytes.buffer);
  bytes.set([3, 4]);
  view.setUint16(6, mtu);
  bytes.set(quoted, 8);
  view.setUint16(2, ~sumOf(bytes) & 0xffff);
  return bytes;
}

/** Whole IP packets, header and all. */
export function sendRaw(netns: Netns, dst: Ip, ...packets: readonly Uint8Array[]): void {
  const family = typeof dst === 'number' ? 4 : 6;
  const c = libc();
  const fd = withNetns(netns, () => c.socket(AF[family], SOCK_RAW | FLAGS, IPPROTO_RAW));
  const address = new Uint8Array(family === 4 ? 16 : 28);
  new DataView(address.buffer).setUint16(0, AF[family], true);
  address.set(ipToBytes(dst), family === 4 ? 4 : 8);
  try {
    if (fd < 0 || c.connect(fd, address, address.length) !== 0) throw new Error('no raw socket');
    for (const packet of packets) c.send(fd, packet, packet.length, 0);
  } finally {
    c.close(fd);
  }
}
