// Pods and namespaces of the API as the values that policies are matched with. What cannot be read of a pod is left out:
// an address that is none, a port without a number.
import { AddressError, type Ip, parseIp } from '../base/ip.ts';
import type { Labels } from '../kube/selectors.ts';
import type { Namespace, Pod } from '../kube/types.ts';
import { type NamedPort, type PodView, type PortProtocol, SCTP, TCP, UDP } from './model.ts';

const PROTOCOLS: Readonly<Record<string, PortProtocol>> = { TCP, UDP, SCTP };
const NONE: readonly never[] = [];

/** Equal labels of many pods are one object: they are compared by it, and kept once. */
const interned = new Map<string, WeakRef<Labels>>();
let sweepAt = 1_000;

function intern(labels: Labels): Labels {
  const text = JSON.stringify(Object.entries(labels).sort(([a], [b]) => (a < b ? -1 : 1)));
  const known = interned.get(text)?.deref();
  if (known) return known;
  if (interned.size > sweepAt) {
    for (const [key, one] of interned) if (!one.deref()) interned.delete(key);
    sweepAt = Math.max(1_000, interned.size * 2);
  }
  interned.set(text, new WeakRef(labels));
  return labels;
}

function addressesOf({ podIP, podIPs }: NonNullable<Pod['status']>): readonly Ip[] {
  const texts = podIPs?.map(({ ip }) => ip) ?? (podIP ? [podIP] : []);
  if (texts.length === 0) return NONE;
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
  return named.length === 0 ? NONE : named;
}

export function podView({ metadata, spec, status }: Pod): PodView {
  const { name = '', namespace = 'default', uid = '', labels = {} } = metadata;
  return {
    namespace,
    name,
    uid,
    labels: intern(labels),
    node: spec.nodeName || null,
    ips: addressesOf(status ?? {}),
    ports: portsOf(spec),
    hostNetwork: spec.hostNetwork === true,
    ended: status?.phase === 'Succeeded' || status?.phase === 'Failed',
  };
}

/** The API server sets the label of the name; an older one did not. */
export const namespaceLabels = ({ metadata: { name = '', labels = {} } }: Namespace): Labels =>
  intern({ 'kubernetes.io/metadata.name': name, ...labels });

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
