// Ports of rules as disjoint spans with a verdict. Pure. A ruling says what becomes of a packet whose peer is known:
// by destination port for TCP, UDP and SCTP, and as a whole for all other protocols.
import {
  LAST_PORT,
  type NamedPort,
  PORT_PROTOCOLS,
  type Port,
  type PortProtocol,
  SCTP,
  TCP,
  UDP,
  type Verdict,
} from './model.ts';

/** Both ends included. */
export type Range = readonly [from: number, to: number];
export type Span = { readonly from: number; readonly to: number; readonly verdict: Verdict };

export type Ruling = {
  readonly byProtocol: Readonly<Record<PortProtocol, readonly Span[]>>;
  /** Every protocol without ports; null: undecided. */
  readonly others: Verdict | null;
};

/** Null: any port and any protocol. */
export type Ports = readonly Port[] | null;
export type PortRule = { readonly ports: Ports; readonly verdict: Verdict };

/** Sorted, disjoint, not adjacent. */
export function mergeRanges(ranges: readonly Range[]): Range[] {
  const sorted = [...ranges].sort((a, b) => a[0] - b[0]);
  const merged: [number, number][] = [];
  for (const [from, to] of sorted) {
    const last = merged.at(-1);
    if (last && from <= last[1] + 1) last[1] = Math.max(last[1], to);
    else merged.push([from, to]);
  }
  return merged;
}

/** What of `ranges` is not in `taken`; both sorted and disjoint. */
function without(ranges: readonly Range[], taken: readonly Range[]): Range[] {
  const left: Range[] = [];
  let next = 0;
  for (let [from, to] of ranges) {
    while (next < taken.length && taken[next]![1] < from) next++;
    for (let at = next; at < taken.length && taken[at]![0] <= to; at++) {
      const [a, b] = taken[at]!;
      if (a > from) left.push([from, a - 1]);
      from = b + 1;
    }
    if (from <= to) left.push([from, to]);
  }
  return left;
}

/** The ports of the rule that the protocol has, as ranges. Named ports are looked up in `named`. */
export function rangesOf(ports: Ports, protocol: PortProtocol, named: readonly NamedPort[]): Range[] {
  if (ports === null) return [[0, LAST_PORT]];
  return ports.flatMap((port): Range[] => {
    if (port.protocol !== protocol) return [];
    if (!('name' in port)) return [[port.from, port.to]];
    return named
      .filter((one) => one.name === port.name && one.protocol === protocol)
      .map((one): Range => [one.port, one.port]);
  });
}

/** The first rule that matches decides. Spans are sorted, disjoint, and adjacent ones differ in their verdict. */
export function rulingOf(rules: readonly PortRule[], named: readonly NamedPort[] = []): Ruling {
  const spansOf = (protocol: PortProtocol): Span[] => {
    let taken: Range[] = [];
    const spans: Span[] = [];
    for (let at = 0; at < rules.length; ) {
      // Rules of one verdict in a row are one rule: thousands of ports cost one pass.
      const { verdict } = rules[at]!;
      const ranges: Range[] = [];
      for (; at < rules.length && rules[at]!.verdict === verdict; at++) {
        for (const range of rangesOf(rules[at]!.ports, protocol, named)) ranges.push(range);
      }
      const merged = mergeRanges(ranges);
      for (const [from, to] of without(merged, taken)) spans.push({ from, to, verdict });
      taken = mergeRanges([...taken, ...merged]);
    }
    return joinSpans(spans);
  };
  const byProtocol = { [TCP]: spansOf(TCP), [UDP]: spansOf(UDP), [SCTP]: spansOf(SCTP) };
  return { byProtocol, others: rules.find(({ ports }) => ports === null)?.verdict ?? null };
}

function joinSpans(spans: Span[]): Span[] {
  const joined: Span[] = [];
  for (const span of spans.sort((a, b) => a.from - b.from)) {
    const last = joined.at(-1);
    if (last && last.to + 1 === span.from && last.verdict === span.verdict)
      joined[joined.length - 1] = { ...last, to: span.to };
    else joined.push(span);
  }
  return joined;
}

export const isSilent = ({ byProtocol, others }: Ruling): boolean =>
  others === null && PORT_PROTOCOLS.every((protocol) => byProtocol[protocol].length === 0);
