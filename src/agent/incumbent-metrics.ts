// The metrics that dashboards of the AWS VPC CNI read (awscni_…; its names, types and labels), as text at each scrape, from
// the values that our own metrics show. Nothing is kept between scrapes. Names without a meaning here are left out:
// docs/metrics.md lists both kinds.
import type { PoolSnapshot } from '../ipam/views/snapshot.ts';
import type { ActionCalls, Ec2Calls } from './ec2-calls.ts';
import { countOf, failuresOf } from './ec2-calls.ts';

/** What is read of a pool's snapshot. */
export type PoolFigures = Pick<PoolSnapshot, 'limits' | 'totals' | 'foreignEnis'> & {
  enis: Pick<PoolSnapshot['enis'][number], 'id' | 'addresses' | 'prefixes'>[];
};

export type IncumbentInput = {
  /** Of the package. */
  version: string;
  /** Null while the node starts. */
  pool: PoolFigures | null;
  /** Calls in flight that bring addresses, and blocks on their way back. */
  inProgress: { growing: number; returning: number };
  ec2: Ec2Calls;
  /** CNI requests by verb and result, as podway_cni_requests_total counts them. */
  requests: readonly { verb: string; result: string; count: number }[];
  /** From the agent's start to its first served ADD; null before that. */
  startSeconds: number | null;
};

type Labels = Record<string, string>;
type Sample = { labels?: Labels; value: number; suffix?: string };
type Family = {
  name: string;
  type: 'gauge' | 'counter' | 'summary' | 'histogram';
  help: string;
  samples: Sample[];
};

/** Causes by which an ADD ended without an address. */
const NO_ADDRESS: ReadonlySet<string> = new Set([
  'ADDRESS_LIMIT',
  'COOLDOWN',
  'ENI_LIMIT',
  'POOL_GROWING',
  'SUBNET_EXHAUSTED',
  'SUBNET_FRAGMENTED',
  'CLOUD_THROTTLED',
  'CLOUD_UNREACHABLE',
  'CLOUD_DENIED',
]);

/** Where the AWS VPC CNI counts a failure of each action. */
const ERROR_PLACES: Readonly<Record<string, string>> = {
  AssignPrivateIpAddresses: 'increaseIPPoolAllocIPAddressesFailed',
  CreateNetworkInterface: 'increaseIPPoolAllocENI',
  AttachNetworkInterface: 'increaseIPPoolwaitENIAttachedFailed',
  UnassignPrivateIpAddresses: 'decreaseIPPool',
  DetachNetworkInterface: 'decreaseIPPoolFreeENIFailed',
  DeleteNetworkInterface: 'decreaseIPPoolFreeENIFailed',
  DescribeNetworkInterfaces: 'reconcileFailedGetENIs',
};

const QUANTILES = [0.5, 0.9, 0.99];

export function incumbentMetrics(input: IncumbentInput): string {
  return families(input).map(render).join('');
}

function families(input: IncumbentInput): Family[] {
  return [...poolFamilies(input), ...requestFamilies(input), ...ec2Families(input.ec2)];
}

const single = (value: number): Sample[] => [{ value }];

function poolFamilies({ version, pool, inProgress, startSeconds }: IncumbentInput): Family[] {
  const started: Sample[] =
    startSeconds === null
      ? []
      : [
          { suffix: '_bucket', labels: { success: 'true', le: '+Inf' }, value: 1 },
          { suffix: '_sum', labels: { success: 'true' }, value: startSeconds },
          { suffix: '_count', labels: { success: 'true' }, value: 1 },
        ];
  const doing = {
    nodeInit: pool ? 0 : 1,
    increaseDatastorePool: inProgress.growing,
    decreaseDatastorePool: inProgress.returning,
  };
  const always: Family[] = [
    {
      name: 'awscni_build_info',
      type: 'gauge',
      help: 'The version of Podway, and of its runtime.',
      samples: [{ labels: { version: `podway-${version}`, goversion: `node-${process.version}` }, value: 1 }],
    },
    {
      name: 'awscni_ipamd_action_inprogress',
      type: 'gauge',
      help: 'What the pool is doing: starting, calls that bring addresses, addresses on their way back.',
      samples: Object.entries(doing).map(([fn, value]) => ({ labels: { fn }, value })),
    },
    {
      name: 'awscni_ipamd_node_initialization_duration_seconds',
      type: 'histogram',
      help: 'From the start of the agent to its first served ADD.',
      samples: started,
    },
  ];
  return pool ? [...always, ...sizeFamilies(pool)] : always;
}

