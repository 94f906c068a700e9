import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Ec2Calls } from './ec2-calls.ts';
import { type IncumbentInput, incumbentMetrics, type PoolFigures } from './incumbent-metrics.ts';
import { createMetrics } from './metrics.ts';

/** Every name that the agent shows. A dashboard breaks when one goes: remove none, add to the list and to docs/metrics.md. */
const OWN = [
  'podway_cloud_reachable',
  'podway_cni_in_flight',
  'podway_cni_request_seconds',
  'podway_cni_requests_total',
  'podway_datapath_repairs_total',
  'podway_del_queue_entries',
  'podway_ec2_call_seconds',
  'podway_ec2_calls_total',
  'podway_groups_not_injected_total',
  'podway_pool_addresses',
  'podway_pool_adopted_total',
  'podway_pool_enis',
  'podway_pool_trouble',
  'podway_pool_waiting_pods',
  'podway_process_resident_bytes',
  'podway_sandboxes_vanished_total',
  'podway_serving_since_seconds',
];
const INCUMBENT = [
  'awscni_add_ip_req_count',
  'awscni_assigned_ip_addresses',
  'awscni_assigned_ip_per_cidr',
  'awscni_assigned_ip_per_eni',
  'awscni_aws_api_error_count',
  'awscni_aws_api_latency_ms',
  'awscni_build_info',
  'awscni_del_ip_req_count',
  'awscni_ec2api_error_count',
  'awscni_ec2api_req_count',
  'awscni_eni_allocated',
  'awscni_eni_max',
  'awscni_force_removed_enis',
  'awscni_force_removed_ips',
  'awscni_ip_max',
  'awscni_ipamd_action_inprogress',
  'awscni_ipamd_error_count',
  'awscni_ipamd_node_initialization_duration_seconds',
  'awscni_no_available_ip_addresses',
  'awscni_total_ip_addresses',
  'awscni_total_ipv4_prefixes',
];

const held = (ip: string) => ({ ip, state: 'held' as const });
const pool: PoolFigures = {
  limits: { enis: 3, ipv4PerEni: 10, addresses: 27, pods: 29 },
  totals: { held: 4, free: 5, cooling: 2, quarantined: 0, foreign: 0 },
  foreignEnis: [{ id: 'eni-x', deviceIndex: 2, description: '' }],
  enis: [
    { id: 'eni-a', addresses: [held('10.0.0.5'), { ip: '10.0.0.6', state: 'free' }], prefixes: [] },
    {
      id: 'eni-b',
      addresses: [held('10.0.1.1'), held('10.0.1.2'), held('10.0.1.3')],
      prefixes: [{ cidr: '10.0.1.0/28', held: 3, cooling: 0, free: 13 }],
    },
  ],
};

function inputOf(over: Partial<IncumbentInput> = {}): IncumbentInput {
  const ec2 = new Ec2Calls();
  for (let ms = 1; ms <= 100; ms++) ec2.note({ action: 'AssignPrivateIpAddresses', result: 'ok', ms });
  ec2.note({ action: 'CreateNetworkInterface', result: 'InsufficientFreeAddressesInSubnet', ms: 7 });
  return {
    version: '1.2.3',
    pool,
    inProgress: { growing: 1, returning: 0 },
    ec2,
    requests: [
      { verb: 'ADD', result: 'ok', count: 7 },
      { verb: 'ADD', result: 'SUBNET_EXHAUSTED', count: 2 },
      { verb: 'ADD', result: 'BAD_JSON', count: 1 },
      { verb: 'DEL', result: 'ok', count: 3 },
    ],
    startSeconds: 0.25,
    ...over,
  };
}

const samplesOf = (text: string): Map<string, number> =>
  new Map(
    text
      .split('\n')
      .filter((line) => line !== '' && !line.startsWith('#'))
      .map((line) => {
        const at = line.lastIndexOf(' ');
        return [line.slice(0, at), Number(line.slice(at + 1))];
      }),
  );
