// The program of a node as a value: which class each of its pods has in each direction, what a class decides in which
// order, and which identity each peer's address has. render.ts makes nftables of it, evaluate.ts judges from it.
import type { Ip } from '../base/ip.ts';
import type { Direction, NamedPort, Port, Tier, Verdict } from './model.ts';
import type { Block } from './segments.ts';

/** The policy and rule that decides: rule null is the isolation by the policies of the tier. */
export type Origin = { readonly object: string; readonly rule: number | null };

export type RulePeers =
  | { readonly kind: 'any' }
  /** Texts of selectors; a peer's identity has one of them. */
  | { readonly kind: 'pods'; readonly selectors: readonly string[] }
  | { readonly kind: 'cidrs'; readonly blocks: readonly Block[] };

export type Rule = {
  readonly peers: RulePeers;
  /** Null: any port and protocol. Names, in egress alone, are those of the peer. */
  readonly ports: readonly Port[] | null;
  readonly verdict: Verdict;
  readonly origin: Origin;
};

export type Stage = {
  readonly tier: Tier;
  /** The first that matches decides. */
  readonly rules: readonly Rule[];
  /** When none matches. */
  readonly otherwise: 'deny' | 'next';
  /** The policies of the stage, for who asks why. */
  readonly objects: readonly string[];
};

export type PolicyClass = {
  /** Of its content: equal classes have one name. */
  readonly name: string;
  readonly direction: Direction;
  /** What it denies passes all the same, counted and told. */
  readonly isAudit?: true;
  /** What none of them decides is allowed. */
  readonly stages: readonly Stage[];
};

export type Identity = {
  readonly key: string;
  readonly selectors: ReadonlySet<string>;
  /** Those of its container ports that egress rules name. */
  readonly named: readonly NamedPort[];
};

export type Program = {
  readonly classes: ReadonlyMap<string, PolicyClass>;
  readonly identities: ReadonlyMap<string, Identity>;
  /** Class of this node's pods by address; an address without one is not isolated. */
  readonly from: ReadonlyMap<Ip, string>;
  readonly to: ReadonlyMap<Ip, string>;
  /** Identity of pods of all nodes by address; an address without one is no pod that a rule asks for. */
  readonly peers: ReadonlyMap<Ip, string>;
};
