// Chooses single addresses so that a fragmented subnet heals: of the /28s that are the most broken already, found by
// describing the subnet's interfaces. Subnet CIDR reservations are not listed there, and EC2 gives an address of theirs to
// whoever names it: where EC2 counts fewer free addresses than the interfaces leave, EC2 chooses.
import { addToIp, type Cidr, cidrSize, type Ipv4 } from '../../base/ip.ts';
import { PREFIX_SIZE } from '../config/incumbent.ts';
import type { Core } from '../core.ts';
import { freeInSubnet } from '../ec2/subnet-facts.ts';
import { givingNow, lacksPrefixes } from './census.ts';

/** In a larger subnet the description takes too many pages. */
const MOST_ADDRESSES = 4_096;
/** EC2 keeps these at a subnet's start and end. */
const KEPT_AT_START = 4;
const KEPT_AT_END = 1;

/** Addresses to name, or null where EC2 should choose: with whole /28s left, in a large subnet, beside a reservation. */
export async function densest(core: Core, subnetId: string, count: number): Promise<Ipv4[] | null> {
  const giving = givingNow(core);
  const lacks = lacksPrefixes(core.state, subnetId, giving, core.clock.now());
  if (giving.prefers !== 'prefix' || !lacks) return null;
  const cidr = core.state.subnets.get(subnetId)?.cidr;
  if (!cidr || cidrSize(cidr) > MOST_ADDRESSES) return null;
  const enis = await core.cloud
    .describeNetworkInterfaces({ kind: 'subnet', subnetId }, core.signal)
    .catch(() => null);
  if (!enis) return null;
  const used = new Set<number>();
  for (const eni of enis) {
    for (const { ip } of eni.addresses) used.add(ip);
    for (const prefix of eni.ipv4Prefixes)
      for (let i = 0; i < cidrSize(prefix); i++) used.add((prefix.ip as number) + i);
  }
  const free = densestFree(cidr, used, cidrSize(cidr));
  const counted = await freeInSubnet(core, subnetId).catch(() => null);
  return counted === free.length && free.length >= count ? free.slice(0, count) : null;
}

/** Free addresses of the subnet, those of the fullest /28s first; at most `count`. Pure. */
export function densestFree(cidr: Cidr, used: ReadonlySet<number>, count: number): Ipv4[] {
  const size = cidrSize(cidr);
  const groups: Ipv4[][] = [];
  for (let first = 0; first < size; first += PREFIX_SIZE) {
    const free: Ipv4[] = [];
    for (let offset = first; offset < Math.min(first + PREFIX_SIZE, size - KEPT_AT_END); offset++) {
      const ip = addToIp(cidr.ip as Ipv4, offset);
      if (offset >= KEPT_AT_START && !used.has(ip)) free.push(ip);
    }
    if (free.length > 0) groups.push(free);
  }
  groups.sort((a, b) => a.length - b.length || a[0]! - b[0]!);
  return groups.flat().slice(0, count);
}
