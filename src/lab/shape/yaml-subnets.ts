// What a lab.yaml may say of subnets: where they lie, their tags, CIDR reservations, and addresses that are held from the
// start; and whether what is put into them has room. Throws LabError BAD_SHAPE with the line.
import {
  type Cidr,
  cidrContains,
  cidrCovers,
  cidrSize,
  cidrsOverlap,
  formatCidr,
  formatIp,
  type Ipv4,
  parseCidr,
  parseIpv4,
} from '../../base/ip.ts';
import type { InstanceShape, ReservationShape, RouteTableShape, SubnetShape, VpcShape } from './shape.ts';
import type { Reader } from './yaml.ts';

export const MAX_LIST = 100;
/** What one interface without an instance can hold. */
const MAX_HELD = 250;
const MAX_TAGS = 40;
/** The first four addresses of a subnet and the last are AWS's. */
const KEPT_AT_START = 4;
const KEPT_AT_END = 1;
const LONGEST_FOR_PREFIXES = 28;

// 40 characters keep `podway-<lab>-<where>` a usable file name; names become namespaces' names.
export const NAME = {
  pattern: /^[a-z0-9]([a-z0-9.-]{0,38}[a-z0-9])?$/,
  says: 'not a name of small letters, digits, dots and dashes (at most 40)',
};
const TAG_VALUE = { pattern: /^[\s\S]{0,256}$/, says: 'longer than the 256 characters of a tag' };

export function inRegion(reader: Reader, region: string): string {
  return reader.text({ pattern: new RegExp(`^${region}[a-z]$`), says: `not a zone of ${region}` });
}

export function readCidr(reader: Reader, min: number, max: number): Cidr {
  const text = reader.text();
  let cidr: Cidr;
  try {
    cidr = parseCidr(text);
  } catch (error) {
    throw reader.fail(`is "${text}": ${(error as Error).message}`);
  }
  if (typeof cidr.ip !== 'number') throw reader.fail(`is "${text}", not an IPv4 CIDR`);
  if (cidr.length < min || cidr.length > max)
    throw reader.fail(`is ${text}, a prefix length from /${min} to /${max} is asked for`);
  return cidr;
}

export function readSubnet(
  reader: Reader,
  region: string,
  vpcCidrs: Cidr[],
  earlier: SubnetShape[],
  tables: RouteTableShape[],
): SubnetShape {
  const keys = reader.map([
    'name',
    'cidr',
    'ipv6Native',
    'dns64',
    'zone',
    'routeTable',
    'tags',
    'reservations',
    'held',
  ]);
  const name = keys.name.text(NAME);
  const dns64 = keys.dns64.flag(false) ? { dns64: true as const } : {};
  if (keys.ipv6Native.flag(false)) {
    for (const key of ['cidr', 'reservations', 'held'] as const)
      if (!keys[key].absent) throw keys[key].fail('is of IPv4, which an IPv6-only subnet does not have');
    const native: SubnetShape = {
      name,
      cidr: '',
      ipv6Native: true,
      ...dns64,
      zone: inRegion(keys.zone, region),
      ...(keys.tags.absent ? {} : { tags: readTags(keys.tags) }),
    };
    return keys.routeTable.absent ? native : { ...native, routeTable: readTable(keys.routeTable, tables) };
  }
  const cidr = readCidr(keys.cidr, 16, 28);
  if (!vpcCidrs.some((outer) => cidrCovers(outer, cidr))) {
    throw keys.cidr.fail(`is ${formatCidr(cidr)}, outside the VPC's ${vpcCidrs.map(formatCidr).join(', ')}`);
  }
  const other = earlier.find((subnet) => !subnet.ipv6Native && cidrsOverlap(parseCidr(subnet.cidr), cidr));
  if (other) throw keys.cidr.fail(`is ${formatCidr(cidr)}, which overlaps subnet ${other.name}`);
  const zone = inRegion(keys.zone, region);
  const tags = readTags(keys.tags);
  const reservations = readReservations(keys.reservations, cidr);
  const held = readHeld(keys.held, cidr);
  const subnet: SubnetShape = {
    name,
    cidr: formatCidr(cidr),
    ...dns64,
    zone,
    ...(keys.tags.absent ? {} : { tags }),
    ...(reservations.length ? { reservations } : {}),
    ...(held.length ? { held } : {}),
  };
  return keys.routeTable.absent ? subnet : { ...subnet, routeTable: readTable(keys.routeTable, tables) };
}

