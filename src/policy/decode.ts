// Strict reading of NetworkPolicy objects (networking.k8s.io/v1). Invariant: what cannot be read allows nothing. A rule with
// a wrong or unknown field matches nothing, and the policy isolates all the same; without a readable podSelector or
// policyTypes the object is not in force. Problems name policy, field, value and what is wrong with it.
import { cidrCovers } from '../base/ip.ts';
import {
  cidrOf,
  type Decoded,
  type Fields,
  fieldsOf,
  isPort,
  isText,
  listOf,
  problemOf,
  Refused,
  requirementsOf,
  requirePortName,
} from './fields.ts';
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
    requirePortName(port, `${at}.port`);
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
    problems.push(problemOf(object, error));
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
