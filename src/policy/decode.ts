// Strict reading of NetworkPolicy objects (networking.k8s.io/v1). Invariant: what cannot be read allows nothing. A rule with
// a wrong or unknown field matches nothing, and the policy isolates all the same; without a readable podSelector or
// policyTypes the object is not in force. Problems name policy, field, value and what is wrong with it.
import { AddressError, type Cidr, cidrCovers, parseCidr } from '../base/ip.ts';
import { type Requirement, SelectorError, selectorRequirements } from '../kube/selectors.ts';
import {
  type Direction,
  LAST_PORT,
  type Peers,
  type PodSelector,
  type Policy,
  type PolicyRule,
  type Port,
  type PortProtocol,
  type Problem,
  SCTP,
  TCP,
  UDP,
} from './model.ts';

/** Of one policy in one direction; the API's 1.5 MB hold about as many. */
const MOST_PEERS = 10_000;
const MOST_PORTS = 20_000;
/** Values of selectors, in one policy. */
const MOST_VALUES = 10_000;

export type Decoded = { readonly policy: Policy | null; readonly problems: readonly Problem[] };

const UNKNOWN_FIELD = 'is not a field that is known';
export const isUnknownField = ({ because }: Problem): boolean => because === UNKNOWN_FIELD;

type Fields = Record<string, unknown>;

class Refused extends Error {
  readonly field: string;
  readonly value: unknown;

  constructor(field: string, value: unknown, because: string) {
    super(because);
    this.field = field;
    this.value = value;
  }
}

const shown = (value: unknown): string => {
  const text = JSON.stringify(value) ?? 'nothing';
  return text.length > 80 ? `${text.slice(0, 77)}...` : text;
};

function fieldsOf(value: unknown, at: string, known: readonly string[]): Fields {
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw new Refused(at, value, 'is not an object');
  for (const key of Object.keys(value))
    if (!known.includes(key)) throw new Refused(`${at}.${key}`, (value as Fields)[key], UNKNOWN_FIELD);
  return value as Fields;
}

function listOf(value: unknown, at: string): readonly unknown[] {
  if (value === undefined || value === null) return [];
  if (!Array.isArray(value)) throw new Refused(at, value, 'is not a list');
  return value;
}

const isText = (value: unknown): value is string => typeof value === 'string';

/** Reads a metav1.LabelSelector. */
export function requirementsOf(value: unknown, at: string): Requirement[] {
  const { matchLabels, matchExpressions } = fieldsOf(value, at, ['matchLabels', 'matchExpressions']);
  const labels = fieldsOrNone(matchLabels, `${at}.matchLabels`);
  for (const [key, one] of Object.entries(labels))
    if (!isText(one)) throw new Refused(`${at}.matchLabels.${key}`, one, 'is not text');
  const expressions = listOf(matchExpressions, `${at}.matchExpressions`).map((one, place) => {
    const where = `${at}.matchExpressions[${place}]`;
    const { key, operator, values } = fieldsOf(one, where, ['key', 'operator', 'values']);
    if (!isText(key) || key === '') throw new Refused(`${where}.key`, key, 'is not a label key');
    const list = listOf(values, `${where}.values`);
    if (!list.every(isText)) throw new Refused(`${where}.values`, values, 'is not a list of texts');
    return { key, operator: operator as 'In', values: [...list] as string[] };
  });
  const count = expressions.reduce((sum, { values }) => sum + values.length, Object.keys(labels).length);
  if (count > MOST_VALUES) throw new Refused(at, count, `has more than ${MOST_VALUES} values`);
  try {
    return selectorRequirements({
      matchLabels: labels as Record<string, string>,
      matchExpressions: expressions,
    });
  } catch (error) {
    if (error instanceof SelectorError)
      throw new Refused(`${at}.matchExpressions`, matchExpressions, error.message);
    throw error;
  }
}

