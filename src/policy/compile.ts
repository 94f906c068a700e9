// Policies, namespaces, pods and the addresses of this node's pods to the node's program. Pure.

import type { Ip } from '../base/ip.ts';
import type { PolicyMode } from '../base/policy-words.ts';
import { Compiler } from './compiler.ts';
import { type Direction, type Namespaces, type Nodes, type PodView, type Policy, podKey } from './model.ts';
import type { Program } from './program.ts';

export type World = {
  /** Name of this node. */
  readonly node: string;
  readonly policies: readonly Policy[];
  readonly namespaces: Namespaces;
  readonly nodes?: Nodes;
  readonly pods: Iterable<PodView>;
  /** Of pods whose namespace says no other. */
  readonly mode?: PolicyMode;
  /** Addresses that pods of this node hold, by NAMESPACE/NAME: known before the API shows them. */
  readonly held: ReadonlyMap<string, readonly Ip[]>;
};

const DIRECTIONS: readonly Direction[] = ['egress', 'ingress'];

/** True for a pod of this node whose packets a policy can judge. */
export const isSubject = (pod: PodView, node: string): boolean => pod.node === node && !pod.hostNetwork;

/** The addresses of the pod: what it holds here, else what the API says. */
export const addressesOf = (key: string, pod: PodView, held: World['held']): readonly Ip[] =>
  held.get(key) ?? pod.ips;

export const compile = ({ pods, ...world }: World): Program => {
  const byKey = new Map<string, PodView>();
  for (const pod of pods) byKey.set(podKey(pod), pod);
  return programOf({ ...world, pods: byKey }, new Compiler({ mode: 'enforce', ...world }));
};

/** `pods`: by NAMESPACE/NAME. */
export function programOf(
  {
    node,
    held,
    pods,
  }: Pick<World, 'node' | 'held'> & { readonly pods: Iterable<readonly [string, PodView]> },
  compiler: Compiler,
): Program {
  const from = new Map<Ip, string>();
  const to = new Map<Ip, string>();
  for (const [key, pod] of pods) {
    if (!isSubject(pod, node)) continue;
    const chosen = compiler.classesOf(pod);
    for (const direction of DIRECTIONS) {
      const one = chosen[direction];
      if (one)
        for (const ip of addressesOf(key, pod, held)) (direction === 'egress' ? from : to).set(ip, one.name);
    }
  }
  const peers = new Map<Ip, string>();
  const own = new Set([...held.values()].flat());
  for (const [key, pod] of pods) {
    if (pod.hostNetwork || pod.ended) continue;
    const identity = compiler.identityOf(pod);
    if (!identity) continue;
    for (const ip of addressesOf(key, pod, held)) {
      // Who holds an address of this node is known here; the API may still show an earlier holder.
      if (!own.has(ip) || held.get(key)?.includes(ip)) peers.set(ip, identity.key);
    }
  }
  compiler.finish();
  return { classes: compiler.classes, identities: compiler.identities, from, to, peers };
}
