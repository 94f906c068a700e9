// What the AWS VPC CNI's daemon knows of a node: ENIs, their addresses or prefixes, and which pod has which address.
import type { EniId } from '../cloud/port.ts';
import { type IncumbentCounts, PREFIX_SIZE } from '../ipam/config/incumbent.ts';
import type { Random } from './random.ts';

/** An address (size 1) or a /28. `cooling`: when each released address was released. */
export type Block = {
  readonly ip: number;
  readonly size: number;
  /** Addresses that pods have. */
  assigned: number;
  readonly held: Set<number>;
  readonly cooling: Map<number, number>;
};
export type Eni = {
  readonly id: EniId;
  readonly primary: boolean;
  readonly since: number;
  blocks: Block[];
  assigned: number;
};

export const newBlock = (ip: number, size: number): Block => ({
  ip,
  size,
  assigned: 0,
  held: new Set(),
  cooling: new Map(),
});

export class Datastore {
  readonly enis: Eni[] = [];
  /** Counts the changes of ENIs and blocks. */
  version = 0;
  readonly #pods = new Map<string, { eni: Eni; block: Block; ip: number }>();
  readonly #random: Random;
  readonly #cooldownMs: number;

  constructor(random: Random, cooldownMs: number) {
    this.#random = random;
    this.#cooldownMs = cooldownMs;
  }

  /** Addresses that no pod has, cooling ones included. */
  get available(): number {
    return this.enis.reduce(
      (sum, eni) => sum + eni.blocks.reduce((all, one) => all + one.size, 0) - eni.assigned,
      0,
    );
  }

  addEni(eni: Omit<Eni, 'assigned'>): void {
    this.enis.push({ ...eni, assigned: 0 });
    this.version++;
  }

  dropEni(eni: Eni): void {
    this.enis.splice(this.enis.indexOf(eni), 1);
    this.version++;
  }

  addBlocks(eni: Eni, blocks: Block[]): void {
    eni.blocks.push(...blocks);
    this.version++;
  }

  dropBlocks(eni: Eni, blocks: Block[]): void {
    eni.blocks = eni.blocks.filter((block) => !blocks.includes(block));
    this.version++;
  }

  /** Go's order of a map. */
  shuffled(): Eni[] {
    return shuffle(this.enis, this.#random);
  }

  counts(usesPrefixes: boolean, without?: Eni): IncumbentCounts {
    let blocks = 0;
    let assigned = 0;
    let empty = 0;
    for (const eni of this.enis) {
      if (eni === without) continue;
      blocks += eni.blocks.length;
      assigned += eni.assigned;
      if (usesPrefixes) for (const block of eni.blocks) if (block.assigned === 0) empty++;
    }
    return usesPrefixes
      ? { total: PREFIX_SIZE * blocks, assigned, prefixes: blocks, freePrefixes: empty }
      : { total: blocks, assigned, prefixes: 0, freePrefixes: 0 };
  }

  /** Gives the pod an address; false when there is none, cooling ones aside. */
  assign(pod: string, now: number): boolean {
    for (const eni of this.shuffled()) {
      const from = eni.blocks.length > 0 ? Math.floor(this.#random() * eni.blocks.length) : 0;
      for (let i = 0; i < eni.blocks.length; i++) {
        const block = eni.blocks[(from + i) % eni.blocks.length]!;
        const ip = block.assigned < block.size ? this.#pick(block, now) : null;
        if (ip === null) continue;
        block.held.add(ip);
        block.assigned++;
        eni.assigned++;
        this.#pods.set(pod, { eni, block, ip });
        return true;
      }
    }
    return false;
  }

  /** False when the pod has none. */
  unassign(pod: string, now: number): boolean {
    const found = this.#pods.get(pod);
    if (!found) return false;
    this.#pods.delete(pod);
    const { eni, block, ip } = found;
    block.held.delete(ip);
    block.assigned--;
    eni.assigned--;
    block.cooling.set(ip, now);
    return true;
  }

  /** When the last of the ENI's addresses has cooled. */
  coolsUntil(eni: Eni): number {
    let until = Number.NEGATIVE_INFINITY;
    for (const block of eni.blocks)
      for (const since of block.cooling.values()) until = Math.max(until, since + this.#cooldownMs);
    return until;
  }

  /** An address that has cooled, one of those it finds, else the lowest that was never used. */
  #pick(block: Block, now: number): number | null {
    let cooled: number | null = null;
    for (const [ip, since] of block.cooling) {
      if (since + this.#cooldownMs > now) continue;
      block.cooling.delete(ip);
      cooled = ip;
    }
    if (cooled !== null) return cooled;
    for (let ip = block.ip; ip < block.ip + block.size; ip++)
      if (!block.held.has(ip) && !block.cooling.has(ip)) return ip;
    return null;
  }
}

function shuffle<T>(from: readonly T[], random: Random): T[] {
  const all = [...from];
  for (let i = all.length - 1; i > 0; i--) {
    const j = Math.floor(random() * (i + 1));
    [all[i], all[j]] = [all[j]!, all[i]!];
  }
  return all;
}
