// Strict reading of ClusterNetworkPolicy objects (policy.networking.k8s.io, v1alpha2 and v1beta1). Invariant: it fails
// closed. A rule with a wrong or unknown field that accepts matches nothing; one that denies or passes, or whose action is
// not known, denies all of its direction. Without a readable tier, priority or subject the object is not in force.
// Problems name policy, field, value and what is wrong with it. Source: the API's types and their validation rules.
import {
  cidrOf,
  type Decoded,
  type Fields,
  fieldsOf,
  fieldsOrNone,
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
  PORT_PROTOCOLS,
  type PodSelector,
  type Policy,
  type PolicyRule,
  type Port,
  type PortProtocol,
  type Problem,
  SCTP,
  TCP,
  type Tier,
  UDP,
  type Verdict,
} from './model.ts';

const LAST_PRIORITY = 1_000;
/** Of rules in a direction, of peers and protocols in a rule, of CIDRs in a peer: the API's own limit. */
const MOST = 25;

const TIERS: Readonly<Record<string, Tier>> = { Admin: 'admin', Baseline: 'baseline' };
const ACTIONS: Readonly<Record<string, Verdict>> = { Accept: 'allow', Deny: 'deny', Pass: 'pass' };
const PROTOCOLS: Readonly<Record<string, PortProtocol>> = { tcp: TCP, udp: UDP, sctp: SCTP };

const known = <T>(values: Readonly<Record<string, T>>, value: unknown, at: string): T => {
  const found = isText(value) && Object.hasOwn(values, value) ? values[value] : undefined;
  if (found === undefined) throw new Refused(at, value, `is not ${Object.keys(values).join(', ')}`);
  return found;
};

/** The only field of an object that has one of several. */
function onlyOf(value: unknown, at: string, names: readonly string[]): [string, unknown] {
  const given = Object.entries(fieldsOf(value, at, names)).filter(
    ([, one]) => one !== undefined && one !== null,
  );
  const [first] = given;
  if (!first || given.length > 1) throw new Refused(at, value, `has not one of ${names.join(', ')}`);
  return first;
}

function someOf(value: unknown, at: string): readonly unknown[] {
  const list = listOf(value, at);
  if (list.length === 0) throw new Refused(at, value, 'is empty');
  if (list.length > MOST) throw new Refused(at, list.length, `has more than ${MOST} entries`);
  return list;
}

/** Pods of namespaces, as subjects and peers name them. */
function selectorOf(kind: string, value: unknown, at: string): PodSelector {
  if (kind === 'namespaces') return { namespace: requirementsOf(value, at), pods: [] };
  const { namespaceSelector, podSelector } = fieldsOf(value, at, ['namespaceSelector', 'podSelector']);
  return {
    namespace: requirementsOf(namespaceSelector ?? {}, `${at}.namespaceSelector`),
    pods: requirementsOf(podSelector ?? {}, `${at}.podSelector`),
  };
}

function peersOf(value: unknown, at: string, direction: Direction): Peers[] {
  const isEgress = direction === 'egress';
  const domains = (value as Fields | null)?.['domainNames'];
  if (isEgress && domains !== undefined)
    throw new Refused(`${at}.domainNames`, domains, 'is not enforced: Podway does not follow names');
  const names = isEgress ? ['namespaces', 'pods', 'nodes', 'networks'] : ['namespaces', 'pods'];
  const [kind, one] = onlyOf(value, at, names);
  if (kind === 'nodes') return [{ kind, selector: requirementsOf(one, `${at}.nodes`) }];
  if (kind !== 'networks') return [{ kind: 'pods', selector: selectorOf(kind, one, `${at}.${kind}`) }];
  return someOf(one, `${at}.networks`).map((cidr, place) => ({
    kind: 'cidr',
    cidr: cidrOf(cidr, `${at}.networks[${place}]`),
    except: [],
  }));
}

function rangeOf(value: unknown, at: string): { from: number; to: number } {
  const port = (number: unknown, where: string): number => {
    if (!isPort(number)) throw new Refused(where, number, `is not a number from 1 to ${LAST_PORT}`);
    return number;
  };
  const [kind, one] = onlyOf(value, at, ['number', 'range']);
  if (kind === 'number') {
    const number = port(one, `${at}.number`);
    return { from: number, to: number };
  }
  const { start, end } = fieldsOf(one, `${at}.range`, ['start', 'end']);
  const from = port(start, `${at}.range.start`);
  const to = port(end, `${at}.range.end`);
  if (from >= to) throw new Refused(`${at}.range.end`, end, `is not above the start, ${from}`);
  return { from, to };
}

