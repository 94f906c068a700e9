// The cluster of a lab: one LabNode per running instance with an agent, one supervised built-in server per instance that
// serves, the scheduler. `leave` runs before the fabric changes (what must end while its links are there), `settle`
// after it. Both look at the newest VPC state and do nothing when it is already so.
import type { Node, Pod } from '../../../kube/types.ts';
import { INTERNET } from '../../fabric/names.ts';
import { lifeOf, placesOf } from '../../fabric/plan.ts';
import { SERVE_TAG } from '../../shape/build.ts';
import type { Instance, VpcState } from '../../vpc/model.ts';
import { TaintEviction } from './eviction.ts';
import { LabNode, type LabNodeDeps } from './lab-node.ts';
import type { NodeFacts } from './node-object.ts';
import { condition } from './pod-status.ts';
import { dropInstance, placesWithFolders, powerOff } from './power.ts';
import type { SandboxRecord } from './sandbox-journal.ts';
import { openSandboxJournal } from './sandbox-journal.ts';
import { isActive, isWaiting, placePod } from './scheduler.ts';
import { Servers } from './servers.ts';

export const SERVER_PORT = 8080;
/** Longest that a timer is set for. */
const MAX_TIMER_MS = 3_600_000;

export type ClusterDeps = LabNodeDeps & {
  podLimit(instanceType: string): number;
  /** The instance life (see lifeOf) that each namespace was made for. */
  lives(): ReadonlyMap<string, string>;
};

export class Cluster {
  readonly #deps: ClusterDeps;
  readonly #nodes = new Map<string, LabNode>();
  readonly #servers: Servers;
  /** The instances of the last `leave`. */
  #left = '';
  #watch: { close(): void } | undefined;
  #scheduling = false;
  #scheduleAgain = false;
  #detached = false;
  readonly #eviction = new TaintEviction();
  #evictionTimer: NodeJS.Timeout | undefined;

  constructor(deps: ClusterDeps) {
    this.#deps = deps;
    this.#servers = new Servers(deps.paths, deps.podServer);
  }

