// Runs the controllers of the lab over the API's object store, in the lab's daemon: Deployment, ReplicaSet, DaemonSet,
// Job, and the EndpointSlices of Services. Watches tell which objects are concerned; each is planned again (deployment.ts, replicaset.ts, daemonset.ts,
// job.ts, endpoint-slices.ts: values alone) and its plan applied (apply.ts). There is no polling: a plan may name the moment of its next
// look. What the store refuses is told as an Event and tried again after a pause.
import type { Logger } from 'pino';
import {
  nodes as nodeResource,
  pods as podResource,
  type Resource,
  services,
} from '../../../kube/resources.ts';
import type { KubeObject, Node, Pod, Service } from '../../../kube/types.ts';
import { ApiError, type Store, type StoreEvent } from '../api/index.ts';
import {
  type ControllerRevision,
  controllerRevisions,
  type DaemonSet,
  type Deployment,
  daemonSets,
  deployments,
  type Job,
  jobs,
  type ReplicaSet,
  replicaSets,
} from '../workloads.ts';
import { applyActions } from './apply.ts';
import { Children } from './children.ts';
import { claim, selects } from './claim.ts';
import { planDaemonSet } from './daemonset.ts';
import { planDeployment } from './deployment.ts';
import {
  type EndpointSlice,
  endpointSlices,
  isBehind,
  planEndpointSlices,
  selectorOf,
} from './endpoint-slices.ts';
import { isTracked, planJob, untracked } from './job.ts';
import { controllerOf, ownedBy, type Plan } from './plan.ts';
import { WorkQueue } from './queue.ts';
import { planReplicaSet } from './replicaset.ts';

type Deps = { store: Store; log: Logger; now?: () => number };

type KindName = 'Deployment' | 'ReplicaSet' | 'DaemonSet' | 'Job' | 'Service';
const resources: Readonly<Record<KindName, Resource>> = {
  Deployment: deployments,
  ReplicaSet: replicaSets,
  DaemonSet: daemonSets,
  Job: jobs,
  Service: services,
};
type Place = { namespace?: string; name?: string };

export class Controllers {
  readonly #store: Store;
  readonly #log: Logger;
  readonly #now: () => number;
  readonly #queue: WorkQueue;
  readonly #deployments = new Children<Deployment>();
  readonly #sets = new Children<ReplicaSet>();
  readonly #daemons = new Children<DaemonSet>();
  readonly #pods = new Children<Pod>();
  readonly #nodes = new Children<Node>();
  readonly #revisions = new Children<ControllerRevision>();
  readonly #services = new Children<Service>();
  readonly #slices = new Children<EndpointSlice>();
  /** Labels of each pod, by its uid: a pod that changes them leaves Services. */
  readonly #labels = new Map<string, Record<string, string> | undefined>();
  /** What of a node decides whether a daemon pod runs there. */
  readonly #shapes = new Map<string, string>();
  readonly #watches: { close(): void }[];

  constructor({ store, log, now = Date.now }: Deps) {
    this.#store = store;
    this.#log = log;
    this.#now = now;
    this.#queue = new WorkQueue(
      (key, failure) => this.#look(key, failure),
      (key, error, repeated) => this.#refused(key, error, repeated),
    );
    this.#watches = [
      store.watch(nodeResource, ({ type, object }) => this.#seeNode(type, object as Node)),
      store.watch(podResource, ({ type, object }) => this.#seePod(type, object as Pod)),
      store.watch(controllerRevisions, ({ type, object }) => {
        const revision = object as unknown as ControllerRevision;
        this.#revisions.see({ type, object: revision });
        this.#markOwner(revision);
      }),
      store.watch(deployments, ({ type, object }) => {
        this.#deployments.see({ type, object: object as Deployment });
        this.#mark('Deployment', object.metadata);
      }),
      store.watch(replicaSets, ({ type, object }) => this.#seeSet(type, object as ReplicaSet)),
      store.watch(daemonSets, ({ type, object }) => {
        this.#daemons.see({ type, object: object as DaemonSet });
        this.#mark('DaemonSet', object.metadata);
      }),
      store.watch(services, ({ type, object }) => {
        this.#services.see({ type, object: object as Service });
        this.#mark('Service', object.metadata);
      }),
      store.watch(endpointSlices, ({ type, object }) => {
        const slice = object as unknown as EndpointSlice;
        this.#slices.see({ type, object: slice });
        this.#markOwner(slice);
      }),
      store.watch(jobs, ({ type, object }) => {
        this.#mark('Job', object.metadata);
        if (type === 'DELETED') for (const pod of this.#pods.of(object as Job)) this.#freeTracked(pod);
      }),
    ];
  }

  close(): void {
    for (const watch of this.#watches) watch.close();
    this.#queue.close();
  }

  #mark(kind: string, { namespace = '', name = '' }: Place): void {
    if (Object.hasOwn(resources, kind)) this.#queue.mark(`${kind}/${namespace}/${name}`);
  }

  #markOwner(object: KubeObject): void {
    const owner = controllerOf(object);
    if (owner) this.#mark(owner.kind, { namespace: object.metadata.namespace ?? '', name: owner.name });
  }

  /** Controllers that would adopt an object without a controller. */
  #markTakers(
    object: KubeObject,
    kind: KindName,
    owners: readonly (Deployment | ReplicaSet | DaemonSet)[],
  ): void {
    if (controllerOf(object)) return;
    for (const { metadata, spec } of owners)
      if (metadata.namespace === object.metadata.namespace && selects(spec.selector, object))
        this.#mark(kind, metadata);
  }