function portsOf(value: unknown, at: string): Port[] {
  const [kind, one] = onlyOf(value, at, [...Object.keys(PROTOCOLS), 'destinationNamedPort']);
  if (kind === 'destinationNamedPort') {
    if (!isText(one)) throw new Refused(`${at}.${kind}`, one, 'is not the name of a container port');
    requirePortName(one, `${at}.${kind}`);
    return PORT_PROTOCOLS.map((protocol) => ({ protocol, name: one }));
  }
  const [, port] = onlyOf(one, `${at}.${kind}`, ['destinationPort']);
  return [{ protocol: PROTOCOLS[kind]!, ...rangeOf(port, `${at}.${kind}.destinationPort`) }];
}

function ruleOf(value: unknown, at: string, index: number, direction: Direction): PolicyRule {
  const peersField = direction === 'ingress' ? 'from' : 'to';
  const fields = fieldsOf(value, at, ['name', 'action', peersField, 'protocols']);
  const verdict = known(ACTIONS, fields['action'], `${at}.action`);
  const peers = someOf(fields[peersField], `${at}.${peersField}`).flatMap((one, place) =>
    peersOf(one, `${at}.${peersField}[${place}]`, direction),
  );
  const { protocols } = fields;
  if (protocols === undefined || protocols === null) return { index, verdict, peers, ports: null };
  const ports = someOf(protocols, `${at}.protocols`).flatMap((one, place) =>
    portsOf(one, `${at}.protocols[${place}]`),
  );
  const hasName = ports.some((port) => 'name' in port);
  // A name is known of pods alone: beside others a rule that denies would match less than it says.
  if (hasName && peers.some(({ kind }) => kind !== 'pods'))
    throw new Refused(`${at}.protocols`, protocols, 'names a container port beside networks or nodes');
  return { index, verdict, peers, ports };
}

const SPEC = ['tier', 'priority', 'subject', 'ingress', 'egress'];

/** A field of a later version is told; the others count. */
function specOf(value: unknown, refuse: (error: unknown) => void): Fields {
  const fields = fieldsOrNone(value, 'spec');
  try {
    return fieldsOf(fields, 'spec', SPEC);
  } catch (error) {
    refuse(error);
    return fields;
  }
}

/** What stands for a rule that cannot be read; null: it matches nothing. */
const closed = (value: unknown, index: number): PolicyRule | null =>
  (value as Fields | null)?.['action'] === 'Accept'
    ? null
    : { index, verdict: 'deny', peers: [{ kind: 'any' }], ports: null };

/** An object of the API, or anything else: never throws. */
export function decodeClusterNetworkPolicy(source: unknown): Decoded {
  const problems: Problem[] = [];
  const { metadata, spec } = (source ?? {}) as { metadata?: Fields; spec?: unknown };
  const object = `clusternetworkpolicy ${String(metadata?.['name'] ?? '')}`;
  const refuse = (error: unknown): null => {
    problems.push(problemOf(object, error));
    return null;
  };
  /** Null: the object says nothing of the direction. */
  const rulesOf = (value: unknown, direction: Direction): PolicyRule[] | null => {
    const at = `spec.${direction}`;
    let list: readonly unknown[];
    try {
      list = listOf(value, at);
      if (list.length > MOST) throw new Refused(at, list.length, `has more than ${MOST} rules`);
    } catch (error) {
      refuse(error);
      return [closed(null, 0)!];
    }
    const rules = list.flatMap((one, index): PolicyRule[] => {
      try {
        return [ruleOf(one, `${at}[${index}]`, index, direction)];
      } catch (error) {
        refuse(error);
        const instead = closed(one, index);
        return instead ? [instead] : [];
      }
    });
    return rules.length === 0 ? null : rules;
  };
  try {
    const fields = specOf(spec, refuse);
    const { priority } = fields;
    if (!Number.isInteger(priority) || (priority as number) < 0 || (priority as number) > LAST_PRIORITY)
      throw new Refused('spec.priority', priority, `is not a number from 0 to ${LAST_PRIORITY}`);
    const [kind, subject] = onlyOf(fields['subject'], 'spec.subject', ['namespaces', 'pods']);
    const policy: Policy = {
      object,
      tier: known(TIERS, fields['tier'], 'spec.tier'),
      priority: priority as number,
      subject: selectorOf(kind, subject, `spec.subject.${kind}`),
      egress: rulesOf(fields['egress'], 'egress'),
      ingress: rulesOf(fields['ingress'], 'ingress'),
    };
    return { policy, problems };
  } catch (error) {
    return { policy: refuse(error), problems };
  }
}
