// Questions of people: `shop/web` to `db:5432/tcp`. Reads the ends, finds their pods and addresses, and answers with a
// trace and with what policies do not decide. Pure. Fails with QuestionError.
import { AddressError, familyOf, formatIp, type Ip, parseIp } from '../base/ip.ts';
import { type End, type Question, type Trace, trace } from './explain.ts';
import { type PodView, SCTP, TCP, UDP } from './model.ts';
import { ownerOfPort } from './translated.ts';
import type { ReadWorld } from './world.ts';

export class QuestionError extends Error {
  override name = 'QuestionError';
}

export type NamedEnd =
  | { readonly kind: 'pod'; readonly namespace: string; readonly name: string }
  | { readonly kind: 'node'; readonly name: string }
  | { readonly kind: 'address'; readonly ip: Ip };
export type Target = { readonly end: NamedEnd; readonly protocol: number; readonly port: number | null };

const PROTOCOLS: Readonly<Record<string, number>> = { tcp: TCP, udp: UDP, sctp: SCTP, icmp: 1 };

function addressOf(text: string): Ip | null {
  try {
    return parseIp(text.replace(/^\[(.*)\]$/, '$1'));
  } catch (error) {
    if (error instanceof AddressError) return null;
    throw error;
  }
}

/** `[NAMESPACE/]POD`, an address, or `node/NAME`. */
export function parseEnd(text: string, namespace: string): NamedEnd {
  const ip = addressOf(text);
  if (ip !== null) return { kind: 'address', ip };
  const parts = text.split('/');
  if (parts.length > 2 || parts.some((part) => !/^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$/.test(part)))
    throw new QuestionError(`"${text}" is not [NAMESPACE/]POD, an address or node/NAME`);
  if (parts.length === 2 && parts[0] === 'node') return { kind: 'node', name: parts[1]! };
  return parts.length === 2
    ? { kind: 'pod', namespace: parts[0]!, name: parts[1]! }
    : { kind: 'pod', namespace, name: parts[0]! };
}

/** An end with `:PORT` and, after it, `/PROTOCOL`; without a port a protocol without ports (ICMP). */
export function parseTarget(text: string, namespace: string): Target {
  if (addressOf(text) !== null) return { end: parseEnd(text, namespace), protocol: 1, port: null };
  const match = /^(.*?):(\d+)(?:\/([a-zA-Z]+))?$/.exec(text);
  if (!match) {
    const [, end = text, icmp] = /^(.*)\/(icmp)$/.exec(text) ?? [];
    return { end: parseEnd(icmp ? end : text, namespace), protocol: 1, port: null };
  }
  const [, end = '', number, name = 'tcp'] = match;
  const protocol = PROTOCOLS[name.toLowerCase()];
  const port = Number(number);
  if (protocol === undefined || protocol === 1) throw new QuestionError(`"${name}" is not tcp, udp or sctp`);
  if (port < 1 || port > 65_535) throw new QuestionError(`port ${number} is not from 1 to 65535`);
  return { end: parseEnd(end, namespace), protocol, port };
}

function findEnds(end: NamedEnd, world: ReadWorld): End[] {
  if (end.kind === 'node') {
    const ips = world.nodes.get(end.name);
    if (!ips || ips.length === 0) throw new QuestionError(`there is no node ${end.name} with an address`);
    return ips.map((ip) => ({ ip, pod: null }));
  }
  if (end.kind === 'address') {
    const pod = world.pods.find(
      ({ ips, ended, hostNetwork }) => !ended && !hostNetwork && ips.includes(end.ip),
    );
    const service = pod ? undefined : world.translated?.services.get(end.ip);
    if (service !== undefined)
      throw new QuestionError(
        `${formatIp(end.ip)} is an address of Service ${service}, and policies judge its pods: ask about one of them, by the pod's own port`,
      );
    return [{ ip: end.ip, pod: pod ?? null }];
  }
  const pod = world.pods.find(({ namespace, name }) => namespace === end.namespace && name === end.name);
  if (!pod) throw new QuestionError(`there is no pod ${end.namespace}/${end.name}`);
  if (pod.ips.length === 0) throw new QuestionError(`pod ${end.namespace}/${end.name} has no address yet`);
  return pod.ips.map((ip) => ({ ip, pod }));
}

export type Told = Trace & { from: string; to: string; notes: string[] };

/** The pod that is meant; undefined where it is none, or not there. */
export const podOfEnd = (end: NamedEnd, { pods }: ReadWorld): PodView | undefined =>
  end.kind === 'node'
    ? undefined
    : pods.find(
        ({ namespace, name, ips, ended, hostNetwork }) =>
          !hostNetwork &&
          (end.kind === 'pod'
            ? namespace === end.namespace && name === end.name
            : !ended && ips.includes(end.ip)),
      );

/** In the first family that both ends have. */
export function traceIn(
  world: ReadWorld,
  fromEnd: NamedEnd,
  { end, protocol, port }: Target,
  modes: NonNullable<Question['modes']> = {},
): Told {
  const froms = findEnds(fromEnd, world);
  const tos = findEnds(end, world);
  const pair = froms
    .flatMap((from) => tos.map((to) => ({ from, to })))
    .find(({ from, to }) => familyOf(from.ip) === familyOf(to.ip));
  if (!pair) throw new QuestionError('the two have no address of one family');
  const { from, to } = pair;
  const isSix = familyOf(from.ip) === 6;
  const told = trace({
    policies: world.decoded.flatMap(({ policy }) => (policy ? [policy] : [])),
    namespaces: world.namespaces,
    ...{ from, to, port, modes },
    nodes: world.nodePeers ?? new Map(),
    protocol: protocol === 1 && isSix ? 58 : protocol,
  });
  const notes = translatedTo(world, to, { protocol, port });
  const exempt = { ...told };
  const isOwnNode = (pod: End, other: End) =>
    pod.pod && world.nodes.get(pod.pod.node ?? '')?.includes(other.ip);
  if (from.pod && to.pod && from.pod === to.pod) {
    notes.push('a pod always reaches itself by its own address');
    return { ...allowed(told), from: formatIp(from.ip), to: formatIp(to.ip), notes };
  }
  if (isOwnNode(from, to) || isOwnNode(to, from)) {
    notes.push('a pod and the node that it runs on always reach each other, whatever policies say');
    return { ...allowed(told), from: formatIp(from.ip), to: formatIp(to.ip), notes };
  }
  return { ...exempt, from: formatIp(from.ip), to: formatIp(to.ip), notes };
}

/** A connection to a port of a node that stands for pods. */
function translatedTo(world: ReadWorld, { ip, pod }: End, { protocol, port }: Omit<Target, 'end'>): string[] {
  const name = Object.keys(PROTOCOLS).find((one) => PROTOCOLS[one] === protocol);
  if (!world.translated || port === null || name === undefined || (pod && !pod.hostNetwork)) return [];
  const [node] = [...world.nodes].find(([, ips]) => ips.includes(ip)) ?? [];
  const owner = node === undefined ? null : ownerOfPort(world.translated, node, port, name);
  if (owner === null) return [];
  return [
    `port ${port}/${name} of ${node} belongs to ${owner}: that node translates it, and what is told here does not count there: ask about the pod, by its own port`,
  ];
}

const allowed = (told: Trace): Trace => ({ ...told, verdict: 'allow', nearMisses: [] });
