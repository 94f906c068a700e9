// The VPCs' resolver on real packets: UDP sockets in the router's namespace, one for each of its addresses, so that an
// answer comes from where the question went. Every question is answered at once, from the VPC's state: nothing waits.
// A packet that is no question, or whose sender holds no address of a VPC, has no answer.
import { createSocket, type Socket } from 'node:dgram';
import { formatIp, parseIp } from '../../base/ip.ts';
import type { VpcState } from '../vpc/model.ts';
import { answerOf, readQuestion, refusalOf } from './message.ts';
import { holderOf, lookUp } from './names.ts';

export const DNS_PORT = 53;

export function answerTo(state: VpcState, message: Uint8Array, from: string): Uint8Array | undefined {
  const holder = holderOf(state, parseIp(from));
  const subnet = holder && state.subnets[holder.subnetId];
  const question = subnet && readQuestion(message);
  if (!subnet || question === undefined) return undefined;
  if ('refusal' in question) return refusalOf(question.id, question.refusal);
  const found = lookUp(state, subnet, question.name, question.type);
  return found && answerOf(question, found.rcode, found.addresses);
}

export class Resolver {
  readonly #state: () => VpcState;
  readonly #bind: (address: string) => number;
  readonly #failed: (error: unknown) => void;
  readonly #sockets = new Map<string, Socket>();

  /** `bind`: a UDP socket at the address, as a descriptor. */
  constructor(
    state: () => VpcState,
    bind: (address: string) => number,
    failed: (error: unknown) => void = () => {},
  ) {
    this.#state = state;
    this.#bind = bind;
    this.#failed = failed;
  }

  /** Listens at these addresses, and at no other. */
  async listen(addresses: readonly string[]): Promise<void> {
    for (const [address, socket] of this.#sockets) {
      if (addresses.includes(address)) continue;
      this.#sockets.delete(address);
      socket.close();
    }
    for (const text of addresses) {
      const address = formatIp(parseIp(text));
      if (this.#sockets.has(address)) continue;
      const socket = createSocket(address.includes(':') ? 'udp6' : 'udp4');
      this.#sockets.set(address, socket);
      socket.on('error', this.#failed);
      socket.on('message', (message, { address: from, port }) => {
        const answer = answerTo(this.#state(), message, from);
        if (answer) socket.send(answer, port, from);
      });
      await new Promise<void>((resolve) => socket.bind({ fd: this.#bind(address) }, resolve));
    }
  }

  close(): void {
    for (const socket of this.#sockets.values()) socket.close();
    this.#sockets.clear();
  }
}
