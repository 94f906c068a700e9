// Podway's controller of a lab's cluster: one supervised process, from the cluster's first start to `lab down`. Where it
// runs and how it is known there is its cluster's: beside the embedded API on the router, or on a control plane's instance.
// Its identity stays the same, so that one that was killed takes its lease again at once.
import { join } from 'node:path';
import { writeFileAtomic } from '../../base/files.ts';
import { privateDir } from '../daemon/files.ts';
import { netnsPath } from '../daemon/paths.ts';
import { Supervisor } from './nodes/supervisor.ts';

export const CONTROLLER_METRICS_PORT = 9465;
const WEBHOOK_PORT = 9443;

export type LabControllerInput = {
  dir: string;
  /** Name of the network namespace. */
  netns: string;
  command: string[];
  kubeconfig: string;
  region: string;
  ec2Endpoint: string;
  /** Where the API reaches it: of the same namespace. */
  address: string;
  env: Record<string, string>;
};

export const controllerPaths = (dir: string) => ({
  kubeconfig: join(dir, 'kubeconfig'),
  log: join(dir, 'log'),
  pid: join(dir, 'pid'),
});

/** Started; the same call adopts one that runs. */
export function superviseController(input: LabControllerInput): Supervisor {
  const { dir, netns, command, kubeconfig, region, ec2Endpoint, address, env } = input;
  const files = controllerPaths(dir);
  privateDir(dir);
  writeFileAtomic(files.kubeconfig, kubeconfig);
  const flags = {
    kubeconfig: files.kubeconfig,
    identity: 'lab',
    region,
    'ec2-endpoint': ec2Endpoint,
    listen: `127.0.0.1:${CONTROLLER_METRICS_PORT}`,
    'webhook-listen': `${address}:${WEBHOOK_PORT}`,
    'webhook-url': `https://${address}:${WEBHOOK_PORT}`,
  };
  const supervisor = new Supervisor({
    netnsPath: netnsPath(netns),
    command: [...command, ...Object.entries(flags).map(([name, value]) => `--${name}=${value}`)],
    pidFile: files.pid,
    logFile: files.log,
    env,
  });
  supervisor.start();
  return supervisor;
}
