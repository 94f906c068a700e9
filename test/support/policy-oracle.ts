// What Kubernetes says of a packet, straight from the objects: a second reading of the API's rules, beside src/policy, for
// tests that compare packets with it. Slow and plain: all policies are looked at for each question.
import type {
  V1LabelSelector,
  V1NetworkPolicy,
  V1NetworkPolicyPeer,
  V1NetworkPolicyPort,
} from '@kubernetes/client-node';
import { type Ip, ipToBytes, parseIp } from '../../src/base/ip.ts';
import type { Protocol } from './policy-probes.ts';

type Labels = Readonly<Record<string, string>>;
export type OraclePod = {
  readonly ns: string;
  readonly pod: string;
  readonly labels: Labels;
  readonly ports: readonly { name: string; containerPort: number; protocol: string }[];
};
export type Question = {
  readonly from: OraclePod;
  readonly to: OraclePod;
  /** Addresses of the packet. */
  readonly src: Ip;
  readonly dst: Ip;
  readonly protocol: Protocol;
  readonly port: number;
};
type Side = 'ingress' | 'egress';

/** The part of a ClusterNetworkPolicy that the suite uses. */
export type ClusterPeer = {
  namespaces?: V1LabelSelector;
  pods?: { namespaceSelector: V1LabelSelector; podSelector: V1LabelSelector };
  networks?: string[];
  /** No pod is one, on its node's network or not. */
  nodes?: V1LabelSelector;
};
type PortOrRange = { number: number } | { range: { start: number; end: number } };
export type ClusterProtocol =
  | { [of in 'tcp' | 'udp' | 'sctp']?: { destinationPort?: PortOrRange } }
  | { destinationNamedPort: string };
export type ClusterRule = {
  action: 'Accept' | 'Deny' | 'Pass';
  from?: ClusterPeer[];
  to?: ClusterPeer[];
  protocols?: ClusterProtocol[];
};
export type ClusterPolicy = {
  metadata: { name: string };
  spec: {
    tier: 'Admin' | 'Baseline';
    priority: number;
    subject: ClusterPeer;
    ingress?: ClusterRule[];
    egress?: ClusterRule[];
  };
};

export type Objects = {
  readonly policies: readonly V1NetworkPolicy[];
  readonly cluster?: readonly ClusterPolicy[];
  readonly namespaces: ReadonlyMap<string, Labels>;
};

function selects({ matchLabels = {}, matchExpressions = [] }: V1LabelSelector, labels: Labels): boolean {
  return (
    Object.entries(matchLabels).every(([key, value]) => labels[key] === value) &&
    matchExpressions.every(({ key, operator, values = [] }) => {
      const value = labels[key];
      if (operator === 'In') return value !== undefined && values.includes(value);
      if (operator === 'NotIn') return value === undefined || !values.includes(value);
      return operator === 'Exists' ? value !== undefined : value === undefined;
    })
  );
}

/** Host bits say nothing. */
function within(cidr: string, ip: Ip): boolean {
  const [network, length] = cidr.split('/') as [string, string];
  const [a, b] = [ipToBytes(parseIp(network)), ipToBytes(ip)];
  const bit = (bytes: Uint8Array, at: number) => (bytes[at >> 3]! >> (7 - (at & 7))) & 1;
  if (a.length !== b.length) return false;
  for (let at = 0; at < Number(length); at++) if (bit(a, at) !== bit(b, at)) return false;
  return true;
}

/** Whose port has the name? An address has no pod. */
const isNowhere = (side: Side, peer: V1NetworkPolicyPeer | null, { port }: V1NetworkPolicyPort): boolean =>
  side === 'egress' && peer?.ipBlock !== undefined && typeof port === 'string';

class Judge {
  readonly #o: Objects;
  readonly #q: Question;

  constructor(objects: Objects, question: Question) {
    this.#o = objects;
    this.#q = question;
  }

