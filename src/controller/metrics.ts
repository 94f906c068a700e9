// The controller's metrics, one registry per controller. Names are podway_controller_…, seconds.
import { Counter, Gauge, Registry } from 'prom-client';

export type ControllerMetrics = ReturnType<typeof createMetrics>;

export function createMetrics() {
  const registry = new Registry();
  const registers = [registry];
  return {
    registry,
    leading: new Gauge({
      name: 'podway_controller_leading',
      help: '1 while this process leads.',
      registers,
    }),
    nodes: new Gauge({
      name: 'podway_controller_nodes',
      help: 'PodwayNodes that the leader follows.',
      registers,
    }),
    gone: new Gauge({
      name: 'podway_controller_gone_instances',
      help: 'Instances without a Node whose ENIs are still looked for.',
      registers,
    }),
    loose: new Gauge({
      name: 'podway_controller_loose_enis',
      help: 'Unattached ENIs of gone nodes, as last seen.',
      registers,
    }),
    swept: new Counter({
      name: 'podway_controller_enis_swept_total',
      help: 'ENIs of gone nodes that were deleted.',
      registers,
    }),
    outOfAddresses: new Gauge({
      name: 'podway_controller_nodes_without_address',
      help: 'Nodes that bear the taint podway.dev/no-address.',
      registers,
    }),
    taints: new Counter({
      name: 'podway_controller_taint_changes_total',
      help: 'Taints put on and taken off, by taint and change.',
      labelNames: ['taint', 'change'] as const,
      registers,
    }),
    branches: new Gauge({
      name: 'podway_controller_branches',
      help: 'Branch interfaces that EC2 has, on a trunk and off it.',
      labelNames: ['state'] as const,
      registers,
    }),
    branchFailures: new Counter({
      name: 'podway_controller_branch_failures_total',
      help: 'Steps towards a trunk or a branch that failed, by cause.',
      labelNames: ['cause'] as const,
      registers,
    }),
    asked: new Gauge({
      name: 'podway_controller_ec2_calls_asked',
      help: 'EC2 calls a second that nodes ask for together, by kind (reads, changes).',
      labelNames: ['kind'] as const,
      registers,
    }),
    granted: new Gauge({
      name: 'podway_controller_ec2_calls_granted',
      help: 'EC2 calls a second that are granted to nodes; 0 while the asks fit and nobody is bounded.',
      labelNames: ['kind'] as const,
      registers,
    }),
    ec2Calls: new Counter({
      name: 'podway_controller_ec2_calls_total',
      help: 'EC2 calls of the controller by action and result (ok or the EC2 code).',
      labelNames: ['action', 'result'] as const,
      registers,
    }),
  };
}