function readTable(reader: Reader, tables: RouteTableShape[]): string {
  const name = reader.text(NAME);
  if (!tables.some((table) => table.name === name))
    throw reader.fail(`is "${name}", which no routeTables entry names`);
  return name;
}

function readTags(reader: Reader): Record<string, string> {
  const entries = reader.entries();
  if (entries.length > MAX_TAGS) throw reader.fail(`has ${entries.length} tags, at most ${MAX_TAGS}`);
  const tags: Record<string, string> = {};
  for (const [key, value] of entries) {
    if (key === 'Name') throw value.fail('is not needed: a subnet is tagged with its name');
    if (key === '' || key.length > 128) throw value.fail(`has a key of ${key.length} characters, 1 to 128`);
    if (/^(aws|podway):/i.test(key)) throw value.fail(`is a tag that users cannot set: ${key}`);
    if (Object.hasOwn(tags, key)) throw value.fail('is given twice');
    Object.defineProperty(tags, key, {
      value: value.textOr('', TAG_VALUE),
      enumerable: true,
      configurable: true,
      writable: true,
    });
  }
  return tags;
}

function readReservations(reader: Reader, subnet: Cidr): ReservationShape[] {
  const read: ReservationShape[] = [];
  for (const each of reader.list(MAX_LIST)) {
    const keys = each.map(['cidr', 'type']);
    const cidr = readCidr(keys.cidr, 16, 32);
    const type = keys.type.oneOf(['prefix', 'explicit'] as const);
    if (!cidrCovers(subnet, cidr))
      throw keys.cidr.fail(`is ${formatCidr(cidr)}, outside the subnet's ${formatCidr(subnet)}`);
    if (type === 'prefix' && cidr.length > LONGEST_FOR_PREFIXES)
      throw keys.cidr.fail(
        `is ${formatCidr(cidr)}, too small for prefixes: one is a /${LONGEST_FOR_PREFIXES}`,
      );
    const other = read.find((one) => cidrsOverlap(parseCidr(one.cidr), cidr));
    if (other) throw keys.cidr.fail(`is ${formatCidr(cidr)}, which overlaps the reservation ${other.cidr}`);
    read.push({ cidr: formatCidr(cidr), type });
  }
  return read;
}

function readHeld(reader: Reader, subnet: Cidr): string[] {
  const held: string[] = [];
  for (const each of reader.list(MAX_HELD)) {
    const text = each.text();
    let ip: Ipv4;
    try {
      ip = parseIpv4(text);
    } catch (error) {
      throw each.fail(`is "${text}": ${(error as Error).message}`);
    }
    if (!cidrContains(subnet, ip)) throw each.fail(`is ${text}, outside the subnet's ${formatCidr(subnet)}`);
    if (isKept(subnet, ip - (subnet.ip as Ipv4)))
      throw each.fail(`is ${text}, which AWS keeps in every subnet`);
    if (held.includes(text)) throw each.fail(`is ${text}, which is held already`);
    held.push(formatIp(ip));
  }
  return held;
}

const isKept = (subnet: Cidr, offset: number): boolean =>
  offset < KEPT_AT_START || offset >= cidrSize(subnet) - KEPT_AT_END;

/** Addresses of the subnet that its instances can have. */
function roomOf(subnet: SubnetShape): number {
  const cidr = parseCidr(subnet.cidr);
  const ranges = (subnet.reservations ?? []).map((each) => parseCidr(each.cidr));
  const held = new Set((subnet.held ?? []).map((ip) => parseIpv4(ip) as number));
  let room = 0;
  for (let offset = 0; offset < cidrSize(cidr); offset++) {
    const ip = (cidr.ip as number) + offset;
    if (isKept(cidr, offset) || held.has(ip)) continue;
    if (!ranges.some((range) => cidrContains(range, ip as Ipv4))) room++;
  }
  return room;
}

/** Every instance takes an address of its subnet. */
export function checkRoom(reader: Reader, vpcs: VpcShape[], instances: InstanceShape[]): void {
  for (const subnet of vpcs.flatMap((vpc) => vpc.subnets)) {
    if (subnet.ipv6Native) continue;
    const there = instances.filter((instance) => instance.subnet === subnet.name).length;
    const room = there === 0 ? 0 : roomOf(subnet);
    if (there > room)
      throw reader.fail(`puts ${there} into subnet ${subnet.name}, which has ${room} addresses to give`);
  }
}

export function unique(reader: Reader, names: string[], what: string): void {
  const twice = names.find((name, index) => names.indexOf(name) !== index);
  if (twice !== undefined) throw reader.fail(`name the ${what} "${twice}" twice`);
}
