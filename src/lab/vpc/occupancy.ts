// Which addresses of a subnet are held, one by one and by /28, and what each is set aside for. Derived from the
// interfaces and the reservations, the only record: the index follows the state that it is asked about, row by row (a row
// is never changed in place), so that a call costs what changed and not what is there. Entry: occupancyOf.
// Imports base and the model alone.
import { cidrSize, type Ipv4, parseCidr, parseIpv4 } from '../../base/ip.ts';
import type { NetworkInterface, Subnet, SubnetCidrReservation, VpcState } from './model.ts';

/** Addresses of a /28. */
export const PREFIX_SIZE = 16;

/** What an address is set aside for; AWS keeps the first four (network, router, DNS, future use) and the last one. */
export const OPEN = 0;
export const FOR_PREFIXES = 1;
export const EXPLICIT = 2;
export const KEPT_BY_AWS = 3;
const KEPT_AT_START = 4;

export type Occupancy = {
  /** The subnet's first address, and how many it has. Offsets below count from it. */
  readonly start: Ipv4;
  readonly size: number;
  /** By offset: how many hold it, by address or inside a prefix. */
  readonly holders: Uint8Array;
  /** By /28: how many of its addresses are held. */
  readonly heldInBlock: Uint8Array;
  /** By offset: OPEN, FOR_PREFIXES, EXPLICIT or KEPT_BY_AWS. */
  readonly purpose: Uint8Array;
  /** Addresses that are OPEN and not held. */
  free: number;
};

class Index {
  readonly #rows = new Map<string, NetworkInterface>();
  readonly #subnets = new Map<string, { reservations: SubnetCidrReservation[]; occupancy: Occupancy }>();

  of(state: VpcState, subnet: Subnet): Occupancy {
    this.#follow(state.networkInterfaces);
    const reservations = reservationsOf(state, subnet.id, 4);
    const known = this.#subnets.get(subnet.id);
    if (known && sameItems(known.reservations, reservations)) return known.occupancy;
    for (const id of this.#subnets.keys()) if (!Object.hasOwn(state.subnets, id)) this.#subnets.delete(id);
    const occupancy = emptyOccupancy(subnet, reservations);
    this.#subnets.set(subnet.id, { reservations, occupancy });
    for (const eni of this.#rows.values()) if (eni.subnetId === subnet.id) count(occupancy, eni, 1);
    return occupancy;
  }

  #follow(rows: VpcState['networkInterfaces']): void {
    let seen = 0;
    for (const id in rows) {
      seen++;
      const row = rows[id]!;
      const old = this.#rows.get(id);
      if (old === row) continue;
      if (old) this.#count(old, -1);
      this.#count(row, 1);
      this.#rows.set(id, row);
    }
    if (seen === this.#rows.size) return;
    for (const [id, old] of this.#rows) {
      if (Object.hasOwn(rows, id)) continue;
      this.#count(old, -1);
      this.#rows.delete(id);
    }
  }

  #count(eni: NetworkInterface, by: 1 | -1): void {
    const known = this.#subnets.get(eni.subnetId);
    if (known) count(known.occupancy, eni, by);
  }
}

/** All states of one VPC service have its list of zones in common. */
const indexes = new WeakMap<object, Index>();

/** What is held in the subnet in that state; to be read at once, as the next call changes it. */
export function occupancyOf(state: VpcState, subnet: Subnet): Readonly<Occupancy> {
  let index = indexes.get(state.zones);
  if (!index) {
    index = new Index();
    indexes.set(state.zones, index);
  }
  return index.of(state, subnet);
}

/** Those of one family, or of both. */
export function reservationsOf(state: VpcState, subnetId: string, family?: 4 | 6): SubnetCidrReservation[] {
  const found: SubnetCidrReservation[] = [];
  for (const id in state.subnetCidrReservations) {
    const row = state.subnetCidrReservations[id]!;
    if (row.subnetId !== subnetId) continue;
    if (family === undefined || row.cidr.includes(':') === (family === 6)) found.push(row);
  }
  return found;
}

const sameItems = <T>(a: readonly T[], b: readonly T[]): boolean =>
  a.length === b.length && a.every((item, i) => item === b[i]);

function emptyOccupancy(subnet: Subnet, reservations: readonly SubnetCidrReservation[]): Occupancy {
  const cidr = parseCidr(subnet.cidr);
  const start = cidr.ip as Ipv4;
  const size = cidrSize(cidr);
  const purpose = new Uint8Array(size);
  for (const { cidr: text, type } of reservations) {
    const block = parseCidr(text);
    const first = (block.ip as Ipv4) - start;
    purpose.fill(type === 'prefix' ? FOR_PREFIXES : EXPLICIT, first, first + cidrSize(block));
  }
  purpose.fill(KEPT_BY_AWS, 0, KEPT_AT_START);
  purpose[size - 1] = KEPT_BY_AWS;
  const free = purpose.reduce((sum, kind) => sum + (kind === OPEN ? 1 : 0), 0);
  const heldInBlock = new Uint8Array(size / PREFIX_SIZE);
  return { start, size, holders: new Uint8Array(size), heldInBlock, purpose, free };
}

function count(occupancy: Occupancy, eni: NetworkInterface, by: 1 | -1): void {
  const { start, holders, heldInBlock, purpose } = occupancy;
  const one = (offset: number) => {
    const before = holders[offset]!;
    holders[offset] = before + by;
    const change = (before === 0 ? 1 : 0) - (before + by === 0 ? 1 : 0);
    if (change === 0) return;
    heldInBlock[offset >> 4]! += change;
    if (purpose[offset] === OPEN) occupancy.free -= change;
  };
  for (const ip of eni.privateIps) one(parseIpv4(ip) - start);
  for (const prefix of eni.ipv4Prefixes) {
    const first = (parseCidr(prefix).ip as Ipv4) - start;
    for (let i = 0; i < PREFIX_SIZE; i++) one(first + i);
  }
}
