// The EC2 calls of the AWS VPC CNI (spec of its release 1.23.1): which it makes, in which order, and how it tries again.
import { hostCidr, type Ipv4 } from '../base/ip.ts';
import type { InstanceLimits } from '../cloud/limits.ts';
import { CloudError, type EniId } from '../cloud/port.ts';
import { type IncumbentTargets, PREFIX_SIZE } from '../ipam/config/incumbent.ts';
import type { SimClock } from './clock.ts';
import { type Block, type Eni, newBlock } from './datastore.ts';
import { GROUP, type Instance, type ModelEc2 } from './ec2/model.ts';
import type { Random } from './random.ts';

export type IncumbentSettings = {
  targets: IncumbentTargets;
  usesPrefixes: boolean;
  maxPods: number;
  maxEnis: number;
  cooldownMs: number;
};

export type IncumbentOptions = {
  clock: SimClock;
  random: Random;
  ec2: ModelEc2;
  instance: Instance;
  limits: InstanceLimits;
  settings: IncumbentSettings;
};

const DETACH_REST = 2_000;
const LEAK_SCAN_EVERY = 3_600_000;
const LEAK_SCAN_JITTER = 300_000;
/** Tries of its SDK for a throttled call, with a pause of up to 1 s, then 2 s. */
const SDK_TRIES = 3;
/** Its own tries: of a wait for IMDS, a detach, a delete. */
const TRIES = 12;
const BACKOFF_MOST = 60_000;

export class IncumbentCalls {
  readonly #o: IncumbentOptions;
  readonly #isOver: () => boolean;

  constructor(options: IncumbentOptions, isOver: () => boolean) {
    this.#o = options;
    this.#isOver = isOver;
    this.#scanLater();
  }

  /** Node init; answers with the primary ENI. */
  async start(): Promise<EniId> {
    await this.#call('DescribeNetworkInterfaces', () => {});
    await this.#call('CreateTags', () => {});
    await this.#call('DescribeSubnets', () => {});
    await this.#call('ModifyNetworkInterfaceAttribute', () => {});
    return [...this.#o.instance.enis.keys()][0]!;
  }

  /** `count` addresses or prefixes; when they cannot be had, one. */
  async assign(eniId: EniId, count: number): Promise<Block[]> {
    const { ec2, settings } = this.#o;
    const one = (wanted: number) =>
      this.#call('AssignPrivateIpAddresses', () =>
        settings.usesPrefixes ? ec2.assignBlocks(eniId, wanted) : ec2.assign(eniId, wanted).map(hostCidr),
      );
    const cidrs = await one(count).catch((error) => {
      if (count === 1) throw error;
      return one(1);
    });
    return cidrs.map(({ ip }) => newBlock(ip as Ipv4, settings.usesPrefixes ? PREFIX_SIZE : 1));
  }

