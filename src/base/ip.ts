// Addresses and prefixes of both families as integers.
// An IPv4 address is a number, an IPv6 address a bigint: the JavaScript type is the family, both work as Map keys,
// and arithmetic is plain. Text exists only at the edges (JSON, logs, wire formats that carry text).
// Fails by throwing AddressError, which names the text and what is wrong with it.

export type Ipv4 = number & { readonly __ipv4: unique symbol };
export type Ipv6 = bigint & { readonly __ipv6: unique symbol };
export type Ip = Ipv4 | Ipv6;
export type Family = 4 | 6;

/** A prefix; `ip` is always the masked network address, `length` in bits. */
export type Cidr = { readonly ip: Ip; readonly length: number };

export class AddressError extends Error {
  override name = 'AddressError';
}

export const familyOf = (ip: Ip): Family => (typeof ip === 'number' ? 4 : 6);
export const bitsOf = (family: Family): number => (family === 4 ? 32 : 128);

/** Parses dotted quad (no leading zeros) or RFC 4291 text, the form with an embedded IPv4 tail included. */
export function parseIp(text: string): Ip {
  return text.includes(':') ? parseIpv6(text) : parseIpv4(text);
}

export function parseIpv4(text: string): Ipv4 {
  const parts = text.split('.');
  if (parts.length !== 4) throw new AddressError(`"${text}" is not an IPv4 address`);
  let value = 0;
  for (const part of parts) {
    if (!/^(0|[1-9][0-9]{0,2})$/.test(part) || Number(part) > 255) {
      throw new AddressError(`"${text}" is not an IPv4 address`);
    }
    value = value * 256 + Number(part);
  }
  return value as Ipv4;
}

export function parseIpv6(text: string): Ipv6 {
  const bad = () => new AddressError(`"${text}" is not an IPv6 address`);
  let body = text;
  const lastColon = body.lastIndexOf(':');
  if (body.includes('.')) {
    const tail = parseIpv4(body.slice(lastColon + 1));
    body = `${body.slice(0, lastColon + 1)}${(tail >>> 16).toString(16)}:${(tail & 0xffff).toString(16)}`;
  }
  const halves = body.split('::');
  if (halves.length > 2) throw bad();
  const groups = (part: string) => (part === '' ? [] : part.split(':'));
  const head = groups(halves[0] ?? '');
  const tail = halves.length === 2 ? groups(halves[1] ?? '') : [];
  const missing = 8 - head.length - tail.length;
  if (halves.length === 2 ? missing < 1 : missing !== 0) throw bad();
  let value = 0n;
  for (const group of [...head, ...Array<string>(halves.length === 2 ? missing : 0).fill('0'), ...tail]) {
    if (!/^[0-9a-fA-F]{1,4}$/.test(group)) throw bad();
    value = (value << 16n) | BigInt(`0x${group}`);
  }
  return value as Ipv6;
}

/** Canonical text: dotted quad, or RFC 5952. */
export function formatIp(ip: Ip): string {
  if (typeof ip === 'number') {
    return `${ip >>> 24}.${(ip >>> 16) & 255}.${(ip >>> 8) & 255}.${ip & 255}`;
  }
  const groups: number[] = [];
  for (let shift = 112n; shift >= 0n; shift -= 16n) groups.push(Number((ip >> shift) & 0xffffn));
  let best = { start: -1, length: 1 };
  for (let i = 0; i < 8; ) {
    let j = i;
    while (j < 8 && groups[j] === 0) j++;
    if (j - i > best.length) best = { start: i, length: j - i };
    i = j + 1;
  }
  const hex = (part: number[]) => part.map((g) => g.toString(16)).join(':');
  if (best.start < 0) return hex(groups);
  return `${hex(groups.slice(0, best.start))}::${hex(groups.slice(best.start + best.length))}`;
}

