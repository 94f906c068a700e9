// A lab with real kubelets whose agents come from the chart, as on an operator's cluster: `lab up --kubernetes --set
// agent=none`, the image into every node's containerd, `helm install`. Everything goes through `run`, so that the lab can
// be on this machine or on one of a test's own. Builds nothing: `missing` says what is not there.
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { labPaths } from '../../src/lab/daemon/paths.ts';
import type { LabStatus } from '../../src/lab/daemon/protocol.ts';
import { findBinaries } from '../../src/lab/kubernetes/binaries.ts';
import { realNodePaths } from '../../src/lab/kubernetes/layout.ts';
import { chart, helms } from '../../tools/chart.ts';
import { type Env, execute, skip as notRoot, PODWAY, type Ran, ROOT, told } from '../e2e/command.ts';
import { applyObjects, missingKubernetes } from '../support/kubernetes.ts';

export const archive = join(ROOT, 'build/podway.oci.tar');
const { version } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as { version: string };
/** The image's name in the nodes' containerd. */
export const OWN_IMAGE = `localhost/podway:${version}`;
export const STEP_MS = 300_000;
export const RELEASE_NAMESPACE = ['-n', 'kube-system'];
const SERVER = 'http://169.254.169.10';

/** Why there can be no such lab here, or false. */
export function missing(): string | false {
  if (notRoot) return notRoot;
  if (helms().length === 0) return 'no helm (podway lab kubernetes install builds one)';
  if (!existsSync(archive)) return 'no image (npm run image)';
  return missingKubernetes();
}

type Runner = (command: string[], env: Env, boundMs: number) => Promise<Ran>;

export class ChartLab {
  readonly name: string;
  readonly nodes: readonly string[];
  readonly #runner: Runner;
  readonly #file: string | undefined;
  #env: Record<string, string> = {};
  #plugin: string | undefined;

  /** `file`: its shape, whose nodes are called node-1, node-2 and so on. */
  constructor(name: string, nodes = 2, { runner = execute, file }: { runner?: Runner; file?: string } = {}) {
    this.name = name;
    this.nodes = Array.from({ length: nodes }, (_, index) => `node-${index + 1}`);
    this.#runner = runner;
    this.#file = file;
  }

  /** A command that must end well, with the lab's environment: KUBECONFIG and the keys of EC2. */
  run = async (command: string[], boundMs = STEP_MS): Promise<string> => {
    const ran = await this.#runner(command, this.#env, boundMs);
    if (ran.code !== 0) throw new Error(told(command, ran));
    return ran.stdout;
  };
  podway = (...args: string[]): Promise<string> => this.run([PODWAY, ...args, '--lab', this.name]);
  status = async (): Promise<LabStatus> =>
    JSON.parse(await this.podway('lab', 'status', '-o', 'json')) as LabStatus;
  kubectl = (...args: string[]): Promise<string> => this.run([findBinaries({}).programs.kubectl, ...args]);
  /** `kubectl podway`, which asks the agents through their pods. */
  kubectlPodway = (...args: string[]): Promise<Ran> => {
    if (!this.#plugin) {
      this.#plugin = join(mkdtempSync(join(tmpdir(), 'podway-plugin-')), 'kubectl-podway');
      symlinkSync(PODWAY, this.#plugin);
    }
    return this.#runner([this.#plugin, ...args], this.#env, STEP_MS);
  };
  /** A script in a node's network and mount view. */
  on = (node: string, script: string): Promise<string> =>
    this.run([PODWAY, 'lab', 'exec', '--lab', this.name, node, '--', 'sh', '-c', script]);
  /** A node's folders on the machine. */
  paths = (node: string) => realNodePaths(labPaths(this.name), node);
  get env(): Readonly<Record<string, string>> {
    return this.#env;
  }

  /** Nodes have joined, have the image, and wait for a network. */
  async up(): Promise<void> {
    const shape = this.#file ? ['-f', this.#file] : ['--nodes', `${this.nodes.length}`];
    await this.podway('lab', 'up', '--kubernetes', ...shape, '--set', 'agent=none', '--quiet');
    this.#env = JSON.parse(await this.podway('lab', 'env', '-o', 'json')) as Record<string, string>;
    const { ctr } = findBinaries({}).programs;
    for (const node of this.nodes) await this.on(node, `${ctr} -n k8s.io images import ${archive}`);
  }

  async down(): Promise<void> {
    if (this.#plugin) rmSync(join(this.#plugin, '..'), { recursive: true, force: true });
    await this.podway('lab', 'down');
  }

  /** With `--wait`; `values` as `--set` takes them. */
  async install(values: string[] = [], helm = helms().at(-1)!): Promise<void> {
    await this.run([
      helm,
      'install',
      ...this.chartArgs([`aws.ec2Endpoint=${SERVER}`, `cluster=${this.name}`, ...values]),
    ]);
  }

  async upgrade(values: string[], helm = helms().at(-1)!): Promise<void> {
    await this.run([helm, 'upgrade', ...this.chartArgs(values), '--reuse-values']);
  }

  chartArgs = (values: string[]): string[] => [
    ...['podway', chart, ...RELEASE_NAMESPACE, '--wait', '--timeout', '3m'],
    ...values.flatMap((value) => ['--set', value]),
  ];

  nodesReady = (...nodes: string[]): Promise<string> =>
    this.kubectl(
      ...['wait', '--for=condition=Ready', '--timeout=180s'],
      ...(nodes.length > 0 ? nodes.map((node) => `node/${node}`) : ['nodes', '--all']),
    );

  /** Objects of any kind. */
  apply(...items: object[]): Promise<void> {
    return applyObjects((...args) => this.kubectl(...args), items);
  }

  /** Makes kubelet of the node run a pod without the API. */
  putStaticPod(node: string, pod: { metadata: { name: string } } & object): void {
    const dir = join(this.paths(node).kubernetes, 'manifests');
    mkdirSync(dir, { recursive: true, mode: 0o700 });
    writeFileSync(join(dir, `${pod.metadata.name}.yaml`), JSON.stringify(pod), { mode: 0o600 });
  }
  removeStaticPod = (node: string, name: string): void =>
    rmSync(join(this.paths(node).kubernetes, 'manifests', `${name}.yaml`), { force: true });
}
