// What in the policies hardly does what was meant. Pure.
import { familyOf, formatCidr, formatIp, parseCidr, parseInterfaceAddress } from '../base/ip.ts';
import { POLICY_MODES } from '../base/policy-words.ts';
import { compile } from './compile.ts';
import { evaluate } from './evaluate.ts';
import { protocols, shadowed } from './lint-rules.ts';
import {
  MODE_LABEL,
  modeIn,
  PORT_PROTOCOLS,
  type PodView,
  type Policy,
  PROTOCOL_NAMES,
  TCP,
  UDP,
} from './model.ts';
import { selects } from './selector.ts';
import type { ReadWorld } from './world.ts';

export type LintRow = {
  /** As `networkpolicy x/p`, or `namespace x`. */
  object: string;
  kind:
    | 'refused'
    | 'selects-nothing'
    | 'shadowed'
    | 'no-such-port'
    | 'protocol'
    | 'host-bits'
    | 'isolates-dns'
    | 'isolates-called'
    | 'unknown-mode';
  text: string;
};

const DNS_PORT = 53;

export function lint(world: ReadWorld): LintRow[] {
  const rows = world.decoded.flatMap(({ policy, problems, source, namespace, name }) => {
    const object = namespace === null ? `clusternetworkpolicy ${name}` : `networkpolicy ${namespace}/${name}`;
    const rows: LintRow[] = problems.map(({ field, value, because }) => ({
      object,
      kind: 'refused',
      text: `${field}: ${value} ${because}`,
    }));
    rows.push(...hostBits(source).map((text): LintRow => ({ object, kind: 'host-bits', text })));
    if (policy)
      rows.push(
        ...[
          ...ofSubjects(policy, world),
          ...shadowed(policy),
          ...ofPorts(policy, world),
          ...protocols(policy, subjectsOf(policy, world)),
          ...ofDns(policy, world),
          ...ofCalled(policy, world),
        ].map((row) => ({ ...row, object })),
      );
    return rows;
  });
  return [...rows, ...ofLabels(world)];
}

/** Words for the mode that nobody knows: they count as none. */
const ofLabels = ({ namespaces }: ReadWorld): LintRow[] =>
  [...namespaces].flatMap(([name, labels]): LintRow[] => {
    const word = labels[MODE_LABEL];
    if (word === undefined || modeIn(labels) !== null) return [];
    const text = `its label ${MODE_LABEL} is "${word}", not ${POLICY_MODES.join(', ')}: it counts as none`;
    return [{ object: `namespace ${name}`, kind: 'unknown-mode', text }];
  });

type Said = Omit<LintRow, 'object'>;

const subjectsOf = (policy: Policy, { pods, namespaces }: ReadWorld) =>
  pods.filter((pod) => !pod.hostNetwork && !pod.ended && selects(policy.subject, pod, namespaces));

function ofSubjects(policy: Policy, world: ReadWorld): Said[] {
  if (subjectsOf(policy, world).length > 0) return [];
  return [
    {
      kind: 'selects-nothing',
      text:
        policy.tier === 'networkpolicy'
          ? 'no pod has the labels of its podSelector'
          : 'no pod is of its subject',
    },
  ];
}

/** Names that no pod serves which the rule could mean. */
function ofPorts(policy: Policy, world: ReadWorld): Said[] {
  const said: Said[] = [];
  const hasNoProtocol = policy.tier !== 'networkpolicy';
  for (const direction of ['ingress', 'egress'] as const)
    for (const { index, ports } of policy[direction] ?? []) {
      const told = new Set<string>();
      for (const port of ports ?? []) {
        if (!('name' in port)) continue;
        const candidates = direction === 'ingress' ? subjectsOf(policy, world) : world.pods;
        // A name in a ClusterNetworkPolicy stands for that port by each protocol.
        const isServed = candidates.some((pod) =>
          pod.ports.some(
            (one) => one.name === port.name && (hasNoProtocol || one.protocol === port.protocol),
          ),
        );
        const protocol = PROTOCOL_NAMES[PORT_PROTOCOLS.find((one) => one === port.protocol)!];
        if (!isServed) told.add(hasNoProtocol ? port.name : `${port.name}/${protocol}`);
      }
      for (const name of told)
        said.push({
          kind: 'no-such-port',
          text: `rule ${index} of ${direction} names the port ${name}, which no pod has: it matches nothing`,
        });
    }
  return said;
}

