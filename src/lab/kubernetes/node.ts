// One instance that is a node of a real cluster: the process that holds its mount view, containerd, the agent, kubelet
// and kube-proxy, all in the instance's network namespace and in that view. They outlive the lab's daemon. When the
// holder of the view dies, the rest is ended and begins anew, as after a reboot.
// Fails by telling: `failure` says what keeps the node from being Ready.
import { execFile } from 'node:child_process';
import { copyFileSync, existsSync, mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import type { Logger } from 'pino';
import { writeFileAtomic } from '../../base/files.ts';
import { parseChain } from '../../cni/conflist.ts';
import { installPlugin, PLUGIN_DIRS, writeAgentConfig, writeConflist } from '../cluster/nodes/node-files.ts';
import type { PodFailure } from '../cluster/nodes/pod-status.ts';
import { Supervisor } from '../cluster/nodes/supervisor.ts';
import { privateDir, readJson, writeJson } from '../daemon/files.ts';
import { type LabPaths, netnsPath } from '../daemon/paths.ts';
import { isAlive, type ProcessId } from '../daemon/processes.ts';
import type { Settings } from '../shape/settings.ts';
import type { Binaries } from './binaries.ts';
import type { Runtime } from './configs.ts';
import {
  containerdConfig,
  kubeletArguments,
  kubeletConfig,
  kubeProxyConfig,
  type NodeConfigFacts,
} from './configs.ts';
import { endRealNode } from './end-node.ts';
import { API_PORT, IN_VIEW, type RealNodePaths, realNodePaths } from './layout.ts';
import { type ClusterPki, kubeconfigText, nodeHolders } from './pki.ts';
import { pathFor } from './runtime.ts';
import { isReady, isServing } from './socket.ts';
import { KUBELET_SYSCTLS, viewScript } from './view.ts';

const run = promisify(execFile);
const LOOK_MS = 50;
const VIEW_MS = 10_000;
const CONTAINERD_MS = 60_000;
const IMPORT_MS = 300_000;
const AGENT_LOOK_MS = 200;
/** Between two tries to start a node. */
const AGAIN_MS = 5000;
/** The lab's own umask is 077; with it the root of every container would be closed to all but root. */
const USUAL_UMASK = ['/bin/sh', '-c', 'umask 022 && exec "$0" "$@"'];
export const CONFLIST = '05-podway.conflist';

export type RealNodeDeps = {
  lab: string;
  paths: LabPaths;
  settings: Settings;
  binaries: Binaries;
  runtime: Runtime;
  pki: ClusterPki;
  /** Archives to import, the small ones first. */
  images: string[];
  agentCommand: string[];
  shim: string;
  ec2Endpoint: string;
  /** Resolves when the API has the agent's rights. */
  installed(): Promise<void>;
  /** Of the API server in the VPC. */
  apiAddress(): string | undefined;
  log: Logger;
};

export type RealNodeFacts = NodeConfigFacts & { life: string };

export class RealNode {
  readonly name: string;
  readonly instanceId: string;
  readonly life: string;
  readonly paths: RealNodePaths;
  readonly #deps: RealNodeDeps;
  readonly #facts: RealNodeFacts;
  readonly #view: Supervisor;
  readonly #others: Record<'containerd' | 'agent' | 'kubelet' | 'kube-proxy', Supervisor>;
  #failure: PodFailure | undefined;
  #ending = new AbortController();
  #starting: Promise<void> = Promise.resolve();

  constructor(deps: RealNodeDeps, facts: RealNodeFacts) {
    this.#deps = deps;
    this.#facts = facts;
    this.name = facts.node;
    this.instanceId = facts.instanceId;
    this.life = facts.life;
    this.paths = realNodePaths(deps.paths, facts.node);
    const { paths } = this;
    const namespace = netnsPath(deps.paths.netns(facts.node));
    const inView = (name: string, command: string[], env: Record<string, string> = {}) =>
      new Supervisor({
        netnsPath: namespace,
        enter: () => {
          const namespaces = `/proc/${this.#view.process?.pid}/ns`;
          return [`--mount=${namespaces}/mnt`, `--uts=${namespaces}/uts`];
        },
        command,
        pidFile: name === 'agent' ? paths.agentPid : paths.processPid(name),
        logFile: name === 'agent' ? paths.agentLog : paths.processLog(name),
        env,
      });
    this.#view = new Supervisor(
      {
        netnsPath: namespace,
        command: [
          'unshare',
          '--mount',
          '--uts',
          '--propagation',
          'private',
          '--',
          '/bin/sh',
          paths.viewScript,
        ],
        pidFile: paths.processPid('view'),
        logFile: paths.processLog('view'),
      },
      (running) => {
        if (!running) this.#viewLost();
      },
    );
    const { containerd } = deps.runtime;
    const { kubelet, 'kube-proxy': kubeProxy } = deps.binaries.programs;
    const path = { PATH: pathFor(deps.runtime) };
    this.#others = {
      containerd: inView(
        'containerd',
        [...USUAL_UMASK, containerd, `--config=${IN_VIEW.containerdConf}/config.toml`],
        path,
      ),
      agent: inView(
        'agent',
        [...deps.agentCommand, '--config', `${IN_VIEW.podway}/agent.json`],
        deps.settings.env,
      ),
      kubelet: inView('kubelet', [...USUAL_UMASK, kubelet, ...kubeletArguments(facts)], path),
      'kube-proxy': inView('kube-proxy', [kubeProxy, `--config=${IN_VIEW.kubernetes}/kube-proxy.yaml`], path),
    };
  }

  /** Why it does not get as far as kubelet; what kubelet says is in the Node object. */
  get failure(): PodFailure | undefined {
    return this.#failure;
  }

  /** Process that holds the mount view; its /proc/PID/root is the node's file system. */
  get holder(): number | undefined {
    return this.#view.running ? this.#view.process?.pid : undefined;
  }

  start(): void {
    this.#starting = this.#startAgain(this.#ending.signal);
  }

  /** Each step can be repeated: what stands already is left alone. */
  async #startAgain(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      try {
        await this.#start(signal);
        this.#failure = undefined;
        return;
      } catch (error) {
        if (signal.aborted) return;
        const text = (error as Error).message.trim().split('\n').at(-1)!;
        this.#failure = { cause: 'NODE_START', text, transient: true };
        this.#deps.log.error({ err: error, node: this.name }, 'the node does not start');
        await sleep(AGAIN_MS, undefined, { signal }).catch(() => {});
      }
    }
  }

  async #start(signal: AbortSignal): Promise<void> {
    const { deps, others } = { deps: this.#deps, others: this.#others };
    await this.#writeFiles();
    this.#view.start();
    await this.#until('its mount view is not made', VIEW_MS, () => this.#viewIsReady(), signal);
    others.containerd.start();
    if (deps.settings.agent === 'process') void this.#startAgent(signal).catch(() => {});
    await this.#until(
      'containerd does not answer',
      CONTAINERD_MS,
      () => isServing(this.paths.containerdSocket),
      signal,
    );
    const [first = [], rest = []] = split(deps.images);
    await this.#import(first);
    others.kubelet.start();
    others['kube-proxy'].start();
    if (deps.settings.agent === 'process') void this.#offerNetwork(signal).catch(() => {});
    await this.#import(rest);
  }

  /** One that runs is adopted at once. */
  async #startAgent(signal: AbortSignal): Promise<void> {
    if (!isAlive(readJson<ProcessId>(this.paths.agentPid))) await this.#deps.installed();
    if (!signal.aborted) this.#others.agent.start();
  }

  /** Lets all of it run on without us. */
  detach(): void {
    this.#ending.abort();
    for (const each of [this.#view, ...Object.values(this.#others)]) each.detach();
  }

  /** The instance stops, boots, or is gone: nothing of it runs on, and its /run is empty. */
  async stop(): Promise<void> {
    this.detach();
    await this.#starting;
    await endRealNode(this.#deps.paths, this.name);
  }

  /** A view without its holder is not found again by those that start later. */
  #viewLost(): void {
    const { signal } = this.#ending;
    if (signal.aborted) return;
    this.#deps.log.warn(
      { node: this.name },
      'the mount view of the node has lost its holder: the node boots',
    );
    void (async () => {
      await this.stop();
      this.#ending = new AbortController();
      this.start();
    })();
  }

  #viewIsReady(): boolean {
    try {
      return Number(readFileSync(this.paths.viewReady, 'utf8')) === this.#view.process?.pid;
    } catch {
      return false;
    }
  }

  async #until(
    what: string,
    boundMs: number,
    look: () => boolean | Promise<boolean>,
    signal: AbortSignal,
  ): Promise<void> {
    const end = performance.now() + boundMs;
    while (!(await look())) {
      if (performance.now() > end)
        throw new Error(`${what} after ${boundMs / 1000} s: podway lab logs ${this.name}`);
      await sleep(LOOK_MS, undefined, { signal });
    }
  }

  /** The conflist comes once the agent can serve, and stays. */
  async #offerNetwork(signal: AbortSignal): Promise<void> {
    const file = join(this.paths.cniConfDir, CONFLIST);
    while (!existsSync(file)) {
      if (await isReady(this.paths.apiSocket)) {
        const { settings } = this.#deps;
        const portmap = PLUGIN_DIRS.some((dir) => existsSync(join(dir, 'portmap')));
        return writeConflist(file, {
          agentSocket: `${IN_VIEW.run}/agent.sock`,
          // What every cluster expects of its nodes: host ports.
          chain: settings.cniChain.length > 0 ? settings.cniChain : parseChain(portmap ? 'portmap' : ''),
          mtu: settings.podMtu,
          binDir: this.paths.cniBinDir,
          // The view has its own folder in place of the machine's: a link would lead to itself.
          install: copyFileSync,
        });
      }
      await sleep(AGENT_LOOK_MS, undefined, { signal });
    }
  }

  async #import(archives: string[]): Promise<void> {
    const { ctr, snapshotter, major } = this.#deps.runtime;
    // By its transfer service containerd 2 unpacks for the snapshotter of its own configuration alone.
    const local = major === 2 ? ['--local'] : [];
    const done = readJson<Record<string, string>>(this.paths.imagesDone) ?? {};
    for (const archive of archives) {
      const { size, mtimeMs } = statSync(archive);
      const stamp = `${size} ${mtimeMs}`;
      if (done[archive] === stamp) continue;
      const address = ['--address', this.paths.containerdSocket, '--namespace', 'k8s.io'];
      await run(ctr, [...address, 'images', 'import', ...local, '--snapshotter', snapshotter, archive], {
        timeout: IMPORT_MS,
      });
      done[archive] = stamp;
      writeJson(this.paths.imagesDone, done);
    }
  }

  async #writeFiles(): Promise<void> {
    const { paths } = this;
    const { deps, facts } = { deps: this.#deps, facts: this.#facts };
    const server = `https://${deps.apiAddress()}:${API_PORT}`;
    const pki = join(paths.kubernetes, 'pki');
    for (const dir of [
      paths.root,
      paths.run,
      paths.cniConfDir,
      paths.cniBinDir,
      paths.cniCacheDir,
      paths.netns,
      paths.containerdRun,
      paths.libCni,
      paths.libKubelet,
      paths.libContainerd,
      paths.shadows,
      paths.containerdConf,
      paths.podway,
      pki,
      join(paths.kubernetes, 'manifests'),
      join(paths.logs, 'pods'),
      join(paths.logs, 'containers'),
    ])
      privateDir(dir);
    const { cert: ca } = await deps.pki.authority('ca');
    writeFileAtomic(join(pki, 'ca.crt'), ca);
    for (const [name, holder] of nodeHolders(facts.node, facts.address)) {
      const pair = await deps.pki.issue('ca', name, holder, pki);
      if (name === 'kubelet-server') continue;
      const text = kubeconfigText(server, ca, holder.user, pair);
      if (name === 'podway-agent') writeFileAtomic(join(paths.podway, 'kubeconfig'), text);
      else writeFileAtomic(join(paths.kubernetes, `${name}.conf`), text);
    }
    writeFileAtomic(join(paths.kubernetes, 'kubelet.yaml'), kubeletConfig(facts));
    writeFileAtomic(join(paths.kubernetes, 'kube-proxy.yaml'), kubeProxyConfig(facts));
    writeFileAtomic(join(paths.kubernetes, 'resolv.conf'), 'nameserver 169.254.169.253\n', 0o644);
    writeFileAtomic(join(paths.containerdConf, 'config.toml'), containerdConfig(deps.runtime));
    if (deps.settings.agent === 'process') {
      writeAgentConfig(join(paths.podway, 'agent.json'), {
        nodeName: facts.node,
        cluster: deps.lab,
        runDir: IN_VIEW.run,
        kubeconfig: `${IN_VIEW.podway}/kubeconfig`,
        cniConfDir: IN_VIEW.cniConfDir,
        ec2Endpoint: deps.ec2Endpoint,
        region: facts.region,
        settings: deps.settings,
      });
      installPlugin(deps.shim, join(paths.cniBinDir, 'podway-cni'));
    } else putStandardPlugins(paths.cniBinDir);
    putLoopback(paths.cniBinDir);
    const sysctls = Object.entries(KUBELET_SYSCTLS).filter(([key]) => existsSync(`/proc/sys/${key}`));
    for (const [key, value] of sysctls) {
      const file = join(paths.sysctl, key);
      mkdirSync(join(file, '..'), { recursive: true, mode: 0o700 });
      writeFileSync(file, `${value}\n`);
    }
    writeFileAtomic(
      paths.viewScript,
      viewScript(paths, {
        node: facts.node,
        exists: existsSync,
        sysctls: sysctls.map(([key]) => key),
      }),
    );
  }
}

