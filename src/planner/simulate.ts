// Replays a trace through an allocator and a modelled EC2 on a virtual clock. Nodes join and leave as the trace shows;
// all share the account's request buckets and the subnets. The same input and seed give the same figures.

import { parseCidr } from '../base/ip.ts';
import type { InstanceLimits } from '../cloud/limits.ts';
import { Kubelet, notUp } from './allocator.ts';
import { SimClock } from './clock.ts';
import { cloudOf } from './ec2/cloud.ts';
import { type Instance, ModelEc2 } from './ec2/model.ts';
import { Subnet } from './ec2/subnet.ts';
import { IncumbentNode } from './incumbent.ts';
import type { IncumbentSettings } from './incumbent-calls.ts';
import { Meter, type Sample, type Wait } from './meter.ts';
import { PodwayNode, type PodwaySettings } from './podway.ts';
import { type Random, randomFrom, seedOf } from './random.ts';
import type { TraceEvent } from './trace.ts';

export type AllocatorChoice =
  | { kind: 'podway'; settings: PodwaySettings }
  | { kind: 'incumbent'; settings: IncumbentSettings };

export type SimulateOptions = {
  limits: InstanceLimits;
  allocator: AllocatorChoice;
  /** Addresses of a subnet, a power of two from 16 to 65,536; absent: as many /16s as all nodes could fill. */
  subnetSize?: number;
  seed?: number;
  /** Ms between two samples of held and taken addresses; absent: none. */
  sampleEvery?: number;
};

export type Run = {
  idleAddressMinutes: number;
  eniMinutes: number;
  peakAddresses: number;
  peakEnis: number;
  calls: Record<string, number>;
  /** Of the calls, those that had no effect. */
  refused: Record<string, number>;
  throttled: number;
  waitMs: Wait;
  failed: Record<string, number>;
  samples: Sample[];
};

/** A node's agent runs this long (ms) before its first pod, and its instance this long after its last one. */
const NODE_LEAD = 30_000;
const NODE_TAIL = 30_000;
/** An instance that a full subnet refused is started again so much later (ms). */
const START_AGAIN = 15_000;
const LARGEST_SUBNET = 65_536;

type NodeLife = { joins: number; leaves: number };

/** When each node joins and leaves (ms), in order of joining. */
export function nodeLives(events: readonly TraceEvent[]): Map<string, NodeLife> {
  const lives = new Map<string, NodeLife & { pods: number }>();
  for (const { time, node, event } of events) {
    const at = time * 1000;
    let life = lives.get(node);
    if (!life) {
      life = { joins: Math.max(0, at - NODE_LEAD), leaves: Number.POSITIVE_INFINITY, pods: 0 };
      lives.set(node, life);
    }
    if (event === 'start') life.pods++;
    else if (event === 'stop') life.pods--;
    life.leaves = life.pods <= 0 ? at + NODE_TAIL : Number.POSITIVE_INFINITY;
  }
  return lives;
}

export async function simulate(events: readonly TraceEvent[], options: SimulateOptions): Promise<Run> {
  const { limits, allocator, seed = 1 } = options;
  const clock = new SimClock();
  const meter = new Meter(clock.now, options.sampleEvery);
  const lives = nodeLives(events);
  const subnets = makeSubnets(lives.size, options);
  const ec2 = new ModelEc2({ clock, meter, seed: seedOf(seed, 'cloud'), subnets, limits });
  const cloud = cloudOf(ec2);
  const nodes = new Map<string, Kubelet>();
  const end = (events.at(-1)?.time ?? 0) * 1000;
  let joined = 0;

  const begin = (name: string, kubelet: Kubelet, random: Random) => {
    const { leaves } = lives.get(name)!;
    const subnetId = subnets[joined++ % subnets.length]!.id;
    let instance: Instance;
    try {
      instance = ec2.run(subnetId);
    } catch (error) {
      kubelet.allocator = notUp(error);
      clock.in(START_AGAIN, () => nodes.get(name) === kubelet && begin(name, kubelet, random));
      return;
    }
    const own = { clock, limits, instance, random };
    kubelet.allocator =
      allocator.kind === 'podway'
        ? new PodwayNode({ ...own, cloud, settings: allocator.settings })
        : new IncumbentNode({ ...own, ec2, settings: allocator.settings });
    if (leaves < end) clock.at(leaves, () => ec2.terminate(instance.id));
  };
  const join = (name: string) => {
    const random = randomFrom(seedOf(seed, name));
    const kubelet = new Kubelet({ clock, meter, random });
    nodes.set(name, kubelet);
    const { leaves } = lives.get(name)!;
    if (leaves < end)
      clock.at(leaves, () => {
        kubelet.end();
        nodes.delete(name);
      });
    begin(name, kubelet, random);
  };
  for (const [name, { joins }] of lives) clock.at(joins, () => join(name));

  // One event of the trace is in the queue at a time.
  let index = 0;
  const play = () => {
    const { time, node, pod, event } = events[index++]!;
    const kubelet = nodes.get(node)!;
    if (event === 'start') kubelet.start(pod);
    else if (event === 'stop') kubelet.stop(pod);
    else kubelet.bound(pod);
    const next = events[index];
    if (next) clock.at(Math.max(next.time, time) * 1000, play);
  };
  if (events.length > 0) clock.at(events[0]!.time * 1000, play);

  await clock.run(end);
  const { idleMinutes, eniMinutes } = meter;
  for (const kubelet of nodes.values()) kubelet.end();
  await clock.settle();
  return {
    idleAddressMinutes: Math.round(idleMinutes),
    eniMinutes: Math.round(eniMinutes),
    peakAddresses: meter.peakAddresses,
    peakEnis: meter.peakEnis,
    calls: meter.calls,
    refused: meter.refused,
    throttled: meter.throttled,
    waitMs: meter.wait(),
    failed: meter.failed,
    samples: meter.samples,
  };
}

function makeSubnets(nodes: number, { limits, subnetSize, seed = 1 }: SimulateOptions): Subnet[] {
  const size = subnetSize ?? LARGEST_SUBNET;
  // The scarcest case for the default: every address and ENI of every node, and prefixes take sixteen each.
  const most = nodes * limits.enis * limits.ipv4PerEni * (limits.prefixes ? 2 : 1);
  const count = subnetSize === undefined ? Math.ceil(most / (LARGEST_SUBNET - 5)) : 1;
  return Array.from({ length: count }, (_, i) => {
    const cidr = parseCidr(`10.${i % 256}.0.0/${32 - Math.log2(size)}`);
    const id = `subnet-${(i + 1).toString(16).padStart(17, '0')}`;
    return new Subnet(id, cidr, randomFrom(seedOf(seed, id)));
  });
}