const namesOf = (text: string): string[] =>
  [...text.matchAll(/^# TYPE (\S+) /gm)].map((match) => match[1]!).sort();

test('our names and the AWS VPC CNI’s, each with its help and type', async () => {
  const own = await createMetrics().registry.metrics();
  assert.deepEqual(namesOf(own), OWN);
  const incumbent = incumbentMetrics(inputOf());
  assert.deepEqual(namesOf(incumbent), INCUMBENT);
  for (const text of [own, incumbent])
    for (const name of namesOf(text)) assert.match(text, new RegExp(`^# HELP ${name} \\S.*[.a-z)]$`, 'm'));
});

test('both tell the same values', () => {
  const samples = samplesOf(incumbentMetrics(inputOf()));
  const expected: Record<string, number> = {
    awscni_eni_max: 2,
    awscni_ip_max: 18,
    awscni_eni_allocated: 2,
    awscni_total_ip_addresses: 11,
    awscni_assigned_ip_addresses: 4,
    awscni_total_ipv4_prefixes: 1,
    'awscni_assigned_ip_per_eni{eni="eni-a"}': 1,
    'awscni_assigned_ip_per_eni{eni="eni-b"}': 3,
    'awscni_assigned_ip_per_cidr{cidr="10.0.1.0/28"}': 3,
    awscni_add_ip_req_count: 10,
    'awscni_del_ip_req_count{reason="PodDeleted"}': 3,
    awscni_no_available_ip_addresses: 2,
    'awscni_ec2api_req_count{fn="AssignPrivateIpAddresses"}': 100,
    'awscni_ec2api_req_count{fn="CreateNetworkInterface"}': 1,
    'awscni_ec2api_error_count{fn="CreateNetworkInterface"}': 1,
    'awscni_aws_api_error_count{api="CreateNetworkInterface",error="InsufficientFreeAddressesInSubnet"}': 1,
    'awscni_ipamd_error_count{fn="increaseIPPoolAllocENI"}': 1,
    'awscni_ipamd_action_inprogress{fn="nodeInit"}': 0,
    'awscni_ipamd_action_inprogress{fn="increaseDatastorePool"}': 1,
    'awscni_aws_api_latency_ms_count{api="AssignPrivateIpAddresses",error="false",status="200"}': 100,
    'awscni_aws_api_latency_ms_sum{api="AssignPrivateIpAddresses",error="false",status="200"}': 5050,
    'awscni_ipamd_node_initialization_duration_seconds_sum{success="true"}': 0.25,
  };
  for (const [name, value] of Object.entries(expected)) assert.equal(samples.get(name), value, name);
  // Of the last 64 calls, 37 to 100 ms.
  const quantile = (q: number) =>
    samples.get(
      `awscni_aws_api_latency_ms{api="AssignPrivateIpAddresses",error="false",status="200",quantile="${q}"}`,
    );
  assert.deepEqual([quantile(0.5), quantile(0.99)], [69, 100]);
});

test('prefixes count sixteen addresses, and a node that starts says so', () => {
  const prefixed: PoolFigures = { ...pool, limits: { ...pool.limits, addresses: 432 } };
  assert.equal(samplesOf(incumbentMetrics(inputOf({ pool: prefixed }))).get('awscni_ip_max'), 288);
  const starting = samplesOf(incumbentMetrics(inputOf({ pool: null, startSeconds: null })));
  assert.equal(starting.get('awscni_ipamd_action_inprogress{fn="nodeInit"}'), 1);
  assert.equal(starting.has('awscni_eni_max'), false);
});

test('series are bounded, whatever codes EC2 invents, and labels are escaped', () => {
  const ec2 = new Ec2Calls();
  for (let i = 0; i < 1_000; i++) ec2.note({ action: 'A', result: `Code"${i}`, ms: 1 });
  const text = incumbentMetrics(inputOf({ ec2 }));
  const errors = text.split('\n').filter((line) => line.startsWith('awscni_aws_api_error_count{'));
  assert.equal(errors.length, 21);
  assert.match(errors[0]!, /error="Code\\"0"/);
  assert.match(errors.at(-1)!, /error="Other"\} 980$/);
});
