// Policies to classes, and selectors to identities, for pods as they come. Pure. Selectors are matched once for pods with
// the same namespace and labels, however many such pods there are. A compiler that follows another takes over what the
// policies that changed do not touch: the classes of pods that none of them selects, the identities that no selector
// that came or went concerns.

import { hash } from 'node:crypto';
import { bitsOf, familyOf } from '../base/ip.ts';
import type { PolicyMode } from '../base/policy-words.ts';
import { matchesRequirements, type Requirement } from '../kube/selectors.ts';
import {
  type Direction,
  modeIn,
  type NamedPort,
  type Namespaces,
  type Nodes,
  type PodSelector,
  type PodView,
  type Policy,
  type PolicyRule,
  type Port,
  type Tier,
} from './model.ts';
import type { Identity, PolicyClass, Rule, RulePeers, Stage } from './program.ts';
import type { Block } from './segments.ts';
import { ALL_PODS, selectorText, selects } from './selector.ts';
import { SelectorIndex } from './selector-index.ts';

const TIERS: readonly Tier[] = ['admin', 'networkpolicy', 'baseline'];

/** bigint has no JSON of its own. */
const jsonOf = (value: unknown): string =>
  JSON.stringify(value, (_key, part: unknown) => (typeof part === 'bigint' ? `${part}n` : part));

/** 48 bits: a node has thousands of names at most. */
export const shortHash = (text: string): string => hash('sha256', text).slice(0, 12);

/** What the rules of some classes ask of peers. */
type Asked = {
  readonly selectors: Map<string, PodSelector>;
  /** Names of container ports that egress rules ask for. */
  readonly names: Set<string>;
};
type Chosen = Record<Direction, PolicyClass | null> & { readonly asked: Asked };

/** What a compiler is told beside pods. */
export type Basis = {
  readonly policies: readonly Policy[];
  readonly namespaces: Namespaces;
  /** For policies whose peers are nodes; none when absent. */
  readonly nodes?: Nodes | undefined;
  /** Of pods whose namespace says no other. */
  readonly mode: PolicyMode;
};

/** What a compiler knows, for the one that follows it. */
type Known = Pick<Basis, 'namespaces' | 'nodes' | 'mode'> & {
  readonly policies: ReadonlySet<Policy>;
  readonly chosen: ReadonlyMap<string, Chosen>;
  readonly asked: Asked;
  /** Null: some of them were made before all selectors were known. */
  readonly identified: ReadonlyMap<string, Identity | null> | null;
};

type Followed = Known & { readonly changed: readonly Policy[]; readonly selectors?: Delta | null };
/** Selectors that came, and texts of those that went. */
type Delta = { readonly came: readonly PodSelector[]; readonly gone: ReadonlySet<string> };

const missingIn = <T>(some: ReadonlySet<T>, others: ReadonlySet<T>): T[] => {
  const found: T[] = [];
  for (const one of some) if (!others.has(one)) found.push(one);
  return found;
};

/** Order within and across tiers. */
const byTurn = (a: Policy, b: Policy): number =>
  TIERS.indexOf(a.tier) - TIERS.indexOf(b.tier) || a.priority - b.priority || (a.object < b.object ? -1 : 1);

/** The policies and selectors of one state of the API; answers are remembered by labels. */
export class Compiler {
  readonly #namespaces: Namespaces;
  readonly #mode: PolicyMode;
  readonly #nodes: Nodes | undefined;
  readonly #all: ReadonlySet<Policy>;
  /** By namespace, for subjects of one namespace; others under ''. */
  readonly #policies = new Map<string, Policy[]>();
  readonly #asked: Asked = { selectors: new Map(), names: new Set() };
  /** Of the pod whose classes are being made. */
  #asking = this.#asked;
  #index: SelectorIndex | undefined;
  readonly #classes = new Map<string, PolicyClass>();
  readonly #chosen = new Map<string, Chosen>();
  readonly #identities = new Map<string, Identity>();
  readonly #identified = new Map<string, Identity | null>();
  #isLate = false;
  #followed: Followed | null = null;

  /** `before`: of an earlier state, with the same objects for what has not changed. */
  constructor({ policies, namespaces, nodes, mode }: Basis, before: Compiler | null = null) {
    this.#namespaces = namespaces;
    this.#mode = mode;
    this.#nodes = nodes;
    this.#all = new Set(policies);
    for (const policy of policies) {
      const { namespace } = policy.subject;
      const key = typeof namespace === 'string' ? namespace : '';
      const list = this.#policies.get(key);
      if (list) list.push(policy);
      else this.#policies.set(key, [policy]);
    }
    const known = before === null ? null : before.#known;
    if (known?.namespaces === namespaces && known.mode === mode && known.nodes === nodes)
      this.#followed = {
        ...known,
        changed: [...missingIn(known.policies, this.#all), ...missingIn(this.#all, known.policies)],
      };
  }

  get #known(): Known {
    return {
      policies: this.#all,
      namespaces: this.#namespaces,
      mode: this.#mode,
      nodes: this.#nodes,
      chosen: this.#chosen,
      asked: this.#asked,
      identified: this.#isLate ? null : this.#identified,
    };
  }

