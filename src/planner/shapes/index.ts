// The shapes of a day that the benchmarks and `podway ipam trace-generate` know. Their parameters stand here and are
// explained in this room's README; they were fixed before the forecaster was written. The same options and seed give the
// same trace.
import { between, exponential, lognormal, randomFrom, seedOf, wholeBetween } from '../random.ts';
import type { TraceEvent } from '../trace.ts';
import { addServices, Cluster, type ClusterNode, type Pod, type Service } from './cluster.ts';

export type ShapeOptions = {
  seed: number;
  nodes: number;
  /** Pods that a node runs on average at full load. */
  podsPerNode: number;
  hours: number;
  /** How often things happen, as a multiple of the shape's own rates. */
  churn: number;
  /** Seconds from a pod's binding to its start; 0: no `bound` events. */
  lead: number;
};

export const defaultShapeOptions: ShapeOptions = {
  seed: 1,
  nodes: 10,
  podsPerNode: 12,
  hours: 24,
  churn: 1,
  lead: 0,
};

/** Room of a node beyond its average: the scheduler fills unevenly. */
const ROOM = 1.5;
const HOUR = 3_600;
const LARGEST_SERVICE = 12;

export const shapes = {
  steady: { summary: 'services at rest, a pod replaced now and then', write: steady },
  rolling: { summary: 'services with rolling updates', write: rolling },
  swing: { summary: 'services that follow the day', write: swing },
  burst: { summary: 'a few services, and batches of short pods', write: burst },
  consolidation: { summary: 'a daily swing whose nodes an autoscaler adds and drains', write: consolidation },
  'node-loss': { summary: 'services on nodes of which one is lost now and then', write: nodeLoss },
} as const satisfies Record<string, { summary: string; write: (cluster: Cluster, o: ShapeOptions) => void }>;

export type ShapeName = keyof typeof shapes;

export function generateTrace(shape: ShapeName, options: ShapeOptions): TraceEvent[] {
  const random = randomFrom(seedOf(options.seed, shape));
  const cluster = new Cluster(random, Math.ceil(options.podsPerNode * ROOM), options.lead);
  for (let i = 0; i < options.nodes; i++) cluster.addNode();
  shapes[shape].write(cluster, options);
  return cluster.run(options.hours * HOUR);
}

const total = (o: ShapeOptions): number => Math.round(o.nodes * o.podsPerNode);

/** A pod lives 24 hours on average; its replacement starts 1 to 5 s after its end. */
function replaceNowAndThen(cluster: Cluster, o: ShapeOptions): void {
  const mean = (24 * HOUR) / (total(o) * o.churn);
  cluster.every(
    () => exponential(cluster.random, mean),
    () => {
      const { random, services } = cluster;
      const running = [...services[wholeBetween(random, 0, services.length - 1)]!.pods];
      const pod = running[wholeBetween(random, 0, running.length - 1)];
      if (pod) replace(cluster, pod, between(random, 1, 5));
    },
  );
}

function replace(cluster: Cluster, pod: Pod, after: number): void {
  const { service } = pod;
  cluster.stopPod(pod);
  if (service) cluster.in(after, () => service.pods.size < service.wanted && cluster.startPod(service));
}

function steady(cluster: Cluster, o: ShapeOptions): void {
  addServices(cluster, total(o) * 0.85, LARGEST_SERVICE);
  replaceNowAndThen(cluster, o);
}

/** Each service is updated every 4 hours on average. */
function rolling(cluster: Cluster, o: ShapeOptions): void {
  steady(cluster, o);
  for (const service of cluster.services) {
    cluster.at(900, () =>
      cluster.every(
        () => exponential(cluster.random, (4 * HOUR) / o.churn),
        () => update(cluster, service),
      ),
    );
  }
}

/** As a Deployment: a quarter more at once; a new pod is ready after 10 to 30 s, then an old one ends. */
function update(cluster: Cluster, service: Service): void {
  const old = [...service.pods];
  const next = () => {
    if (old.length === 0) return;
    cluster.startPod(service, () =>
      cluster.in(between(cluster.random, 10, 30), () => {
        const pod = old.pop();
        if (pod) cluster.stopPod(pod);
        next();
      }),
    );
  };
  for (let i = 0; i < cluster.surge(service) && i < old.length; i++) next();
}

