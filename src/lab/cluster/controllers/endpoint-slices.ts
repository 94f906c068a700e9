// EndpointSlices of a Service with a selector: the addresses of its pods in each of its families, as kube-proxy and the
// watchers of others read them. Pods whose named port has another number are in a slice of their own; a pod that ends
// stays, and is said to, until it has gone. Slices of others (without our reference) are left alone. Pure.
import { isDeepStrictEqual } from 'node:util';
import { type Resource, resource } from '../../../kube/resources.ts';
import type { KubeObject, Pod, Service, ServicePort } from '../../../kube/types.ts';
import { type Action, ownedBy, type Plan } from './plan.ts';
import { isFinished, isReady } from './pods.ts';

type Endpoint = {
  addresses: string[];
  conditions: { ready: boolean; serving: boolean; terminating: boolean };
  targetRef: { kind: 'Pod'; namespace: string; name: string; uid: string };
  nodeName?: string;
  hostname?: string;
};
type Port = { name: string; protocol: string; port: number };
export type EndpointSlice = KubeObject & {
  addressType: 'IPv4' | 'IPv6';
  ports: Port[];
  endpoints: Endpoint[];
};

export const endpointSlices: Resource<EndpointSlice> = resource(
  'discovery.k8s.io/v1',
  'endpointslices',
  'EndpointSlice',
  'Namespaced',
);

/** As kube-controller-manager's default. */
const MAX_ENDPOINTS = 100;
const MANAGED_BY = 'endpointslice-controller.k8s.io';

type Input = { service: Service; pods: readonly Pod[]; slices: readonly EndpointSlice[] };
type Wanted = Pick<EndpointSlice, 'addressType' | 'ports' | 'endpoints'>;

/** Null for a Service whose endpoints somebody else writes. */
export function selectorOf({ spec }: Service): [string, string][] | null {
  const selector = Object.entries(spec?.selector ?? {});
  return selector.length === 0 || spec?.type === 'ExternalName' ? null : selector;
}

export const isBehind = (
  selector: readonly [string, string][],
  labels: Record<string, string> = {},
): boolean => selector.every(([key, value]) => labels[key] === value);

/** `pods`: of the Service's namespace. */
export function planEndpointSlices({ service, pods, slices }: Input): Plan {
  const selector = selectorOf(service);
  if (service.metadata.deletionTimestamp) return { actions: [] };
  const behind = selector ? pods.filter((pod) => isBehind(selector, pod.metadata.labels)).sort(byName) : [];
  const left = new Set(slices);
  const actions: Action[] = [];
  for (const wanted of selector ? wantedOf(service, behind) : []) {
    const known = [...left].find(
      ({ addressType, ports }) =>
        addressType === wanted.addressType && isDeepStrictEqual(ports, wanted.ports),
    );
    if (!known) {
      actions.push({ do: 'create', resource: endpointSlices, object: sliceOf(service, wanted) });
      continue;
    }
    left.delete(known);
    if (!isDeepStrictEqual(known.endpoints, wanted.endpoints))
      actions.push({ do: 'update', resource: endpointSlices, object: { ...known, ...wanted } });
  }
  return {
    actions: [
      ...actions,
      ...[...left].map((object): Action => ({ do: 'delete', resource: endpointSlices, object })),
    ],
  };
}

const byName = (a: Pod, b: Pod): number => ((a.metadata.name ?? '') < (b.metadata.name ?? '') ? -1 : 1);

function wantedOf(service: Service, pods: readonly Pod[]): Wanted[] {
  return (service.spec?.ipFamilies ?? ['IPv4']).flatMap((addressType) => {
    const groups = new Map<string, Wanted>();
    for (const pod of pods) {
      const endpoint = endpointOf(service, pod, addressType);
      if (!endpoint) continue;
      const ports = portsOf(service, pod);
      const key = JSON.stringify(ports);
      const group = groups.get(key) ?? { addressType, ports, endpoints: [] };
      groups.set(key, group);
      group.endpoints.push(endpoint);
    }
    // One without endpoints says that there are none.
    if (groups.size === 0) groups.set('', { addressType, ports: [], endpoints: [] });
    return [...groups.values()].flatMap(chunks);
  });
}

const chunks = ({ endpoints, ...rest }: Wanted): Wanted[] =>
  Array.from({ length: Math.max(1, Math.ceil(endpoints.length / MAX_ENDPOINTS)) }, (_, index) => ({
    ...rest,
    endpoints: endpoints.slice(index * MAX_ENDPOINTS, (index + 1) * MAX_ENDPOINTS),
  }));

function endpointOf(service: Service, pod: Pod, family: 'IPv4' | 'IPv6'): Endpoint | undefined {
  const ips = pod.status?.podIPs ?? (pod.status?.podIP ? [{ ip: pod.status.podIP }] : []);
  const address = ips.find(({ ip }) => ip.includes(':') === (family === 'IPv6'))?.ip;
  if (address === undefined || isFinished(pod)) return undefined;
  const { namespace = '', name = '', uid = '', deletionTimestamp } = pod.metadata;
  const { nodeName, hostname, subdomain } = pod.spec as Pod['spec'] & {
    hostname?: string;
    subdomain?: string;
  };
  const serving = isReady(pod);
  const terminating = deletionTimestamp !== undefined;
  const always = (service.spec as { publishNotReadyAddresses?: boolean }).publishNotReadyAddresses === true;
  return {
    addresses: [address],
    conditions: { ready: always || (serving && !terminating), serving, terminating },
    targetRef: { kind: 'Pod', namespace, name, uid },
    ...(nodeName === undefined ? {} : { nodeName }),
    ...(hostname !== undefined && subdomain === service.metadata.name ? { hostname } : {}),
  };
}

const portsOf = ({ spec }: Service, pod: Pod): Port[] =>
  (spec?.ports ?? []).flatMap((port) => {
    const number = targetOf(port, pod);
    return number === undefined
      ? []
      : [{ name: port.name ?? '', protocol: port.protocol ?? 'TCP', port: number }];
  });

/** A named port is a container's of that name and protocol. */
function targetOf({ port, targetPort = port, protocol = 'TCP' }: ServicePort, pod: Pod): number | undefined {
  if (typeof targetPort === 'number') return targetPort;
  const named = pod.spec.containers.flatMap(({ ports = [] }) => ports);
  return named.find((each) => each.name === targetPort && (each.protocol ?? 'TCP') === protocol)
    ?.containerPort;
}

function sliceOf(service: Service, wanted: Wanted): EndpointSlice {
  const { name = '', namespace = '', labels } = service.metadata;
  return {
    apiVersion: 'discovery.k8s.io/v1',
    kind: 'EndpointSlice',
    metadata: {
      generateName: `${name}-`,
      namespace,
      labels: {
        ...labels,
        'kubernetes.io/service-name': name,
        'endpointslice.kubernetes.io/managed-by': MANAGED_BY,
        ...(service.spec?.clusterIP === 'None' ? { 'service.kubernetes.io/headless': '' } : {}),
      },
      ownerReferences: [ownedBy(service, { apiVersion: 'v1', kind: 'Service' })],
    },
    ...wanted,
  };
}
