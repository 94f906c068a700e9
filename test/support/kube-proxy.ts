// kube-proxy itself on the nodes of a lab with the embedded API, as processes of the test: started, killed and started
// again, and in the end its rules are taken away.
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { labPaths } from '../../src/lab/daemon/paths.ts';
import { cachePaths, KUBERNETES_VERSION } from '../../src/lab/kubernetes/version.ts';

const program = join(cachePaths(KUBERNETES_VERSION).bin, 'kube-proxy');
export const lacksKubeProxy = existsSync(program)
  ? false
  : 'kube-proxy is not here: podway lab kubernetes install';

export type ProxiedNode = { readonly name: string; readonly netnsPath: string };

export class KubeProxies {
  readonly #lab: string;
  readonly #nodes: readonly ProxiedNode[];
  readonly #mode: string;
  #running: ChildProcess[] = [];
  /** The last words. */
  said = '';

  constructor(lab: string, nodes: readonly ProxiedNode[], mode: 'nftables' | 'iptables') {
    this.#lab = lab;
    this.#nodes = nodes;
    this.#mode = mode;
  }

  #run({ name, netnsPath }: ProxiedNode, ...more: string[]): ChildProcess {
    const flags = [
      `--kubeconfig=${labPaths(this.#lab).node(name).kubeconfig}`,
      `--hostname-override=${name}`,
      `--proxy-mode=${this.#mode}`,
      // Settings of the whole machine.
      ...['max-per-core', 'tcp-timeout-established', 'tcp-timeout-close-wait'].map(
        (key) => `--conntrack-${key}=0`,
      ),
      ...['--healthz-bind-address=', '--metrics-bind-address=127.0.0.1:10249', ...more],
    ];
    const child = spawn('nsenter', [`--net=${netnsPath}`, '--', program, ...flags], {
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    child.stderr!.setEncoding('utf8').on('data', (text: string) => {
      this.said = `${this.said}${text}`.slice(-4000);
    });
    return child;
  }

  start(): void {
    this.#running = this.#nodes.map((node) => this.#run(node));
  }

  async kill(signal: NodeJS.Signals = 'SIGKILL'): Promise<void> {
    const ended = this.#running.map(end);
    for (const child of this.#running) child.kill(signal);
    this.#running = [];
    await Promise.all(ended);
  }

  /** Rules too. */
  async remove(): Promise<void> {
    await this.kill('SIGTERM');
    await Promise.all(this.#nodes.map((node) => end(this.#run(node, '--cleanup'))));
  }
}

const end = (child: ChildProcess): Promise<void> =>
  new Promise((resolve) => {
    if (child.exitCode !== null || child.signalCode !== null) resolve();
    else child.once('exit', () => resolve());
  });
