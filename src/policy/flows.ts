// A packet of the kernel's log as an event for people: who to whom, what was decided, and by which policy and rule. Pure.
// The kernel says verdict, direction and tier; policy and rule are those of the program in force, where it says the same.
import { formatIp, type Ip, ipFromBytes } from '../base/ip.ts';
import { evaluate } from './evaluate.ts';
import { type Direction, PORT_PROTOCOLS, type PortProtocol, PROTOCOL_NAMES, type Tier } from './model.ts';
import type { Program } from './program.ts';

export type FlowVerdict = 'denied' | 'allowed' | 'audited';

export type FlowEnd = { ip: string; port?: number; pod?: string };

/** One new connection, as `podway observe` tells it. */
export type FlowEvent = {
  /** ISO text. */
  at: string;
  node: string;
  /** audited: denied, and let through. */
  verdict: FlowVerdict;
  direction: Direction;
  /** tcp, udp, sctp, icmp, icmpv6, or the number. */
  protocol: string;
  from: FlowEnd;
  to: FlowEnd;
  /** Absent: no tier decided, or the program has changed since. */
  tier?: Tier;
  object?: string;
  /** Place in the object's list; absent where the isolation itself decides. */
  rule?: number;
};

export type FlowPacket = {
  readonly src: Ip;
  readonly dst: Ip;
  readonly protocol: number;
  readonly ports: { readonly from: number; readonly to: number } | null;
};

/** Of IPv6: hop-by-hop, routing, fragment, authentication, destination options. */
const EXTENSIONS = new Set([0, 43, 44, 51, 60]);
const MOST_EXTENSIONS = 8;
const FRAGMENT = 44;
const AUTHENTICATION = 51;

/** From the IP header on. Null for what is no whole header. */
export function readPacket(bytes: Uint8Array): FlowPacket | null {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const version = (bytes[0] ?? 0) >> 4;
  if (version === 4 && bytes.length >= 20) {
    const [src, dst] = [ipFromBytes(bytes.subarray(12, 16)), ipFromBytes(bytes.subarray(16, 20))];
    const isFirst = (view.getUint16(6) & 0x1fff) === 0;
    return withPorts({ src, dst, protocol: bytes[9]! }, view, isFirst ? (bytes[0]! & 0xf) * 4 : null);
  }
  if (version !== 6 || bytes.length < 40) return null;
  const [src, dst] = [ipFromBytes(bytes.subarray(8, 24)), ipFromBytes(bytes.subarray(24, 40))];
  let protocol = bytes[6]!;
  let at = 40;
  for (
    let count = 0;
    EXTENSIONS.has(protocol) && count < MOST_EXTENSIONS && at + 8 <= bytes.length;
    count++
  ) {
    const next = bytes[at]!;
    const length = bytes[at + 1]!;
    at += protocol === FRAGMENT ? 8 : protocol === AUTHENTICATION ? (length + 2) * 4 : (length + 1) * 8;
    protocol = next;
  }
  return withPorts({ src, dst, protocol }, view, at);
}

function withPorts(
  ends: Pick<FlowPacket, 'src' | 'dst' | 'protocol'>,
  view: DataView,
  at: number | null,
): FlowPacket {
  const has =
    at !== null && at + 4 <= view.byteLength && PORT_PROTOCOLS.includes(ends.protocol as PortProtocol);
  return { ...ends, ports: has ? { from: view.getUint16(at), to: view.getUint16(at + 2) } : null };
}

const VERDICTS: Readonly<Record<string, FlowVerdict>> = {
  deny: 'denied',
  allow: 'allowed',
  audit: 'audited',
};
const OTHERS: Readonly<Record<number, string>> = { 1: 'icmp', 58: 'icmpv6' };

const protocolName = (protocol: number): string =>
  PROTOCOL_NAMES[protocol as PortProtocol] ?? OTHERS[protocol] ?? `${protocol}`;

export type FlowContext = {
  readonly node: string;
  readonly now: number;
  readonly program: Program | null;
  /** NAMESPACE/NAME. */
  readonly ownerOf: (ip: Ip) => string | undefined;
};

/** `prefix`: as the table's chains say it, verdict, direction and tier. Null for anything else. */
export function flowEvent(
  { prefix, payload }: { prefix: string; payload: Uint8Array },
  { node, now, program, ownerOf }: FlowContext,
): FlowEvent | null {
  const [word = '', direction, tier] = prefix.trim().split(' ');
  const verdict = VERDICTS[word];
  const packet = readPacket(payload);
  if (!verdict || !packet || (direction !== 'egress' && direction !== 'ingress')) return null;
  const { src, dst, protocol, ports } = packet;
  const end = (ip: Ip, port: number | undefined): FlowEnd => {
    const pod = ownerOf(ip);
    return { ip: formatIp(ip), ...(port === undefined ? {} : { port }), ...(pod ? { pod } : {}) };
  };
  const judged = program && evaluate(program, { src, dst, protocol, port: ports?.to ?? null })[direction];
  const isSame = judged?.tier === tier && judged?.verdict === (verdict === 'allowed' ? 'allow' : 'deny');
  const origin = isSame ? judged.origin : null;
  return {
    at: new Date(now).toISOString(),
    ...{ node, verdict, direction },
    protocol: protocolName(protocol),
    from: end(src, ports?.from),
    to: end(dst, ports?.to),
    ...(tier === undefined || tier === 'none' ? {} : { tier: tier as Tier }),
    ...(origin ? { object: origin.object } : {}),
    ...(origin && origin.rule !== null ? { rule: origin.rule } : {}),
  };
}