/** Images that pods cannot start without are imported before kubelet starts. */
const split = (archives: string[]): [string[], string[]] => {
  const small = archives.filter((each) => statSync(each).size < 8 << 20);
  return [small, archives.filter((each) => !small.includes(each))];
};

/** As images of nodes have them; whoever installs the network may chain them. */
function putStandardPlugins(binDir: string): void {
  for (const name of STANDARD_PLUGINS) {
    const source = PLUGIN_DIRS.map((dir) => join(dir, name)).find(existsSync);
    if (source !== undefined) installPlugin(source, join(binDir, name));
  }
}
const STANDARD_PLUGINS = ['portmap', 'bandwidth', 'tuning'];

/** The runtime asks for a loopback plugin; where the machine has none, a script does what it does. */
function putLoopback(binDir: string): void {
  const target = join(binDir, 'loopback');
  const source = PLUGIN_DIRS.map((dir) => join(dir, 'loopback')).find(existsSync);
  if (source !== undefined) installPlugin(source, target);
  else writeFileSync(target, LOOPBACK, { mode: 0o755 });
}

const LOOPBACK = `#!/bin/sh
if [ "$CNI_COMMAND" = VERSION ]; then
  echo '{"cniVersion":"1.0.0","supportedVersions":["0.3.0","0.3.1","0.4.0","1.0.0"]}'
  exit
fi
[ "$CNI_COMMAND" != ADD ] || nsenter --net="$CNI_NETNS" ip link set lo up || exit 1
[ "$CNI_COMMAND" != ADD ] || echo '{"cniVersion":"0.3.1","interfaces":[],"ips":[]}'
`;
