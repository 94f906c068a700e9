// The chains in which judgements end: each counts by verdict, direction and tier, exempts what policies never decide, and
// with a flow log tells the connection to the kernel's log, once in a while for each. Pure text; no class is named here.
import type { FlowLog } from '../base/policy-words.ts';
import { chainText, hex } from '../kernel/nft-text.ts';
import { endChain } from './class-table.ts';
import type { Direction, Tier } from './model.ts';

/** The group of the kernel's log that tells connections. */
export const FLOW_GROUP = 7_099;
/** Bytes of a packet that are told: the longest headers up to the ports, with options. */
export const FLOW_BYTES = 128;
/** Connections that a set remembers as told; beyond that they are counted as lost. */
const FLOWS = 65_536;
/** A connection that goes on trying is told once in this time. */
export const FLOW_SECONDS = 60;
const FLOWS_PER_SECOND = 500;

const DIRECTIONS: readonly Direction[] = ['egress', 'ingress'];
const TIERS: readonly Tier[] = ['admin', 'networkpolicy', 'baseline'];
export type EndVerdict = 'allow' | 'deny' | 'audit';

export const ENDS = DIRECTIONS.flatMap((direction) =>
  (['allow', 'deny', 'audit'] satisfies EndVerdict[]).flatMap((verdict) =>
    [...TIERS, ...(verdict === 'allow' ? (['none'] as const) : [])].map((tier) => ({
      verdict,
      direction,
      tier,
    })),
  ),
);

/** Names of counters of their own; those of judgements have the names of their chains. */
export const CUT_PACKETS = 'cut_packets';
export const FLOWS_REPEATED = 'flows_repeated';
export const FLOWS_LOST = 'flows_lost';

/** A pod always reaches the node that it runs on. Neighbour discovery and the like are below policy. */
const EXEMPT = {
  egress: ['fib daddr type local goto sent', 'icmpv6 type { 130-137, 143 } goto sent'],
  ingress: ['icmpv6 type { 130-137, 143 } goto judged'],
} as const;
const PASS = { egress: 'goto sent', ingress: 'goto judged' } as const;

/** Tells the connection, unless it was told lately; the prefix says what was decided. */
const telling = (name: string, kind: number): string[] => [
  `meta priority set ${hex(kind)}`,
  'jump tell',
  `meta priority ${hex(kind)} log prefix "${name.replaceAll('_', ' ')}" group ${FLOW_GROUP} snaplen ${FLOW_BYTES}`,
];

const endChains = (flowLog: FlowLog): string[] =>
  ENDS.map(({ verdict, direction, tier }) => {
    const name = endChain(verdict, direction, tier);
    const isTold = flowLog === 'all' || (flowLog === 'denied' && verdict !== 'allow');
    const kind = 1 + ['allow', 'deny', 'audit'].indexOf(verdict) * 2 + DIRECTIONS.indexOf(direction);
    return chainText({
      name,
      rules: [
        ...(verdict === 'allow' ? [] : EXEMPT[direction]),
        `counter name ${name}`,
        ...(isTold ? telling(name, kind) : []),
        verdict === 'deny' ? 'drop' : PASS[direction],
      ],
    });
  });

export const COUNTERS: readonly string[] = [
  ...ENDS.map(({ verdict, direction, tier }) => endChain(verdict, direction, tier)),
  CUT_PACKETS,
  FLOWS_REPEATED,
  FLOWS_LOST,
];

/** Protocols whose connections are told by their ports, by IANA number; others by their ends. */
const WITH_PORTS = { tcp: 6, udp: 17, sctp: 132 } as const;

/**
 * What was told lately: by kind, ends, and ports or protocol. A set for each protocol with ports: nft lists no set of more
 * than five joined types (their numbers take six bits each of 32).
 */
const flowKeys = (family: 'ip' | 'ip6', hasPorts: boolean): string =>
  `meta priority . ${family} saddr . ${family} daddr . ${hasPorts ? 'th sport . th dport' : 'meta l4proto'}`;

function flowSet(name: string, family: 'ipv4_addr' | 'ipv6_addr', last: string): string {
  const type = `classid . ${family} . ${family} . ${last}`;
  return `  set ${name} { type ${type}; flags dynamic,timeout; timeout ${FLOW_SECONDS}s; size ${FLOWS}; }`;
}

/** The sets of one protocol, or of all without ports, and the rules that ask and fill them. */
function flowParts(suffix: string, hasPorts: boolean): { sets: string[]; rules: string[] } {
  const [four, six] = [`flows4_${suffix}`, `flows6_${suffix}`];
  const [keys4, keys6] = [flowKeys('ip', hasPorts), flowKeys('ip6', hasPorts)];
  const last = hasPorts ? 'inet_service . inet_service' : 'inet_proto';
  return {
    sets: [flowSet(four, 'ipv4_addr', last), flowSet(six, 'ipv6_addr', last)],
    rules: [
      `${keys4} @${four} goto tell_repeated`,
      `${keys6} @${six} goto tell_repeated`,
      'limit name flow_rate goto tell_lost',
      `add @${four} { ${keys4} } return`,
      `add @${six} { ${keys6} } return`,
      'goto tell_lost',
    ],
  };
}

const PLAIN = flowParts('plain', false);
const BY_PORTS = Object.entries(WITH_PORTS).map(([name, protocol]) => ({
  ...{ name: `tell_${name}`, protocol },
  ...flowParts(name, true),
}));

/** Sets, limit and chains by which each connection is told once. */
const FLOW_PARTS: readonly string[] = [
  ...PLAIN.sets,
  ...BY_PORTS.flatMap(({ sets }) => sets),
  `  limit flow_rate { rate over ${FLOWS_PER_SECOND}/second burst ${FLOWS_PER_SECOND} packets; }`,
  chainText({
    name: 'tell',
    rules: [
      `meta l4proto vmap { ${BY_PORTS.map(({ name, protocol }) => `${protocol} : goto ${name}`).join(', ')} }`,
      ...PLAIN.rules,
    ],
  }),
  ...BY_PORTS.map(({ name, rules }) => chainText({ name, rules })),
  chainText({ name: 'tell_repeated', rules: [`counter name ${FLOWS_REPEATED}`, 'meta priority set 0'] }),
  chainText({ name: 'tell_lost', rules: [`counter name ${FLOWS_LOST}`, 'meta priority set 0'] }),
];

/** Counters, chains, and what tells. Chains `sent` and `judged` are the table's own. */
export const endParts = (flowLog: FlowLog): readonly string[] => [
  ...COUNTERS.map((name) => `  counter ${name} { }`),
  ...(flowLog === 'off' ? [] : FLOW_PARTS),
  ...endChains(flowLog),
];
