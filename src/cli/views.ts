// The text forms of what the lab answers.
import { sourceText } from '../ipam/config/sources.ts';
import { LabError } from '../lab/daemon/errors.ts';
import type {
  Check,
  Difference,
  InstanceView,
  IpamAddress,
  IpamNode,
  LabStatus,
  NodeView,
  PodView,
  UpResult,
} from '../lab/daemon/protocol.ts';
import { bold, dim, green, red, table, yellow } from './output.ts';

const phase = (text: string): string =>
  text === 'Running' || text === 'Succeeded' ? green(text) : text === 'Pending' ? yellow(text) : red(text);

export function podTable(pods: PodView[]): string {
  if (pods.length === 0) return 'no pods';
  return table(
    ['NAMESPACE', 'NAME', 'PHASE', 'ADDRESS', 'NODE', 'CAUSE'],
    pods.map((pod) => [
      pod.namespace,
      pod.name,
      phase(pod.phase),
      pod.ips.join(',') || '-',
      pod.node || '-',
      pod.message ? `${pod.message.code}: ${pod.message.text}` : '',
    ]),
  );
}

export function nodeTable(nodes: NodeView[]): string {
  return table(
    ['NODE', 'READY', 'ADDRESS', 'PUBLIC', 'TYPE', 'ZONE', 'INSTANCE', 'CAUSE'],
    nodes.map((node) => [
      node.name,
      node.ready ? green('yes') : red('no'),
      node.ips.join(',') || '-',
      node.publicIps[0] ?? '-',
      node.instanceType,
      node.zone,
      node.instanceId,
      node.message ? `${node.message.code}: ${node.message.text}` : '',
    ]),
  );
}

const instanceTable = (instances: InstanceView[]): string =>
  table(
    ['INSTANCE', 'STATE', 'ADDRESS', 'PUBLIC', 'TYPE', 'ID'],
    instances.map((each) => [
      each.name,
      each.state,
      each.ips.join(','),
      each.publicIps.join(',') || '-',
      each.instanceType,
      each.instanceId,
    ]),
  );

export function statusText(status: LabStatus): string {
  const subnets = status.vpcs.flatMap((vpc) =>
    vpc.subnets.map((subnet) => [
      vpc.cidrs.join(','),
      subnet.name,
      [subnet.cidr, subnet.ipv6Cidr].filter(Boolean).join(','),
      subnet.zone,
      String(subnet.availableIpAddressCount),
      subnet.id,
    ]),
  );
  return [
    `lab ${bold(status.name)} is ${status.state}${stateHint(status)}; EC2 ${status.ec2Endpoint}; Kubernetes ${status.kubernetesEndpoint}`,
    table(['VPC', 'SUBNET', 'CIDR', 'ZONE', 'FREE', 'ID'], subnets),
    nodeTable(status.nodes),
    ...(status.instances.length > 0 ? [instanceTable(status.instances)] : []),
    podTable(status.pods),
  ].join('\n\n');
}

const stateHint = ({ name, state }: LabStatus): string =>
  state === 'half-made' ? ` (podway lab up --lab ${name} goes on with it)` : '';

/** One line for each ENI of nodes that have an agent. */
const eniTable = (nodes: IpamNode[]): string =>
  table(
    ['NODE', 'LINK', 'ENI', 'ADDRESS', 'HELD', 'FREE'],
    nodes.flatMap((node) =>
      node.enis.map((eni) => {
        // A pod of both families counts once.
        const six = node.families === 'ipv6';
        const counted = eni.addresses.filter(({ ip }) => ip.includes(':') === six);
        const held = counted.filter((each) => each.state === 'held').length;
        if (six) return [node.node, eni.ifname ?? '-', eni.id, eni.primaryIp, String(held), '-'];
        const singles = eni.addresses.filter((each) => each.state === 'free').length;
        const free = eni.prefixes.reduce((sum, prefix) => sum + prefix.free, singles);
        return [node.node, eni.ifname ?? '-', eni.id, eni.primaryIp, String(held), String(free)];
      }),
    ),
  );

export function ipamText(nodes: IpamNode[]): string {
  return nodes
    .map((node) => {
      const { totals, limits, warm } = node;
      const others = (['quarantined', 'foreign'] as const)
        .map((state) => (totals[state] > 0 ? `, ${totals[state]} ${state}` : ''))
        .join('');
      const has6 = node.families !== undefined && node.families !== 'ipv4';
      const six = has6 ? `; ${node.totals6?.held} held, ${node.totals6?.cooling} cooling of IPv6` : '';
      const head = `${bold(node.node)} (${node.instanceType}): ${totals.held} held, ${totals.free} free, ${totals.cooling} cooling${others}${six}; keeps ${warm.target} free, rests ${warm.cooldownSeconds} s${node.source ? `, by ${sourceText(node.source)}` : ''}; ${limitsText(limits)}${trunkText(node.trunk)}`;
      const rows = node.enis.flatMap((eni) => [
        [
          eni.ifname ?? red('no link'),
          eni.id,
          eni.primaryIp,
          eni.trunk ? 'trunk' : 'primary',
          dim(eni.subnetId),
        ],
        ...(eni.branches ?? []).flatMap((branch) =>
          branch.ips.map((ip) => [
            '',
            branch.id,
            ip,
            `VLAN ${branch.vlanId}`,
            branch.pod ?? branch.containerId,
          ]),
        ),
        ...eni.prefixes.map(({ cidr, held, cooling, free }) => [
          '',
          '',
          cidr,
          'prefix',
          dim(`${held} held, ${free} free, ${cooling} cooling`),
        ]),
        // What is free of a /80 says nothing.
        ...(eni.ipv6Prefixes ?? []).map(({ cidr, held, cooling }) => [
          '',
          '',
          cidr,
          'prefix',
          dim(`${held} held, ${cooling} cooling`),
        ]),
        ...eni.addresses.map((each) => [
          '',
          '',
          each.ip,
          addressState(each.state),
          each.pod ?? each.reason ?? (each.coolingUntil ? `until ${each.coolingUntil}` : ''),
        ]),
      ]);
      return [head, ...(node.notes ?? []), table(['LINK', 'ENI', 'ADDRESS', 'STATE', 'POD'], rows)].join(
        '\n',
      );
    })
    .join('\n\n');
}

