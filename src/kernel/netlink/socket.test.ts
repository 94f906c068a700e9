// The socket over a kernel that a test plays: what it does when dumps are interrupted, notifications lost, datagrams cut,
// and answers late. Requests are read as the kernel would read them, so sequence numbers and flags are seen here too.
import assert from 'node:assert/strict';
import { constants } from 'node:os';
import { test } from 'node:test';
import { NetlinkError, SyscallError } from '../errors.ts';
import { ByteWriter } from './bytes.ts';
import {
  beginMessage,
  eachMessage,
  endMessage,
  HEADER_LENGTH,
  NLM_F_ACK,
  NLM_F_DUMP,
  NLM_F_DUMP_INTR,
  NLM_F_ECHO,
  NLMSG_DONE,
  NLMSG_ERROR,
} from './message.ts';
import { DumpInterrupted, NetlinkSocket } from './socket.ts';
import type { Transport } from './transport.ts';

const { EAGAIN, EBUSY, EINTR, ENOBUFS, ENOENT } = constants.errno;
const PART = 16;

type Sent = { type: number; flags: number; sequence: number };
type Reply = { type: number; sequence: number; flags?: number; value?: number };
/** What receiving gives next: a datagram of replies, or a negative errno, or a length (a datagram that was cut). */
type Arrival = readonly Reply[] | number;

function datagram(replies: readonly Reply[]): Uint8Array {
  const bytes = new Uint8Array(replies.length * (HEADER_LENGTH + 4));
  const view = new DataView(bytes.buffer);
  replies.forEach(({ type, sequence, flags = 0, value = 0 }, index) => {
    const at = index * (HEADER_LENGTH + 4);
    view.setUint32(at, HEADER_LENGTH + 4, true);
    view.setUint16(at + 4, type, true);
    view.setUint16(at + 6, flags, true);
    view.setUint32(at + 8, sequence, true);
    view.setInt32(at + HEADER_LENGTH, value, true);
  });
  return bytes;
}

/** Answers each send with what `kernel` gives for its messages. */
class PlayedKernel implements Transport {
  readonly fd = -1;
  readonly queue: Arrival[] = [];
  readonly sends: Sent[][] = [];
  closed = 0;
  readonly #kernel: (messages: [Sent, ...Sent[]], send: number) => Arrival[] | number;

  constructor(kernel: (messages: [Sent, ...Sent[]], send: number) => Arrival[] | number) {
    this.#kernel = kernel;
  }

  send(bytes: Uint8Array, length: number): number {
    const messages: Sent[] = [];
    eachMessage(bytes, length, ({ type, flags, sequence }) => messages.push({ type, flags, sequence }));
    this.sends.push(messages);
    const answer = this.#kernel(messages as [Sent, ...Sent[]], this.sends.length);
    if (typeof answer === 'number') return answer;
    this.queue.push(...answer);
    return length;
  }
  sendAsync = async (bytes: Uint8Array) => this.send(bytes, bytes.length);

  receive(into: Uint8Array): number {
    const next = this.queue.shift();
    if (next === undefined) return -EAGAIN;
    if (typeof next === 'number') return next;
    const bytes = datagram(next);
    into.set(bytes);
    return bytes.length;
  }
  receiveAsync = async (into: Uint8Array) => this.receive(into);
  makeSendRoom(): void {}
  port(): number {
    return 0;
  }
  sibling(): Transport {
    return this;
  }
  close(): void {
    this.closed++;
  }
}

function request(count = 1, flags = 0): ByteWriter {
  const w = new ByteWriter();
  for (let i = 0; i < count; i++) endMessage(w, beginMessage(w, PART, flags));
  return w;
}
const wordAt = (bytes: Uint8Array, at: number): number => new DataView(bytes.buffer).getInt32(at, true);

function dumpWith(kernel: PlayedKernel, part?: (value: number) => void): number[] {
  const socket = new NetlinkSocket(kernel);
  const values: number[] = [];
  socket.dump(
    request(1, NLM_F_DUMP),
    'things',
    ({ bytes, start }) => {
      part?.(wordAt(bytes, start));
      values.push(wordAt(bytes, start));
    },
    () => values.splice(0),
  );
  return values;
}
const done = (sequence: number, errno = 0, flags = 0): Reply => ({
  type: NLMSG_DONE,
  sequence,
  flags,
  value: -errno,
});
const part = (sequence: number, value: number, flags = 0): Reply => ({ type: PART, sequence, value, flags });

