// A node with Podway's own pool: the AddressPool that the agent runs, with its planner, waiting line, reconciler and
// budget, on the simulation's clock. Only its journal, which a simulated node never reads again, writes nothing.
import type { NodeIdentity } from '../cloud/imds.ts';
import type { InstanceLimits } from '../cloud/limits.ts';
import type { Cloud } from '../cloud/port.ts';
import type { PoolJournal } from '../ipam/journal/records.ts';
import type { PoolPolicy } from '../ipam/policy.ts';
import { AddressPool } from '../ipam/pool.ts';
import type { Owner } from '../ipam/state.ts';
import type { Allocator } from './allocator.ts';
import type { SimClock } from './clock.ts';
import { type Instance, VPC, ZONE } from './ec2/model.ts';
import type { Random } from './random.ts';

const ended = new Error('the node has ended');
/** Nothing is missed on a simulated clock, so that the loop needs no bound on its sleep: an hour. */
const LONGEST_NAP = 3_600_000;

const journal: PoolJournal = {
  path: '',
  replay: { found: 'missing', records: [], tornBytes: 0, damaged: 0, lost: [] },
  appendSync: () => {},
  compact: () => {},
  compactionDue: false,
  isInPlace: true,
};

const ownerOf = (pod: string): Owner => {
  const [namespace = '', name = ''] = pod.includes('/') ? pod.split('/') : ['default', pod];
  return { network: 'podway', containerId: pod, ifname: 'eth0', pod: { namespace, name } };
};

const nameOf = ({ pod }: Owner): string => `${pod!.namespace}/${pod!.name}`;

export type PodwaySettings = { policy: PoolPolicy; cooldownMs: number };

export type PodwayOptions = {
  clock: SimClock;
  random: Random;
  cloud: Cloud;
  instance: Instance;
  limits: InstanceLimits;
  settings: PodwaySettings;
};

export class PodwayNode implements Allocator {
  readonly #pool: AddressPool;
  readonly #stop = new AbortController();

  constructor(options: PodwayOptions) {
    const { clock, random, cloud, limits, settings } = options;
    this.#pool = new AddressPool({
      cloud,
      journal,
      identity: identityOf(options.instance, limits),
      limits,
      nodeName: options.instance.id,
      settings: {
        cooldownMs: settings.cooldownMs,
      },
      clock,
      random,
      defer: clock.defer,
      longestNapMs: LONGEST_NAP,
    });
    this.#pool.setPolicy(settings.policy);
    void this.#pool.start(this.#stop.signal);
  }

  give(pod: string): Promise<unknown> | null {
    const owner = ownerOf(pod);
    if (this.#pool.tryAcquire(owner)) return null;
    return this.#pool.acquire(owner);
  }

  bound(pod: string): void {
    this.#pool.expectPod(nameOf(ownerOf(pod)));
  }

  remove(pod: string): void {
    const owner = ownerOf(pod);
    this.#pool.expectNoMore(nameOf(owner));
    this.#pool.endWait(owner.containerId, owner.ifname);
    this.#pool.release(owner);
  }

  end(): void {
    this.#stop.abort(ended);
  }
}

function identityOf(instance: Instance, limits: InstanceLimits): NodeIdentity {
  const primary = [...instance.enis.values()][0]!;
  return {
    instanceId: instance.id,
    instanceType: limits.instanceType,
    region: 'us-west-2',
    zone: ZONE,
    vpcId: VPC,
    primary: {
      eniId: primary.id,
      mac: primary.mac,
      subnetId: primary.subnetId,
      ip: primary.addresses[0]!.ip,
    },
  };
}
