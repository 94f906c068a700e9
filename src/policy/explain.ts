// Why a packet passes or not: the deciding rule of each direction, every rule that allows, and the rules that nearly
// matched, with what they miss. Pure: from the objects alone, for any node; the kernel judges by the same classes.

import { cidrContains, familyOf, formatCidr, formatIp, type Ip } from '../base/ip.ts';
import type { PolicyMode } from '../base/policy-words.ts';
import { matchesRequirements, type Requirement } from '../kube/selectors.ts';
import { Compiler } from './compiler.ts';
import { type Judgement, judgeBy, matchesPeer, matchesPort, type Packet, passes } from './evaluate.ts';
import {
  type Direction,
  modeIn,
  type Namespaces,
  type Nodes,
  type Peers,
  type PodView,
  type Policy,
  type PolicyRule,
  type PortProtocol,
  PROTOCOL_NAMES,
  type Verdict,
} from './model.ts';
import type { PolicyClass } from './program.ts';
import { selects } from './selector.ts';

/** One side of a question: a pod, or an address that is none's. */
export type End = { readonly pod: PodView | null; readonly ip: Ip };

export type Side = {
  verdict: 'allow' | 'deny';
  /** It is denied and passes: the pod's namespace or node only audits. */
  isAudit?: true;
  /** Null: no policy isolates the pod in this direction, or it is no pod. */
  tier: string | null;
  object: string | null;
  /** Place in the object's list; null where the isolation itself decides. */
  rule: number | null;
  /** All rules that allow. */
  allowedBy: { object: string; rule: number }[];
  because: string;
};

export type NearMiss = { object: string; rule: number; direction: Direction; because: string };
export type Trace = { verdict: 'allow' | 'deny'; egress: Side; ingress: Side; nearMisses: NearMiss[] };

export type Question = {
  readonly policies: readonly Policy[];
  readonly namespaces: Namespaces;
  /** Whose addresses are peers. */
  readonly nodes?: Nodes;
  /** Of the ends' nodes, for pods whose namespace says no other: enforce when absent. */
  readonly modes?: Readonly<Partial<Record<Direction, PolicyMode>>>;
  readonly from: End;
  readonly to: End;
  readonly protocol: number;
  readonly port: number | null;
};

/** A rule that lacks more than this is no near miss. */
const NEAR = 2;

export function trace(question: Question): Trace {
  const { policies, namespaces, from, to, protocol, port } = question;
  const packet: Packet = { src: from.ip, dst: to.ip, protocol, port };
  const compilerOf = (direction: Direction) =>
    new Compiler({
      policies,
      namespaces,
      nodes: question.nodes,
      mode: question.modes?.[direction] ?? 'enforce',
    });
  const compilers = { egress: compilerOf('egress'), ingress: compilerOf('ingress') };
  const classOf = ({ pod }: End, direction: Direction): PolicyClass | null =>
    pod && !pod.hostNetwork ? compilers[direction].classesOf(pod)[direction] : null;
  const classes = { egress: classOf(from, 'egress'), ingress: classOf(to, 'ingress') };
  const sideOf = (direction: Direction): Side => {
    const [own, peer] = direction === 'egress' ? [from, to] : [to, from];
    const one = classes[direction];
    const identity =
      peer.pod && !peer.pod.hostNetwork && !peer.pod.ended ? compilers[direction].identityOf(peer.pod) : null;
    if (!one)
      return {
        ...side({ verdict: 'allow', tier: null, origin: null }),
        because: whyOpen(own, direction, question),
      };
    const allowing = one.stages
      .flatMap(({ rules }) => rules)
      .filter(
        (rule) =>
          rule.verdict === 'allow' &&
          matchesPeer(rule.peers, peer.ip, identity ?? undefined) &&
          matchesPort(rule.ports, packet, identity?.named ?? []),
      );
    const found = side(judgeBy(one, packet, peer.ip, identity ?? undefined));
    return {
      ...found,
      allowedBy: allowing.map(({ origin }) => ({ object: origin.object, rule: origin.rule ?? 0 })),
      because: whyJudged(found),
    };
  };
  const egress = sideOf('egress');
  const ingress = sideOf('ingress');
  const nearMisses = (['egress', 'ingress'] as const)
    .filter((direction) => (direction === 'egress' ? egress : ingress).verdict === 'deny')
    .flatMap((direction) => missesOf(question, direction));
  const isAllowed = passes(egress) && passes(ingress);
  return { verdict: isAllowed ? 'allow' : 'deny', egress, ingress, nearMisses };
}

const side = ({ verdict, isAudit, tier, origin }: Judgement): Omit<Side, 'because'> => ({
  verdict,
  ...(isAudit ? { isAudit } : {}),
  tier,
  object: origin?.object ?? null,
  rule: origin?.rule ?? null,
  allowedBy: [],
});

