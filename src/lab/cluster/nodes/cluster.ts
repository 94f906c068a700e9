// The cluster of a lab: one LabNode per running instance with an agent, one supervised built-in server per instance that
// serves, the scheduler. `leave` runs before the fabric changes (what must end while its links are there), `settle`
// after it. Both look at the newest VPC state and do nothing when it is already so.
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import type { Pod } from '../../../kube/types.ts';
import { privateDir } from '../../daemon/files.ts';
import { netnsPath } from '../../daemon/paths.ts';
import { endAll, processesInNamespaces } from '../../daemon/processes.ts';
import { placesOf } from '../../fabric/plan.ts';
import { SERVE_TAG } from '../../shape/build.ts';
import type { Instance, VpcState } from '../../vpc/model.ts';
import { LabNode, type LabNodeDeps } from './lab-node.ts';
import type { NodeFacts } from './node-object.ts';
import { condition } from './pod-status.ts';
import type { SandboxRecord } from './sandbox-journal.ts';
import { openSandboxJournal } from './sandbox-journal.ts';
import { placePod } from './scheduler.ts';
import { Supervisor } from './supervisor.ts';

export const SERVER_PORT = 8080;

export type ClusterDeps = LabNodeDeps & { podLimit(instanceType: string): number };

/** Without an instance: the internet host, which is there as long as the lab. */
type Server = { instanceId: string | undefined; name: string; supervisor: Supervisor };

export class Cluster {
  readonly #deps: ClusterDeps;
  readonly #nodes = new Map<string, LabNode>();
  readonly #servers = new Map<string, Server>();
  /** Stopped and gone instances whose namespaces were swept already. */
  readonly #quiet = new Set<string>();
  #watch: { close(): void } | undefined;
  #scheduling = false;
  #scheduleAgain = false;
  #detached = false;

  constructor(deps: ClusterDeps) {
    this.#deps = deps;
  }

