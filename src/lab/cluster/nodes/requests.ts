// What of a node a pod takes, and whether there is as much left: pods, extended resources (`example.com/gpu`, which others
// write into a node's status) and host ports. CPU and memory are neither counted nor bounded here. Pure.
import type { Container, Node, Pod } from '../../../kube/types.ts';

const SUFFIXES: Readonly<Record<string, number>> = {
  '': 1,
  k: 1e3,
  M: 1e6,
  G: 1e9,
  Ki: 1024,
  Mi: 1024 ** 2,
  Gi: 1024 ** 3,
};

/** A whole number of things, as extended resources are counted; 0 for what is none. */
function countOf(quantity: string | number | undefined): number {
  const [, digits, suffix] = /^([0-9]+)([kMG]i?|Ki)?$/.exec(String(quantity ?? '')) ?? [];
  return digits === undefined ? 0 : Number(digits) * (SUFFIXES[suffix ?? ''] ?? 0);
}

/** As v1helper.IsExtendedResourceName: of a domain, and not Kubernetes' own. */
export const isExtended = (name: string): boolean =>
  name.includes('/') && !name.startsWith('kubernetes.io/') && !name.includes('.kubernetes.io/');

type Counts = Map<string, number>;

function extendedOf({ resources = {} }: Container): [string, number][] {
  // A limit without a request is one.
  const named: Record<string, string | number> = { ...resources.limits, ...resources.requests };
  return Object.entries(named)
    .filter(([name]) => isExtended(name))
    .map(([name, quantity]) => [name, countOf(quantity)]);
}

export function requestsOf(pod: Pod): Counts {
  const counts: Counts = new Map();
  for (const [name, count] of pod.spec.containers.flatMap(extendedOf))
    counts.set(name, (counts.get(name) ?? 0) + count);
  return counts;
}

/** `protocol port`; no address is told apart here. */
const hostPortsOf = (pod: Pod): string[] =>
  pod.spec.containers.flatMap(({ ports = [] }) =>
    ports
      .filter(({ hostPort }) => hostPort)
      .map(({ protocol = 'TCP', hostPort }) => `${protocol} ${hostPort}`),
  );

/** Of one node: what the pods that are bound to it leave. */
export class Room {
  readonly #node: Node;
  readonly #taken: Counts = new Map();
  readonly #ports = new Set<string>();
  #pods = 0;

  constructor(node: Node, pods: readonly Pod[]) {
    this.#node = node;
    for (const pod of pods) this.take(pod);
  }

  take(pod: Pod): void {
    this.#pods++;
    for (const [name, count] of requestsOf(pod)) this.#taken.set(name, (this.#taken.get(name) ?? 0) + count);
    for (const port of hostPortsOf(pod)) this.#ports.add(port);
  }

  get freePods(): number {
    return countOf(this.#node.status?.allocatable?.['pods']) - this.#pods;
  }

  /** Why the pod has no room, in kube-scheduler's words; empty when it has. */
  missing(pod: Pod): string[] {
    if (hostPortsOf(pod).some((port) => this.#ports.has(port)))
      return ["node(s) didn't have free ports for the requested pod ports"];
    // Who offers one patches the capacity, and a kubelet copies it.
    const allocatable = { ...this.#node.status?.capacity, ...this.#node.status?.allocatable };
    const short = [...requestsOf(pod)].filter(
      ([name, count]) => count > countOf(allocatable[name]) - (this.#taken.get(name) ?? 0),
    );
    return [
      ...(this.freePods < 1 ? ['Too many pods'] : []),
      ...short.map(([name]) => `Insufficient ${name}`),
    ];
  }
}
