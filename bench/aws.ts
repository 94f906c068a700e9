// The AWS VPC CNI as a third side of bench attach: its daemon (aws-k8s-agent) and plugin (aws-cni), from a directory that the
// caller names, on a bare instance of the same lab. It is asked for as many warm addresses as there are sandboxes, without
// cooldown, as ours is. Its socket's path is fixed, so one at a time runs on a machine.
import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, existsSync, mkdirSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Sandboxes, Side } from './sides.ts';

const STATE = '/var/run/aws-node';
const READY_WITHIN_MS = 120_000;

export type AwsPeer = { side: Side; close: () => Promise<void> };

/** Null with the reason when the directory does not hold it. */
export function whyNoAws(bin: string | undefined): string | null {
  if (bin === undefined) return 'the AWS VPC CNI is skipped: no --peer-bin DIR was given';
  const missing = ['aws-cni', 'aws-k8s-agent'].filter((name) => !existsSync(join(bin, name)));
  if (missing.length > 0) return `the AWS VPC CNI is skipped: ${bin} has no ${missing.join(' and no ')}`;
  return existsSync(STATE) ? `the AWS VPC CNI is skipped: ${STATE} is there, another one may run` : null;
}

/** `kubeconfig` is a lab node's own, whose API server is reached from inside the lab. */
export async function startAws(o: {
  bin: string;
  dir: string;
  netns: string;
  region: string;
  nodeName: string;
  kubeconfig: string;
  sandboxes: Sandboxes;
}): Promise<AwsPeer> {
  const logs = join(o.dir, 'aws');
  mkdirSync(logs);
  const config = join(logs, 'aws.json');
  writeFileSync(
    config,
    JSON.stringify({
      cniVersion: '1.0.0',
      name: 'aws-cni',
      type: 'aws-cni',
      vethPrefix: 'eni',
      mtu: '9001',
      podSGEnforcingMode: 'strict',
      pluginLogFile: join(logs, 'plugin.log'),
      pluginLogLevel: 'ERROR',
    }),
  );
  const args = 'IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_INFRA_CONTAINER_ID=bench;K8S_POD_NAME=@';
  const plugin = join(o.bin, 'aws-cni');
  const side: Side = {
    name: 'aws',
    plugin,
    config,
    linksIn: o.netns,
    netns: o.netns,
    args,
    leavesLinks: true,
  };
  const warm = String(o.sandboxes.names.length + 10);
  const log = openSync(join(logs, 'daemon.log'), 'a');
  const daemon: ChildProcess = spawn(
    'nsenter',
    [`--net=/run/netns/${o.netns}`, join(o.bin, 'aws-k8s-agent')],
    {
      stdio: ['ignore', log, log],
      env: {
        ...process.env,
        KUBECONFIG: o.kubeconfig,
        MY_NODE_NAME: o.nodeName,
        MY_POD_NAME: 'aws-node',
        AWS_REGION: o.region,
        AWS_ENDPOINT_URL_EC2: 'http://169.254.169.10',
        ENABLE_IPv4: 'true',
        ENABLE_IPv6: 'false',
        WARM_IP_TARGET: warm,
        MINIMUM_IP_TARGET: warm,
        IP_COOLDOWN_PERIOD: '0',
        DISABLE_METRICS: 'true',
        AWS_VPC_K8S_CNI_LOG_FILE: join(logs, 'ipamd.log'),
        AWS_VPC_K8S_CNI_LOGLEVEL: 'ERROR',
        AWS_VPC_K8S_CNI_VETHPREFIX: 'eni',
      },
    },
  );
  closeSync(log);
  const ended = new Promise((resolve) => daemon.once('exit', resolve));
  const close = async () => {
    daemon.kill('SIGKILL');
    await ended;
    rmSync(STATE, { recursive: true, force: true });
  };
  let last: unknown;
  for (
    const end = performance.now() + READY_WITHIN_MS;
    performance.now() < end && daemon.exitCode === null;
  ) {
    try {
      // All of them: the daemon fetches addresses a few at a time.
      await o.sandboxes.call(side, 'ADD', 'ready');
      await o.sandboxes.call(side, 'DEL', 'ready');
      return { side, close };
    } catch (error) {
      last = error;
      await o.sandboxes.call(side, 'DEL', 'ready').catch(() => undefined);
      await sleep(1_000);
    }
  }
  await close();
  const said = readFileSync(join(logs, 'daemon.log'), 'utf8').slice(-2000);
  throw new Error(`the AWS daemon serves no ADD: ${(last as Error)?.message}\n${said}`);
}
