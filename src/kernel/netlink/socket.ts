// A netlink socket: batches out in one send, acknowledgements and dumps in. It stays in the namespace it was made in.
// Requests are synchronous: the kernel works inside send(2) and has its answers queued when send returns, so receiving
// never blocks. Only the last message of a batch asks for an acknowledgement; refusals always come, in order.
// Fails with SyscallError (the socket), NetlinkError (the kernel's refusal) or DumpInterrupted (a table that never rests).
import { EAGAIN, EINTR, ENOBUFS, errnoName, NetlinkError, SyscallError } from '../errors.ts';
import { intBytes, type Libc, lastErrno, libc } from '../ffi.ts';
import { Netns, withNetns } from '../netns.ts';
import { align4, type ByteWriter } from './bytes.ts';
import {
  type Acknowledgement,
  eachMessage,
  type Message,
  NLM_F_ACK,
  NLM_F_DUMP_INTR,
  NLMSG_DONE,
  NLMSG_ERROR,
  readAcknowledgement,
} from './message.ts';

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

export const NETLINK_ROUTE = 0;
export const NETLINK_NETFILTER = 12;

/** Room for the refusals of a whole batch (each costs the kernel about 1 kB) and for bursts of notifications. */
const RECEIVE_ROOM = 8 << 20;
/** The kernel makes dump messages no larger than 32 KiB (netlink_dump), acknowledgements are capped. */
const RECEIVE_BYTES = 64 << 10;
const DUMP_ATTEMPTS = 20;

/** One buffer for the thread: whatever was received is turned into values before the next receive. */
let shared: Uint8Array | undefined;
const receiveBuffer = (): Uint8Array => {
  shared ??= new Uint8Array(RECEIVE_BYTES);
  return shared;
};

/** A dump was disturbed by changes each time it was tried. */
export class DumpInterrupted extends Error {
  override name = 'DumpInterrupted';
}

/** Runs send or recv on a pool thread. Its errno stays there: callers learn only that the length is wrong. */
function pooled(call: Libc['send'], fd: number, bytes: Uint8Array, flags: number): Promise<number> {
  return new Promise((resolve, reject) => {
    call.async(fd, bytes, bytes.length, flags, (error, result) => (error ? reject(error) : resolve(result)));
  });
}

/** The parts of one dump, told from leftovers of earlier ones by the sequence number. */
class DumpReader {
  readonly sequence: number;
  readonly #what: string;
  readonly #part: (message: Message) => void;
  done = false;
  disturbed = false;

  constructor(sequence: number, what: string, part: (message: Message) => void) {
    this.sequence = sequence;
    this.#what = what;
    this.#part = part;
  }

  read(bytes: Uint8Array, length: number): void {
    eachMessage(bytes, length, (message) => {
      if (message.sequence !== this.sequence || this.done) return;
      if ((message.flags & NLM_F_DUMP_INTR) !== 0) this.disturbed = true;
      if (message.type !== NLMSG_DONE && message.type !== NLMSG_ERROR) {
        if (!this.disturbed) this.#part(message);
        return;
      }
      this.done = true;
      const answer = readAcknowledgement(message);
      if (answer.errno === EINTR) this.disturbed = true;
      else if (answer.errno !== 0)
        throw new NetlinkError({ op: `dump of ${this.#what}`, index: 0, ...answer });
    });
  }
}

export type SocketOptions = {
  ns?: Netns | undefined;
  /** Check dump requests strictly and honour their filters (rtnetlink only). */
  strict?: boolean;
  /** Multicast groups to listen to. */
  groups?: readonly number[];
};

export class NetlinkSocket implements Disposable {
  readonly fd: number;
  readonly protocol: number;
  #sequence = 0;
  #open = true;
  #sendRoom = 200 << 10;

  private constructor(fd: number, protocol: number) {
    this.fd = fd;
    this.protocol = protocol;
  }