test('a dump that changes underneath is read again from its beginning', () => {
  const kernel = new PlayedKernel(([{ sequence }], send) =>
    send === 1
      ? [[part(sequence, 1)], [part(sequence, 2, NLM_F_DUMP_INTR)], [done(sequence)]]
      : [[part(sequence, 1), part(sequence, 3)], [done(sequence)]],
  );
  assert.deepEqual(dumpWith(kernel), [1, 3]);
  assert.notEqual(kernel.sends[0]![0]!.sequence, kernel.sends[1]![0]!.sequence);
});

test('EINTR at the end of a dump is a change underneath too', () => {
  const kernel = new PlayedKernel(([{ sequence }], send) => [
    [part(sequence, send)],
    [done(sequence, send === 1 ? EINTR : 0)],
  ]);
  assert.deepEqual(dumpWith(kernel), [2]);
});

test('a table that never rests ends the dump by name, after a bounded number of reads', () => {
  const kernel = new PlayedKernel(([{ sequence }]) => [[done(sequence, 0, NLM_F_DUMP_INTR)]]);
  assert.throws(() => dumpWith(kernel), DumpInterrupted);
  assert.equal(kernel.sends.length, 20);
});

test('leftovers of an earlier dump are not taken for parts of this one', () => {
  const kernel = new PlayedKernel(([{ sequence }]) => [
    [part(sequence - 1, 7), done(sequence - 1, ENOENT)],
    [part(sequence, 8)],
    [done(sequence)],
  ]);
  assert.deepEqual(dumpWith(kernel), [8]);
});

test('a reader that throws leaves no dump running: it is read to its end first', () => {
  const kernel = new PlayedKernel(([{ sequence }]) => [
    [part(sequence, 1), part(sequence, 2)],
    [part(sequence, 3)],
    [done(sequence)],
  ]);
  let calls = 0;
  assert.throws(
    () =>
      dumpWith(kernel, () => {
        calls++;
        throw new Error('the reader gives up');
      }),
    /the reader gives up/,
  );
  assert.equal(calls, 1, 'the reader is not asked again');
  assert.equal(kernel.queue.length, 0, 'nothing of the dump is left in the socket');
});

test('the same of a dump on a pool thread', async () => {
  const kernel = new PlayedKernel(([{ sequence }]) => [[part(sequence, 1)], [done(sequence)]]);
  const socket = new NetlinkSocket(kernel);
  const reader = () => {
    throw new Error('the reader gives up');
  };
  await assert.rejects(
    socket.dumpAsync(request(1, NLM_F_DUMP), 'things', reader, () => {}),
    /gives up/,
  );
  assert.equal(kernel.queue.length, 0);
});

test('a refused dump is a NetlinkError that names what was read', () => {
  const kernel = new PlayedKernel(([{ sequence }]) => [
    [{ type: NLMSG_ERROR, sequence: sequence, value: -EBUSY }],
  ]);
  assert.throws(
    () => dumpWith(kernel),
    (error: unknown) =>
      error instanceof NetlinkError && error.code === 'EBUSY' && /dump of things/.test(error.message),
  );
});

test('a dump without an end fails instead of waiting', () => {
  const kernel = new PlayedKernel(([{ sequence }]) => [[part(sequence, 1)]]);
  assert.throws(() => dumpWith(kernel), SyscallError);
});

test('lost notifications are told as lost, and what follows is read', () => {
  const kernel = new PlayedKernel(() => []);
  const socket = new NetlinkSocket(kernel);
  const seen: number[] = [];
  const visit = ({ bytes, start }: { bytes: Uint8Array; start: number }) => seen.push(wordAt(bytes, start));
  kernel.queue.push([part(0, 1)], -ENOBUFS, [part(0, 2)]);
  assert.equal(socket.drain(8, visit), 'lost');
  assert.equal(socket.drain(8, visit), 'empty');
  assert.deepEqual(seen, [1, 2]);
  kernel.queue.push([part(0, 3)], [part(0, 4)]);
  assert.equal(socket.drain(1, visit), 'more');
});

