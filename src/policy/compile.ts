// Policies, namespaces, pods and the addresses of this node's pods to the node's program. Pure. Selectors are matched once
// for pods with the same namespace and labels, however many such pods there are.
import { hash } from 'node:crypto';
import type { Ip } from '../base/ip.ts';
import type {
  Direction,
  NamedPort,
  Namespaces,
  PodSelector,
  PodView,
  Policy,
  PolicyRule,
  Port,
  Tier,
} from './model.ts';
import { podKey } from './model.ts';
import type { Identity, PolicyClass, Program, Rule, RulePeers, Stage } from './program.ts';
import type { Block } from './segments.ts';
import { ALL_PODS, selectorText, selects } from './selector.ts';
import { SelectorIndex } from './selector-index.ts';

export type World = {
  /** Name of this node. */
  readonly node: string;
  readonly policies: readonly Policy[];
  readonly namespaces: Namespaces;
  readonly pods: Iterable<PodView>;
  /** Addresses that pods of this node hold, by NAMESPACE/NAME: known before the API shows them. */
  readonly held: ReadonlyMap<string, readonly Ip[]>;
};

const TIERS: readonly Tier[] = ['admin', 'networkpolicy', 'baseline'];
const DIRECTIONS: readonly Direction[] = ['egress', 'ingress'];

/** bigint has no JSON of its own. */
const jsonOf = (value: unknown): string =>
  JSON.stringify(value, (_key, part: unknown) => (typeof part === 'bigint' ? `${part}n` : part));

/** 48 bits: a node has thousands of names at most. */
export const shortHash = (text: string): string => hash('sha256', text).slice(0, 12);

/** True for a pod of this node whose packets a policy can judge. */
export const isSubject = (pod: PodView, node: string): boolean => pod.node === node && !pod.hostNetwork;

/** The pods, policies and selectors of one state of the API; answers are remembered by labels. */
export class Compiler {
  readonly #namespaces: Namespaces;
  /** By namespace, for subjects of one namespace; others under ''. */
  readonly #policies = new Map<string, Policy[]>();
  readonly #selectors = new Map<string, PodSelector>();
  #index: SelectorIndex | undefined;
  /** Names of container ports that egress rules ask for. */
  readonly #names = new Set<string>();
  readonly #classes = new Map<string, PolicyClass>();
  readonly #chosen = new Map<string, Record<Direction, PolicyClass | null>>();
  readonly #identities = new Map<string, Identity>();
  readonly #identified = new Map<string, Identity | null>();

  constructor(policies: readonly Policy[], namespaces: Namespaces) {
    this.#namespaces = namespaces;
    const sorted = [...policies].sort(
      (a, b) =>
        TIERS.indexOf(a.tier) - TIERS.indexOf(b.tier) ||
        a.priority - b.priority ||
        (a.object < b.object ? -1 : 1),
    );
    for (const policy of sorted) {
      const { namespace } = policy.subject;
      const key = typeof namespace === 'string' ? namespace : '';
      const list = this.#policies.get(key);
      if (list) list.push(policy);
      else this.#policies.set(key, [policy]);
    }
  }

  get classes(): ReadonlyMap<string, PolicyClass> {
    return this.#classes;
  }

  get identities(): ReadonlyMap<string, Identity> {
    return this.#identities;
  }

  /** The pod's classes; null where nothing says anything of the direction. New ones may bring new selectors. */
  classesOf(pod: PodView): Record<Direction, PolicyClass | null> {
    const key = labelsKey(pod, pod.ports);
    let chosen = this.#chosen.get(key);
    if (!chosen) {
      const all = [...(this.#policies.get('') ?? []), ...(this.#policies.get(pod.namespace) ?? [])];
      const selecting = all.filter(({ subject }) => selects(subject, pod, this.#namespaces));
      chosen = {
        egress: this.#classOf(selecting, 'egress', pod),
        ingress: this.#classOf(selecting, 'ingress', pod),
      };
      this.#chosen.set(key, chosen);
    }
    return chosen;
  }

  /** Call once all classes are known. Null: no rule asks for such a pod. */
  identityOf(pod: PodView): Identity | null {
    const named = pod.ports.filter(({ name }) => this.#names.has(name));
    const key = labelsKey(pod, named);
    let identity = this.#identified.get(key);
    if (identity === undefined) {
      identity = this.#identify(pod, named);
      this.#identified.set(key, identity);
    }
    return identity;
  }

  #identify(pod: PodView, named: readonly NamedPort[]): Identity | null {
    if (this.#index?.size !== this.#selectors.size)
      this.#index = new SelectorIndex(this.#selectors, this.#namespaces);
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

  #classOf(selecting: readonly Policy[], direction: Direction, pod: PodView): PolicyClass | null {
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
    const name = `${direction[0]}_${shortHash(jsonOf(stages))}`;
    let known = this.#classes.get(name);
    if (!known) {
      known = { name, direction, stages };
      this.#classes.set(name, known);
    }
    return known;
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
    const blocks = rule.peers.flatMap((peer): Block[] => (peer.kind === 'cidr' ? [peer] : []));
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

  #podPeers(selectors: readonly PodSelector[], ports: readonly Port[]): RulePeers {
    for (const port of ports) if ('name' in port) this.#names.add(port.name);
    const texts = selectors.map((selector) => {
      const text = selectorText(selector);
      this.#selectors.set(text, selector);
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

const texts = new WeakMap<PodView['labels'], string>();

function labelsText(labels: PodView['labels']): string {
  let text = texts.get(labels);
  if (text === undefined) {
    text = JSON.stringify(Object.entries(labels).sort(([a], [b]) => (a < b ? -1 : 1)));
    texts.set(labels, text);
  }
  return text;
}

const labelsKey = ({ namespace, labels }: PodView, ports: readonly NamedPort[]): string =>
  `${namespace} ${labelsText(labels)}${ports.length === 0 ? '' : JSON.stringify(ports)}`;

/** The addresses of the pod: what it holds here, else what the API says. */
export const addressesOf = (pod: PodView, held: World['held']): readonly Ip[] =>
  held.get(podKey(pod)) ?? pod.ips;

export const compile = (world: World): Program =>
  programOf(world, new Compiler(world.policies, world.namespaces));

export function programOf(
  { node, held, ...world }: Pick<World, 'node' | 'pods' | 'held'>,
  compiler: Compiler,
): Program {
  const pods = [...world.pods];
  const from = new Map<Ip, string>();
  const to = new Map<Ip, string>();
  for (const pod of pods) {
    if (!isSubject(pod, node)) continue;
    const chosen = compiler.classesOf(pod);
    for (const direction of DIRECTIONS) {
      const one = chosen[direction];
      if (one)
        for (const ip of addressesOf(pod, held)) (direction === 'egress' ? from : to).set(ip, one.name);
    }
  }
  const peers = new Map<Ip, string>();
  const own = new Set([...held.values()].flat());
  for (const pod of pods) {
    if (pod.hostNetwork || pod.ended) continue;
    const identity = compiler.identityOf(pod);
    if (!identity) continue;
    for (const ip of addressesOf(pod, held)) {
      // Who holds an address of this node is known here; the API may still show an earlier holder.
      if (!own.has(ip) || held.get(podKey(pod))?.includes(ip)) peers.set(ip, identity.key);
    }
  }
  return { classes: compiler.classes, identities: compiler.identities, from, to, peers };
}
