// Judges a packet that begins a connection, from the program alone. Pure. The kernel's table is compared with it by
// random packets; `policy trace` explains with it.
import { cidrContains, type Ip } from '../base/ip.ts';
import type { NamedPort, Port, Tier } from './model.ts';
import type { Identity, Origin, PolicyClass, Program, Rule, RulePeers } from './program.ts';

export type Packet = {
  readonly src: Ip;
  readonly dst: Ip;
  /** IANA number. */
  readonly protocol: number;
  /** Destination port, of protocols that have one. */
  readonly port: number | null;
};

/** `tier` null: nothing isolates the pod in this direction. */
export type Judgement = {
  readonly verdict: 'allow' | 'deny';
  /** It is denied, and passes: the pod's namespace or node only audits. */
  readonly isAudit?: true;
  readonly tier: Tier | null;
  readonly origin: Origin | null;
};

export type Judged = {
  /** What becomes of the packet. */
  readonly verdict: 'allow' | 'deny';
  readonly egress: Judgement;
  readonly ingress: Judgement;
};

const OPEN: Judgement = { verdict: 'allow', tier: null, origin: null };

export function matchesPort(
  ports: readonly Port[] | null,
  packet: Packet,
  named: readonly NamedPort[],
): boolean {
  if (ports === null) return true;
  const { protocol, port } = packet;
  return ports.some((one) => {
    if (one.protocol !== protocol || port === null) return false;
    if (!('name' in one)) return one.from <= port && port <= one.to;
    return named.some((its) => its.name === one.name && its.protocol === protocol && its.port === port);
  });
}

export function matchesPeer(peers: RulePeers, address: Ip, identity: Identity | undefined): boolean {
  if (peers.kind === 'any') return true;
  if (peers.kind === 'pods') return peers.selectors.some((text) => identity?.selectors.has(text));
  return peers.blocks.some(
    ({ cidr, except }) => cidrContains(cidr, address) && !except.some((one) => cidrContains(one, address)),
  );
}

/** What a class says of a packet to or from the peer. */
export function judgeBy(
  one: PolicyClass,
  packet: Packet,
  peer: Ip,
  identity: Identity | undefined,
): Judgement {
  const matches = (rule: Rule) =>
    matchesPeer(rule.peers, peer, identity) && matchesPort(rule.ports, packet, identity?.named ?? []);
  const denied = (tier: Tier, origin: Origin): Judgement => ({
    ...{ verdict: 'deny', tier, origin },
    ...(one.isAudit ? { isAudit: true } : {}),
  });
  for (const { tier, rules, otherwise, objects } of one.stages) {
    const found = rules.find(matches);
    if (found?.verdict === 'deny') return denied(tier, found.origin);
    if (found?.verdict === 'allow') return { verdict: 'allow', tier, origin: found.origin };
    if (!found && otherwise === 'deny') return denied(tier, { object: objects.join(', '), rule: null });
  }
  return OPEN;
}

/** True when the packet goes on. */
export const passes = ({ verdict, isAudit }: Pick<Judgement, 'verdict' | 'isAudit'>): boolean =>
  verdict === 'allow' || isAudit === true;

/** Exemptions (the pod's own node, neighbour discovery, replies) are the table's, not the program's. */
export function evaluate(program: Program, packet: Packet): Judged {
  const side = (classes: ReadonlyMap<Ip, string>, own: Ip, peer: Ip): Judgement => {
    const name = classes.get(own);
    const one = name === undefined ? undefined : program.classes.get(name);
    const key = program.peers.get(peer);
    return one
      ? judgeBy(one, packet, peer, key === undefined ? undefined : program.identities.get(key))
      : OPEN;
  };
  const egress = side(program.from, packet.src, packet.dst);
  const ingress = side(program.to, packet.dst, packet.src);
  const verdict = passes(egress) && passes(ingress) ? 'allow' : 'deny';
  return { verdict, egress, ingress };
}
