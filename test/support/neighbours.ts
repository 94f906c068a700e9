// A lab with pods on each of a node's three ENIs, standard plugins in the chain, a plain instance and the internet: the
// ground for what others do on a node. Pods a1 to a7 with host ports 8081 to 8087 on node-1, far on node-2.
import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { CoreV1Api, type V1Pod } from '@kubernetes/client-node';
import { labPaths } from '../../src/lab/daemon/paths.ts';
import type { LabStatus, PodView } from '../../src/lab/daemon/protocol.ts';
import { executeOk, skip as notRoot } from '../e2e/command.ts';
import { Lab } from '../e2e/lab.ts';
import { Asker } from './asker.ts';
import { eventually } from './wait.ts';

const PLUGINS = ['/opt/cni/bin', '/usr/lib/cni'];
const lacks = ['portmap', 'bandwidth', 'tuning', 'loopback'].find(
  (name) => !PLUGINS.some((dir) => existsSync(join(dir, name))),
);
export const skip =
  notRoot ||
  (lacks ? `the CNI plugin ${lacks} is not here: apt-get install containernetworking-plugins` : false);

export const INTERNET = '203.0.113.10';
export const SOMAXCONN = '500';
const CHAIN = JSON.stringify([
  'portmap',
  'bandwidth',
  { type: 'tuning', sysctl: { 'net.core.somaxconn': SOMAXCONN } },
]);

/** t3.small: 3 ENIs of 3 secondary addresses. */
const shape = () => `region: us-west-2
vpcs:
  - name: vpc
    cidrs: [10.0.0.0/16]
    subnets:
      - { name: subnet-a, cidr: 10.0.0.0/19, zone: us-west-2a }
      - { name: subnet-b, cidr: 10.0.32.0/19, zone: us-west-2b }
    securityGroups:
      - name: open
        ingress:
          - { from: 0.0.0.0/0 }
instances:
  - { name: node-1, type: t3.small, subnet: subnet-a, securityGroups: [open] }
  - { name: node-2, type: t3.small, subnet: subnet-b, securityGroups: [open] }
  - { name: plain, type: t3.small, subnet: subnet-b, agent: none, securityGroups: [open] }
settings: { warm: 1, idleRelease: 1h, cooldown: 1s }
`;

export class Neighbours {
  readonly lab: Lab;
  readonly #dir = mkdtempSync(join(tmpdir(), 'podway-neighbours-'));
  readonly #askers = new Map<string, Asker>();
  status!: LabStatus;
  core!: CoreV1Api;

  constructor(name: string) {
    const file = join(this.#dir, 'lab.yaml');
    writeFileSync(file, shape());
    this.lab = new Lab(name, ['-f', file, '--set', `cniChain=${CHAIN}`]);
  }

  async up(): Promise<void> {
    await this.lab.up();
    this.core = (await this.lab.kube()).makeApiClient(CoreV1Api);
    const numbers = [1, 2, 3, 4, 5, 6, 7];
    await this.run(...numbers.map((n) => pod(`a${n}`, 'node-1', 8080 + n)), pod('far', 'node-2'));
  }

  async down(): Promise<void> {
    for (const asker of this.#askers.values()) asker.close();
    await this.lab.down();
    rmSync(this.#dir, { recursive: true, force: true });
  }

  /** Makes the pods and waits until all run. */
  async run(...pods: V1Pod[]): Promise<void> {
    for (const body of pods) await this.core.createNamespacedPod({ namespace: 'default', body });
    await eventually('the pods run', async () => {
      this.status = await this.lab.status();
      return pods.every(({ metadata }) => this.find(metadata!.name!)?.phase === 'Running');
    });
  }

  find = (name: string): PodView | undefined => this.status.pods.find((one) => one.name === name);

  pod(name: string): PodView {
    const found = this.find(name);
    assert.ok(found, `pod ${name}`);
    return found;
  }

  /** Of an instance, its primary address. */
  address = (name: string): string =>
    [...this.status.nodes, ...this.status.instances].find((one) => one.name === name)!.ips[0]!;

  netns(place: string): string {
    return this.find(place)?.netnsPath ?? `/run/netns/${labPaths(this.lab.name).netns(place)}`;
  }

  asker(place: string): Asker {
    const path = this.netns(place);
    const asker = this.#askers.get(path) ?? new Asker(path);
    this.#askers.set(path, asker);
    return asker;
  }

  /** A command in a node's namespace. */
  on = (node: string, ...command: string[]): Promise<string> =>
    executeOk(['nsenter', `--net=${this.netns(node)}`, '--', ...command]);

  /** The node's ENIs in order, each with its own address and one pod that holds an address of it. */
  async enis(): Promise<{ address: string; pod: string }[]> {
    const { enis } = await this.lab.ipam('node-1');
    return enis.map(({ primaryIp, addresses }) => ({
      address: primaryIp,
      pod: addresses.find(({ state }) => state === 'held')!.pod!.split('/')[1]!,
    }));
  }
}

/** With the lab's own server; `hostPort` for both protocols. */
export function pod(name: string, nodeName: string, hostPort?: number, more: Partial<V1Pod> = {}): V1Pod {
  const ports = (['TCP', 'UDP'] as const).map((protocol) => ({
    containerPort: 8080,
    protocol,
    ...(hostPort === undefined ? {} : { hostPort }),
  }));
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name, labels: { app: 'all' }, ...more.metadata },
    spec: { nodeName, containers: [{ name: 'main', image: 'podway.lab/pod-server:1', ports }], ...more.spec },
  };
}