/** Parses `address/length`; host bits must be zero unless `mask` says to clear them. */
export function parseCidr(text: string, options: { mask?: boolean } = {}): Cidr {
  const { ip, length } = parseInterfaceAddress(text);
  const cidr = cidrOf(ip, length);
  if (!options.mask && cidr.ip !== ip)
    throw new AddressError(`"${text}" has host bits set (network ${formatCidr(cidr)})`);
  return cidr;
}

/** Parses `address/length` where host bits are kept, as on an interface. */
export function parseInterfaceAddress(text: string): { ip: Ip; length: number } {
  const slash = text.indexOf('/');
  if (slash < 0) throw new AddressError(`"${text}" has no prefix length`);
  const ip = parseIp(text.slice(0, slash));
  const lengthText = text.slice(slash + 1);
  const length = Number(lengthText);
  if (!/^(0|[1-9][0-9]{0,2})$/.test(lengthText) || length > bitsOf(familyOf(ip))) {
    throw new AddressError(`"${text}" has a prefix length outside 0..${bitsOf(familyOf(ip))}`);
  }
  return { ip, length };
}

/** The prefix of `length` bits that holds `ip`. */
export function cidrOf(ip: Ip, length: number): Cidr {
  if (typeof ip === 'number') {
    const mask = length === 0 ? 0 : (0xffffffff << (32 - length)) >>> 0;
    return { ip: ((ip & mask) >>> 0) as Ipv4, length };
  }
  const hostBits = BigInt(128 - length);
  return { ip: ((ip >> hostBits) << hostBits) as Ipv6, length };
}

export const hostCidr = (ip: Ip): Cidr => ({ ip, length: bitsOf(familyOf(ip)) });
export const formatCidr = (cidr: Cidr): string => `${formatIp(cidr.ip)}/${cidr.length}`;

export function cidrContains(cidr: Cidr, ip: Ip): boolean {
  return familyOf(cidr.ip) === familyOf(ip) && cidrOf(ip, cidr.length).ip === cidr.ip;
}

export const cidrCovers = (outer: Cidr, inner: Cidr): boolean =>
  inner.length >= outer.length && cidrContains(outer, inner.ip);
export const cidrsOverlap = (a: Cidr, b: Cidr): boolean => cidrCovers(a, b) || cidrCovers(b, a);

/** The address `offset` places after `ip`; throws when it leaves the family's range. */
export function addToIp<T extends Ip>(ip: T, offset: number): T {
  if (typeof ip === 'number') {
    const value = ip + offset;
    if (value < 0 || value > 0xffffffff) throw new AddressError(`${formatIp(ip)} + ${offset} leaves IPv4`);
    return value as T;
  }
  return ((ip as bigint) + BigInt(offset)) as T;
}

/** Addresses in the prefix; exact for IPv4, a float beyond 2^53 for IPv6. */
export const cidrSize = (cidr: Cidr): number => 2 ** (bitsOf(familyOf(cidr.ip)) - cidr.length);

/** Network byte order, 4 or 16 bytes. */
export function ipToBytes(ip: Ip): Uint8Array {
  if (typeof ip === 'number') return Uint8Array.of(ip >>> 24, (ip >>> 16) & 255, (ip >>> 8) & 255, ip & 255);
  const bytes = new Uint8Array(16);
  for (let i = 0; i < 16; i++) bytes[i] = Number((ip >> BigInt(120 - 8 * i)) & 0xffn);
  return bytes;
}

export function ipFromBytes(bytes: Uint8Array): Ip {
  if (bytes.length === 4) {
    return (((bytes[0]! << 24) | (bytes[1]! << 16) | (bytes[2]! << 8) | bytes[3]!) >>> 0) as Ipv4;
  }
  if (bytes.length !== 16) throw new AddressError(`an address has 4 or 16 bytes, not ${bytes.length}`);
  let value = 0n;
  for (const byte of bytes) value = (value << 8n) | BigInt(byte);
  return value as Ipv6;
}

export function compareIp(a: Ip, b: Ip): number {
  if (familyOf(a) !== familyOf(b)) return familyOf(a) - familyOf(b);
  return a < b ? -1 : a > b ? 1 : 0;
}