function sizeFamilies(pool: PoolFigures): Family[] {
  const { enis, limits, totals, foreignEnis } = pool;
  const most = Math.max(0, limits.enis - foreignEnis.length);
  const perEni = limits.addresses / Math.max(1, limits.enis);
  const prefixes = enis.flatMap((eni) => eni.prefixes);
  const gauge = (name: string, help: string, samples: Sample[]): Family => ({
    name,
    type: 'gauge',
    help,
    samples,
  });
  return [
    gauge('awscni_eni_max', 'ENIs that the instance type takes, less those of others.', single(most)),
    gauge('awscni_ip_max', 'Pod addresses that those ENIs take.', single(Math.floor(most * perEni))),
    gauge('awscni_eni_allocated', 'ENIs attached to the node.', single(enis.length)),
    gauge(
      'awscni_total_ip_addresses',
      'Pod addresses of the node: held, free and cooling.',
      single(totals.held + totals.free + totals.cooling),
    ),
    gauge('awscni_assigned_ip_addresses', 'Addresses that pods hold.', single(totals.held)),
    gauge('awscni_total_ipv4_prefixes', 'Prefixes (/28) of the node.', single(prefixes.length)),
    gauge(
      'awscni_assigned_ip_per_eni',
      'Addresses that pods hold, by ENI.',
      enis.map((eni) => ({
        labels: { eni: eni.id },
        value: eni.addresses.filter((one) => one.state === 'held').length,
      })),
    ),
    gauge(
      'awscni_assigned_ip_per_cidr',
      'Addresses that pods hold, by prefix. Single addresses are not listed.',
      prefixes.map((prefix) => ({ labels: { cidr: prefix.cidr }, value: prefix.held })),
    ),
  ];
}

function requestFamilies({ requests }: IncumbentInput): Family[] {
  const count = (of: (one: IncumbentInput['requests'][number]) => boolean): number =>
    requests.reduce((sum, one) => sum + (of(one) ? one.count : 0), 0);
  const counter = (name: string, help: string, samples: Sample[]): Family => ({
    name,
    type: 'counter',
    help,
    samples,
  });
  return [
    counter('awscni_add_ip_req_count', 'ADD requests.', single(count((one) => one.verb === 'ADD'))),
    counter('awscni_del_ip_req_count', 'DEL requests.', [
      { labels: { reason: 'PodDeleted' }, value: count((one) => one.verb === 'DEL') },
    ]),
    counter(
      'awscni_no_available_ip_addresses',
      'ADD requests that ended without an address.',
      single(count((one) => one.verb === 'ADD' && NO_ADDRESS.has(one.result))),
    ),
    counter('awscni_force_removed_enis', 'ENIs removed under pods: none ever is.', single(0)),
    counter('awscni_force_removed_ips', 'Addresses removed under pods: none ever is.', single(0)),
  ];
}

function ec2Families(ec2: Ec2Calls): Family[] {
  const calls = [...ec2.byAction];
  const by = (of: (calls: ActionCalls) => number): Sample[] =>
    calls.map(([fn, one]) => ({ labels: { fn }, value: of(one) }));
  const places = new Map<string, number>();
  for (const [action, one] of calls) {
    const fn = ERROR_PLACES[action];
    if (fn) places.set(fn, (places.get(fn) ?? 0) + failuresOf(one));
  }
  return [
    { name: 'awscni_ec2api_req_count', type: 'counter', help: 'EC2 calls by action.', samples: by(countOf) },
    {
      name: 'awscni_ec2api_error_count',
      type: 'counter',
      help: 'EC2 calls that failed, by action.',
      samples: by(failuresOf),
    },
    {
      name: 'awscni_aws_api_error_count',
      type: 'counter',
      help: 'EC2 calls that failed, by action and EC2 code.',
      samples: calls.flatMap(([api, one]) =>
        [...one.failures].map(([error, value]) => ({ labels: { api, error }, value })),
      ),
    },
    {
      name: 'awscni_aws_api_latency_ms',
      type: 'summary',
      help: 'Latency of EC2 calls in ms, by action; quantiles of the last ones, failed ones included.',
      samples: calls.flatMap(([api, one]) => latency(api, one, ec2.recent(api))),
    },
    {
      name: 'awscni_ipamd_error_count',
      type: 'counter',
      help: 'Failed EC2 calls by the place where the AWS VPC CNI counts them.',
      samples: [...places].map(([fn, value]) => ({ labels: { fn }, value })),
    },
  ];
}

function latency(api: string, calls: ActionCalls, recent: Float32Array): Sample[] {
  const labels = { api, error: 'false', status: '200' };
  const sorted = recent.slice().sort();
  return [
    ...QUANTILES.map((quantile) => ({
      labels: { ...labels, quantile: String(quantile) },
      value: sorted[Math.min(sorted.length - 1, Math.floor(quantile * sorted.length))] ?? 0,
    })),
    { suffix: '_sum', labels, value: calls.sumMs },
    { suffix: '_count', labels, value: countOf(calls) },
  ];
}

function render({ name, type, help, samples }: Family): string {
  const lines = [`# HELP ${name} ${help}`, `# TYPE ${name} ${type}`];
  for (const { labels = {}, value, suffix = '' } of samples) {
    const inside = Object.entries(labels).map(([key, text]) => `${key}="${escaped(text)}"`);
    lines.push(`${name}${suffix}${inside.length > 0 ? `{${inside.join(',')}}` : ''} ${value}`);
  }
  return `${lines.join('\n')}\n`;
}

const escaped = (text: string): string =>
  text.replace(/[\\"\n]/g, (char) => (char === '\n' ? '\\n' : `\\${char}`));
