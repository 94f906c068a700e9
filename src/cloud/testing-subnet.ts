// A subnet in memory for tests: which addresses are taken, and what EC2 would give out of the rest.
// Strict as EC2: an address is taken once, a prefix needs sixteen free addresses in one aligned block, and the subnet's
// first four addresses and its last are EC2's. Throws CloudError with EC2's code, and has then changed nothing.
import {
  addToIp,
  type Cidr,
  cidrSize,
  formatCidr,
  formatIp,
  type Ip,
  type Ipv4,
  type Ipv6,
  parseCidr,
} from '../base/ip.ts';
import { CloudError } from './port.ts';

export class FakeSubnet {
  readonly id: string;
  readonly cidr: Cidr;
  readonly used = new Set<Ipv4>();
  /** A /64; null: the subnet has no IPv6. Its /80s are given once each, in order. */
  cidr6: Cidr | null = null;
  readonly used6 = new Set<string>();
  /** Assigned to nobody, and to be had by name only. */
  readonly loose = new Set<Ipv4>();

  constructor(id: string, cidr: string) {
    this.id = id;
    this.cidr = parseCidr(cidr);
  }

  get free(): number {
    return cidrSize(this.cidr) - 5 - this.used.size;
  }

  /** Takes addresses from the end until `leave` are left. */
  occupy(leave: number): void {
    for (
      let ip = addToIp(this.cidr.ip, cidrSize(this.cidr) - 2) as Ipv4;
      this.free > leave;
      ip = addToIp(ip, -1)
    )
      this.used.add(ip);
  }

  release(ips: readonly Ipv4[]): void {
    for (const ip of ips) this.used.delete(ip);
  }

  /** True when somebody has it, so that it cannot be had by name either. */
  isTaken(ip: Ipv4): boolean {
    return this.used.has(ip) && !this.loose.has(ip);
  }

  /** Takes addresses by name; the caller has asked `isTaken`. */
  takeNamed(ips: readonly Ipv4[]): void {
    for (const ip of ips) {
      this.used.add(ip);
      this.loose.delete(ip);
    }
  }

  /** Takes addresses by name for a new ENI: loose ones are not for it. */
  claim(ips: readonly Ipv4[]): Ipv4[] {
    if (ips.some((ip) => this.used.has(ip)))
      throw new CloudError('CreateNetworkInterface', 'InvalidIPAddress.InUse', 'an address is in use');
    for (const ip of ips) this.used.add(ip);
    return [...ips];
  }

  /** Takes the lowest free ones: what was given back comes again at once, which is the hardest case for reuse. */
  take(count: number, action: string): Ipv4[] {
    if (this.free < count)
      throw new CloudError(
        action,
        'InsufficientFreeAddressesInSubnet',
        `${this.id} has ${this.free} of ${count}`,
      );
    const taken: Ipv4[] = [];
    for (let offset = 4; taken.length < count; offset++) {
      const ip = addToIp(this.cidr.ip, offset) as Ipv4;
      if (this.used.has(ip)) continue;
      this.used.add(ip);
      taken.push(ip);
    }
    return taken;
  }

  /** The lowest whole aligned /28s; the subnet's first and last contain addresses that EC2 keeps. */
  wholePrefixes(): Cidr[] {
    const found: Cidr[] = [];
    for (let offset = 16; offset + 16 < cidrSize(this.cidr); offset += 16) {
      const cidr: Cidr = { ip: addToIp(this.cidr.ip, offset), length: 28 };
      if (inPrefix(cidr).every((ip) => !this.used.has(ip))) found.push(cidr);
    }
    return found;
  }

  takePrefixes(count: number, action: string): Cidr[] {
    if (count === 0) return [];
    const whole = this.wholePrefixes();
    if (whole.length < count) {
      const text = `${this.id} has ${whole.length} free /28 of ${count}`;
      throw new CloudError(action, 'InsufficientCidrBlocks', text);
    }
    const taken = whole.slice(0, count);
    for (const ip of taken.flatMap(inPrefix)) this.used.add(ip);
    return taken;
  }
}

/** The subnet's lowest /80s that nobody has. */
export function takeSix(subnet: FakeSubnet, count: number, action: string): Cidr[] {
  if (count === 0) return [];
  if (!subnet.cidr6) throw new CloudError(action, 'InvalidParameterValue', `${subnet.id} has no IPv6 CIDR`);
  const taken: Cidr[] = [];
  for (let number = 1n; taken.length < count; number++) {
    const cidr: Cidr = { ip: ((subnet.cidr6.ip as bigint) | (number << 48n)) as Ip, length: 80 };
    if (subnet.used6.has(formatCidr(cidr))) continue;
    subnet.used6.add(formatCidr(cidr));
    taken.push(cidr);
  }
  return taken;
}

/** Single addresses, out of the subnet's first /80. */
export function takeSixes(subnet: FakeSubnet, ipv6s: number | readonly Ipv6[] = 0): Ipv6[] {
  const action = 'CreateNetworkInterface';
  const refuse = (code: string, text: string): never => {
    throw new CloudError(action, code, text);
  };
  if (ipv6s === 0) return [];
  if (!subnet.cidr6) return refuse('InvalidParameterValue', `${subnet.id} has no IPv6 CIDR`);
  if (typeof ipv6s !== 'number' && ipv6s.some((ip) => subnet.used6.has(formatIp(ip))))
    return refuse('InvalidIPAddress.InUse', 'an address is in use');
  const taken = typeof ipv6s === 'number' ? [] : [...ipv6s];
  for (let number = 4n; typeof ipv6s === 'number' && taken.length < ipv6s; number++) {
    const ip = ((subnet.cidr6.ip as bigint) + number) as Ipv6;
    if (!subnet.used6.has(formatIp(ip))) taken.push(ip);
  }
  for (const ip of taken) subnet.used6.add(formatIp(ip));
  return taken;
}

export const inPrefix = (prefix: Cidr): Ipv4[] =>
  Array.from({ length: cidrSize(prefix) }, (_, offset) => addToIp(prefix.ip as Ipv4, offset));