  /** Makes, attaches and learns an ENI; null when IMDS never listed it. */
  async allocate(count: number): Promise<Omit<Eni, 'assigned'> | null> {
    const { ec2, instance, settings, clock } = this.#o;
    const subnetId = [...instance.enis.values()][0]!.subnetId;
    await this.#call('DescribeSubnets', () => {});
    const made = await this.#call('CreateNetworkInterface', () =>
      ec2.make({
        subnetId,
        groupIds: [GROUP],
        description: 'aws-K8S-i-0',
        secondaryCount: settings.usesPrefixes ? 0 : count,
        prefixCount: settings.usesPrefixes ? count : 0,
        tags: {},
        clientToken: '',
      }),
    );
    let attachmentId: string;
    try {
      const taken = await this.#call('DescribeInstances', () =>
        [...instance.enis.values()].map((eni) => eni.attachment!.deviceIndex),
      );
      let index = 0;
      while (taken.includes(index)) index++;
      attachmentId = await this.#call('AttachNetworkInterface', () =>
        ec2.attach(made.id, instance.id, index),
      );
    } catch (error) {
      await this.#delete(made.id).catch(() => {});
      throw error;
    }
    await this.#call('ModifyNetworkInterfaceAttribute', () => {
      const { attachment } = ec2.eni(made.id, 'ModifyNetworkInterfaceAttribute');
      if (attachment?.id === attachmentId) attachment.deleteOnTermination = true;
    });
    const listed = await this.#again(
      100,
      2,
      0.15,
      async () => (ec2.listedAt.get(made.id) ?? Infinity) <= clock.now(),
    );
    if (!listed) return null;
    await this.#call('DescribeSubnets', () => {});
    const size = settings.usesPrefixes ? PREFIX_SIZE : 1;
    const ips = settings.usesPrefixes
      ? made.ipv4Prefixes.map((one) => one.ip as Ipv4)
      : made.addresses.slice(1).map((one) => one.ip);
    return { id: made.id, primary: false, since: clock.now(), blocks: ips.map((ip) => newBlock(ip, size)) };
  }

  async unassign(eniId: EniId, blocks: readonly Block[]): Promise<void> {
    const ips = new Set(blocks.map((block) => block.ip as Ipv4));
    const none = new Set<Ipv4>();
    await this.#call('UnassignPrivateIpAddresses', () =>
      this.#o.settings.usesPrefixes
        ? this.#o.ec2.unassign(eniId, none, ips)
        : this.#o.ec2.unassign(eniId, ips, none),
    );
  }

  async free(eniId: EniId): Promise<void> {
    const { ec2, clock } = this.#o;
    const attachmentId = await this.#call(
      'DescribeNetworkInterfaces',
      () => ec2.eni(eniId, '').attachment!.id,
    );
    await this.#again(200, 2, 0.15, () =>
      this.#succeeds('DetachNetworkInterface', () => ec2.detach(attachmentId)),
    );
    await clock.sleep(DETACH_REST);
    await this.#delete(eniId);
  }

  async #delete(eniId: EniId): Promise<void> {
    await this.#again(500, 2, 0.15, () =>
      this.#succeeds('DeleteNetworkInterface', () => this.#o.ec2.remove(eniId)),
    );
  }

  async #succeeds(action: string, effect: () => void): Promise<boolean> {
    return this.#call(action, effect).then(
      () => true,
      () => false,
    );
  }

  /** Tries until it succeeds, with its backoff; false after the last try. */
  async #again(
    first: number,
    factor: number,
    jitter: number,
    work: () => Promise<boolean>,
  ): Promise<boolean> {
    for (let tries = 1, wait = first; tries <= TRIES; tries++, wait = Math.min(BACKOFF_MOST, wait * factor)) {
      if (this.#isOver()) return false;
      if (await work()) return true;
      if (tries < TRIES) await this.#o.clock.sleep(wait * (1 + jitter * this.#o.random()));
    }
    return false;
  }

  async #call<T>(action: string, effect: () => T): Promise<T> {
    const { ec2, clock, random } = this.#o;
    for (let tries = 1; ; tries++) {
      if (this.#isOver()) throw new CloudError(action, 'Network', 'the node has ended');
      try {
        return await ec2.call(action, () => (this.#isOver() ? gone(action) : effect()));
      } catch (error) {
        const isThrottled = error instanceof CloudError && error.code === 'CLOUD_THROTTLED';
        if (!isThrottled || tries >= SDK_TRIES) throw error;
        await clock.sleep(random() * 1_000 * 2 ** (tries - 1));
      }
    }
  }

  #scanLater(): void {
    const { clock, random } = this.#o;
    clock.in(LEAK_SCAN_EVERY + random() * LEAK_SCAN_JITTER, () => {
      if (this.#isOver()) return;
      void this.#call('DescribeNetworkInterfaces', () => {}).catch(() => {});
      this.#scanLater();
    });
  }
}

function gone(action: string): never {
  throw new CloudError(action, 'Network', 'the node has ended');
}
