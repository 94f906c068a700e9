// What the API server adds to a Service: defaults, a cluster address from the service range, node ports.
// The addresses in use are read from the services that exist, so nothing needs to be given back.
import { addToIp, cidrSize, formatIp, parseCidr } from '../../../base/ip.ts';
import type { Service } from '../../../kube/types.ts';
import { ApiError } from './errors.ts';
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
  spec.ipFamilies ??= old?.ipFamilies ?? ['IPv4'];
  spec.ipFamilyPolicy ??= old?.ipFamilyPolicy ?? 'SingleStack';
  spec.clusterIP ||= spec.clusterIPs?.[0] || old?.clusterIP || freeClusterIp(context);
  spec.clusterIPs ??= [spec.clusterIP];
  if (spec.type === 'ClusterIP') return;
  spec.externalTrafficPolicy ??= 'Cluster';
  for (const port of spec.ports ?? []) {
    port.nodePort ??=
      old?.ports?.find((p) => p.name === port.name && p.port === port.port)?.nodePort ??
      freeNodePort(context, spec.ports ?? []);
  }
}

function freeClusterIp(context: HookContext): string {
  const used = new Set((context.list('services') as Service[]).map((s) => s.spec?.clusterIP));
  const range = parseCidr(context.serviceCidr);
  const size = Math.min(cidrSize(range), 65536);
  // .1 is the API's own service; the last address of the range is not given.
  for (let offset = 2; offset < size - 1; offset++) {
    const text = formatIp(addToIp(range.ip, offset));
    if (!used.has(text)) return text;
  }
  throw new ApiError(500, 'InternalError', `the service range ${context.serviceCidr} is full`);
}

function freeNodePort(context: HookContext, siblings: readonly { nodePort?: number }[]): number {
  const used = new Set<number | undefined>(siblings.map((p) => p.nodePort));
  for (const service of context.list('services') as Service[]) {
    for (const port of service.spec?.ports ?? []) used.add(port.nodePort);
  }
  for (let port = FIRST_NODE_PORT; port <= LAST_NODE_PORT; port++) if (!used.has(port)) return port;
  throw new ApiError(500, 'InternalError', `no node port is free in ${FIRST_NODE_PORT}-${LAST_NODE_PORT}`);
}