const programAt = (node: string | null, world: ReadWorld) =>
  compile({
    node: node ?? '',
    policies: world.decoded.flatMap((one) => (one.policy ? [one.policy] : [])),
    namespaces: world.namespaces,
    nodes: world.nodePeers ?? new Map(),
    pods: world.pods,
    held: new Map(),
  });

/** Pods that the policy isolates in ingress, and that the API server calls: webhooks, aggregated APIs. */
function ofCalled(policy: Policy, world: ReadWorld): Said[] {
  const { called } = world;
  if (policy.ingress === null || !called) return [];
  const said: Said[] = [];
  for (const { by, namespace, selector, ports } of called.services) {
    const isServer = (pod: PodView) =>
      pod.namespace === namespace &&
      Object.entries(selector).every(([key, value]) => pod.labels[key] === value);
    const server = subjectsOf(policy, world).find((pod) => isServer(pod) && pod.ips.length > 0);
    if (!server) continue;
    const program = programAt(server.node, world);
    for (const wanted of ports) {
      const port = portOf(server, wanted);
      const src = called.from.find((ip) => server.ips.some((own) => familyOf(own) === familyOf(ip)));
      if (port === undefined || src === undefined) continue;
      const dst = server.ips.find((own) => familyOf(own) === familyOf(src))!;
      if (evaluate(program, { src, dst, protocol: TCP, port }).ingress.verdict === 'allow') continue;
      said.push({
        kind: 'isolates-called',
        text: `${server.namespace}/${server.name} serves ${by}, and the API server (${formatIp(src)}) does not reach it on ${port}/tcp: allow its addresses by an ipBlock`,
      });
    }
  }
  return said;
}

const portOf = (pod: PodView, wanted: number | string): number | undefined =>
  typeof wanted === 'number' ? wanted : pod.ports.find(({ name }) => name === wanted)?.port;

/** Pods that the policy isolates in egress and that reach the cluster's DNS neither by UDP nor by TCP. */
function ofDns(policy: Policy, world: ReadWorld): Said[] {
  if (policy.egress === null) return [];
  const dns = world.pods.filter(
    ({ namespace, labels, ips }) =>
      namespace === 'kube-system' && labels['k8s-app'] === 'kube-dns' && ips.length > 0,
  );
  const [server] = dns;
  const subject = subjectsOf(policy, world).find(({ ips }) => ips.length > 0);
  if (!server || !subject) return [];
  const program = programAt(subject.node, world);
  const ask = (protocol: number) =>
    evaluate(program, { src: subject.ips[0]!, dst: server.ips[0]!, protocol, port: DNS_PORT }).egress.verdict;
  if (ask(UDP) === 'allow') return [];
  const tcp = ask(TCP) === 'allow' ? ' by UDP' : '';
  return [
    {
      kind: 'isolates-dns',
      text: `${subject.namespace}/${subject.name} cannot ask the cluster's DNS${tcp}: allow egress to port 53 of kube-system`,
    },
  ];
}

/** CIDRs as they are written and as they are read. */
export function hostBits(source: unknown): string[] {
  const found: string[] = [];
  const visit = (value: unknown): void => {
    if (typeof value === 'string') {
      if (!value.includes('/')) return;
      try {
        const cidr = parseCidr(value, { mask: true });
        if (parseInterfaceAddress(value).ip !== cidr.ip)
          found.push(`${value} is read as ${formatCidr(cidr)}`);
      } catch {
        // Told as refused.
      }
    } else if (Array.isArray(value)) value.forEach(visit);
    else if (typeof value === 'object' && value !== null)
      for (const [key, one] of Object.entries(value)) if (key !== 'metadata') visit(one);
  };
  visit((source as { spec?: unknown }).spec);
  return found;
}
