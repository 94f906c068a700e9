// A stand-in for the kernel: takes every netlink request, does nothing, and answers success. The rehearsal runs the hot
// paths on it without changing anything. Invariant: it makes no system call.
// It fails for dumps and off the main thread; the hot paths use neither.
import { constants } from 'node:os';
import { parseMac } from '../base/mac.ts';
import { ByteWriter } from './netlink/bytes.ts';
import { encodeVeth, RTM_GETLINK } from './netlink/link.ts';
import { eachMessage, HEADER_LENGTH, NLM_F_ACK, NLM_F_ECHO, NLMSG_ERROR } from './netlink/message.ts';
import type { Transport } from './netlink/transport.ts';

/** Offsets of the fields of struct nlmsghdr. */
const LENGTH = 0;
const TYPE = 4;
const SEQUENCE = 8;

/** The link that it returns for every request. */
const LINK = {
  index: 2,
  name: 'eth0',
  mac: parseMac('02:00:00:00:00:01'),
  mtu: 9001,
  group: 0,
  peerIndex: 2,
} as const;

function linkMessage(): Uint8Array {
  const w = new ByteWriter(256);
  encodeVeth(w, LINK);
  return w.copy();
}

/** Error 0, and the header of the request. */
function acknowledgement(): Uint8Array {
  const bytes = new Uint8Array(HEADER_LENGTH + 4 + HEADER_LENGTH);
  const view = new DataView(bytes.buffer);
  view.setUint32(LENGTH, bytes.length, true);
  view.setUint16(TYPE, NLMSG_ERROR, true);
  view.setUint32(HEADER_LENGTH + 4, HEADER_LENGTH, true);
  return bytes;
}

const refuse = (what: string) => new Error(`an agreeing kernel has no ${what}`);

export class AgreeingKernel implements Transport {
  readonly fd = -1;
  readonly #link = linkMessage();
  readonly #acknowledgement = acknowledgement();
  readonly #answers: Uint8Array[] = [];

  send(bytes: Uint8Array, length: number): number {
    eachMessage(bytes, length, ({ type, flags, sequence }) => {
      if ((flags & NLM_F_ECHO) !== 0 || type === RTM_GETLINK) this.#answer(this.#link, sequence);
      if ((flags & NLM_F_ACK) !== 0) this.#answer(this.#acknowledgement, sequence);
    });
    return length;
  }

  receive(into: Uint8Array): number {
    const answer = this.#answers.shift();
    if (!answer) return -constants.errno.EAGAIN;
    into.set(answer);
    return answer.length;
  }

  #answer(message: Uint8Array, sequence: number): void {
    const answer = message.slice();
    new DataView(answer.buffer).setUint32(SEQUENCE, sequence, true);
    this.#answers.push(answer);
  }

  makeSendRoom(): void {}

  port(): number {
    return 0;
  }

  sendAsync(): Promise<number> {
    return Promise.reject(refuse('pool thread'));
  }

  receiveAsync(): Promise<number> {
    return Promise.reject(refuse('pool thread'));
  }

  sibling(): Transport {
    throw refuse('namespace');
  }

  close(): void {}
}