function fieldsOrNone(value: unknown, at: string): Fields {
  if (value === undefined || value === null) return {};
  if (typeof value !== 'object' || Array.isArray(value)) throw new Refused(at, value, 'is not an object');
  return value as Fields;
}

function cidrOf(value: unknown, at: string): Cidr {
  if (!isText(value)) throw new Refused(at, value, 'is not a CIDR');
  try {
    // Host bits say nothing: 10.1.0.0/8 is 10.0.0.0/8.
    return parseCidr(value, { mask: true });
  } catch (error) {
    if (error instanceof AddressError) throw new Refused(at, value, error.message);
    throw error;
  }
}

function blockOf(value: unknown, at: string): Peers {
  const { cidr, except } = fieldsOf(value, at, ['cidr', 'except']);
  const whole = cidrOf(cidr, `${at}.cidr`);
  const holes = listOf(except, `${at}.except`).map((one, place) => {
    const hole = cidrOf(one, `${at}.except[${place}]`);
    if (!cidrCovers(whole, hole))
      throw new Refused(`${at}.except[${place}]`, one, `is not within ${String(cidr)}`);
    return hole;
  });
  return { kind: 'cidr', cidr: whole, except: holes };
}

function peerOf(value: unknown, at: string, namespace: string): Peers {
  const fields = fieldsOf(value, at, ['podSelector', 'namespaceSelector', 'ipBlock']);
  const { podSelector, namespaceSelector, ipBlock } = fields;
  const isGiven = (one: unknown) => one !== undefined && one !== null;
  if (isGiven(ipBlock)) {
    if (isGiven(podSelector) || isGiven(namespaceSelector))
      throw new Refused(at, value, 'has ipBlock beside a selector: one or the other');
    return blockOf(ipBlock, `${at}.ipBlock`);
  }
  if (!isGiven(podSelector) && !isGiven(namespaceSelector)) throw new Refused(at, value, 'names no peer');
  return {
    kind: 'pods',
    selector: {
      namespace: isGiven(namespaceSelector)
        ? requirementsOf(namespaceSelector, `${at}.namespaceSelector`)
        : namespace,
      pods: isGiven(podSelector) ? requirementsOf(podSelector, `${at}.podSelector`) : [],
    },
  };
}

const PROTOCOLS: Readonly<Record<string, PortProtocol>> = { TCP, UDP, SCTP };
const isPort = (value: unknown): value is number =>
  typeof value === 'number' && Number.isInteger(value) && value >= 1 && value <= LAST_PORT;

function portOf(value: unknown, at: string): Port {
  const { protocol = 'TCP', port, endPort } = fieldsOf(value, at, ['protocol', 'port', 'endPort']);
  const number = isText(protocol) && Object.hasOwn(PROTOCOLS, protocol) ? PROTOCOLS[protocol] : undefined;
  if (number === undefined) throw new Refused(`${at}.protocol`, protocol, 'is not TCP, UDP or SCTP');
  const isNone = port === undefined || port === null;
  const hasEnd = endPort !== undefined && endPort !== null;
  if (isNone) {
    if (hasEnd) throw new Refused(`${at}.endPort`, endPort, 'needs a port beside it');
    return { protocol: number, from: 0, to: LAST_PORT };
  }
  if (isText(port)) {
    if (hasEnd) throw new Refused(`${at}.endPort`, endPort, 'needs a port that is a number');
    if (!/^[a-z0-9](?:[-a-z0-9]{0,13}[a-z0-9])?$/.test(port) || !/[a-z]/.test(port))
      throw new Refused(`${at}.port`, port, 'is not the name of a container port');
    return { protocol: number, name: port };
  }
  if (!isPort(port)) throw new Refused(`${at}.port`, port, `is not a number from 1 to ${LAST_PORT}`);
  if (!hasEnd) return { protocol: number, from: port, to: port };
  if (!isPort(endPort) || endPort < port)
    throw new Refused(`${at}.endPort`, endPort, `is not a number from ${port} to ${LAST_PORT}`);
  return { protocol: number, from: port, to: endPort };
}