  /** True after the first `settle`: pods whose node does not exist by then have no runner to end them. */
  start(): void {
    this.#watch = this.#deps.store.watch((change) => {
      if (change.kind === 'Pod') {
        const { nodeName } = change.object.spec;
        const node = nodeName === undefined ? undefined : this.node(nodeName);
        node?.runner.see(change.type, change.object);
        // The pod's node does not exist, so no runner would end it.
        if (nodeName && !node && change.type !== 'DELETED' && change.object.metadata.deletionTimestamp)
          this.#orphan(change.object);
      }
      if (change.kind === 'Node' && change.type === 'DELETED') this.#comeBack(change.object);
      if (change.kind === 'Node' || change.type !== 'MODIFIED' || isFreeing(change.object)) this.#schedule();
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

  /**
   * Ends everything of instances that stopped or rebooted, while the fabric still has their links. Also finishes such work
   * of a killed daemon: the fabric's record says for which life a namespace was made.
   */
  async leave(newest: VpcState): Promise<void> {
    const state = placed(newest);
    const instances = Object.values(state.instances).filter((each) => !isGone(each));
    const told = instances.map((each) => `${each.name} ${each.state} ${lifeOf(each)}`).join();
    if (told === this.#left) return;
    const lives = new Map(instances.filter(isOn).map((each) => [each.name, lifeOf(each)]));
    const present = new Set(instances.map((each) => each.name));

    const going = [...this.#nodes.values()].filter(
      (node) => !runs(state.instances[node.instanceId], node.life),
    );
    await Promise.all(
      going.map(async (node) => {
        this.#nodes.delete(node.name);
        if (present.has(node.name)) await node.stop();
        else await node.remove();
      }),
    );
    await this.#servers.leave(lives);
    const done = new Set(going.map((node) => node.name));
    for (const [place, life] of this.#deps.lives())
      if (life !== '' && lives.get(place) !== life && !done.has(place)) await powerOff(this.#deps, place);
    for (const place of placesWithFolders(this.#deps.paths))
      if (place !== INTERNET && !present.has(place)) await dropInstance(this.#deps, place);
    this.#left = told;
  }

  /** Starts nodes and servers of running instances. */
  async settle(newest: VpcState): Promise<void> {
    if (this.#detached) return;
    const state = placed(newest);
    const starts: Promise<void>[] = [];
    for (const instance of Object.values(state.instances)) {
      if (instance.state !== 'running') continue;
      if (isNode(instance) && !this.#nodes.has(instance.name)) {
        const node = new LabNode(this.#deps, this.#facts(state, instance));
        this.#nodes.set(instance.name, node);
        starts.push(node.start(this.#deps.store.pods().filter((pod) => pod.spec.nodeName === instance.name)));
      }
      const serves = instance.tags[SERVE_TAG];
      if (serves) this.#servers.serve(instance.name, lifeOf(instance), serves);
    }
    await Promise.all(starts);
    if (starts.length > 0) this.#schedule();
  }

  /** The built-in server of the internet host. */
  serveInternet(): void {
    this.#servers.serve('internet', '');
  }

  /** Drops folders, left by a kill, of pods without an API object and without a sandbox record. */
  sweepFolders(): void {
    const journal = openSandboxJournal(this.#deps.paths.pods);
    const known = new Set([
      ...this.#deps.store.pods().map((pod) => pod.metadata.uid),
      ...journal.list().map((record) => record.podUid),
    ]);
    for (const uid of journal.uids()) if (!known.has(uid)) journal.forget(uid);
  }

  detach(): void {
    this.#detached = true;
    clearTimeout(this.#evictionTimer);
    this.#watch?.close();
    for (const node of this.#nodes.values()) node.detach();
    this.#servers.detach();
  }

  #facts(state: VpcState, instance: Instance): NodeFacts {
    const primary = Object.values(state.networkInterfaces).find(
      (eni) => eni.attachment?.instanceId === instance.id && eni.attachment.deviceIndex === 0,
    );
    const [four] = primary?.privateIps ?? [];
    const [six] = primary?.ipv6Addresses ?? [];
    const wanted = { ipv4: [four], dual: [four, six], ipv6: [six] }[this.#deps.settings.families];
    const ipv6Only = four === undefined;
    const external = Object.values(state.publicAddresses).find(
      (each) => each.networkInterfaceId === primary?.id && each.privateIp === four,
    );
    return {
      instance,
      region: state.region,
      internalIps: (ipv6Only ? [six] : wanted).filter((ip) => ip !== undefined),
      ipv6Only,
      ...(external === undefined ? {} : { externalIp: external.publicIp }),
      podLimit: this.#deps.podLimit(instance.instanceType),
    };
  }

  /** The Node of a running instance was deleted: registers it again, as its kubelet would. */
  #comeBack({ metadata }: Node): void {
    this.node(metadata.name ?? '')
      ?.register()
      .catch((error: unknown) =>
        this.#deps.log.warn({ err: error, node: metadata.name }, 'a deleted Node did not come back'),
      );
  }

  #orphan(pod: Pod): void {
    this.#deps.store
      .removePod(pod)
      .catch((error: unknown) => this.#deps.log.warn({ err: error }, 'pod of a missing node not removed'));
  }

  /** One pass at a time; a change during a pass makes another pass follow. */
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
    for (const pod of pods.filter(isWaiting)) {
      const placement = placePod(pod, store.nodes(), pods);
      if (placement.kind === 'node') {
        await store.bindPod(pod, placement.name);
        pods.push({ ...pod, spec: { ...pod.spec, nodeName: placement.name } });
      } else await this.#unschedulable(pod, placement.reason);
    }
    await this.#evict();
  }

  /** Looks again when the next pod's time on a tainted node is over. */
  async #evict(): Promise<void> {
    const { store, now } = this.#deps;
    const { evicted, nextAt } = this.#eviction.due(store.pods(), store.nodes(), now());
    clearTimeout(this.#evictionTimer);
    if (nextAt !== undefined && !this.#detached)
      this.#evictionTimer = setTimeout(() => this.#schedule(), Math.min(nextAt - now(), MAX_TIMER_MS));
    for (const pod of evicted) {
      const { namespace = 'default', name = '' } = pod.metadata;
      const message = `Marking for deletion Pod ${namespace}/${name}`;
      await store.recordEvent(pod, 'podway-scheduler', {
        type: 'Normal',
        reason: 'TaintManagerEviction',
        message,
      });
      await store.deletePod(namespace, name);
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

/** A pod that waits for a node, or leaves what it took. */
const isFreeing = (pod: Pod): boolean => pod.spec.nodeName === undefined || !isActive(pod);

/** Runs, and has not booted since. */
const runs = (instance: Instance | undefined, life: string): boolean =>
  instance?.state === 'running' && lifeOf(instance) === life;
const isOn = ({ state }: Instance): boolean => state === 'running' || state === 'pending';
const isGone = (instance: Instance | undefined): boolean =>
  instance === undefined || instance.state === 'terminated' || instance.state === 'shutting-down';
export const isNode = (instance: Instance): boolean => instance.agent === 'podway';
