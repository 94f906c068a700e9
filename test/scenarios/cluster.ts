// The cluster that a scenario runs on, the lab's own or one of real kubelets: kubectl, the lab's command line, EC2's stock
// client, and questions over real packets from a pod's or a node's namespace. `lacks` says what the cluster has not, and
// why; a scenario that needs it is skipped with these words.
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { DescribeNetworkInterfacesCommand } from '@aws-sdk/client-ec2';
import { labPaths } from '../../src/lab/daemon/paths.ts';
import type { LabStatus } from '../../src/lab/daemon/protocol.ts';
import { realNodePaths } from '../../src/lab/kubernetes/layout.ts';
import { execute, executeOk, PODWAY, told } from '../e2e/command.ts';
import { Asker, type Question } from '../support/asker.ts';
import { ec2ClientOf } from '../support/ec2.ts';
import { applyObjects } from '../support/kubernetes.ts';
import { eventually } from '../support/wait.ts';

export const NAMESPACE = 'scenarios';
/** Pods of a Deployment on two cores that others use too. */
export const READY_BOUND_MS = 300_000;

export type Feature = 'services' | 'probes' | 'containers' | 'static pods' | 'hostPort';
export type Lacks = Partial<Record<Feature, string>>;
export type ClusterInput = { lab: string; kubectl: string; kubeconfig: string; lacks?: Lacks };
export type Pod = { name: string; node: string; ip: string };

export class Cluster {
  readonly lab: string;
  readonly kubectlProgram: string;
  readonly kubeconfig: string;
  readonly lacks: Lacks;
  readonly #askers = new Map<string, Asker>();

  constructor({ lab, kubectl, kubeconfig, lacks = {} }: ClusterInput) {
    this.lab = lab;
    this.kubectlProgram = kubectl;
    this.kubeconfig = kubeconfig;
    this.lacks = lacks;
  }

  command = (...args: string[]): string[] => [
    ...[this.kubectlProgram, '--kubeconfig', this.kubeconfig, '-n', NAMESPACE],
    ...args,
  ];
  kubectl = (...args: string[]): Promise<string> => executeOk(this.command(...args), {}, READY_BOUND_MS);

  apply(...items: object[]): Promise<void> {
    return applyObjects((...args) => this.kubectl(...args), items);
  }

  async pods(selector: string): Promise<Pod[]> {
    const { items } = JSON.parse(await this.kubectl('get', 'pods', '-l', selector, '-o', 'json')) as {
      items: { metadata: { name: string }; spec: { nodeName: string }; status: { podIP?: string } }[];
    };
    return items.map((pod) => ({
      name: pod.metadata.name,
      node: pod.spec.nodeName,
      ip: pod.status.podIP ?? '',
    }));
  }

  ready = (...pods: string[]): Promise<string> =>
    this.kubectl('wait', '--for=condition=Ready', ...pods.map((name) => `pod/${name}`), '--timeout=180s');

  podway = (...args: string[]): Promise<string> =>
    executeOk([PODWAY, ...args, '--lab', this.lab], {}, READY_BOUND_MS);
  status = async (): Promise<LabStatus> =>
    JSON.parse(await this.podway('lab', 'status', '-o', 'json')) as LabStatus;
  nodes = async (): Promise<{ name: string; ip: string; instance: string }[]> =>
    (await this.status()).nodes.map(({ name, ips, instanceId }) => ({
      name,
      ip: ips[0]!,
      instance: instanceId,
    }));
  on = (node: string, ...command: string[]): Promise<string> =>
    executeOk([PODWAY, 'lab', 'exec', '--lab', this.lab, node, '--', ...command]);

  /** What is answered to a pod, or to a node, by the lab's own server: "POD PEER_ADDRESS". */
  async ask(from: string, ...questions: Question[]): Promise<string[]> {
    const { nodes, pods } = await this.status();
    const place =
      pods.find(({ namespace, name }) => namespace === NAMESPACE && name === from) ??
      nodes.find(({ name }) => name === from);
    if (!place?.netnsPath) throw new Error(`${from} is not there`);
    const asker = this.#askers.get(place.netnsPath) ?? new Asker(place.netnsPath);
    this.#askers.set(place.netnsPath, asker);
    return asker.ask(questions);
  }

  /** Makes kubelet of the node run a pod that the API is not asked for, or ends it. */
  staticPod(node: string, name: string, pod: object | null): void {
    const dir = join(realNodePaths(labPaths(this.lab), node).kubernetes, 'manifests');
    const file = join(dir, `${name}.yaml`);
    mkdirSync(dir, { recursive: true, mode: 0o700 });
    if (pod) writeFileSync(file, JSON.stringify(pod), { mode: 0o600 });
    else rmSync(file, { force: true });
  }

  /** Addresses that EC2 lists on the ENIs of an instance. */
  async listed(instance: string): Promise<Set<string>> {
    const env = JSON.parse(await this.podway('lab', 'env', '-o', 'json')) as Record<string, string>;
    const ec2 = ec2ClientOf(env);
    try {
      const Filters = [{ Name: 'attachment.instance-id', Values: [instance] }];
      const { NetworkInterfaces } = await ec2.send(new DescribeNetworkInterfacesCommand({ Filters }));
      return new Set(
        NetworkInterfaces!.flatMap((eni) => eni.PrivateIpAddresses!.map((each) => each.PrivateIpAddress!)),
      );
    } finally {
      ec2.destroy();
    }
  }

  /** Waits until journal, kernel, EC2 and API agree. */
  async agreed(): Promise<void> {
    const command = [PODWAY, 'ipam', 'check', '--lab', this.lab];
    let last = '';
    await eventually(
      'ipam check is clean',
      async () => {
        const ran = await execute(command);
        last = told(command, ran);
        return ran.code === 0;
      },
      90_000,
    ).catch((error: Error) => {
      throw new Error(`${error.message}\n${last}`);
    });
  }

  close(): void {
    for (const asker of this.#askers.values()) asker.close();
    this.#askers.clear();
  }
}
