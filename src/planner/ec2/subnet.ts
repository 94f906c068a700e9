// The addresses of one subnet: which are taken, and which aligned /28s are whole. EC2 scatters the addresses that it
// chooses, so a subnet fragments as on AWS. It keeps five: network, router, DNS, future use, broadcast.
import { addToIp, type Cidr, cidrSize, type Ipv4 } from '../../base/ip.ts';
import type { Random } from '../random.ts';

const RESERVED_AT_START = 4;
const RESERVED_AT_END = 1;
const PREFIX = 16;
/** Blind draws before the subnet is looked through from a random place on. */
const BLIND_TRIES = 32;

export class Subnet {
  readonly id: string;
  readonly cidr: Cidr;
  readonly #taken: Uint8Array;
  /** Taken addresses of each aligned /28. */
  readonly #inBlock: Uint8Array;
  readonly #random: Random;
  #free: number;

  constructor(id: string, cidr: Cidr, random: Random) {
    this.id = id;
    this.cidr = cidr;
    const size = cidrSize(cidr);
    this.#taken = new Uint8Array(size);
    this.#inBlock = new Uint8Array(Math.ceil(size / PREFIX));
    this.#random = random;
    this.#free = size;
    for (let i = 0; i < RESERVED_AT_START; i++) this.#take(i);
    for (let i = 1; i <= RESERVED_AT_END; i++) this.#take(size - i);
  }

  get free(): number {
    return this.#free;
  }

  get wholeBlocks(): number {
    return this.#inBlock.reduce((sum, taken) => sum + (taken === 0 ? 1 : 0), 0);
  }

  isFree(ip: Ipv4): boolean {
    return this.#taken[ip - (this.cidr.ip as number)] === 0;
  }

  take(ip: Ipv4): void {
    this.#take(ip - (this.cidr.ip as number));
  }

  /** A free address anywhere, or null. */
  takeAny(): Ipv4 | null {
    const found = this.#draw(this.#taken);
    if (found < 0) return null;
    this.#take(found);
    return addToIp(this.cidr.ip as Ipv4, found);
  }

  /** A whole /28 anywhere, or null. */
  takeBlock(): Cidr | null {
    const found = this.#draw(this.#inBlock);
    if (found < 0) return null;
    for (let i = 0; i < PREFIX; i++) this.#take(found * PREFIX + i);
    return { ip: addToIp(this.cidr.ip as Ipv4, found * PREFIX), length: 28 };
  }

  release(cidr: Cidr): void {
    const first = (cidr.ip as number) - (this.cidr.ip as number);
    for (let i = first; i < first + cidrSize(cidr); i++) {
      this.#taken[i] = 0;
      this.#inBlock[i >> 4]!--;
      this.#free++;
    }
  }

  /** The index of a zero, drawn evenly as far as blind tries find one; -1 when there is none. */
  #draw(from: Uint8Array): number {
    const place = () => Math.floor(this.#random() * from.length);
    for (let tries = 0; tries < BLIND_TRIES; tries++) {
      const index = place();
      if (from[index] === 0) return index;
    }
    const begin = place();
    const after = from.indexOf(0, begin);
    return after >= 0 ? after : from.indexOf(0);
  }

  #take(index: number): void {
    this.#taken[index] = 1;
    this.#inBlock[index >> 4]!++;
    this.#free--;
  }
}
