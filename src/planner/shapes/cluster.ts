// A cluster that writes down what happens to its pods: nodes with room, services with replicas, a scheduler that spreads.
// Its events are those of a trace. The shapes say what happens and when; the cluster says where.
import { TimeHeap } from '../heap.ts';
import { between, type Random, wholeBetween } from '../random.ts';
import type { TraceEvent, TraceEventKind } from '../trace.ts';

export type ClusterNode = { name: string; pods: Set<Pod>; open: boolean };
export type Pod = { name: string; node: ClusterNode; service: Service | null };
export type Service = { name: string; wanted: number; pods: Set<Pod> };

/** Seconds between two pods that one controller makes: it makes them one after another. */
const PACE = 0.05;
/** Draws of a node before all are looked through: a large cluster nearly always has room. */
const BLIND_TRIES = 8;

export class Cluster {
  readonly random: Random;
  readonly nodes: ClusterNode[] = [];
  readonly services: Service[] = [];
  readonly events: TraceEvent[] = [];
  readonly #due = new TimeHeap<() => void>();
  readonly #capacity: number;
  readonly #lead: number;
  #names = 0;
  #now = 0;
  /** Pods that no node had room for, with what begins when they are placed. */
  readonly #pending: (() => boolean)[] = [];

  /** `capacity`: pods that a node takes; `lead`: seconds from a pod's binding to its start, 0 for no `bound` events. */
  constructor(random: Random, capacity: number, lead: number) {
    this.random = random;
    this.#capacity = capacity;
    this.#lead = lead;
  }

  get now(): number {
    return this.#now;
  }

  get pending(): number {
    return this.#pending.length;
  }

  at(time: number, work: () => void): void {
    this.#due.push(Math.max(time, this.#now), work);
  }

  in(seconds: number, work: () => void): void {
    this.at(this.#now + seconds, work);
  }

  /** Runs `work` again and again, `pause()` seconds apart, from one pause after now on. */
  every(pause: () => number, work: () => void): void {
    this.in(pause(), () => {
      work();
      this.every(pause, work);
    });
  }

  /** Runs what is due until `end` (seconds) and answers the events, sorted by time. */
  run(end: number): TraceEvent[] {
    while (this.#due.nextAt <= end) {
      this.#now = this.#due.nextAt;
      this.#due.pop()!();
    }
    return this.events.filter((one) => one.time <= end).sort((a, b) => a.time - b.time);
  }

  addNode(): ClusterNode {
    const node = { name: `node-${this.nodes.length + 1}`, pods: new Set<Pod>(), open: true };
    this.nodes.push(node);
    for (let tries = this.#pending.length; tries > 0; tries--) {
      const place = this.#pending.shift()!;
      if (!place()) this.#pending.push(place);
    }
    return node;
  }

  open(): ClusterNode[] {
    return this.nodes.filter((node) => node.open);
  }

  addService(replicas: number): Service {
    const service = { name: `service-${this.services.length + 1}`, wanted: replicas, pods: new Set<Pod>() };
    this.services.push(service);
    return service;
  }

  /** Starts and stops the service's pods until it has as many as it wants. */
  scale(service: Service, wanted: number): void {
    service.wanted = wanted;
    for (let missing = wanted - service.pods.size, i = 0; i < missing; i++)
      this.in(i * PACE, () => service.pods.size < service.wanted && this.startPod(service));
    const extra = service.pods.size - wanted;
    if (extra > 0) for (const pod of [...service.pods].slice(-extra)) this.stopPod(pod);
  }

  /** Places a pod and starts it; `started` is called with it, now or when a node has room. */
  startPod(service: Service | null, started: (pod: Pod) => void = () => {}): void {
    const place = (): boolean => {
      if (service && service.pods.size >= service.wanted + this.surge(service)) return true;
      const node = this.#choose();
      if (!node) return false;
      const name = `${service?.name ?? 'batch'}-${(++this.#names).toString(36)}`;
      const pod: Pod = { name, node, service };
      node.pods.add(pod);
      service?.pods.add(pod);
      if (this.#lead > 0) this.#note(this.#now, 'bound', pod);
      this.in(this.#lead, () => {
        if (!node.pods.has(pod)) return;
        this.#note(this.#now, 'start', pod);
        started(pod);
      });
      return true;
    };
    if (!place()) this.#pending.push(place);
  }

  /** Pods that a rolling update may run beyond the wanted ones: a quarter, as a Deployment does by default. */
  surge(service: Service): number {
    return Math.ceil(service.wanted / 4);
  }

  stopPod(pod: Pod): void {
    if (!pod.node.pods.delete(pod)) return;
    pod.service?.pods.delete(pod);
    this.#note(this.#now, 'stop', pod);
    const place = this.#pending.shift();
    if (place && !place()) this.#pending.unshift(place);
  }

  /** The emptier of two nodes with room, chosen blindly. */
  #choose(): ClusterNode | null {
    const one = this.#anyRoomy();
    const other = this.#anyRoomy();
    if (!one || !other) return null;
    return one.pods.size <= other.pods.size ? one : other;
  }

  #anyRoomy(): ClusterNode | null {
    const isRoomy = (node: ClusterNode) => node.open && node.pods.size < this.#capacity;
    const draw = <T>(from: readonly T[]): T => from[wholeBetween(this.random, 0, from.length - 1)]!;
    for (let tries = 0; tries < BLIND_TRIES; tries++) {
      const node = draw(this.nodes);
      if (isRoomy(node)) return node;
    }
    const roomy = this.nodes.filter(isRoomy);
    return roomy.length > 0 ? draw(roomy) : null;
  }

  #note(time: number, event: TraceEventKind, pod: Pod): void {
    this.events.push({
      time: Number(time.toFixed(3)),
      node: pod.node.name,
      pod: `default/${pod.name}`,
      event,
    });
  }
}

/** Makes services of 2 to `largest` replicas until they want `pods` in all, and starts them over the first minutes. */
export function addServices(cluster: Cluster, pods: number, largest: number): void {
  for (let left = pods; left > 0; ) {
    const replicas = Math.min(left, wholeBetween(cluster.random, 2, largest));
    const service = cluster.addService(replicas);
    cluster.at(between(cluster.random, 60, 600), () => cluster.scale(service, service.wanted));
    left -= replicas;
  }
}
