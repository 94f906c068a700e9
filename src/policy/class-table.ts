// One class as chains and maps. Pure. Each run of rules with one kind of peer is one lookup: of the peer's identity and the
// protocol, or of its address and the protocol among ranges. The answer is a ruling: a number that the dispatching map
// turns into a verdict, or into a chain over ports.
import { type Family, formatIp } from '../base/ip.ts';
import { hex } from '../kernel/nft-text.ts';
import { shortHash } from './compiler.ts';
import { matchesPeer } from './evaluate.ts';
import {
  type Direction,
  LAST_PORT,
  PORT_PROTOCOLS,
  type PortProtocol,
  PROTOCOL_NAMES,
  type Tier,
  type Verdict,
} from './model.ts';
import type { Numbers } from './numbers.ts';
import { isSilent, type Ruling, rulingOf, type Span } from './ports.ts';
import type { Identity, PolicyClass, Rule, Stage } from './program.ts';
import { type Segment, segmentsOf } from './segments.ts';
import { type Key, type KeyType, pairKey } from './table.ts';

/** The chain in which a judgement ends, one for each kind, so that each is counted by itself. */
export const endChain = (
  verdict: 'allow' | 'deny' | 'audit',
  direction: Direction,
  tier: Tier | 'none',
): string => `${verdict}_${direction}_${tier}`;

/** What identities a run's maps need: filled again whenever an identity comes. */
export type Run = {
  /** By identity and protocol; by identity alone for the protocols without ports, where a rule is for all protocols. */
  readonly map: string;
  readonly mapOfAll: string | null;
  /** Turns rulings into verdicts. */
  readonly dispatch: string;
  readonly rules: readonly Rule[];
  readonly verdict: (verdict: Verdict) => string;
};

export type ClassTable = {
  readonly chains: ReadonlyMap<string, readonly string[]>;
  readonly statics: ReadonlyMap<string, string>;
  /** Of each dispatching map of the class. */
  readonly verdicts: ReadonlyMap<string, ReadonlyMap<number, string>>;
  readonly runs: readonly Run[];
};

/** Ports of one verdict in a set; up to this many ranges as rules of their own. */
const RANGES_AS_RULES = 8;

/** Rules over destination ports: single ones in a set, ranges one by one or in a concatenated set. */
function portRules(protocol: PortProtocol, spans: readonly Span[], verdict: Run['verdict']): string[] {
  const rules: string[] = [];
  for (const kind of new Set(spans.map((span) => span.verdict))) {
    const its = spans.filter((span) => span.verdict === kind);
    const singles = its.filter(({ from, to }) => from === to).map(({ from }) => `${from}`);
    const ranges = its.filter(({ from, to }) => from !== to).map(({ from, to }) => `${from}-${to}`);
    if (singles.length === 1) rules.push(`th dport ${singles[0]} ${verdict(kind)}`);
    else if (singles.length > 1) rules.push(`th dport { ${singles.join(', ')} } ${verdict(kind)}`);
    if (ranges.length <= RANGES_AS_RULES)
      rules.push(...ranges.map((range) => `th dport ${range} ${verdict(kind)}`));
    else {
      const name = PROTOCOL_NAMES[protocol];
      rules.push(
        `meta l4proto . th dport { ${ranges.map((range) => `${name} . ${range}`).join(', ')} } ${verdict(kind)}`,
      );
    }
  }
  return rules;
}

const isWhole = (spans: readonly Span[]): boolean =>
  spans.length === 1 && spans[0]!.from === 0 && spans[0]!.to === LAST_PORT;

/** Collects what one class needs. */
class Builder {
  readonly chains = new Map<string, readonly string[]>();
  readonly statics = new Map<string, string>();
  readonly verdicts = new Map<string, Map<number, string>>();
  readonly runs: Run[] = [];
  readonly #numbers: Numbers;

  constructor(numbers: Numbers) {
    this.#numbers = numbers;
  }

  /** The verdict for the protocol's spans; null: undecided. */
  verdictOf(protocol: PortProtocol, spans: readonly Span[], verdict: Run['verdict']): string | null {
    if (spans.length === 0) return null;
    if (isWhole(spans)) return verdict(spans[0]!.verdict);
    const rules = portRules(protocol, spans, verdict);
    const name = `p_${shortHash(rules.join('\n'))}`;
    this.chains.set(name, rules);
    return `jump ${name}`;
  }

