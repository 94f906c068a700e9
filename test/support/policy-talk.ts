// A TCP connection between two pods of a ground that stays, and counts what comes back.
import { Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { connectTcpIn } from '../../src/kernel/sockets.ts';
import type { PolicyGround } from './policy-ground.ts';
import { eventually } from './wait.ts';

/** Ms in which an answer comes, if it comes. */
const ANSWERS_MS = 250;

export class Talk {
  readonly #socket: Socket;
  echoed = 0;
  ended = false;

  /** The ground's servers echo. `address`: else that of `to`. */
  constructor(ground: PolicyGround, from: string, to: string, address = ground.ipOf(to)) {
    this.#socket = new Socket({
      fd: connectTcpIn(ground.netnsOf(from), address, 80),
      readable: true,
      writable: true,
    });
    this.#socket
      .unref()
      .on('data', (bytes) => {
        this.echoed += bytes.length;
      })
      .on('error', () => {})
      .on('close', () => {
        this.ended = true;
      });
  }

  async says(): Promise<void> {
    const before = this.echoed;
    this.#socket.write('.');
    await eventually('the connection answers', () => this.echoed > before, 30_000);
  }

  /** Whether what is said now is not answered. */
  async isCut(): Promise<boolean> {
    const before = this.echoed;
    this.#socket.write('.');
    await sleep(ANSWERS_MS);
    return this.echoed === before;
  }

  end(): void {
    this.#socket.destroy();
  }
}