/** Load over the day: 40 % at 4 o'clock, 100 % at 16 o'clock, with 5 % of noise; services follow within 1 to 3 minutes. */
function load(cluster: Cluster, time: number): number {
  const phase = ((time / HOUR - 4) / 24) * 2 * Math.PI;
  return (0.7 - 0.3 * Math.cos(phase)) * between(cluster.random, 0.95, 1.05);
}

function followTheDay(cluster: Cluster, o: ShapeOptions): void {
  for (const service of cluster.services) {
    const full = service.wanted;
    const wantedAt = (time: number) => Math.max(2, Math.round(full * load(cluster, time)));
    service.wanted = wantedAt(0);
    cluster.at(between(cluster.random, 601, 900), () =>
      cluster.every(
        () => between(cluster.random, 60, 180) / o.churn,
        () => {
          // An autoscaler of pods tolerates a tenth.
          const wanted = wantedAt(cluster.now);
          if (Math.abs(wanted - service.wanted) > service.wanted / 10) cluster.scale(service, wanted);
        },
      ),
    );
  }
}

function swing(cluster: Cluster, o: ShapeOptions): void {
  addServices(cluster, total(o), LARGEST_SERVICE * 2);
  followTheDay(cluster, o);
  replaceNowAndThen(cluster, o);
}

/** Services take 30 % of the room; every 20 minutes on average a batch of 1 to 6 pods for each node starts within 10 s. */
function burst(cluster: Cluster, o: ShapeOptions): void {
  addServices(cluster, total(o) * 0.3, LARGEST_SERVICE);
  replaceNowAndThen(cluster, o);
  const most = Math.max(1, Math.min(6, o.podsPerNode / 2));
  cluster.at(900, () =>
    cluster.every(
      () => exponential(cluster.random, (20 * 60) / o.churn),
      () => {
        const size = Math.round(o.nodes * between(cluster.random, 1, most));
        const median = between(cluster.random, 60, 300);
        for (let i = 0; i < size; i++)
          cluster.in(between(cluster.random, 0, 10), () =>
            cluster.startPod(null, (pod) =>
              cluster.in(lognormal(cluster.random, median, 0.5), () => cluster.stopPod(pod)),
            ),
          );
      },
    ),
  );
}

/** An autoscaler looks every 10 s: a node for pods without one, 60 s later; each 5 minutes it drains one that fits elsewhere. */
function consolidation(cluster: Cluster, o: ShapeOptions): void {
  swing(cluster, o);
  const capacity = Math.ceil(o.podsPerNode * ROOM);
  let booting = 0;
  cluster.at(601, () => {
    cluster.every(
      () => 10,
      () => {
        if (cluster.pending <= booting * capacity) return;
        booting++;
        cluster.in(60, () => {
          booting--;
          cluster.addNode();
        });
      },
    );
    cluster.every(
      () => (5 * 60) / o.churn,
      () => {
        const open = cluster.open();
        const room = open.length * capacity - open.reduce((sum, node) => sum + node.pods.size, 0);
        const least = open.reduce((a, b) => (a.pods.size <= b.pods.size ? a : b), open[0]!);
        // The others must keep a tenth of their room.
        const left = room - (capacity - least.pods.size) - least.pods.size;
        if (open.length > 1 && cluster.pending === 0 && left > (open.length - 1) * capacity * 0.1)
          drain(cluster, least, 2);
      },
    );
  });
}

/** Evicts the node's pods `pause` seconds apart; each starts elsewhere 1 to 5 s later. */
function drain(cluster: Cluster, node: ClusterNode, pause: number): void {
  node.open = false;
  [...node.pods].forEach((pod, i) => {
    cluster.in(i * pause, () => replace(cluster, pod, between(cluster.random, 1, 5)));
  });
}

/** Every 3 hours on average a node is lost: its pods start elsewhere after 40 s, and a new node comes after 90 s. */
function nodeLoss(cluster: Cluster, o: ShapeOptions): void {
  steady(cluster, o);
  cluster.at(900, () =>
    cluster.every(
      () => exponential(cluster.random, (3 * HOUR) / o.churn),
      () => {
        const open = cluster.open();
        const lost = open[wholeBetween(cluster.random, 0, open.length - 1)];
        if (!lost || open.length < 2) return;
        lost.open = false;
        for (const pod of [...lost.pods]) replace(cluster, pod, 40 + between(cluster.random, 0, 2));
        cluster.in(90, () => cluster.addNode());
      },
    ),
  );
}
