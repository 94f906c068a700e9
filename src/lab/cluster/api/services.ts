// What the API server adds to a Service: defaults, a cluster address from the service range, node ports; and what it
// refuses of its ports.
// The addresses in use are read from the services that exist, so nothing needs to be given back.
import { addToIp, cidrSize, formatIp, parseCidr } from '../../../base/ip.ts';
import type { Service, ServicePort } from '../../../kube/types.ts';
import { ApiError, invalid, invalidValue, required, type StatusCause } from './errors.ts';
import type { Any, HookContext } from './kinds.ts';

const FIRST_NODE_PORT = 30000;
const LAST_NODE_PORT = 32767;

export function completeService(object: Any, context: HookContext, before: Any | null): void {
  const service = object as Any & Service;
  service.spec ??= {};
  const { spec } = service;
  const old = (before as (Any & Service) | null)?.spec;
  spec.type ??= 'ClusterIP';
  spec.sessionAffinity ??= 'None';
  for (const port of spec.ports ?? []) {
    port.protocol ??= 'TCP';
    port.targetPort ??= port.port;
  }
  if (spec.type === 'ExternalName') return;
  spec.internalTrafficPolicy ??= 'Cluster';
  completeFamilies(service, context, old);
  if (spec.type === 'ClusterIP') return;
  spec.externalTrafficPolicy ??= 'Cluster';
  for (const port of spec.ports ?? []) {
    port.nodePort ??=
      old?.ports?.find((p) => p.name === port.name && p.port === port.port)?.nodePort ??
      freeNodePort(context, spec.ports ?? []);
  }
}

const LAST_PORT = 65_535;
/** A port's name: IANA_SVC_NAME of the API. */
const PORT_NAME = /^(?=.*[a-z])[a-z0-9](-?[a-z0-9]){0,14}$/;

export function checkService(object: Any): StatusCause[] {
  const { spec } = object as Any & Service;
  const ports: unknown = spec?.ports ?? [];
  if (!Array.isArray(ports)) return [invalidValue('spec.ports', ports, 'must be a list')];
  const needsPorts = spec?.type !== 'ExternalName' && spec?.clusterIP !== 'None';
  if (ports.length === 0) return needsPorts ? [required('spec.ports')] : [];
  const seen = new Set<string>();
  return ports.flatMap((port: ServicePort | null, i) => {
    const at = `spec.ports[${i}]`;
    if (port === null || typeof port !== 'object') return [required(at)];
    const causes = checkPort(port, at);
    if (ports.length > 1 && !port.name) causes.push(required(`${at}.name`));
    for (const key of [`${port.protocol} ${port.port}`, ...(port.name ? [port.name] : [])]) {
      if (seen.has(key))
        causes.push({
          reason: 'FieldValueDuplicate',
          message: `Duplicate value: ${JSON.stringify(key)}`,
          field: at,
        });
      seen.add(key);
    }
    return causes;
  });
}

function checkPort({ port, targetPort, nodePort }: ServicePort, at: string): StatusCause[] {
  const causes: StatusCause[] = [];
  const within = (field: string, value: unknown, first: number, last: number) => {
    if (!Number.isInteger(value) || Number(value) < first || Number(value) > last)
      causes.push(invalidValue(`${at}.${field}`, value, `must be between ${first} and ${last}, inclusive`));
  };
  within('port', port, 1, LAST_PORT);
  if (typeof targetPort !== 'string') within('targetPort', targetPort, 1, LAST_PORT);
  else if (!PORT_NAME.test(targetPort))
    causes.push(invalidValue(`${at}.targetPort`, targetPort, 'must be a port or the name of one'));
  if (nodePort) within('nodePort', nodePort, FIRST_NODE_PORT, LAST_NODE_PORT);
  return causes;
}

type Family = 'IPv4' | 'IPv6';

const familyOf = (range: string): Family => (range.includes(':') ? 'IPv6' : 'IPv4');

