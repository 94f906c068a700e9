// Addresses and ports that are translated before policies judge: those of Services, and ports of nodes that stand for pods.
// What cannot be read is left out. Pure.
import { AddressError, type Ip, parseIp } from '../base/ip.ts';
import type { Pod, Service } from '../kube/types.ts';

export type Translated = {
  /** `NAMESPACE/NAME` of the Service, by its address. */
  readonly services: ReadonlyMap<Ip, string>;
  /** What a port of nodes belongs to, by `NODE:PORT/PROTOCOL`; NODE is `*` for a port of each. */
  readonly ports: ReadonlyMap<string, string>;
};

const keyOf = (node: string, port: number, protocol = 'TCP') => `${node}:${port}/${protocol.toLowerCase()}`;

export function translated(services: readonly Service[], pods: readonly Pod[]): Translated {
  const ports = new Map<string, string>();
  for (const { metadata, spec } of services)
    for (const { nodePort, protocol } of spec?.ports ?? [])
      if (nodePort)
        ports.set(keyOf('*', nodePort, protocol), `Service ${metadata.namespace}/${metadata.name}`);
  for (const { metadata, spec, status } of pods) {
    if (!spec.nodeName || spec.hostNetwork || ['Succeeded', 'Failed'].includes(status?.phase ?? '')) continue;
    for (const { hostPort, protocol } of spec.containers.flatMap((one) => one.ports ?? []))
      if (hostPort)
        ports.set(keyOf(spec.nodeName, hostPort, protocol), `pod ${metadata.namespace}/${metadata.name}`);
  }
  return { services: new Map(services.flatMap(addressesOf)), ports };
}

/** Of the cluster alone: an external address may be a node's too. */
function addressesOf({ metadata, spec }: Service): [Ip, string][] {
  const texts = spec?.clusterIPs ?? [spec?.clusterIP ?? ''];
  return texts.flatMap((text): [Ip, string][] => {
    try {
      return [[parseIp(text), `${metadata.namespace}/${metadata.name}`]];
    } catch (error) {
      // Headless ones have `None`.
      if (error instanceof AddressError) return [];
      throw error;
    }
  });
}

/** Null: the port of that node is its own, as far as the API tells. */
export const ownerOfPort = (
  { ports }: Translated,
  node: string,
  port: number,
  protocol: string,
): string | null => ports.get(keyOf(node, port, protocol)) ?? ports.get(keyOf('*', port, protocol)) ?? null;