/** Of the trunk where one is wanted, else nothing. */
function trunkText(trunk: IpamNode['trunk']): string {
  if (!trunk) return '';
  const { id, branches, limit, lack } = trunk;
  if (id !== null) return `; ${branches} of ${limit} branches`;
  return lack ? `; ${red(lack)}` : '; an ENI slot is kept for a trunk';
}

/** Two numbers that look alike: addresses that pods can have, and pods that the instance type allows. */
export function limitsText({
  enis,
  ipv4PerEni,
  pods,
  addresses = enis * (ipv4PerEni - 1),
}: IpamNode['limits']): string {
  if (addresses > pods * 1_000) return `an IPv6 prefix has addresses for all, at most ${pods} pods`;
  const rest =
    pods > addresses
      ? `, ${pods - addresses} of them on the host network or with a branch ENI, which need none of these`
      : '';
  return `at most ${addresses} pod addresses (${enis} ENIs of ${ipv4PerEni}, one of each its own), ${pods} pods${rest}`;
}

const addressState = (state: IpamAddress['state']): string =>
  state === 'held'
    ? green(state)
    : state === 'free'
      ? state
      : state === 'foreign'
        ? dim(state)
        : yellow(state);

/** The built-in server answers its name and the address that it saw: said so that neither reads as an error. */
const seen = (text: string): string =>
  text.replace(/^(\S+) (\d+(?:\.\d+){3}\b|[0-9a-f]*:[0-9a-f:]+)/, '$1 saw $2');

/** What a side has nothing to say of is a dash. */
export function differenceTable(differences: Difference[]): string {
  const say = (value: unknown) =>
    value === undefined || value === null ? '-' : typeof value === 'string' ? value : JSON.stringify(value);
  return table(
    ['KIND', 'OBJECT', 'JOURNAL', 'KERNEL', 'CLOUD', 'API'],
    differences.map(({ kind, object, journal, kernel, cloud, api }) => [
      kind,
      object,
      ...[journal, kernel, cloud, api].map(say),
    ]),
  );
}

export const checkLine = (check: Check): string =>
  `${check.ok ? green('ok  ') : red('FAIL')} ${check.name}: ${check.from} -> ${check.to}: ${check.ok ? seen(check.observed) : `expected ${seen(check.expected)}, got ${seen(check.observed)}`}`;

export const failedChecks = (failed: Check[]): LabError => {
  const first = failed[0]!;
  return new LabError(
    'CONNECTIVITY',
    `${failed.length} connectivity ${failed.length === 1 ? 'check' : 'checks'} failed, first ${first.name} from ${first.from} to ${first.to}: expected ${seen(first.expected)}, got ${seen(first.observed)}`,
    'podway connectivity test; see the security-group rules with DescribeSecurityGroupRules',
  );
};

/** `podway` is what the user types for it. */
export function labSummary(
  lab: string,
  { result, checks, ipam, podway }: { result: UpResult; checks: Check[]; ipam: IpamNode[]; podway: string },
): string {
  const { status } = result;
  const parts = [
    result.already
      ? `lab ${bold(lab)} is up already in this shape; verified in ${(result.ms / 1000).toFixed(1)} s`
      : `lab ${bold(lab)} is up after ${(result.ms / 1000).toFixed(1)} s`,
  ];
  if (status.nodes.length > 0) parts.push(nodeTable(status.nodes));
  if (ipam.some((node) => node.enis.length > 0)) parts.push(eniTable(ipam));
  if (status.instances.length > 0) parts.push(instanceTable(status.instances));
  if (status.pods.length > 0) parts.push(podTable(status.pods));
  if (checks.length > 0) parts.push(['Proven:', ...checks.map(checkLine)].join('\n'));
  const flag = lab === 'default' ? '' : ` --lab ${lab}`;
  const pod = status.pods.find((each) => each.phase === 'Running')?.name;
  const node = status.nodes[0]?.name ?? status.instances[0]?.name ?? 'vpc';
  parts.push(
    [
      'Try next:',
      `  ${podway} pod run web${flag}`,
      `  ${podway} ipam show${flag}`,
      pod ? `  ${podway} pod logs ${pod}${flag}` : `  ${podway} connectivity test${flag}`,
      `  ${podway} lab exec ${node}${flag} -- ip route show table all`,
      `  eval "$(${podway} lab env${flag})" && kubectl get pods -o wide`,
    ].join('\n'),
  );
  return parts.join('\n\n');
}