  /** After the first `settle`: pods of a node that is not there by then are ended by nobody. */
  start(): void {
    this.#watch = this.#deps.store.watch((change) => {
      if (change.kind === 'Pod') {
        const { nodeName } = change.object.spec;
        const node = nodeName === undefined ? undefined : this.node(nodeName);
        node?.runner.see(change.type, change.object);
        // Nobody would ever end it: its node is not there.
        if (nodeName && !node && change.type !== 'DELETED' && change.object.metadata.deletionTimestamp)
          this.#orphan(change.object);
      }
      if (change.kind === 'Node' || change.type !== 'MODIFIED' || change.object.spec.nodeName === undefined)
        this.#schedule();
    });
    this.#schedule();
  }

  node(name: string): LabNode | undefined {
    return this.#nodes.get(name);
  }

  nodes(): LabNode[] {
    return [...this.#nodes.values()];
  }

  sandboxOf(pod: Pod): SandboxRecord | undefined {
    return this.node(pod.spec.nodeName ?? '')?.runner.sandboxOf(pod.metadata.uid!);
  }

  /** True while any node still holds something of that pod. */
  hasSandbox(uid: string): boolean {
    return this.nodes().some((node) => node.runner.sandboxOf(uid) !== undefined);
  }

  /** Ends nodes and servers of instances that no longer run, while the fabric still has their links. */
  async leave(newest: VpcState): Promise<void> {
    const state = placed(newest);
    const going = [...this.#nodes.values()].filter((node) => !runs(state.instances[node.instanceId]));
    await Promise.all(
      going.map(async (node) => {
        this.#nodes.delete(node.name);
        const instance = state.instances[node.instanceId];
        if (isGone(instance)) await node.remove();
        else await node.stop();
      }),
    );
    const silent = [...this.#servers.values()].filter(
      (server) => server.instanceId !== undefined && !runs(state.instances[server.instanceId]),
    );
    await Promise.all(
      silent.map(async (server) => {
        this.#servers.delete(server.name);
        await server.supervisor.stop();
      }),
    );
    const live = new Set(
      Object.values(state.instances)
        .filter(runs)
        .map((instance) => instance.name),
    );
    for (const instance of Object.values(state.instances)) {
      const left = `${instance.id} ${isGone(instance) ? 'gone' : 'stopped'}`;
      if (runs(instance) || instance.state === 'pending') this.#quiet.delete(`${instance.id} stopped`);
      else if (!this.#quiet.has(left) && !live.has(instance.name)) {
        this.#quiet.add(left);
        await endAll(processesInNamespaces([netnsPath(this.#deps.paths.netns(instance.name))]), 0);
        if (isGone(instance))
          rmSync(this.#deps.paths.instance(instance.name), { recursive: true, force: true });
      }
    }
  }

  /** Starts nodes and servers of running instances. */
  async settle(newest: VpcState): Promise<void> {
    if (this.#detached) return;
    const state = placed(newest);
    const starts: Promise<void>[] = [];
    for (const instance of Object.values(state.instances)) {
      if (!runs(instance)) continue;
      if (isNode(instance) && !this.#nodes.has(instance.name)) {
        const node = new LabNode(this.#deps, this.#facts(state, instance));
        this.#nodes.set(instance.name, node);
        starts.push(node.start(this.#deps.store.pods().filter((pod) => pod.spec.nodeName === instance.name)));
      }
      if (instance.tags[SERVE_TAG] === 'true') this.serve(instance.name, instance.id);
    }
    await Promise.all(starts);
    if (starts.length > 0) this.#schedule();
  }

  /** The built-in server in the namespace of an instance, or of the internet host. */
  serve(name: string, instanceId?: string): void {
    if (this.#servers.has(name)) return;
    const dir = this.#deps.paths.instance(name);
    privateDir(dir);
    const supervisor = new Supervisor({
      netnsPath: netnsPath(this.#deps.paths.netns(name)),
      command: [this.#deps.podServer, '--name', name],
      pidFile: join(dir, 'server.pid'),
      logFile: join(dir, 'log'),
    });
    this.#servers.set(name, { instanceId, name, supervisor });
    supervisor.start();
  }

  /** Drops records of pods that no node and no object knows any more: a folder left by a kill. */
  sweepFolders(): void {
    const journal = openSandboxJournal(this.#deps.paths.pods);
    const known = new Set(this.#deps.store.pods().map((pod) => pod.metadata.uid));
    for (const uid of journal.uids()) {
      const held = this.nodes().some((node) => node.runner.sandboxOf(uid) !== undefined);
      if (!known.has(uid) && !held) journal.forget(uid);
    }
  }

  detach(): void {
    this.#detached = true;
    this.#watch?.close();
    for (const node of this.#nodes.values()) node.detach();
    for (const server of this.#servers.values()) server.supervisor.detach();
  }

  #facts(state: VpcState, instance: Instance): NodeFacts {
    const primary = Object.values(state.networkInterfaces).find(
      (eni) => eni.attachment?.instanceId === instance.id && eni.attachment.deviceIndex === 0,
    );
    const internalIp = primary?.privateIps[0] ?? '';
    const external = Object.values(state.publicAddresses).find(
      (each) => each.networkInterfaceId === primary?.id && each.privateIp === internalIp,
    );
    return {
      instance,
      region: state.region,
      internalIp,
      ...(external === undefined ? {} : { externalIp: external.publicIp }),
      podLimit: this.#deps.podLimit(instance.instanceType),
    };
  }

  #orphan(pod: Pod): void {
    this.#deps.store
      .removePod(pod)
      .catch((error: unknown) => this.#deps.log.warn({ err: error }, 'pod of a missing node not removed'));
  }

  /** One pass at a time; what changes meanwhile asks for another. */
  #schedule(): void {
    if (this.#detached) return;
    if (this.#scheduling) {
      this.#scheduleAgain = true;
      return;
    }
    this.#scheduling = true;
    setImmediate(() => {
      this.#scheduleAll()
        .catch((error: unknown) =>
          this.#deps.log.warn({ err: error }, 'scheduling failed; the next change tries again'),
        )
        .finally(() => {
          this.#scheduling = false;
          if (this.#scheduleAgain) {
            this.#scheduleAgain = false;
            this.#schedule();
          }
        });
    });
  }

  async #scheduleAll(): Promise<void> {
    const { store } = this.#deps;
    const pods = [...store.pods()];
    const waiting = pods.filter((pod) => !pod.spec.nodeName && !pod.metadata.deletionTimestamp);
    for (const pod of waiting) {
      const placement = placePod(pod, store.nodes(), pods);
      if (placement.kind === 'node') {
        await store.bindPod(pod, placement.name);
        pods.push({ ...pod, spec: { ...pod.spec, nodeName: placement.name } });
      } else await this.#unschedulable(pod, placement.reason);
    }
  }

  async #unschedulable(pod: Pod, message: string): Promise<void> {
    const before = pod.status?.conditions?.find((each) => each.type === 'PodScheduled');
    if (before?.status === 'False' && before.message === message) return;
    const next = condition(pod.status?.conditions, this.#deps.now(), {
      type: 'PodScheduled',
      status: 'False',
      reason: 'Unschedulable',
      message,
    });
    await this.#deps.store.setPodStatus(pod, { ...pod.status, phase: 'Pending', conditions: [next] });
    await this.#deps.store.recordEvent(pod, 'podway-scheduler', {
      type: 'Warning',
      reason: 'FailedScheduling',
      message,
    });
  }
}

/** The state with each instance under the name that its namespace has. */
function placed(state: VpcState): VpcState {
  const places = placesOf(state);
  const instances = Object.entries(state.instances).map(([id, each]) => [
    id,
    { ...each, name: places.get(id) ?? each.id },
  ]);
  return { ...state, instances: Object.fromEntries(instances) as VpcState['instances'] };
}

const runs = (instance: Instance | undefined): boolean => instance?.state === 'running';
const isGone = (instance: Instance | undefined): boolean =>
  instance === undefined || instance.state === 'terminated' || instance.state === 'shutting-down';
export const isNode = (instance: Instance): boolean => instance.agent === 'podway';
