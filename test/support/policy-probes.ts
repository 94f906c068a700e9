// Servers in pods' namespaces, and probes between them: all sockets are this process's own, so that a round over all pairs
// takes a moment, and a pod needs no program. SCTP is sent and seen as packets: few machines have its sockets.
// Invariant: a packet has a number of its own, by which its receiver knows it.
import { createServer, type Socket as NetSocket, Socket } from 'node:net';
import { setTimeout as sleep, setImmediate as turn } from 'node:timers/promises';
import { formatIp, type Ip, ipToBytes, parseIp } from '../../src/base/ip.ts';
import { libc } from '../../src/kernel/ffi.ts';
import { type Netns, openNetns, withNetns } from '../../src/kernel/netns.ts';
import { connectTcpIn, listenTcpIn } from '../../src/kernel/sockets.ts';

export type Protocol = 'TCP' | 'UDP' | 'SCTP';
export const PROTOCOLS: readonly Protocol[] = ['TCP', 'UDP', 'SCTP'];
export type Family = 4 | 6;
export const familyOfIp = (ip: Ip): Family => (typeof ip === 'number' ? 4 : 6);

const SOCK_DGRAM = 2;
const SOCK_RAW = 3;
const FLAGS = 0o2004000; // SOCK_CLOEXEC | SOCK_NONBLOCK
const SOL_IPV6 = 41;
const IPV6_V6ONLY = 26;
const SCTP = 132;
const AF = { 4: 2, 6: 10 } as const;
const ANY = { 4: '0.0.0.0', 6: '::' } as const;
/** Ms for a packet to arrive that is let through; it takes less than one, on a machine that is not busy. */
const ARRIVES_MS = 200;
/** Ms without an answer after which none is on its way. */
const STILL_MS = 40;

/** struct sockaddr_in or sockaddr_in6. */
function socketAddress(ip: Ip, port: number): Uint8Array {
  const family = familyOfIp(ip);
  const bytes = new Uint8Array(family === 4 ? 16 : 28);
  const view = new DataView(bytes.buffer);
  view.setUint16(0, AF[family], true);
  view.setUint16(2, port);
  bytes.set(ipToBytes(ip), family === 4 ? 4 : 8);
  return bytes;
}

function socketIn(netns: Netns, family: Family, kind: number, protocol: number): number {
  const fd = withNetns(netns, () => libc().socket(AF[family], kind | FLAGS, protocol));
  if (fd < 0) throw new Error(`no socket of kind ${kind} in ${netns.path}`);
  return fd;
}

/** SCTP's checksum (RFC 9260, appendix A), least significant byte first. */
function crc32c(bytes: Uint8Array): number {
  let crc = 0xffff_ffff;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0x82f6_3b78 : crc >>> 1;
  }
  return ~crc >>> 0;
}

function sctpInit(id: number, port: number): Uint8Array {
  const packet = new Uint8Array(32);
  const view = new DataView(packet.buffer);
  view.setUint16(0, 1024 + (id % 60_000));
  view.setUint16(2, port);
  packet.set([1, 0, 0, 20], 12); // INIT
  view.setUint32(16, id); // its tag
  view.setUint32(20, 0x10000); // window
  view.setUint32(24, 0x0001_0001); // streams
  view.setUint32(8, crc32c(packet), true); // connection tracking of others drops a wrong one
  return packet;
}

/** Packets that came and that no probe asks for: of a place. */
const MOST_UNASKED = 10_000;

export type PlaceOptions = {
  readonly ports: readonly number[];
  /** Hears of each connection that is accepted. */
  readonly onAccept: (from: string, port: number, socket: NetSocket) => void;
};

/** A pod with its servers, in each of its families. */
export class Place {
  readonly key: string;
  readonly netns: Netns;
  readonly ips: readonly Ip[];
  readonly #close: (() => void)[] = [];
  readonly #udp: { fd: number; port: number }[] = [];
  readonly #sctp: { fd: number; family: Family }[] = [];
  readonly #came = new Set<string>();

  constructor(key: string, netnsPath: string, ips: readonly string[], { ports, onAccept }: PlaceOptions) {
    this.key = key;
    this.netns = openNetns(netnsPath);
    this.ips = ips.map(parseIp);
    for (const ip of this.ips) {
      const family = familyOfIp(ip);
      for (const port of ports) {
        const server = createServer((socket) => {
          // The other end may be cut off for good.
          socket.on('error', () => {}).unref();
          onAccept(socket.remoteAddress ?? '', port, socket);
        });
        server.listen({ fd: listenTcpIn(this.netns, ANY[family], port) });
        server.unref();
        this.#close.push(() => server.close());
        this.#udp.push({ fd: this.#udpServer(family, port), port });
      }
      const fd = socketIn(this.netns, family, SOCK_RAW, SCTP);
      this.#sctp.push({ fd, family });
      this.#close.push(() => libc().close(fd));
    }
  }

