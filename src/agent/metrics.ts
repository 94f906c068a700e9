// The agent's metrics, one registry per agent so that tests can run several. Names are podway_…, seconds and bytes.
import { createRequire } from 'node:module';
import type PromClient from 'prom-client';

// File by file: the package's index loads its push client, cluster and process metrics too, and with them https, TLS,
// child_process and the OpenTelemetry API.
const load = createRequire(import.meta.url);
const Registry = load('prom-client/lib/registry') as typeof PromClient.Registry;
const Counter = load('prom-client/lib/counter') as typeof PromClient.Counter;
const Gauge = load('prom-client/lib/gauge') as typeof PromClient.Gauge;
const Histogram = load('prom-client/lib/histogram') as typeof PromClient.Histogram;

const LATENCY_SECONDS = [
  0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60,
];

export type AgentMetrics = ReturnType<typeof createMetrics>;

export function createMetrics() {
  const registry = new Registry();
  const registers = [registry];
  return {
    registry,
    requests: new Counter({
      name: 'podway_cni_requests_total',
      help: 'CNI requests by verb and result (ok or the cause).',
      labelNames: ['verb', 'result'] as const,
      registers,
    }),
    latency: new Histogram({
      name: 'podway_cni_request_seconds',
      help: 'Time from request to answer, inside the agent.',
      labelNames: ['verb'] as const,
      buckets: LATENCY_SECONDS,
      registers,
    }),
    addresses: new Gauge({
      name: 'podway_pool_addresses',
      help: 'Addresses of the node by state.',
      labelNames: ['state', 'family'] as const,
      registers,
    }),
    adopted: new Counter({
      name: 'podway_pool_adopted_total',
      help: 'Pods held by their link because the journal did not know them.',
      registers,
    }),
    vanished: new Counter({
      name: 'podway_sandboxes_vanished_total',
      help: 'Attachments that were ended because the container runtime has no such sandbox and no DEL came.',
      registers,
    }),
    enis: new Gauge({ name: 'podway_pool_enis', help: 'ENIs attached to the node.', registers }),
    waiting: new Gauge({
      name: 'podway_pool_waiting_pods',
      help: 'ADDs that wait for an address.',
      registers,
    }),
    trouble: new Gauge({
      name: 'podway_pool_trouble',
      help: 'Why the next pod would get no address: 1 for the cause, and no series while an address is free.',
      labelNames: ['cause'] as const,
      registers,
    }),
    ec2Calls: new Counter({
      name: 'podway_ec2_calls_total',
      help: 'EC2 calls by action and result (ok or the EC2 code).',
      labelNames: ['action', 'result'] as const,
      registers,
    }),
    ec2Latency: new Histogram({
      name: 'podway_ec2_call_seconds',
      help: 'EC2 call latency by action.',
      labelNames: ['action'] as const,
      buckets: LATENCY_SECONDS,
      registers,
    }),
    cloudReachable: new Gauge({
      name: 'podway_cloud_reachable',
      help: '1 while EC2 answers, 0 while it cannot be reached.',
      registers,
    }),
    groupsNotInjected: new Counter({
      name: 'podway_groups_not_injected_total',
      help: 'ADDs of pods that a SecurityGroupPolicy selects and that ask for no branch, by answer: refused or allowed.',
      labelNames: ['answer'] as const,
      registers,
    }),
    queue: new Gauge({
      name: 'podway_del_queue_entries',
      help: 'DELs queued on disk by the plugin.',
      registers,
    }),
    servingSince: new Gauge({
      name: 'podway_serving_since_seconds',
      help: 'Unix time from which this agent has served ADD.',
      registers,
    }),
    inFlight: new Gauge({ name: 'podway_cni_in_flight', help: 'CNI requests being served.', registers }),
    repairs: new Counter({
      name: 'podway_datapath_repairs_total',
      help: 'Kernel objects of ours that others changed and that were put back, by part of the datapath.',
      labelNames: ['kind'] as const,
      registers,
    }),
    memory: new Gauge({
      name: 'podway_process_resident_bytes',
      help: 'Resident memory of the agent process.',
      registers,
      collect() {
        this.set(process.memoryUsage.rss());
      },
    }),
  };
}
