// Replays the events of some nodes through an allocator and a modelled EC2 on a virtual clock. Nodes join and leave as their
// events show; all share the subnets and the gate. The same input and seed give the same counts.

import { parseCidr } from '../base/ip.ts';
import type { InstanceLimits } from '../cloud/limits.ts';
import { Kubelet, notUp } from './allocator.ts';
import { SimClock } from './clock.ts';
import { cloudOf } from './ec2/cloud.ts';
import { type Instance, ModelEc2 } from './ec2/model.ts';
import { Subnet } from './ec2/subnet.ts';
import type { Gate } from './ec2/times.ts';
import { IncumbentNode } from './incumbent.ts';
import type { IncumbentSettings } from './incumbent-calls.ts';
import { type Counts, Meter } from './meter.ts';
import { type Columns, KINDS } from './parts/columns.ts';
import { PodwayNode, type PodwaySettings } from './podway.ts';
import { type Random, randomFrom, seedOf } from './random.ts';

export type AllocatorChoice =
  | { kind: 'podway'; settings: PodwaySettings }
  | { kind: 'incumbent'; settings: IncumbentSettings };

export type ReplayOptions = {
  limits: InstanceLimits;
  allocator: AllocatorChoice;
  seed: number;
  /** Addresses of the one subnet; absent: as many /16s as the nodes could fill. */
  subnetSize?: number;
  /** Ms between two samples; absent: none. */
  sampleEvery?: number;
  /** Ms: the trace's end, which may be after the last event of these nodes. */
  end: number;
  /** The number of these nodes' part: its subnets and chances are its own. */
  part: number;
};

/** A node's agent runs this long (ms) before its first pod, and its instance this long after its last one. */
const NODE_LEAD = 30_000;
const NODE_TAIL = 30_000;
/** An instance that a full subnet refused is started again so much later (ms). */
const START_AGAIN = 15_000;
const LARGEST_SUBNET = 65_536;

type NodeLife = { joins: number; leaves: number };

/** When each node joins and leaves (ms), in order of joining. */
export function nodeLives({ times, nodes, kinds, names }: Columns): Map<string, NodeLife> {
  const lives = new Map<string, NodeLife & { pods: number }>();
  times.forEach((at, i) => {
    const name = names[nodes[i]!]!;
    let life = lives.get(name);
    if (!life) {
      life = { joins: Math.max(0, at - NODE_LEAD), leaves: Number.POSITIVE_INFINITY, pods: 0 };
      lives.set(name, life);
    }
    const event = KINDS[kinds[i]!]!;
    if (event === 'start') life.pods++;
    else if (event === 'stop') life.pods--;
    life.leaves = life.pods <= 0 ? at + NODE_TAIL : Number.POSITIVE_INFINITY;
  });
  return lives;
}

export async function replay(
  columns: Columns,
  options: ReplayOptions,
  gate: Gate,
  clock = new SimClock(),
): Promise<Counts> {
  const { limits, allocator, end, part } = options;
  // The first part's chances are those of a simulation in one part.
  const seed = part === 0 ? options.seed : seedOf(options.seed, `part-${part}`);
  const meter = new Meter(clock.now, options.sampleEvery);
  const lives = nodeLives(columns);
  const subnets = makeSubnets(lives.size, seed, options);
  const ec2 = new ModelEc2({ clock, meter, seed: seedOf(seed, 'cloud'), subnets, limits, gate });
  const cloud = cloudOf(ec2);
  const nodes = new Map<string, Kubelet>();
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
    const random = randomFrom(seedOf(options.seed, name));
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
  const { times, names, pods, kinds } = columns;
  let index = 0;
  const play = () => {
    const kubelet = nodes.get(names[columns.nodes[index]!]!)!;
    const pod = `pod-${pods[index]!}`;
    const event = KINDS[kinds[index]!]!;
    index++;
    if (event === 'start') kubelet.start(pod);
    else if (event === 'stop') kubelet.stop(pod);
    else kubelet.bound(pod);
    if (index < times.length) clock.at(times[index]!, play);
  };
  if (times.length > 0) clock.at(times[0]!, play);

  await clock.run(end);
  for (const kubelet of nodes.values()) kubelet.end();
  await clock.settle();
  return meter.counts();
}

function makeSubnets(nodes: number, seed: number, { limits, subnetSize, part }: ReplayOptions): Subnet[] {
  const size = subnetSize ?? LARGEST_SUBNET;
  // The scarcest case for the default: every address and ENI of every node, and prefixes take sixteen each.
  const most = nodes * limits.enis * limits.ipv4PerEni * (limits.prefixes ? 2 : 1);
  const count = subnetSize === undefined ? Math.max(1, Math.ceil(most / (LARGEST_SUBNET - 5))) : 1;
  return Array.from({ length: count }, (_, i) => {
    const cidr = parseCidr(`${10 + part}.${i % 256}.0.0/${32 - Math.log2(size)}`);
    const id = `subnet-${(i + 1).toString(16).padStart(17, '0')}`;
    return new Subnet(id, cidr, randomFrom(seedOf(seed, id)));
  });
}