  static open(protocol: number, options: SocketOptions = {}): NetlinkSocket {
    const c = libc();
    const make = () => c.socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, protocol);
    const fd = options.ns ? withNetns(options.ns, make) : make();
    if (fd < 0) throw new SyscallError(`netlink socket of protocol ${protocol}`, lastErrno());
    const set = (level: number, name: number, value: number) => {
      if (c.setsockopt(fd, level, name, intBytes(value), 4) !== 0) {
        const errno = lastErrno();
        c.close(fd);
        throw new SyscallError(`netlink socket option ${level}/${name}`, errno);
      }
    };
    set(SOL_NETLINK, NETLINK_EXT_ACK, 1);
    set(SOL_NETLINK, NETLINK_CAP_ACK, 1);
    if (options.strict) set(SOL_NETLINK, NETLINK_GET_STRICT_CHK, 1);
    set(SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_ROOM);
    if (options.groups) {
      // A socket without a port of its own counts as the kernel's, to which notifications are not sent.
      const address = new Uint8Array(12);
      new DataView(address.buffer).setUint16(0, AF_NETLINK, true);
      if (c.bind(fd, address, address.length) !== 0) {
        const errno = lastErrno();
        c.close(fd);
        throw new SyscallError('netlink bind', errno);
      }
      for (const group of options.groups) set(SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, group);
    }
    return new NetlinkSocket(fd, protocol);
  }

  /** Numbers the messages and asks for an acknowledgement of the last, or of the last before a batch's end. */
  #number(w: ByteWriter, acknowledged: 'last' | 'last but one'): { first: number; last: number } {
    const first = this.#next();
    let last = first;
    let at = 0;
    let lastAt = 0;
    let beforeAt = 0;
    for (;;) {
      w.view.setUint32(at + 8, last, true);
      beforeAt = lastAt;
      lastAt = at;
      at += align4(w.view.getUint32(at, true));
      if (at >= w.length) break;
      last = this.#next();
    }
    const flagsAt = (acknowledged === 'last' ? lastAt : beforeAt) + 6;
    w.view.setUint16(flagsAt, w.view.getUint16(flagsAt, true) | NLM_F_ACK, true);
    return { first, last };
  }

  #next(): number {
    this.#sequence = (this.#sequence + 1) >>> 0;
    return this.#sequence;
  }

  #ensureSendRoom(length: number): void {
    if (length <= this.#sendRoom) return;
    // The kernel doubles the value; one batch may take it whole (netlink_sendmsg: EMSGSIZE otherwise).
    if (libc().setsockopt(this.fd, SOL_SOCKET, SO_SNDBUFFORCE, intBytes(length + 4096), 4) !== 0) {
      throw new SyscallError('SO_SNDBUFFORCE', lastErrno());
    }
    this.#sendRoom = length;
  }

  /**
   * Sends the messages in `w` in one datagram and hands each refusal to `refused` with the message's place in the
   * batch. The kernel goes on after a refusal (nfnetlink batches aside, which it takes as a whole or not at all).
   */
  transact(w: ByteWriter, refused: (place: number, answer: Acknowledgement) => void): void {
    if (w.length === 0) return;
    this.#ensureSendRoom(w.length);
    const { first, last } = this.#number(w, 'last');
    this.#send(w.bytes, w.length);
    this.#collect(first, last, refused);
  }

  /** As `transact`, with send(2) on a pool thread: for requests that hold the caller for long (group deletes). */
  async transactAsync(
    w: ByteWriter,
    refused: (place: number, answer: Acknowledgement) => void,
  ): Promise<void> {
    if (w.length === 0) return;
    this.#ensureSendRoom(w.length);
    const { first, last } = this.#number(w, 'last');
    const bytes = w.copy();
    const sent = await pooled(libc().send, this.fd, bytes, 0);
    if (sent !== bytes.length) throw new Error(`netlink send took ${sent} of ${bytes.length} bytes`);
    this.#collect(first, last, refused);
  }

  /**
   * Sends an nfnetlink batch (its first and last message are the begin and the end), which the kernel applies as a
   * whole or not at all, and hands over every refusal; place 0 is the batch itself.
   */
  transactBatch(w: ByteWriter, refused: (place: number, answer: Acknowledgement) => void): void {
    this.#ensureSendRoom(w.length);
    const { first, last } = this.#number(w, 'last but one');
    this.#send(w.bytes, w.length);
    let answers = 0;
    // A refusal of the batch may come with or without acknowledgements of its messages: read all there is.
    for (let length = this.receive(); length > 0; length = this.receive()) {
      eachMessage(receiveBuffer(), length, (message) => {
        const place = (message.sequence - first) >>> 0;
        if (message.type !== NLMSG_ERROR || place > last - first) return;
        answers++;
        const answer = readAcknowledgement(message);
        if (answer.errno !== 0) refused(place, answer);
      });
    }
    if (answers === 0) throw new SyscallError('nfnetlink answer', EAGAIN);
  }

  #collect(first: number, last: number, refused: (place: number, answer: Acknowledgement) => void): void {
    for (let done = false; !done; ) {
      const length = this.receive();
      if (length === 0) throw new SyscallError('netlink answer', EAGAIN);
      eachMessage(receiveBuffer(), length, (message) => {
        if (message.type !== NLMSG_ERROR) return;
        const place = (message.sequence - first) >>> 0;
        if (place > last - first) return; // an answer to an earlier request that failed half way
        const answer = readAcknowledgement(message);
        if (answer.errno !== 0) refused(place, answer);
        if (message.sequence === last) done = true;
      });
    }
  }

  /**
   * Sends the one dump request in `w` and hands each part to `part`; `restart` is called before a new attempt when
   * the table changed underneath (NLM_F_DUMP_INTR), to forget what was read.
   */
  dump(w: ByteWriter, what: string, part: (message: Message) => void, restart: () => void): void {
    for (let attempt = 0; attempt < DUMP_ATTEMPTS; attempt++) {
      if (attempt > 0) restart();
      const reader = new DumpReader(this.#next(), what, part);
      w.view.setUint32(8, reader.sequence, true);
      this.#send(w.bytes, w.length);
      while (!reader.done) {
        const length = this.receive();
        if (length === 0) throw new SyscallError(`netlink dump of ${what}`, EAGAIN);
        reader.read(receiveBuffer(), length);
      }
      if (!reader.disturbed) return;
    }
    throw new DumpInterrupted(`${what} changed during each of ${DUMP_ATTEMPTS} reads`);
  }

  /** As `dump`, with the kernel's work on a pool thread: for tables that take milliseconds to walk. */
  async dumpAsync(
    w: ByteWriter,
    what: string,
    part: (message: Message) => void,
    restart: () => void,
  ): Promise<void> {
    const request = w.copy();
    const buffer = new Uint8Array(RECEIVE_BYTES);
    for (let attempt = 0; attempt < DUMP_ATTEMPTS; attempt++) {
      if (attempt > 0) restart();
      const reader = new DumpReader(this.#next(), what, part);
      new DataView(request.buffer).setUint32(8, reader.sequence, true);
      const sent = await pooled(libc().send, this.fd, request, 0);
      if (sent !== request.length) throw new Error(`netlink dump of ${what}: send gave ${sent}`);
      while (!reader.done) {
        const length = await pooled(libc().recv, this.fd, buffer, MSG_DONTWAIT);
        if (length <= 0) throw new Error(`netlink dump of ${what}: receive gave ${length}`);
        reader.read(buffer, length);
      }
      if (!reader.disturbed) return;
    }
    throw new DumpInterrupted(`${what} changed during each of ${DUMP_ATTEMPTS} reads`);
  }

  /** Sends the one request in `w` that the kernel answers with one message (a get); undefined when refused. */
  get(w: ByteWriter, answer: (message: Message) => void): Acknowledgement | undefined {
    const sequence = this.#next();
    w.view.setUint32(8, sequence, true);
    this.#send(w.bytes, w.length);
    let refusal: Acknowledgement | undefined;
    for (let done = false; !done; ) {
      const length = this.receive();
      if (length === 0) throw new SyscallError('netlink answer', EAGAIN);
      eachMessage(receiveBuffer(), length, (message) => {
        if (message.sequence !== sequence) return;
        done = true;
        if (message.type === NLMSG_ERROR) refusal = readAcknowledgement(message);
        else answer(message);
      });
    }
    return refusal;
  }

  #send(bytes: Uint8Array, length: number): void {
    for (;;) {
      const sent = libc().send(this.fd, bytes, length, 0);
      if (sent === length) return;
      const errno = lastErrno();
      if (errno !== EINTR) throw new SyscallError(`netlink send of ${length} bytes`, errno);
    }
  }

  /** Next datagram into the thread's buffer; 0 when none waits. ENOBUFS (notifications were lost) throws. */
  receive(): number {
    const buffer = receiveBuffer();
    for (;;) {
      const length = libc().recv(this.fd, buffer, buffer.length, MSG_DONTWAIT | MSG_TRUNC);
      if (length > buffer.length)
        throw new RangeError(`netlink datagram of ${length} bytes exceeds ${buffer.length}`);
      if (length >= 0) return length;
      const errno = lastErrno();
      if (errno === EAGAIN) return 0;
      if (errno !== EINTR) throw new SyscallError(`netlink receive (${errnoName(errno)})`, errno);
    }
  }

  /** Hands each waiting message to `visit`, up to `limit` datagrams. Returns 'lost' when the kernel dropped some. */
  drain(limit: number, visit: (message: Message) => void): 'empty' | 'more' | 'lost' {
    for (let i = 0; i < limit; i++) {
      let length: number;
      try {
        length = this.receive();
      } catch (error) {
        if (error instanceof SyscallError && error.errno === ENOBUFS) return 'lost';
        throw error;
      }
      if (length === 0) return 'empty';
      eachMessage(receiveBuffer(), length, (message) => visit(message));
    }
    return 'more';
  }

  /** A new socket of the same protocol in the same namespace, which may have lost all other names meanwhile. */
  sibling(options: Omit<SocketOptions, 'ns'> = {}): NetlinkSocket {
    const fd = libc().ioctl(this.fd, SIOCGSKNS);
    if (fd < 0) throw new SyscallError('SIOCGSKNS', lastErrno());
    using ns = new Netns(fd, 'the namespace of a netlink socket');
    return NetlinkSocket.open(this.protocol, { ...options, ns });
  }

  close(): void {
    if (!this.#open) return;
    this.#open = false;
    libc().close(this.fd);
  }

  [Symbol.dispose](): void {
    this.close();
  }
}