  get classes(): ReadonlyMap<string, PolicyClass> {
    return this.#classes;
  }

  get identities(): ReadonlyMap<string, Identity> {
    return this.#identities;
  }

  /** Lets go of what the compiler before this one knew. */
  finish(): void {
    this.#followed = null;
  }

  /** The pod's classes; null where nothing says anything of the direction. New ones may bring new selectors. */
  classesOf(pod: PodView): Record<Direction, PolicyClass | null> {
    const key = labelsKey(pod, pod.ports);
    let chosen = this.#chosen.get(key);
    if (!chosen) {
      chosen = this.#still(key, pod) ?? this.#choose(pod);
      this.#chosen.set(key, chosen);
      this.#take(chosen);
    }
    return chosen;
  }

  /** What the compiler before chose, unless a policy that changed selects the pod. */
  #still(key: string, pod: PodView): Chosen | undefined {
    const chosen = this.#followed?.chosen.get(key);
    if (!chosen || this.#followed!.changed.some(({ subject }) => selects(subject, pod, this.#namespaces)))
      return undefined;
    return chosen;
  }

  #choose(pod: PodView): Chosen {
    const mode = modeIn(this.#namespaces.get(pod.namespace)) ?? this.#mode;
    if (mode === 'off')
      return { egress: null, ingress: null, asked: { selectors: new Map(), names: new Set() } };
    const all = [...(this.#policies.get('') ?? []), ...(this.#policies.get(pod.namespace) ?? [])];
    const selecting = all.filter(({ subject }) => selects(subject, pod, this.#namespaces)).sort(byTurn);
    const asked: Asked = { selectors: new Map(), names: new Set() };
    this.#asking = asked;
    return {
      egress: this.#classOf(selecting, 'egress', pod, mode),
      ingress: this.#classOf(selecting, 'ingress', pod, mode),
      asked,
    };
  }

  #take({ egress, ingress, asked }: Chosen): void {
    const count = () => this.#asked.selectors.size + this.#asked.names.size;
    const before = count();
    for (const one of [egress, ingress]) if (one) this.#classes.set(one.name, one);
    for (const [text, selector] of asked.selectors) this.#asked.selectors.set(text, selector);
    for (const name of asked.names) this.#asked.names.add(name);
    if (count() > before && this.#identified.size > 0) this.#isLate = true;
  }

  /** Call once all classes are known. Null: no rule asks for such a pod. */
  identityOf(pod: PodView): Identity | null {
    const { names } = this.#asked;
    const named = pod.ports.length === 0 ? pod.ports : pod.ports.filter(({ name }) => names.has(name));
    const key = labelsKey(pod, named);
    let identity = this.#identified.get(key);
    if (identity === undefined) {
      identity = this.#stillIs(key, pod);
      if (identity) this.#identities.set(identity.key, identity);
      else if (identity === undefined) identity = this.#identify(pod, named);
      this.#identified.set(key, identity);
    }
    return identity;
  }

  /** What the compiler before found, unless a selector that came or went concerns the pod. */
  #stillIs(key: string, pod: PodView): Identity | null | undefined {
    const followed = this.#followed;
    const identity = followed?.identified?.get(key);
    if (!followed || identity === undefined) return undefined;
    if (followed.selectors === undefined) this.#followed = { ...followed, selectors: this.#delta(followed) };
    const delta = this.#followed!.selectors;
    if (!delta) return undefined;
    const { came, gone } = delta;
    if (gone.size > 0 && identity)
      for (const text of identity.selectors) if (gone.has(text)) return undefined;
    return came.some((one) => selects(one, pod, this.#namespaces)) ? undefined : identity;
  }

  /** Null when names of ports differ, too. */
  #delta({ asked: { selectors: old, names } }: Known): Delta | null {
    const { selectors, names: now } = this.#asked;
    if (names.size !== now.size || missingIn(names, now).length > 0) return null;
    const gone = new Set<string>();
    for (const text of old.keys()) if (!selectors.has(text)) gone.add(text);
    const came: PodSelector[] = [];
    for (const [text, selector] of selectors) if (!old.has(text)) came.push(selector);
    return { came, gone };
  }

  #identify(pod: PodView, named: readonly NamedPort[]): Identity | null {
    const { selectors } = this.#asked;
    if (this.#index?.size !== selectors.size) this.#index = new SelectorIndex(selectors, this.#namespaces);
    const texts = this.#index.selecting(pod);
    if (texts.length === 0) return null;
    const names = named.map(({ name, protocol, port }) => `${name}/${protocol}=${port}`);
    const key = [...texts.sort(), ...names.sort()].join('\n');
    let identity = this.#identities.get(key);
    if (!identity) {
      identity = { key, selectors: new Set(texts), named };
      this.#identities.set(key, identity);
    }
    return identity;
  }

  #classOf(
    selecting: readonly Policy[],
    direction: Direction,
    pod: PodView,
    mode: 'enforce' | 'audit',
  ): PolicyClass | null {
    const stages: Stage[] = [];
    for (const tier of TIERS) {
      const ruling = selecting.filter((policy) => policy.tier === tier && policy[direction] !== null);
      if (ruling.length === 0) continue;
      const rules = ruling.flatMap((policy) =>
        policy[direction]!.flatMap((rule) => this.#rulesOf(policy.object, rule, direction, pod)),
      );
      const isNp = tier === 'networkpolicy';
      stages.push({
        tier,
        // Rules that only allow may stand in any order: those of one kind share a lookup.
        rules: isNp ? KINDS.flatMap((kind) => rules.filter(({ peers }) => peers.kind === kind)) : rules,
        otherwise: isNp ? 'deny' : 'next',
        objects: ruling.map(({ object }) => object),
      });
    }
    if (stages.length === 0) return null;
    const isAudit = mode === 'audit';
    const name = `${direction[0]}_${shortHash(`${isAudit ? mode : ''}${jsonOf(stages)}`)}`;
    return (
      this.#classes.get(name) ?? { name, direction, ...(isAudit ? { isAudit: true as const } : {}), stages }
    );
  }

  /** One rule of an object as rules of one kind of peer each. */
  #rulesOf(object: string, rule: PolicyRule, direction: Direction, pod: PodView): Rule[] {
    const { verdict } = rule;
    const origin = { object, rule: rule.index };
    const isNamed = (port: Port) => 'name' in port;
    const ports =
      rule.ports !== null && direction === 'ingress'
        ? rule.ports.flatMap((port) => resolved(port, pod))
        : rule.ports;
    const numbers = ports?.filter((port) => !isNamed(port)) ?? null;
    const selectors = rule.peers.flatMap((peer) => (peer.kind === 'pods' ? [peer.selector] : []));
    const blocks = rule.peers.flatMap((peer): readonly Block[] =>
      peer.kind === 'cidr' ? [peer] : peer.kind === 'nodes' ? this.#blocksOf(peer.selector) : [],
    );
    const isAny = rule.peers.some((peer) => peer.kind === 'any');
    const rules: Rule[] = [];
    const add = (peers: RulePeers, its: readonly Port[] | null) => {
      if (its === null || its.length > 0) rules.push({ peers, ports: its, verdict, origin });
    };
    if (isAny) {
      add({ kind: 'any' }, numbers);
      // A name is known of pods alone.
      const names = ports?.filter(isNamed) ?? [];
      if (names.length > 0) add(this.#podPeers([ALL_PODS], names), names);
      return rules;
    }
    if (selectors.length > 0) add(this.#podPeers(selectors, ports ?? []), ports);
    if (blocks.length > 0) add({ kind: 'cidrs', blocks }, numbers);
    return rules;
  }

  /** Addresses of the nodes that match. */
  #blocksOf(selector: readonly Requirement[]): Block[] {
    return [...(this.#nodes?.values() ?? [])]
      .filter(({ labels }) => matchesRequirements(selector, labels))
      .flatMap(({ ips }) => ips.map((ip) => ({ cidr: { ip, length: bitsOf(familyOf(ip)) }, except: [] })));
  }

  #podPeers(selectors: readonly PodSelector[], ports: readonly Port[]): RulePeers {
    for (const port of ports) if ('name' in port) this.#asking.names.add(port.name);
    const texts = selectors.map((selector) => {
      const text = selectorText(selector);
      this.#asking.selectors.set(text, selector);
      return text;
    });
    return { kind: 'pods', selectors: [...new Set(texts)] };
  }
}

const KINDS = ['any', 'pods', 'cidrs'] as const;

const resolved = (port: Port, pod: PodView): Port[] =>
  'name' in port
    ? pod.ports
        .filter((one) => one.name === port.name && one.protocol === port.protocol)
        .map((one) => ({ protocol: one.protocol, from: one.port, to: one.port }))
    : [port];

/** By the object of labels: the text is made once, and so is its hash. */
const texts = new WeakMap<PodView['labels'], { readonly namespace: string; readonly text: string }>();

function labelsText({ namespace, labels }: PodView): string {
  const known = texts.get(labels);
  if (known?.namespace === namespace) return known.text;
  const entries = Object.entries(labels).sort(([a], [b]) => (a < b ? -1 : 1));
  const text = `${namespace} ${JSON.stringify(entries)}`;
  texts.set(labels, { namespace, text });
  return text;
}

const labelsKey = (pod: PodView, ports: readonly NamedPort[]): string =>
  ports.length === 0 ? labelsText(pod) : `${labelsText(pod)}${JSON.stringify(ports)}`;