test('a datagram larger than the buffer is refused, never read in half', () => {
  const kernel = new PlayedKernel(() => []);
  kernel.queue.push(100_000);
  assert.throws(() => new NetlinkSocket(kernel).receive(), /100000 bytes exceeds 65536/);
});

test('an interrupted receive and an interrupted send are tried again', () => {
  const kernel = new PlayedKernel(([{ sequence }], send) =>
    send === 1 ? -EINTR : [-EINTR, [{ type: NLMSG_ERROR, sequence: sequence, value: 0 }]],
  );
  new NetlinkSocket(kernel).transact(request(), () => assert.fail('nothing was refused'));
  assert.equal(kernel.sends.length, 2);
});

test('a batch asks for one acknowledgement and tells each refusal by its place', () => {
  const refusals: [number, number][] = [];
  const kernel = new PlayedKernel((messages) => [
    [{ type: NLMSG_ERROR, sequence: messages[1]!.sequence, value: -ENOENT }],
    // An answer to an earlier request, which failed half way.
    [{ type: NLMSG_ERROR, sequence: messages[0].sequence - 9, value: -EBUSY }],
    [{ type: NLMSG_ERROR, sequence: messages[2]!.sequence, value: 0 }],
  ]);
  new NetlinkSocket(kernel).transact(request(3), (place, { errno }) => refusals.push([place, errno]));
  assert.deepEqual(refusals, [[1, ENOENT]]);
  assert.deepEqual(
    kernel.sends[0]!.map(({ flags }) => (flags & NLM_F_ACK) !== 0),
    [false, false, true],
  );
});

test('a batch that the kernel does not answer fails', () => {
  const socket = new NetlinkSocket(new PlayedKernel(() => []));
  assert.throws(() => socket.transact(request(), () => {}), SyscallError);
  assert.throws(() => socket.transactBatch(request(3), () => {}), SyscallError);
});

test('closing twice closes once', () => {
  const kernel = new PlayedKernel(() => []);
  const socket = new NetlinkSocket(kernel);
  socket.close();
  socket[Symbol.dispose]();
  assert.equal(kernel.closed, 1);
});

const answer = (sequence: number, errno = 0): Reply => ({ type: NLMSG_ERROR, sequence, value: -errno });

test('an nfnetlink batch is read up to the answer that was asked for, a refusal of the whole before it included', () => {
  const refusals = (kernel: PlayedKernel): [number, number][] => {
    const found: [number, number][] = [];
    new NetlinkSocket(kernel).transactBatch(request(4), (place, { errno }) => found.push([place, errno]));
    return found;
  };
  const sound = new PlayedKernel(([begin]) => [[answer(begin.sequence + 2)], -EINTR]);
  assert.deepEqual(refusals(sound), []);
  assert.deepEqual(sound.queue, [-EINTR], 'nothing is asked for behind it');
  const late = new PlayedKernel(([begin]) => [[answer(begin.sequence, EBUSY)], [answer(begin.sequence + 2)]]);
  assert.deepEqual(refusals(late), [[0, EBUSY]]);
  const middle = new PlayedKernel(([begin]) => [
    [answer(begin.sequence + 1, ENOENT)],
    [answer(begin.sequence + 2)],
  ]);
  assert.deepEqual(refusals(middle), [[1, ENOENT]]);
  // A refusal before anything was looked at has no other answer behind it.
  assert.deepEqual(refusals(new PlayedKernel(([begin]) => [[answer(begin.sequence, EBUSY)]])), [[0, EBUSY]]);
});

test('an echo is asked of the first message alone and told apart from answers', () => {
  const kernel = new PlayedKernel(([first, second]) => [
    [part(first.sequence - 1, 6)],
    [part(first.sequence, 7)],
    [answer(second!.sequence)],
  ]);
  const echoes: number[] = [];
  new NetlinkSocket(kernel).transact(
    request(2),
    () => assert.fail('nothing was refused'),
    ({ bytes, start }) => echoes.push(wordAt(bytes, start)),
  );
  assert.deepEqual(echoes, [7]);
  assert.deepEqual(
    kernel.sends[0]!.map(({ flags }) => (flags & NLM_F_ECHO) !== 0),
    [true, false],
  );
});