function ruleOf(
  value: unknown,
  at: string,
  index: number,
  direction: Direction,
  namespace: string,
): PolicyRule {
  const peersField = direction === 'ingress' ? 'from' : 'to';
  const fields = fieldsOf(value, at, ['ports', peersField]);
  const ports = listOf(fields['ports'], `${at}.ports`);
  if (ports.length > MOST_PORTS)
    throw new Refused(`${at}.ports`, ports.length, `has more than ${MOST_PORTS} entries`);
  const peers = listOf(fields[peersField], `${at}.${peersField}`);
  return {
    index,
    verdict: 'allow',
    ports: ports.length === 0 ? null : ports.map((one, place) => portOf(one, `${at}.ports[${place}]`)),
    peers:
      peers.length === 0
        ? [{ kind: 'any' }]
        : peers.map((one, place) => peerOf(one, `${at}.${peersField}[${place}]`, namespace)),
  };
}

const countOf = ({ peers }: PolicyRule): number =>
  peers.reduce((sum, peer) => sum + 1 + (peer.kind === 'cidr' ? peer.except.length : 0), 0);

/** An object of the API, or anything else: never throws. */
export function decodeNetworkPolicy(source: unknown): Decoded {
  const problems: Problem[] = [];
  const { metadata, spec } = (source ?? {}) as { metadata?: Fields; spec?: unknown };
  const namespace = String(metadata?.['namespace'] ?? 'default');
  const object = `networkpolicy ${namespace}/${String(metadata?.['name'] ?? '')}`;
  const refuse = (error: unknown): null => {
    if (!(error instanceof Refused)) throw error;
    problems.push({ object, field: error.field, value: shown(error.value), because: error.message });
    return null;
  };
  const rulesOf = (value: unknown, direction: Direction): PolicyRule[] => {
    const rules: PolicyRule[] = [];
    let count = 0;
    try {
      listOf(value, `spec.${direction}`).forEach((one, index) => {
        try {
          const rule = ruleOf(one ?? {}, `spec.${direction}[${index}]`, index, direction, namespace);
          count += countOf(rule);
          if (count > MOST_PEERS)
            throw new Refused(
              `spec.${direction}[${index}]`,
              count,
              `is beyond ${MOST_PEERS} peers and exceptions`,
            );
          rules.push(rule);
        } catch (error) {
          refuse(error);
        }
      });
    } catch (error) {
      refuse(error);
    }
    return rules;
  };
  try {
    const fields = fieldsOf(spec ?? {}, 'spec', ['podSelector', 'policyTypes', 'ingress', 'egress']);
    const subject: PodSelector = {
      namespace,
      pods: requirementsOf(fields['podSelector'] ?? {}, 'spec.podSelector'),
    };
    const directions = directionsOf(fields);
    const policy: Policy = {
      object,
      tier: 'networkpolicy',
      priority: 0,
      subject,
      egress: directions.has('Egress') ? rulesOf(fields['egress'], 'egress') : null,
      ingress: directions.has('Ingress') ? rulesOf(fields['ingress'], 'ingress') : null,
    };
    return { policy, problems };
  } catch (error) {
    return { policy: refuse(error), problems };
  }
}

/** Ingress is always implied, egress by an egress rule. */
function directionsOf({ policyTypes, egress }: Fields): Set<unknown> {
  const given = listOf(policyTypes, 'spec.policyTypes');
  const unknown = given.find((one) => one !== 'Ingress' && one !== 'Egress');
  if (unknown !== undefined) throw new Refused('spec.policyTypes', unknown, 'is not Ingress or Egress');
  if (given.length > 0) return new Set(given);
  return new Set(Array.isArray(egress) && egress.length > 0 ? ['Ingress', 'Egress'] : ['Ingress']);
}
