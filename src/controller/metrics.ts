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
    ec2Calls: new Counter({
      name: 'podway_controller_ec2_calls_total',
      help: 'EC2 calls of the controller by action and result (ok or the EC2 code).',
      labelNames: ['action', 'result'] as const,
      registers,
    }),
  };
}