  /** The ruling's number; `dispatch` learns what it means. */
  number(dispatch: string, verdict: string): number {
    const number = this.#numbers.of('ruling', verdict);
    const its = this.verdicts.get(dispatch);
    if (its) its.set(number, verdict);
    else this.verdicts.set(dispatch, new Map([[number, verdict]]));
    return number;
  }
}

/** Consecutive rules with one kind of peer. */
function runsOf(rules: readonly Rule[]): (readonly Rule[])[] {
  const runs: Rule[][] = [];
  for (const rule of rules) {
    const last = runs.at(-1);
    if (last && last[0]!.peers.kind === rule.peers.kind) last.push(rule);
    else runs.push([rule]);
  }
  return runs;
}

/** Address that is not the class's own: that of the peer. */
const peerOf = (direction: Direction): string => (direction === 'egress' ? 'daddr' : 'saddr');

function anyRun(builder: Builder, rules: readonly Rule[], verdict: Run['verdict']): string[] {
  const ruling = rulingOf(rules);
  const lines: string[] = [];
  for (const protocol of PORT_PROTOCOLS) {
    const what = builder.verdictOf(protocol, ruling.byProtocol[protocol], verdict);
    const isSame = ruling.others !== null && what === verdict(ruling.others);
    if (what !== null && !isSame) lines.push(`meta l4proto ${PROTOCOL_NAMES[protocol]} ${what}`);
  }
  if (ruling.others !== null) lines.push(verdict(ruling.others));
  return lines;
}

function podsRun(
  name: string,
  dispatch: string,
  direction: Direction,
  rules: readonly Rule[],
  verdict: Run['verdict'],
): { run: Run; lines: string[] } {
  const hasAll = rules.some(({ ports }) => ports === null);
  const run: Run = { map: name, mapOfAll: hasAll ? `${name}_all` : null, dispatch, rules, verdict };
  const peer = peerOf(direction);
  return {
    run,
    lines: [
      'meta priority set 0',
      `meta priority set ip ${peer} map @peers4`,
      `meta priority set ip6 ${peer} map @peers6`,
      `meta priority set meta priority . meta l4proto map @${run.map}`,
      // A ruling that was found is no identity, so the second lookup leaves it.
      ...(run.mapOfAll === null ? [] : [`meta priority set meta priority map @${run.mapOfAll}`]),
      `meta priority vmap @${dispatch}`,
    ],
  };
}

/** Protocol ranges between those with ports. */
const OTHER_PROTOCOLS = ['0-5', '7-16', '18-131', '133-255'];

function segmentPairs(
  builder: Builder,
  dispatch: string,
  { from, to, of: rules }: Segment<Rule>,
  verdict: Run['verdict'],
): string[] {
  const ruling = rulingOf(rules);
  const range = from === to ? formatIp(from) : `${formatIp(from)}-${formatIp(to)}`;
  const pair = (protocols: string, what: string) =>
    `${range} . ${protocols} : ${hex(builder.number(dispatch, what))}`;
  const others = ruling.others === null ? null : verdict(ruling.others);
  const byProtocol = PORT_PROTOCOLS.map((protocol) =>
    builder.verdictOf(protocol, ruling.byProtocol[protocol], verdict),
  );
  if (others !== null && byProtocol.every((what) => what === others)) return [pair('0-255', others)];
  return [
    ...PORT_PROTOCOLS.flatMap((protocol, at) =>
      byProtocol[at] ? [pair(PROTOCOL_NAMES[protocol], byProtocol[at])] : [],
    ),
    ...(others === null ? [] : OTHER_PROTOCOLS.map((protocols) => pair(protocols, others))),
  ];
}