/** Families, and a cluster address of each: those asked for, else the cluster's primary one, or both by policy. */
function completeFamilies(service: Service, context: HookContext, old: Service['spec'] | undefined): void {
  const spec = service.spec!;
  const ranges = new Map(context.serviceCidrs.map((range) => [familyOf(range), range]));
  const named = spec.clusterIPs?.length ? spec.clusterIPs : spec.clusterIP ? [spec.clusterIP] : [];
  const fromNamed = named.filter((ip) => ip !== 'None').map(familyOf);
  const asked = spec.ipFamilies?.length ? spec.ipFamilies : (old?.ipFamilies ?? fromNamed);
  spec.ipFamilyPolicy ??= old?.ipFamilyPolicy ?? (asked.length > 1 ? 'RequireDualStack' : 'SingleStack');
  for (const [i, family] of asked.entries())
    if (!ranges.has(family))
      throw refused(service, `spec.ipFamilies[${i}]`, family, 'not configured on this cluster');
  if (spec.ipFamilyPolicy === 'RequireDualStack' && ranges.size < 2)
    throw refused(
      service,
      'spec.ipFamilyPolicy',
      spec.ipFamilyPolicy,
      'this cluster is not configured for dual-stack services',
    );
  if (spec.ipFamilyPolicy === 'SingleStack' && asked.length > 1 && !old)
    throw refused(
      service,
      'spec.ipFamilyPolicy',
      spec.ipFamilyPolicy,
      'must be RequireDualStack or PreferDualStack when multiple values are specified in ipFamilies',
    );
  const primary = asked[0] ?? familyOf(context.serviceCidrs[0]!);
  const others = [...ranges.keys()].filter((family) => family !== primary);
  const families = spec.ipFamilyPolicy === 'SingleStack' ? [primary] : [primary, ...others];
  spec.ipFamilies = families;
  if (named[0] === 'None' || (named.length === 0 && old?.clusterIP === 'None')) {
    spec.clusterIP = 'None';
    spec.clusterIPs = ['None'];
    return;
  }
  const kept = named.length > 0 ? named : (old?.clusterIPs ?? []);
  spec.clusterIPs = families.map(
    (family) => kept.find((ip) => familyOf(ip) === family) ?? freeClusterIp(context, ranges.get(family)!),
  );
  spec.clusterIP = spec.clusterIPs[0]!;
}

const refused = (service: Service, field: string, value: unknown, message: string): ApiError =>
  invalid({ group: '', kind: 'Service', plural: 'services' }, service.metadata?.name ?? '', [
    invalidValue(field, value, message),
  ]);

function freeClusterIp(context: HookContext, cidr: string): string {
  const used = new Set(
    (context.list('services') as Service[]).flatMap(({ spec }) => [
      spec?.clusterIP,
      ...(spec?.clusterIPs ?? []),
    ]),
  );
  const range = parseCidr(cidr);
  const size = Math.min(cidrSize(range), 65536);
  // .1 is the API's own service; the last address of the range is not given.
  for (let offset = 2; offset < size - 1; offset++) {
    const text = formatIp(addToIp(range.ip, offset));
    if (!used.has(text)) return text;
  }
  throw new ApiError(500, 'InternalError', `the service range ${cidr} is full`);
}

function freeNodePort(context: HookContext, siblings: readonly { nodePort?: number }[]): number {
  const used = new Set<number | undefined>(siblings.map((p) => p.nodePort));
  for (const service of context.list('services') as Service[]) {
    for (const port of service.spec?.ports ?? []) used.add(port.nodePort);
  }
  for (let port = FIRST_NODE_PORT; port <= LAST_NODE_PORT; port++) if (!used.has(port)) return port;
  throw new ApiError(500, 'InternalError', `no node port is free in ${FIRST_NODE_PORT}-${LAST_NODE_PORT}`);
}
