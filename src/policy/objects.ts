// Pods and namespaces of the API as the values that policies are matched with. What cannot be read of a pod is left out:
// an address that is none, a port without a number.
import { AddressError, type Ip, parseIp } from '../base/ip.ts';
import type { Labels } from '../kube/selectors.ts';
import type { Namespace, Node, Pod } from '../kube/types.ts';
import { type NamedPort, type NodePeer, type PodView, type PortProtocol, SCTP, TCP, UDP } from './model.ts';

const PROTOCOLS: Readonly<Record<string, PortProtocol>> = { TCP, UDP, SCTP };
const NONE: readonly never[] = [];

/** Equal values of many pods are one object: labels are compared by it, and each is kept once. */
class Interned<T extends object> {
  readonly #known = new Map<string, WeakRef<T>>();
  #sweepAt = 1_000;

  one(text: string, value: T): T {
    const known = this.#known.get(text)?.deref();
    if (known) return known;
    if (this.#known.size > this.#sweepAt) {
      for (const [key, one] of this.#known) if (!one.deref()) this.#known.delete(key);
      this.#sweepAt = Math.max(1_000, this.#known.size * 2);
    }
    this.#known.set(text, new WeakRef(value));
    return value;
  }
}

const labelsKnown = new Interned<Labels>();
const portsKnown = new Interned<readonly NamedPort[]>();

/** By namespace too, so that a pod's labels alone tell what selectors say of it. */
const intern = (namespace: string, labels: Labels): Labels =>
  labelsKnown.one(
    `${namespace} ${JSON.stringify(Object.entries(labels).sort(([a], [b]) => (a < b ? -1 : 1)))}`,
    labels,
  );

/** Names of namespaces and nodes, which many pods have: each text of the API is a string of its own. */
const names = new Map<string, string>();
const MOST_NAMES = 10_000;

function internName(name: string): string {
  const known = names.get(name);
  if (known !== undefined) return known;
  if (names.size >= MOST_NAMES) names.clear();
  names.set(name, name);
  return name;
}

function addressesOf({ podIP, podIPs }: NonNullable<Pod['status']>): readonly Ip[] {
  const texts = podIPs?.map(({ ip }) => ip) ?? (podIP ? [podIP] : []);
  return texts.length === 0 ? NONE : readAll(texts);
}

function readAll(texts: readonly string[]): Ip[] {
  return texts.flatMap((text) => {
    try {
      return [parseIp(text)];
    } catch (error) {
      if (error instanceof AddressError) return [];
      throw error;
    }
  });
}

function portsOf({ containers, initContainers = [] }: Pod['spec']): readonly NamedPort[] {
  const named = [...(containers ?? []), ...initContainers].flatMap(({ ports = [] }) =>
    ports.flatMap(({ name, containerPort, protocol = 'TCP' }): NamedPort[] => {
      const number = PROTOCOLS[protocol];
      return name && number !== undefined ? [{ name, protocol: number, port: containerPort }] : [];
    }),
  );
  return named.length === 0 ? NONE : portsKnown.one(JSON.stringify(named), named);
}

export function podView({ metadata, spec, status }: Pod): PodView {
  const { name = '', namespace = 'default', uid = '', labels = {} } = metadata;
  return {
    namespace: internName(namespace),
    name,
    uid,
    labels: intern(namespace, labels),
    node: spec.nodeName ? internName(spec.nodeName) : null,
    ips: addressesOf(status ?? {}),
    ports: portsOf(spec),
    hostNetwork: spec.hostNetwork === true,
    ended: status?.phase === 'Succeeded' || status?.phase === 'Failed',
  };
}

/** Addresses that are none, such as names, are left out. */
export const nodePeer = ({ metadata: { labels = {} }, status }: Node): NodePeer => ({
  labels,
  ips: readAll((status?.addresses ?? []).map(({ address }) => address)),
});

/** The API server sets the label of the name; an older one did not. */
export const namespaceLabels = ({ metadata: { name = '', labels = {} } }: Namespace): Labels =>
  intern('', { 'kubernetes.io/metadata.name': name, ...labels });

/** True when nothing has changed that policies look at. */
export function isSameView(one: PodView, other: PodView): boolean {
  return (
    one.uid === other.uid &&
    one.node === other.node &&
    one.labels === other.labels &&
    one.hostNetwork === other.hostNetwork &&
    one.ended === other.ended &&
    one.ips.join() === other.ips.join() &&
    (one.ports === other.ports || JSON.stringify(one.ports) === JSON.stringify(other.ports))
  );
}
