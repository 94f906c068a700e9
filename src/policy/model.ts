// Pods, namespaces and policies as plain values, for all tiers. Invariant: one policy has the same shape whichever API
// object it came from; NetworkPolicy is the tier in which rules only allow.
import type { Cidr, Ip } from '../base/ip.ts';
import { POLICY_MODES, type PolicyMode } from '../base/policy-words.ts';
import type { Labels, Requirement } from '../kube/selectors.ts';

export type Direction = 'egress' | 'ingress';
export type Tier = 'admin' | 'networkpolicy' | 'baseline';
/** pass: leaves the tier undecided. */
export type Verdict = 'allow' | 'deny' | 'pass';

/** IANA numbers of the protocols that have ports. */
export const TCP = 6;
export const UDP = 17;
export const SCTP = 132;
export type PortProtocol = typeof TCP | typeof UDP | typeof SCTP;
export const PORT_PROTOCOLS: readonly PortProtocol[] = [TCP, UDP, SCTP];
export const PROTOCOL_NAMES: Readonly<Record<PortProtocol, string>> = {
  [TCP]: 'tcp',
  [UDP]: 'udp',
  [SCTP]: 'sctp',
};
export const LAST_PORT = 65_535;

export type NamedPort = { readonly name: string; readonly protocol: PortProtocol; readonly port: number };

export type PodView = {
  readonly namespace: string;
  readonly name: string;
  readonly uid: string;
  readonly labels: Labels;
  /** Null before it is bound. */
  readonly node: string | null;
  readonly ips: readonly Ip[];
  readonly ports: readonly NamedPort[];
  /** Such pods are neither subjects nor peers: their packets are the node's. */
  readonly hostNetwork: boolean;
  /** Succeeded or failed: its address is nobody's. */
  readonly ended: boolean;
};

export const podKey = ({ namespace, name }: Pick<PodView, 'namespace' | 'name'>): string =>
  `${namespace}/${name}`;

/** Label of a namespace: the mode of its pods, where the node does not say off. */
export const MODE_LABEL = 'podway.dev/policy';

/** What a namespace's label says; null where it says nothing that is known. */
export const modeIn = (labels: Labels | undefined): PolicyMode | null =>
  POLICY_MODES.find((mode) => mode === labels?.[MODE_LABEL]) ?? null;

/** Labels by namespace name. */
export type Namespaces = ReadonlyMap<string, Labels>;

/** A node as peers name it. */
export type NodePeer = { readonly labels: Labels; readonly ips: readonly Ip[] };
/** By name. */
export type Nodes = ReadonlyMap<string, NodePeer>;

/** Pods of namespaces: of one by name, or of those whose labels match. */
export type PodSelector = {
  readonly namespace: string | readonly Requirement[];
  readonly pods: readonly Requirement[];
};

export type Peers =
  | { readonly kind: 'any' }
  | { readonly kind: 'pods'; readonly selector: PodSelector }
  | { readonly kind: 'cidr'; readonly cidr: Cidr; readonly except: readonly Cidr[] }
  /** Addresses of the nodes whose labels match. */
  | { readonly kind: 'nodes'; readonly selector: readonly Requirement[] };

/** A range of numbers, both ends included, or a container port's name. */
export type Port =
  | { readonly protocol: PortProtocol; readonly from: number; readonly to: number }
  | { readonly protocol: PortProtocol; readonly name: string };

export type PolicyRule = {
  /** Place in the object's list of this direction, from 0. */
  readonly index: number;
  /** One of them must match. Empty: nothing matches. */
  readonly peers: readonly Peers[];
  /** One of them must match; null: any port and any protocol. */
  readonly ports: readonly Port[] | null;
  readonly verdict: Verdict;
};

export type Policy = {
  /** As `networkpolicy x/deny-all`. */
  readonly object: string;
  readonly tier: Tier;
  /** Lower is judged first; 0 in the tier of NetworkPolicies. */
  readonly priority: number;
  readonly subject: PodSelector;
  /** Null: says nothing of the direction. */
  readonly egress: readonly PolicyRule[] | null;
  readonly ingress: readonly PolicyRule[] | null;
};

/** What was refused of an object: the rest of it is in force, and a refused rule matches nothing. */
export type Problem = {
  readonly object: string;
  /** As `spec.ingress[0].from[1].ipBlock.cidr`. */
  readonly field: string;
  readonly value: string;
  readonly because: string;
};
