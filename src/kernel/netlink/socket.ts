// A netlink socket over a transport (the system calls): batches out in one send, acknowledgements and dumps in.
// Requests are synchronous: the kernel works inside send(2) and has its answers queued when send returns, so receiving
// never blocks. Only the last message of a batch asks for an acknowledgement; refusals always come, in order.
// Fails with SyscallError (the socket), NetlinkError (the kernel's refusal) or DumpInterrupted (a table that never rests).
import { EAGAIN, EINTR, ENOBUFS, errnoName, NetlinkError, SyscallError } from '../errors.ts';
import { align4, type ByteWriter } from './bytes.ts';
import {
  type Acknowledgement,
  eachMessage,
  type Message,
  NLM_F_ACK,
  NLM_F_DUMP_INTR,
  NLM_F_ECHO,
  NLMSG_DONE,
  NLMSG_ERROR,
  readAcknowledgement,
} from './message.ts';
import { openTransport, type SocketOptions, type Transport } from './transport.ts';

export const NETLINK_ROUTE = 0;
export const NETLINK_NETFILTER = 12;

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

/**
 * The parts of one dump; the sequence number separates them from leftovers of earlier dumps. A dump is always read to
 * its end, even after an error: until then the kernel starts no other dump on the socket.
 */
class DumpReader {
  readonly sequence: number;
  readonly #part: (message: Message) => void;
  done = false;
  disturbed = false;
  /** The kernel's refusal, when there is one. */
  refusal: Acknowledgement | undefined;
  /** The error of a part's reader; thrown once the dump has ended. */
  #thrown: { error: unknown } | undefined;

  constructor(sequence: number, part: (message: Message) => void) {
    this.sequence = sequence;
    this.#part = part;
  }

  read(bytes: Uint8Array, length: number): void {
    eachMessage(bytes, length, (message) => {
      if (message.sequence !== this.sequence || this.done) return;
      if ((message.flags & NLM_F_DUMP_INTR) !== 0) this.disturbed = true;
      if (message.type === NLMSG_DONE || message.type === NLMSG_ERROR) this.#end(message);
      else if (!this.disturbed && !this.#thrown) this.#one(message);
    });
  }

  #one(message: Message): void {
    try {
      this.#part(message);
    } catch (error) {
      this.#thrown = { error };
    }
  }

  #end(message: Message): void {
    this.done = true;
    const answer = readAcknowledgement(message);
    if (answer.errno === EINTR) this.disturbed = true;
    else if (answer.errno !== 0) this.refusal = answer;
  }

  /** Call at the end. Throws the dump's error; false when the dump was disturbed and must be repeated. */
  isWhole(what: string): boolean {
    if (this.refusal) throw new NetlinkError({ op: `dump of ${what}`, index: 0, ...this.refusal });
    if (this.disturbed) return false;
    if (this.#thrown) throw this.#thrown.error;
    return true;
  }
}

export class NetlinkSocket implements Disposable {
  readonly #transport: Transport;
  #sequence = 0;
  #open = true;
  #port = 0;
  #sendRoom = 200 << 10;

  constructor(transport: Transport) {
    this.#transport = transport;
  }

  static open(protocol: number, options: SocketOptions = {}): NetlinkSocket {
    return new NetlinkSocket(openTransport(protocol, options));
  }

  /** For poll(2). */
  get fd(): number {
    return this.#transport.fd;
  }

