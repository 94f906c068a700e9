// The ground of the table of security groups per pod: the lab of examples/security-groups.yaml with another node, an
// instance and groups that let everything in and out (`open`) or nothing (`closed`); pods of each kind on both nodes;
// servers that write down who asked; and rules as kube-proxy makes them.
import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, mkdirSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { CoreV1Api, type V1Pod } from '@kubernetes/client-node';
import type { Check, LabStatus } from '../../src/lab/daemon/protocol.ts';
import { executeOk, ROOT } from '../e2e/command.ts';
import { Lab, QUICK } from '../e2e/lab.ts';
import { Asker } from './asker.ts';
import { eventually } from './wait.ts';

export const INTERNET = '203.0.113.10';
/** Services: of a plain pod on the other node, and of the pods `open` and `closed` on node-1. */
export const VIPS = { plain: '172.20.99.1', open: '172.20.99.2', closed: '172.20.99.3' };
/** NodePorts of `open` and of `closed`: of Services with externalTrafficPolicy Cluster, and with Local. */
export const NODE_PORTS = { open: 30_080, closed: 30_081 };
export const LOCAL_PORTS = { open: 30_090, closed: 30_091 };
const NODE_SERVER = 9_000;

function shape(): string {
  const example = readFileSync(join(ROOT, 'examples/security-groups.yaml'), 'utf8');
  const all = '{ from: 10.0.0.0/16 }';
  const parts: [string, string][] = [
    [`- { from: nodes }`, `- ${all}`],
    [
      '      - name: db\n',
      `      - { name: open, ingress: [${all}] }\n      - { name: closed, egress: [] }\n      - name: db\n`,
    ],
    [
      'instances:\n',
      'instances:\n  - { name: node-2, type: m5.large, subnet: nodes, securityGroups: [nodes] }\n' +
        '  - { name: peer, type: t3.small, subnet: data, agent: none, securityGroups: [nodes], serve: true }\n',
    ],
  ];
  let text = example;
  for (const [from, to] of parts) text = text.replace(from, to);
  return `${text}${['open', 'closed']
    .map((name) => `  - { name: ${name}, podLabels: { groups: ${name} }, securityGroups: [${name}] }\n`)
    .join('')}`;
}

export class BranchGround {
  readonly #dir = join(tmpdir(), `podway-branches-${process.pid}`);
  readonly #askers = new Map<string, Asker>();
  readonly #servers: ChildProcess[] = [];
  readonly lab: Lab;
  status!: LabStatus;
  core!: CoreV1Api;

