// What a change of policies changes: the connections between pods that are decided otherwise. Pure. Each pair of pods is
// asked on the ports that the policies and the receiver name, and on one that nobody names.
import type { Ip } from '../base/ip.ts';
import { familyOf } from '../base/ip.ts';
import { compile } from './compile.ts';
import { evaluate } from './evaluate.ts';
import {
  LAST_PORT,
  type Namespaces,
  type Nodes,
  PORT_PROTOCOLS,
  type PodView,
  type Policy,
  type PortProtocol,
  PROTOCOL_NAMES,
  podKey,
  TCP,
} from './model.ts';

/** Pods that are compared, pair by pair; those that a changed policy selects come first. */
const MOST_PODS = 200;
/** Ports that are asked of each receiver. */
const MOST_PORTS = 24;

export type Changed = {
  /** NAMESPACE/NAME. */
  from: string;
  to: string;
  /** tcp, udp or sctp. */
  protocol: string;
  /** Null: every port that nobody names. */
  port: number | null;
  before: 'allow' | 'deny';
  after: 'allow' | 'deny';
};

export type Change = {
  changed: Changed[];
  /** Pods that were compared, of all that have an address. */
  compared: number;
  pods: number;
};

export type ChangeInput = {
  readonly before: readonly Policy[];
  readonly after: readonly Policy[];
  readonly namespaces: Namespaces;
  readonly nodes?: Nodes;
  readonly pods: readonly PodView[];
};

type Asked = { readonly protocol: PortProtocol; readonly port: number; readonly isAny: boolean };

/** One node that has all pods: then both directions of each pair are judged by one program. */
const EVERYWHERE = 'all nodes';

export function changeOf({ before, after, namespaces, nodes = new Map(), pods }: ChangeInput): Change {
  const live = pods.filter(({ hostNetwork, ended, ips }) => !hostNetwork && !ended && ips.length > 0);
  const all = live.map((pod) => ({ ...pod, node: EVERYWHERE }));
  const programOf = (policies: readonly Policy[]) =>
    compile({ node: EVERYWHERE, policies, namespaces, nodes, pods: all, held: new Map() });
  const [old, next] = [programOf(before), programOf(after)];
  const isOtherwise = ({ ips }: PodView) =>
    ips.some((ip) => old.from.get(ip) !== next.from.get(ip) || old.to.get(ip) !== next.to.get(ip));
  const some = [...all].sort((a, b) => Number(isOtherwise(b)) - Number(isOtherwise(a))).slice(0, MOST_PODS);
  const named = portsOf([...before, ...after]);
  const changed: Changed[] = [];
  for (const from of some)
    for (const to of some) {
      const pair = from === to ? null : pairOf(from, to);
      if (!pair || !(isOtherwise(from) || isOtherwise(to))) continue;
      for (const { protocol, port, isAny } of askedOf(to, named)) {
        const packet = { ...pair, protocol, port };
        const [was, is] = [evaluate(old, packet).verdict, evaluate(next, packet).verdict];
        if (was !== is)
          changed.push({
            from: podKey(from),
            to: podKey(to),
            protocol: PROTOCOL_NAMES[protocol],
            port: isAny ? null : port,
            before: was,
            after: is,
          });
      }
    }
  return { changed, compared: some.length, pods: all.length };
}

function pairOf(from: PodView, to: PodView): { src: Ip; dst: Ip } | null {
  for (const src of from.ips) {
    const dst = to.ips.find((ip) => familyOf(ip) === familyOf(src));
    if (dst !== undefined) return { src, dst };
  }
  return null;
}

/** Numbers that rules name, by protocol. */
function portsOf(policies: readonly Policy[]): { protocol: PortProtocol; port: number }[] {
  const found = new Map<string, { protocol: PortProtocol; port: number }>();
  for (const policy of policies)
    for (const rule of [...(policy.egress ?? []), ...(policy.ingress ?? [])])
      for (const port of rule.ports ?? [])
        if ('from' in port && port.from > 0)
          for (const number of new Set([port.from, port.to]))
            found.set(`${port.protocol} ${number}`, { protocol: port.protocol, port: number });
  return [...found.values()];
}

function askedOf(to: PodView, named: readonly { protocol: PortProtocol; port: number }[]): Asked[] {
  const asked = new Map<string, Asked>();
  for (const { protocol, port } of [...to.ports, ...named].slice(0, MOST_PORTS))
    asked.set(`${protocol} ${port}`, { protocol, port, isAny: false });
  const protocols = new Set<PortProtocol>([TCP, ...[...asked.values()].map(({ protocol }) => protocol)]);
  for (const protocol of PORT_PROTOCOLS.filter((one) => protocols.has(one))) {
    let port = LAST_PORT;
    while (asked.has(`${protocol} ${port}`)) port--;
    asked.set(`${protocol} other`, { protocol, port, isAny: true });
  }
  return [...asked.values()];
}