function whyOpen({ pod, ip }: End, direction: Direction, { namespaces, modes }: Question): string {
  if (!pod) return `${formatIp(ip)} is no pod: nothing judges its ${direction}`;
  if (pod.hostNetwork) return `${pod.namespace}/${pod.name} is on its node's network: nothing judges it`;
  if ((modeIn(namespaces.get(pod.namespace)) ?? modes?.[direction]) === 'off')
    return `policy is off for ${pod.namespace}/${pod.name}`;
  return `no policy isolates ${pod.namespace}/${pod.name} in ${direction}`;
}

function whyJudged({ verdict, isAudit, tier, object, rule }: Omit<Side, 'because'>): string {
  if (object === null) return 'no tier decides';
  const passed = isAudit ? ' (audit: it passes)' : '';
  if (rule === null) return `isolated by ${object}, and no rule allows it${passed}`;
  const of = tier === 'networkpolicy' ? '' : `, tier ${tier}`;
  return `${verdict === 'allow' ? 'allowed' : 'denied'} by rule ${rule} of ${object}${of}${passed}`;
}

function missesOf(
  { policies, namespaces, from, to, protocol, port }: Question,
  direction: Direction,
): NearMiss[] {
  const [own, peer] = direction === 'egress' ? [from, to] : [to, from];
  if (!own.pod) return [];
  const named = (direction === 'egress' ? peer.pod : own.pod)?.ports ?? [];
  const packet: Packet = { src: from.ip, dst: to.ip, protocol, port };
  const found: (NearMiss & { count: number })[] = [];
  for (const policy of policies) {
    if (!selects(policy.subject, own.pod, namespaces)) continue;
    for (const rule of policy[direction] ?? []) {
      if (rule.verdict !== ('allow' satisfies Verdict)) continue;
      const ports = matchesPort(rule.ports, packet, named) ? [] : [portMiss(rule)];
      const misses = rule.peers.map((one) => [...peerMisses(one, peer, namespaces), ...ports]);
      const least = misses.sort((a, b) => a.length - b.length)[0] ?? [];
      if (least.length === 0 || least.length > NEAR) continue;
      const because = `would match if ${least.join(' and ')}`;
      found.push({ object: policy.object, rule: rule.index, direction, because, count: least.length });
    }
  }
  return found.sort((a, b) => a.count - b.count).map(({ count: _, ...miss }) => miss);
}

function portMiss({ ports }: PolicyRule): string {
  const texts = (ports ?? []).map((one) => {
    const name = PROTOCOL_NAMES[one.protocol as PortProtocol];
    if ('name' in one) return `${one.name}/${name}`;
    if (one.from <= 1 && one.to === 65_535) return `any/${name}`;
    return one.from === one.to ? `${one.from}/${name}` : `${one.from}-${one.to}/${name}`;
  });
  return `the port were ${texts.slice(0, 5).join(' or ')}${texts.length > 5 ? ' …' : ''}`;
}

const requirementText = ({ key, operator, values }: Requirement): string => {
  if (operator === 'in')
    return values.length === 1 ? `${key}=${values[0]}` : `${key} in (${values.join(', ')})`;
  if (operator === 'notin') return `not ${key} in (${values.join(', ')})`;
  return operator === 'exists' ? `${key} (any value)` : `no ${key}`;
};

/** What no label and no port brings near. */
const FAR = ['the peer were another', 'it had its labels', 'it had its namespace'];

function peerMisses(peer: Peers, { pod, ip }: End, namespaces: Namespaces): string[] {
  if (peer.kind === 'any') return [];
  if (peer.kind === 'nodes') return [`${formatIp(ip)} were an address of a node that the rule means`];
  if (peer.kind === 'cidr') {
    if (familyOf(peer.cidr.ip) !== familyOf(ip)) return FAR;
    if (!cidrContains(peer.cidr, ip)) return [`${formatIp(ip)} were in ${formatCidr(peer.cidr)}`];
    const hole = peer.except.find((one) => cidrContains(one, ip));
    return hole ? [`${formatIp(ip)} were not in the exception ${formatCidr(hole)}`] : [];
  }
  if (!pod || pod.hostNetwork) return FAR;
  const { namespace, pods } = peer.selector;
  const misses: string[] = [];
  if (typeof namespace === 'string') {
    if (namespace !== pod.namespace) misses.push(`its namespace were ${namespace}`);
  } else {
    const labels = namespaces.get(pod.namespace) ?? {};
    for (const one of namespace)
      if (!matchesRequirements([one], labels))
        misses.push(`namespace ${pod.namespace} had label ${requirementText(one)}`);
  }
  for (const one of pods)
    if (!matchesRequirements([one], pod.labels))
      misses.push(`${pod.namespace}/${pod.name} had label ${requirementText(one)}`);
  return misses;
}