  /** The socket's own port, which notifications of its changes carry (Message.port); 0 until it has sent something. */
  get port(): number {
    if (this.#port === 0) this.#port = this.#transport.port();
    return this.#port;
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
    // The send buffer must hold the whole batch (netlink_sendmsg: EMSGSIZE otherwise).
    this.#transport.makeSendRoom(length + 4096);
    this.#sendRoom = length;
  }

  /**
   * Sends the messages in `w` in one datagram and hands each refusal to `refused` with the message's place in the
   * batch. The kernel goes on after a refusal (nfnetlink batches aside, which it takes as a whole or not at all).
   * With `echoed` the kernel is asked to return the object that the first message made.
   */
  transact(
    w: ByteWriter,
    refused: (place: number, answer: Acknowledgement) => void,
    echoed?: (message: Message) => void,
  ): void {
    if (w.length === 0) return;
    this.#ensureSendRoom(w.length);
    const { first, last } = this.#number(w, 'last');
    if (echoed) w.view.setUint16(6, w.view.getUint16(6, true) | NLM_F_ECHO, true);
    this.#send(w.bytes, w.length);
    this.#collect(first, last, refused, echoed);
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
    const sent = await this.#transport.sendAsync(bytes);
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
    // A refusal of the batch may come with or without acknowledgements of its messages: read all there is. The one that
    // was asked for comes last (nfnl_err_deliver), behind what the commit says.
    for (let whole = false; !whole; ) {
      const length = this.receive();
      if (length === 0) break;
      eachMessage(receiveBuffer(), length, (message) => {
        const place = (message.sequence - first) >>> 0;
        if (message.type !== NLMSG_ERROR || place > last - first) return;
        answers++;
        whole = place === last - first - 1;
        const answer = readAcknowledgement(message);
        if (answer.errno !== 0) refused(place, answer);
      });
    }
    if (answers === 0) throw new SyscallError('nfnetlink answer', EAGAIN);
  }

  #collect(
    first: number,
    last: number,
    refused: (place: number, answer: Acknowledgement) => void,
    echoed?: (message: Message) => void,
  ): void {
    for (let done = false; !done; ) {
      const length = this.receive();
      if (length === 0) throw new SyscallError('netlink answer', EAGAIN);
      eachMessage(receiveBuffer(), length, (message) => {
        if (message.type !== NLMSG_ERROR) {
          if (message.sequence === first) echoed?.(message);
          return;
        }
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
      const reader = new DumpReader(this.#next(), part);
      w.view.setUint32(8, reader.sequence, true);
      this.#send(w.bytes, w.length);
      while (!reader.done) {
        const length = this.receive();
        if (length === 0) throw new SyscallError(`netlink dump of ${what}`, EAGAIN);
        reader.read(receiveBuffer(), length);
      }
      if (reader.isWhole(what)) return;
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
      const reader = new DumpReader(this.#next(), part);
      new DataView(request.buffer).setUint32(8, reader.sequence, true);
      const sent = await this.#transport.sendAsync(request);
      if (sent !== request.length) throw new Error(`netlink dump of ${what}: send gave ${sent}`);
      while (!reader.done) {
        const length = await this.#transport.receiveAsync(buffer);
        if (length <= 0) throw new Error(`netlink dump of ${what}: receive gave ${length}`);
        refuseTruncated(length, buffer);
        reader.read(buffer, length);
      }
      if (reader.isWhole(what)) return;
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
      const sent = this.#transport.send(bytes, length);
      if (sent === length) return;
      if (sent !== -EINTR) throw new SyscallError(`netlink send of ${length} bytes`, -sent);
    }
  }

  /** Next datagram into the thread's buffer; 0 when none waits. ENOBUFS (notifications were lost) throws. */
  receive(): number {
    const buffer = receiveBuffer();
    for (;;) {
      const length = this.#transport.receive(buffer);
      refuseTruncated(length, buffer);
      if (length >= 0) return length;
      if (length === -EAGAIN) return 0;
      if (length !== -EINTR) throw new SyscallError(`netlink receive (${errnoName(-length)})`, -length);
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

  /** A new socket of the same protocol in the same namespace. */
  sibling(options: Omit<SocketOptions, 'ns'> = {}): NetlinkSocket {
    return new NetlinkSocket(this.#transport.sibling(options));
  }

  close(): void {
    if (!this.#open) return;
    this.#open = false;
    this.#transport.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

function refuseTruncated(length: number, buffer: Uint8Array): void {
  if (length > buffer.length)
    throw new RangeError(`netlink datagram of ${length} bytes exceeds ${buffer.length}`);
}
