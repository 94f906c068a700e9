// One instance that runs Podway: its folder, its agent as a supervised process in its namespace, its pod runner, its
// Node object whose readiness follows the CNI chain's STATUS. Starts when the instance runs, ends when it stops.
import type { Logger } from 'pino';
import type { Pod } from '../../../kube/types.ts';
import { type LabPaths, type NodePaths, netnsPath } from '../../daemon/paths.ts';
import { lifeOf } from '../../fabric/plan.ts';
import type { Settings } from '../../shape/settings.ts';
import type { PodNetwork } from './network.ts';
import { type NodeFilesInput, writeNodeFiles } from './node-files.ts';
import { type NodeFacts, nodeObject, nodeStatus } from './node-object.ts';
import type { PodFailure } from './pod-status.ts';
import { dropInstance, nodeStopped, powerOff } from './power.ts';
import { PodRunner } from './runner.ts';
import { openSandboxJournal } from './sandbox-journal.ts';
import type { ClusterStore } from './store.ts';
import { Supervisor } from './supervisor.ts';

/** As kubelet polls its runtime. */
const STATUS_EVERY_MS = 5000;
/** While the node is not ready, or its agent has just changed. */
const STATUS_SOON_MS = 100;
const STATUS_SLOW_MS = 1000;
const FAST_POLLS = 50;

/** Where a node's agent finds what it asks; the metadata service where it is when not said. */
export type NodeEndpoints = { ec2: string; imds?: string; kubeconfigFor(node: string): string };

export type LabNodeDeps = {
  lab: string;
  paths: LabPaths;
  store: ClusterStore;
  log: Logger;
  settings: Settings;
  /** Command of the agent, config file excluded. */
  agentCommand: string[];
  podServer: string;
  credentials(pod: Pod): Record<string, string>;
  shim: string;
  endpoints: { 4: NodeEndpoints; 6: NodeEndpoints };
  networkFor(paths: NodePaths, nodeNetns: string): PodNetwork;
  now(): number;
};

export class LabNode {
  readonly name: string;
  readonly instanceId: string;
  /** From this boot to the next (see lifeOf). */
  readonly life: string;
  readonly paths: NodePaths;
  readonly runner: PodRunner;
  readonly #deps: LabNodeDeps;
  readonly #agent: Supervisor;
  readonly #network: PodNetwork;
  #facts: NodeFacts;
  #timer: NodeJS.Timeout | undefined;
  #polls = 0;
  #stopped = false;
  #failure: PodFailure | undefined = {
    cause: 'AGENT_STARTING',
    text: 'the agent of the node is starting',
    transient: true,
  };

  constructor(deps: LabNodeDeps, facts: NodeFacts) {
    this.#deps = deps;
    this.#facts = facts;
    this.name = facts.instance.name;
    this.instanceId = facts.instance.id;
    this.life = lifeOf(facts.instance);
    this.paths = deps.paths.node(this.name);
    const netns = deps.paths.netns(this.name);
    this.#network = deps.networkFor(this.paths, netns);
    this.#agent = new Supervisor(
      {
        netnsPath: netnsPath(netns),
        command: [...deps.agentCommand, '--config', this.paths.agentConfig],
        pidFile: this.paths.agentPid,
        logFile: this.paths.agentLog,
        env: deps.settings.env,
      },
      () => this.#pollSoon(),
    );
    this.runner = new PodRunner({
      lab: deps.lab,
      node: this.name,
      nodeNetns: netns,
      hostIps: facts.internalIps,
      network: this.#network,
      journal: openSandboxJournal(deps.paths.pods),
      podServer: deps.podServer,
      credentials: deps.credentials,
      store: deps.store,
      log: deps.log,
      now: deps.now,
    });
  }

  get ready(): boolean {
    return this.#failure === undefined;
  }

  get failure(): PodFailure | undefined {
    return this.#failure;
  }

  async start(pods: Pod[]): Promise<void> {
    const { settings, shim, endpoints } = this.#deps;
    const { ec2, imds, kubeconfigFor } = endpoints[this.#facts.ipv6Only ? 6 : 4];
    const input: NodeFilesInput = {
      nodeName: this.name,
      cluster: this.#deps.lab,
      paths: this.paths,
      settings,
      region: this.#facts.region,
      ec2Endpoint: ec2,
      imdsEndpoint: imds,
      kubeconfig: kubeconfigFor(this.name),
      shim,
    };
    await writeNodeFiles(input);
    await this.#deps.store.putNode(nodeObject(this.#facts));
    this.#agent.start();
    // An agent that outlived the last daemon still serves, so the node stays ready.
    if (this.#agent.adopted) this.#failure = await this.#askStatus();
    await this.#writeStatus();
    this.runner.start(pods);
  }

  /** Writes the Node object again from the node's present values. */
  async register(): Promise<void> {
    await this.#deps.store.putNode(nodeObject(this.#facts));
    await this.#writeStatus();
  }

  /** The daemon ends and the node goes on. */
  detach(): void {
    this.#stopped = true;
    clearTimeout(this.#timer);
    this.#agent.detach();
    this.runner.detach();
  }

  /** The instance stopped, or is about to boot again: nothing of it runs on and its /run is empty. */
  async stop(): Promise<void> {
    await this.#halt();
    await powerOff(this.#deps, this.name);
    this.#failure = nodeStopped(this.name);
    await this.#writeStatus();
  }

  /** The instance is gone for good. */
  async remove(): Promise<void> {
    await this.#halt();
    await dropInstance(this.#deps, this.name);
  }

  async #halt(): Promise<void> {
    this.detach();
    await this.#agent.stop();
    await this.runner.halt();
  }

  #pollSoon(): void {
    this.#polls = 0;
    clearTimeout(this.#timer);
    if (!this.#stopped) this.#timer = setTimeout(() => void this.#poll(), STATUS_SOON_MS);
  }

  async #poll(): Promise<void> {
    const before = JSON.stringify(this.#failure);
    this.#failure = await this.#askStatus();
    if (this.#stopped) return;
    if (JSON.stringify(this.#failure) !== before) {
      await this.#writeStatus().catch((error: unknown) =>
        this.#deps.log.warn({ err: error, node: this.name }, 'node status not written'),
      );
    }
    this.#polls += 1;
    const pause = this.ready ? STATUS_EVERY_MS : this.#polls < FAST_POLLS ? STATUS_SOON_MS : STATUS_SLOW_MS;
    if (!this.#stopped) this.#timer = setTimeout(() => void this.#poll(), pause);
  }

  async #askStatus(): Promise<PodFailure | undefined> {
    try {
      return await this.#network.status();
    } catch (error) {
      return { cause: 'INTERNAL', text: (error as Error).message, transient: true };
    }
  }

  async #writeStatus(): Promise<void> {
    const known = this.#deps.store.nodes().find((node) => node.metadata.name === this.name);
    await this.#deps.store.setNodeStatus(
      this.name,
      nodeStatus(this.#facts, known?.status, this.#deps.now(), this.#failure),
    );
  }
}