function cidrsRun(
  builder: Builder,
  dispatch: string,
  direction: Direction,
  rules: readonly Rule[],
  verdict: Run['verdict'],
): string[] {
  const items = rules.map((rule) => ({
    item: rule,
    blocks: rule.peers.kind === 'cidrs' ? rule.peers.blocks : [],
  }));
  const lines: string[] = [];
  for (const family of [4, 6] satisfies Family[]) {
    const pairs = segmentsOf(items, family).flatMap((segment) =>
      segmentPairs(builder, dispatch, segment, verdict),
    );
    if (pairs.length === 0) continue;
    const type = family === 4 ? 'ipv4_addr' : 'ipv6_addr';
    const body = `{ type ${type} . inet_proto : classid; flags interval; elements = { ${pairs.join(', ')} }; }`;
    const name = `c${family}_${shortHash(body)}`;
    builder.statics.set(name, `  map ${name} ${body}`);
    const address = `${family === 4 ? 'ip' : 'ip6'} ${peerOf(direction)}`;
    lines.push(
      'meta priority set 0',
      `meta priority set ${address} . meta l4proto map @${name}`,
      `meta priority vmap @${dispatch}`,
    );
  }
  return lines;
}

export const stageChain = (one: PolicyClass, place: number): string =>
  place === 0 ? one.name : `${one.name}_${place}`;

function stageRules(builder: Builder, one: PolicyClass, stage: Stage, place: number): string[] {
  const { direction } = one;
  const chain = stageChain(one, place);
  const dispatch = `${chain}_v`;
  const allow = `goto ${endChain('allow', direction, stage.tier)}`;
  const deny = `goto ${endChain(one.isAudit ? 'audit' : 'deny', direction, stage.tier)}`;
  const isLast = place + 1 === one.stages.length;
  const next = `goto ${isLast ? endChain('allow', direction, 'none') : stageChain(one, place + 1)}`;
  const verdict = (kind: Verdict): string => (kind === 'pass' ? next : kind === 'deny' ? deny : allow);
  // Two counters: of packets that the stage was asked about, and of those that no rule of it decided.
  const lines: string[] = ['counter'];
  runsOf(stage.rules).forEach((rules, at) => {
    const { kind } = rules[0]!.peers;
    if (kind === 'any') lines.push(...anyRun(builder, rules, verdict));
    else if (kind === 'cidrs') lines.push(...cidrsRun(builder, dispatch, direction, rules, verdict));
    else {
      const { run, lines: its } = podsRun(`${chain}_r${at}`, dispatch, direction, rules, verdict);
      builder.runs.push(run);
      if (!builder.verdicts.has(dispatch)) builder.verdicts.set(dispatch, new Map());
      lines.push(...its);
    }
  });
  lines.push(`counter ${stage.otherwise === 'deny' ? deny : next}`);
  return lines;
}

export function classTable(one: PolicyClass, numbers: Numbers): ClassTable {
  const builder = new Builder(numbers);
  one.stages.forEach((stage, place) => {
    builder.chains.set(stageChain(one, place), stageRules(builder, one, stage, place));
  });
  return builder;
}

export type RunEntry = { map: string; type: KeyType; key: Key; number: number };

/** What an identity means to a run: elements of its maps, with the chains and rulings that they need. */
export function identityEntries(
  run: Run,
  identity: Identity,
  numbers: Numbers,
): Pick<ClassTable, 'chains' | 'verdicts'> & { entries: RunEntry[] } {
  const builder = new Builder(numbers);
  const entries: RunEntry[] = [];
  const matching = run.rules.filter(({ peers }) => matchesPeer(peers, NO_ADDRESS, identity));
  const ruling: Ruling = rulingOf(matching, identity.named);
  if (isSilent(ruling)) return { entries, chains: builder.chains, verdicts: builder.verdicts };
  const number = numbers.of('identity', identity.key);
  const others = ruling.others === null ? null : run.verdict(ruling.others);
  for (const protocol of PORT_PROTOCOLS) {
    const what = builder.verdictOf(protocol, ruling.byProtocol[protocol], run.verdict);
    if (what !== null && what !== others)
      entries.push({
        map: run.map,
        type: 'pair',
        key: pairKey(number, protocol),
        number: builder.number(run.dispatch, what),
      });
  }
  if (others !== null && run.mapOfAll !== null)
    entries.push({
      map: run.mapOfAll,
      type: 'number',
      key: number,
      number: builder.number(run.dispatch, others),
    });
  return { entries, chains: builder.chains, verdicts: builder.verdicts };
}

/** Rules of such a run ask for selectors alone. */
const NO_ADDRESS = 0 as never;