  constructor(name: string) {
    this.lab = new Lab(name, [
      ...QUICK,
      '-f',
      join(this.#dir, 'lab.yaml'),
      '--demo',
      '--set',
      'controller=process',
    ]);
  }

  /** Answers what the demo proved. */
  async up(): Promise<Check[]> {
    mkdirSync(this.#dir, { recursive: true });
    writeFileSync(join(this.#dir, 'lab.yaml'), shape());
    const { checks } = JSON.parse(await this.lab.up('-o', 'json')) as { checks: Check[] };
    this.core = (await this.lab.kube()).makeApiClient(CoreV1Api);
    this.status = await this.lab.status();
    for (const { name, netnsPath } of this.status.nodes) this.#serve(name, netnsPath);
    return checks;
  }

  async down(): Promise<void> {
    for (const asker of this.#askers.values()) asker.close();
    for (const server of this.#servers) server.kill('SIGKILL');
    rmSync(this.#dir, { recursive: true, force: true });
    await this.lab.down();
  }

  /** On the node itself, beside what runs there. */
  #serve(name: string, netnsPath: string): void {
    const log = openSync(join(this.#dir, `${name}.log`), 'w');
    const program = join(ROOT, 'build/pod-server');
    const command = [`--net=${netnsPath}`, '--', program, '--name', name, '--port', `${NODE_SERVER}`];
    this.#servers.push(spawn('nsenter', command, { stdio: ['ignore', log, 'inherit'] }));
    closeSync(log);
  }

  /** Pods by name; resolves when all run. */
  async run(pods: readonly { name: string; node: string; groups?: string; mode?: string }[]): Promise<void> {
    for (const { name, node, groups, mode } of pods) {
      const body: V1Pod = {
        metadata: {
          name,
          labels: groups === undefined ? {} : { groups },
          ...(mode === undefined ? {} : { annotations: { 'podway.dev/security-groups': mode } }),
        },
        spec: { nodeName: node, containers: [{ name: 'main', image: 'podway.lab/pod-server:1' }] },
      };
      await this.core.createNamespacedPod({ namespace: 'default', body });
    }
    await eventually(
      'the pods run',
      async () => {
        this.status = await this.lab.status();
        return pods.every(({ name }) =>
          this.status.pods.some((pod) => pod.name === name && pod.phase === 'Running'),
        );
      },
      60_000,
    );
  }

  #place(name: string): { netnsPath: string; ip: string } {
    const { nodes, instances, pods } = this.status;
    const found = [...nodes, ...instances, ...pods].find((each) => each.name === name)!;
    return { netnsPath: found.netnsPath, ip: found.ips[0]! };
  }

  address = (name: string): string => (name === 'internet' ? INTERNET : this.#place(name).ip);
  publicAddress = (node: string): string =>
    this.status.nodes.find(({ name }) => name === node)!.publicIps[0]!;
  port = (name: string): number => (name.startsWith('node-') ? NODE_SERVER : 8080);

  asker(name: string): Asker {
    let asker = this.#askers.get(name);
    if (!asker) {
      asker = new Asker(this.#place(name).netnsPath);
      this.#askers.set(name, asker);
    }
    return asker;
  }

  /** Who asked a server: ADDRESS:PORT, one of each TCP connection. */
  async askers(name: string): Promise<string[]> {
    const isPod = this.status.pods.some((pod) => pod.name === name);
    const text = name.startsWith('node-')
      ? readFileSync(join(this.#dir, `${name}.log`), 'utf8')
      : await (isPod ? this.lab.ok('pod', 'logs', name) : this.lab.ok('lab', 'logs', name));
    return [...text.matchAll(/ tcp (\S+)$/gm)].map(([, who]) => who!);
  }

  /** What kube-proxy makes of the Services. `suffix` of the pods' names. */
  async services(suffix: string): Promise<void> {
    const to = (pod: string) => `${this.address(pod)}:8080`;
    const ports = (of: { open: number; closed: number }, mark: string) =>
      (['open', 'closed'] as const)
        .map((name) => `fib daddr type local tcp dport ${of[name]} ${mark} dnat to ${to(`${name}${suffix}`)}`)
        .join('\n    ');
    const rules = `table ip by-hand {
  chain services {
    ip daddr ${VIPS.plain} tcp dport 80 dnat to ${to('plain-2')}
    ip daddr ${VIPS.open} tcp dport 80 dnat to ${to(`open${suffix}`)}
    ip daddr ${VIPS.closed} tcp dport 80 dnat to ${to(`closed${suffix}`)}
    ${ports(NODE_PORTS, 'meta mark set meta mark | 0x4000')}
    ${ports(LOCAL_PORTS, '')}
  }
  chain before { type nat hook prerouting priority -100; jump services; }
  chain own { type nat hook output priority -100; jump services; }
  chain after {
    type nat hook postrouting priority 100;
    mark & 0x4000 != 0 meta mark set meta mark ^ 0x4000 masquerade fully-random
  }
}`;
    for (const { netns } of this.status.nodes) {
      const nft = ['ip', 'netns', 'exec', netns, 'nft'];
      await executeOk([...nft, 'add table ip by-hand; delete table ip by-hand']);
      await executeOk([...nft, rules]);
    }
  }
}