  #udpServer(family: Family, port: number): number {
    const c = libc();
    const fd = socketIn(this.netns, family, SOCK_DGRAM, 0);
    const on = new Uint8Array(new Int32Array([1]).buffer);
    if (family === 6) c.setsockopt(fd, SOL_IPV6, IPV6_V6ONLY, on, 4);
    const any = socketAddress(parseIp(ANY[family]), port);
    if (c.bind(fd, any, any.length) !== 0) throw new Error(`UDP ${port} is taken in ${this.key}`);
    this.#close.push(() => c.close(fd));
    return fd;
  }

  /** Whether that packet has come. */
  has(protocol: 'UDP' | 'SCTP', port: number, id: number): boolean {
    return this.#came.delete(`${protocol} ${port} ${id}`);
  }

  /** Reads what has come. Several rounds of probes may be under way: what nobody asks for is forgotten in time. */
  drain(): void {
    const c = libc();
    if (this.#came.size > MOST_UNASKED) this.#came.clear();
    const buffer = new Uint8Array(2048);
    const view = new DataView(buffer.buffer);
    const each = (fd: number, note: () => void) => {
      while (c.recv(fd, buffer, buffer.length, 0) > 0) note();
    };
    for (const { fd, port } of this.#udp) each(fd, () => this.#came.add(`UDP ${port} ${view.getUint32(0)}`));
    for (const { fd, family } of this.#sctp)
      each(fd, () => {
        const header = family === 4 ? (buffer[0]! & 15) * 4 : 0;
        this.#came.add(`SCTP ${view.getUint16(header + 2)} ${view.getUint32(header + 16)}`);
      });
  }

  close(): void {
    for (const close of this.#close) close();
    this.netns.close();
  }
}

/** `address`: where it is sent, the receiver's own or one that leads to it. */
export type Ask = {
  readonly from: Pick<Place, 'key' | 'netns'>;
  readonly to: Place;
  readonly address: Ip;
  readonly protocol: Protocol;
  readonly port: number;
};

let lastId = 0;

/** For each whether it came: an answer of TCP, the packet itself of the others. */
export async function probe(asks: readonly Ask[]): Promise<boolean[]> {
  const sent = asks.map((ask) => (ask.protocol === 'TCP' ? new Connection(ask) : sendPacket(ask)));
  await sleep(ARRIVES_MS);
  // On a busy machine the time may be over while answers still come in: both ends are this process.
  const answered = () => sent.filter((one) => typeof one !== 'number' && one.isAnswered).length;
  for (let before = -1, now = answered(); now > before; ) {
    before = now;
    await sleep(STILL_MS);
    await turn();
    now = answered();
  }
  for (const place of new Set(asks.map(({ to }) => to))) place.drain();
  return asks.map(({ to, protocol, port }, at) => {
    const one = sent[at]!;
    return typeof one === 'number' ? to.has(protocol as 'UDP' | 'SCTP', port, one) : one.end();
  });
}

class Connection {
  readonly #socket: Socket | null = null;
  isAnswered = false;

  constructor({ from, address, port }: Ask) {
    let fd: number;
    try {
      fd = connectTcpIn(from.netns, formatIp(address), port);
    } catch {
      return; // refused at once: by the pod's own stack
    }
    this.#socket = new Socket({ fd, readable: true, writable: true })
      .on('error', () => {})
      .once('data', () => {
        this.isAnswered = true;
      });
  }

  /** Whether it was answered until now. */
  end(): boolean {
    this.#socket?.destroy();
    return this.isAnswered;
  }
}

/** Whether a datagram arrives that begins with the payload that `send` is given. */
export async function arrives(
  to: Place,
  port: number,
  send: (payload: Uint8Array) => void,
): Promise<boolean> {
  const id = ++lastId;
  const payload = new Uint8Array(4);
  new DataView(payload.buffer).setUint32(0, id);
  send(payload);
  await sleep(ARRIVES_MS);
  to.drain();
  return to.has('UDP', port, id);
}

/** By a socket of its own; `sport`: else any. */
export function sendDatagram(netns: Netns, dst: Ip, port: number, payload: Uint8Array, sport?: number): void {
  const c = libc();
  const family = familyOfIp(dst);
  const fd = socketIn(netns, family, SOCK_DGRAM, 0);
  if (sport !== undefined) {
    const own = socketAddress(parseIp(ANY[family]), sport);
    c.bind(fd, own, own.length);
  }
  const target = socketAddress(dst, port);
  if (c.connect(fd, target, target.length) === 0) c.send(fd, payload, payload.length, 0);
  c.close(fd);
}

function sendPacket({ from, address, protocol, port }: Ask): number {
  const c = libc();
  const id = ++lastId;
  const family = familyOfIp(address);
  const isUdp = protocol === 'UDP';
  const fd = isUdp
    ? socketIn(from.netns, family, SOCK_DGRAM, 0)
    : socketIn(from.netns, family, SOCK_RAW, SCTP);
  const payload = isUdp ? new Uint8Array(4) : sctpInit(id, port);
  if (isUdp) new DataView(payload.buffer).setUint32(0, id);
  const target = socketAddress(address, isUdp ? port : 0);
  if (c.connect(fd, target, target.length) === 0) c.send(fd, payload, payload.length, 0);
  c.close(fd);
  return id;
}