  #seeNode(type: StoreEvent<Node>['type'], node: Node): void {
    this.#nodes.see({ type, object: node });
    const { name = '', uid, labels } = node.metadata;
    // Heartbeats and addresses change no placement.
    const shape = type === 'DELETED' ? '' : JSON.stringify([uid, labels, node.spec?.taints]);
    if (this.#shapes.get(name) === shape) return;
    if (type === 'DELETED') this.#shapes.delete(name);
    else this.#shapes.set(name, shape);
    for (const { metadata } of this.#daemons.all()) this.#mark('DaemonSet', metadata);
  }

  #seePod(type: StoreEvent<Pod>['type'], pod: Pod): void {
    this.#pods.see({ type, object: pod });
    this.#markOwner(pod);
    this.#markServices(type, pod);
    if (type === 'DELETED') {
      // A Deployment of type Recreate waits for the last pod of its old sets.
      const owner = controllerOf(pod);
      const set = owner && this.#store.find(replicaSets, owner.name, pod.metadata.namespace);
      if (set) this.#markOwner(set as ReplicaSet);
      return;
    }
    this.#freeTracked(pod);
    this.#markTakers(pod, 'ReplicaSet', this.#sets.all());
    this.#markTakers(pod, 'DaemonSet', this.#daemons.all());
  }

  #markServices(type: StoreEvent<Pod>['type'], { metadata }: Pod): void {
    const { uid = '', namespace, labels } = metadata;
    const before = this.#labels.get(uid);
    if (type === 'DELETED') this.#labels.delete(uid);
    else this.#labels.set(uid, labels);
    for (const service of this.#services.orphans(namespace)) {
      const selector = selectorOf(service);
      if (selector && (isBehind(selector, labels) || isBehind(selector, before)))
        this.#mark('Service', service.metadata);
    }
  }

  #seeSet(type: StoreEvent<ReplicaSet>['type'], set: ReplicaSet): void {
    this.#sets.see({ type, object: set });
    this.#mark('ReplicaSet', set.metadata);
    this.#markOwner(set);
    if (type !== 'DELETED') this.#markTakers(set, 'Deployment', this.#deployments.all());
  }

  /** A pod that waits to be counted by a Job that is not there any more is let go. */
  #freeTracked(pod: Pod): void {
    if (!isTracked(pod)) return;
    const owner = controllerOf(pod);
    const job = owner && this.#store.find(jobs, owner.name, pod.metadata.namespace);
    if (job && job.metadata.uid === owner.uid) return;
    try {
      applyActions(this.#store, [untracked(pod)], this.#now);
    } catch (error) {
      this.#log.warn({ err: error, pod: pod.metadata.name }, 'pod of a deleted Job keeps its finalizer');
    }
  }

  #look(key: string, failure: string | undefined): void | Promise<void> {
    const object = this.#find(key);
    if (object === null) return;
    const { actions, wakeAt } = this.#plan(key, object, failure);
    if (wakeAt !== undefined) this.#queue.wake(key, wakeAt - this.#now());
    return applyActions(this.#store, actions, this.#now);
  }

  #find(key: string): KubeObject | null {
    const [kind, namespace = '', name = ''] = key.split('/') as [KindName, string, string];
    return this.#store.find(resources[kind], name, namespace) as KubeObject | null;
  }

  #plan(key: string, object: KubeObject, failure: string | undefined): Plan {
    const now = this.#now();
    const kind = key.slice(0, key.indexOf('/')) as KindName;
    const { namespace } = object.metadata;
    switch (kind) {
      case 'Deployment': {
        const deployment = object as Deployment;
        const reference = ownedBy(deployment, { apiVersion: 'apps/v1', kind });
        const owned = this.#sets.of(deployment);
        const taken = claim(deployment, reference, replicaSets, owned, this.#sets.orphans(namespace));
        if (taken.actions.length > 0) return taken;
        const podsOf = (set: ReplicaSet) => this.#pods.of(set);
        return planDeployment({ deployment, sets: taken.kept, podsOf, now, failure });
      }
      case 'ReplicaSet': {
        const set = object as ReplicaSet;
        const taken = this.#claimPods(set, kind);
        if (taken.actions.length > 0) return taken;
        return planReplicaSet({ set, pods: taken.kept, now, failure });
      }
      case 'DaemonSet': {
        const set = object as DaemonSet;
        const taken = this.#claimPods(set, kind);
        if (taken.actions.length > 0) return taken;
        const nodes = this.#nodes.all();
        return planDaemonSet({ set, pods: taken.kept, nodes, revisions: this.#revisions.of(set), now });
      }
      case 'Service': {
        const pods = this.#pods.all().filter(({ metadata }) => metadata.namespace === namespace);
        return planEndpointSlices({ service: object as Service, pods, slices: this.#slices.of(object) });
      }
      case 'Job':
        return planJob({ job: object as Job, pods: this.#pods.of(object), now });
    }
  }

  #claimPods(owner: ReplicaSet | DaemonSet, kind: 'ReplicaSet' | 'DaemonSet') {
    const reference = ownedBy(owner, { apiVersion: 'apps/v1', kind });
    const orphans = this.#pods.orphans(owner.metadata.namespace);
    return claim(owner, reference, podResource, this.#pods.of(owner), orphans);
  }

  #refused(key: string, error: unknown, repeated: boolean): void {
    if (!(error instanceof ApiError)) this.#log.warn({ err: error, key }, 'a controller failed; tried again');
    const about = this.#find(key);
    if (repeated || about === null) return;
    const message = error instanceof Error ? error.message : String(error);
    const notice = { type: 'Warning' as const, reason: 'FailedCreate', message };
    applyActions(this.#store, [{ do: 'event', about, notice }], this.#now);
  }
}