  #of(side: Side): { own: OraclePod; peer: OraclePod; peerIp: Ip } {
    const { from, to, src, dst } = this.#q;
    return side === 'ingress' ? { own: to, peer: from, peerIp: src } : { own: from, peer: to, peerIp: dst };
  }

  #namespace = (name: string): Labels => this.#o.namespaces.get(name) ?? {};

  #isPeer(side: Side, { ipBlock, podSelector, namespaceSelector }: V1NetworkPolicyPeer): boolean {
    const { own, peer, peerIp } = this.#of(side);
    if (ipBlock)
      return within(ipBlock.cidr, peerIp) && !(ipBlock.except ?? []).some((one) => within(one, peerIp));
    const inNamespace = namespaceSelector
      ? selects(namespaceSelector, this.#namespace(peer.ns))
      : peer.ns === own.ns;
    return inNamespace && selects(podSelector ?? {}, peer.labels);
  }

  #isPort({ port, endPort, protocol: its = 'TCP' }: V1NetworkPolicyPort): boolean {
    const { port: asked, protocol, to } = this.#q;
    if (its !== protocol) return false;
    if (port === undefined) return true;
    if (typeof port === 'number') return port <= asked && asked <= (endPort ?? port);
    return to.ports.some(
      (one) => one.name === port && one.containerPort === asked && one.protocol === protocol,
    );
  }

  /** Null: no NetworkPolicy isolates the pod in this direction. */
  #namespaced(side: Side): boolean | null {
    const { own } = this.#of(side);
    const type = side === 'ingress' ? 'Ingress' : 'Egress';
    const selecting = this.#o.policies.filter(({ metadata, spec }) => {
      const types = spec!.policyTypes ?? ['Ingress', ...(spec!.egress?.length ? ['Egress'] : [])];
      return (
        metadata!.namespace === own.ns && types.includes(type) && selects(spec!.podSelector ?? {}, own.labels)
      );
    });
    if (selecting.length === 0) return null;
    return selecting.some(({ spec }) => {
      const rules =
        side === 'ingress'
          ? (spec!.ingress ?? []).map(({ _from, ports }) => ({ peers: _from, ports }))
          : (spec!.egress ?? []).map(({ to, ports }) => ({ peers: to, ports }));
      return rules.some(({ peers = [], ports = [] }) => {
        const matching = peers.length === 0 ? [null] : peers.filter((one) => this.#isPeer(side, one));
        return matching.some(
          (peer) =>
            ports.length === 0 || ports.some((one) => this.#isPort(one) && !isNowhere(side, peer, one)),
        );
      });
    });
  }

  #isClusterPeer({ namespaces, pods, networks }: ClusterPeer, pod: OraclePod, ip: Ip): boolean {
    if (networks) return networks.some((text) => within(text, ip));
    if (namespaces) return selects(namespaces, this.#namespace(pod.ns));
    return (
      pods !== undefined &&
      selects(pods.namespaceSelector, this.#namespace(pod.ns)) &&
      selects(pods.podSelector, pod.labels)
    );
  }

  #isClusterPort(one: ClusterProtocol): boolean {
    const { port, protocol, to } = this.#q;
    if ('destinationNamedPort' in one)
      return to.ports.some(
        (its) =>
          its.name === one.destinationNamedPort && its.containerPort === port && its.protocol === protocol,
      );
    const its = one[protocol.toLowerCase() as 'tcp'];
    if (!its) return false;
    const { destinationPort } = its;
    if (!destinationPort) return true;
    if ('number' in destinationPort) return destinationPort.number === port;
    return destinationPort.range.start <= port && port <= destinationPort.range.end;
  }

  #tier(tier: 'Admin' | 'Baseline', side: Side): 'Accept' | 'Deny' | 'Pass' {
    const { own, peer, peerIp } = this.#of(side);
    const selecting = (this.#o.cluster ?? [])
      .filter(({ spec }) => spec.tier === tier && this.#isClusterPeer(spec.subject, own, peerIp))
      .sort((a, b) => a.spec.priority - b.spec.priority || (a.metadata.name < b.metadata.name ? -1 : 1));
    for (const { spec } of selecting)
      for (const { action, from, to, protocols } of spec[side] ?? [])
        if (
          (from ?? to ?? []).some((one) => this.#isClusterPeer(one, peer, peerIp)) &&
          (protocols === undefined || protocols.some((one) => this.#isClusterPort(one)))
        )
          return action;
    return 'Pass';
  }

  allows(side: Side): boolean {
    const admin = this.#tier('Admin', side);
    if (admin !== 'Pass') return admin === 'Accept';
    return this.#namespaced(side) ?? this.#tier('Baseline', side) !== 'Deny';
  }
}

/** Whether a packet that begins a connection between two pods of different nodes or of one reaches its end. */
export function reaches(objects: Objects, question: Question): boolean {
  const judge = new Judge(objects, question);
  return judge.allows('egress') && judge.allows('ingress');
}
