// What the pool's tests share: a clock that a test moves, and a node made of a fake cloud, a journal and a pool that
// can be killed and started again.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Clock } from '../base/clock.ts';
import { formatCidr, formatIp } from '../base/ip.ts';
import { Journal } from '../base/journal.ts';
import type { Imds, NodeIdentity } from '../cloud/imds.ts';
import type { InstanceLimits } from '../cloud/limits.ts';
import type { Tags } from '../cloud/port.ts';
import { FakeCloud, type FakeSettings } from '../cloud/testing.ts';
import type { EniListener } from './core.ts';
import type { Away } from './ec2/reach.ts';
import type { AddressNews } from './ec2/restore.ts';
import type { KernelView } from './journal/adopt.ts';
import type { PoolRecord } from './journal/records.ts';
import { AddressPool, type PoolSettings } from './pool.ts';
import type { Lease, Owner } from './state.ts';

type Timer = { at: number; wake: () => void };

export class VirtualClock implements Clock {
  #now = 1_700_000_000_000;
  #timers: Timer[] = [];

  now = (): number => this.#now;

  /** Somebody sets the clock: what sleeps is not woken earlier or later by that. */
  setBack(ms: number): void {
    this.#now -= ms;
    for (const timer of this.#timers) timer.at -= ms;
  }

  sleep = (ms: number, signal?: AbortSignal): Promise<void> =>
    new Promise((resolve, reject) => {
      if (signal?.aborted) return reject(signal.reason);
      if (!(ms >= 0)) throw new RangeError(`cannot sleep for ${ms} ms`);
      const timer: Timer = { at: this.#now + ms, wake: resolve };
      const onAbort = () => {
        this.#timers = this.#timers.filter((one) => one !== timer);
        reject(signal?.reason);
      };
      timer.wake = () => {
        signal?.removeEventListener('abort', onAbort);
        resolve();
      };
      this.#timers.push(timer);
      signal?.addEventListener('abort', onAbort, { once: true });
    });

  /** Moves time on, waking sleepers in order and letting all that they start come to rest. */
  async advance(ms: number): Promise<void> {
    const end = this.#now + ms;
    await settle();
    for (let fired = 0; ; fired++) {
      if (fired > 10_000) throw new Error(`${fired} timers in ${ms} ms: something spins`);
      this.#timers.sort((a, b) => a.at - b.at);
      const next = this.#timers[0];
      if (!next || next.at > end) break;
      this.#timers.shift();
      this.#now = Math.max(this.#now, next.at);
      next.wake();
      await settle();
    }
    this.#now = end;
    await settle();
  }
}

/** Lets promises and immediates run until nothing but timers is left. */
export async function settle(turns = 12): Promise<void> {
  for (let i = 0; i < turns; i++) await new Promise((resolve) => setImmediate(resolve));
}

export const m5Large: InstanceLimits = {
  instanceType: 'm5.large',
  enis: 3,
  ipv4PerEni: 10,
  ipv6PerEni: 10,
  defaultCard: 0,
  networkCards: [{ index: 0, enis: 3 }],
  pods: 29,
  prefixes: true,
  branchEnis: 9,
};

export const podOwner = (name: string): Owner => ({
  network: 'podway',
  containerId: `container-of-${name}`,
  ifname: 'eth0',
  pod: { namespace: 'default', name },
});

export function identityOf(cloud: FakeCloud, limits: InstanceLimits): NodeIdentity {
  const primary = [...cloud.enis.values()].find((eni) => eni.attachment?.deviceIndex === 0)!;
  return {
    instanceId: cloud.instanceId,
    instanceType: limits.instanceType,
    region: 'us-west-2',
    zone: 'us-west-2a',
    vpcId: 'vpc-0fake',
    primary: {
      eniId: primary.id,
      mac: primary.mac,
      subnetId: primary.subnetId,
      ip: primary.addresses[0]!.ip,
    },
  };
}

/** The metadata service of the cloud's instance: always up to date, unlike the real one. */
export const metadataOf = (cloud: FakeCloud): Pick<Imds, 'get'> => ({
  async get(path) {
    const attached = [...cloud.enis.values()].filter((eni) => eni.attachment);
    if (path.endsWith('/macs/')) return attached.map((eni) => `${eni.mac}/`).join('\n');
    const eni = attached.find((one) => path.includes(one.mac));
    if (path.endsWith('/ipv4-prefix')) return eni?.ipv4Prefixes.map(formatCidr).join('\n') ?? null;
    return eni ? eni.addresses.map((one) => formatIp(one.ip)).join('\n') : null;
  },
});

/** The link of an attachment, as the node's network would name it. */
export const testLink = (owner: Owner): string => owner.link ?? `link-${owner.containerId}-${owner.ifname}`;

export type TestNodeOptions = {
  cloud?: FakeSettings;
  settings?: Partial<PoolSettings>;
  limits?: InstanceLimits;
  seed?: number;
};

export class TestNode implements AsyncDisposable {
  readonly clock = new VirtualClock();
  readonly cloud: FakeCloud;
  readonly dir = mkdtempSync(join(tmpdir(), 'podway-pool-'));
  readonly limits: InstanceLimits;
  settings: PoolSettings;
  /** Set to make the next start's journal and pool call it at each boundary. */
  onBoundary: ((name: string) => void) | undefined;
  listener: EniListener | undefined;
  /** What the pool told of held addresses. */
  readonly news: AddressNews[] = [];
  /** What the pool told of EC2, in turn: null for an answer. */
  readonly reached: (Away | null)[] = [];
  /** What the next start finds in the kernel, and where its journal says that it is. */
  kernel: KernelView = { links: [], any: false };
  /** Tags of each ENI that the pool makes. */
  tags: Tags = {};
  origin = { boot: 'one', netns: '1' };
  /** Each line that the pool logs from `info` on. */
  readonly logged: string[] = [];
  /** Set before a start to have the pool take hints from it. */
  metadata: Pick<Imds, 'get'> | undefined;
  pool!: AddressPool;
  journal!: Journal<PoolRecord>;
  #stop!: AbortController;
  #random: () => number;

  constructor(options: TestNodeOptions = {}) {
    this.limits = options.limits ?? m5Large;
    this.cloud = new FakeCloud({
      enis: this.limits.enis,
      ipv4PerEni: this.limits.ipv4PerEni,
      ...options.cloud,
    });
    this.settings = { warm: 4, cooldownMs: 30_000, idleReleaseMs: 60_000, ...options.settings };
    let seed = options.seed ?? 1;
    this.#random = () => {
      seed = (seed * 1_103_515_245 + 12_345) & 0x7fffffff;
      return seed / 0x7fffffff;
    };
  }

  #note = (_fields: object, text: string): void => void this.logged.push(text);

  get path(): string {
    return join(this.dir, 'journal');
  }

  /** Holders as their links stand in the kernel; all of the pool's when none are named. */
  stand(leases: readonly Lease[] = this.pool.held()): void {
    const links = leases.map(({ owner, ips }) => ({ link: testLink(owner), owner, ips, doubt: 0 }));
    this.kernel = { links, any: true };
  }

  get identity(): NodeIdentity {
    return identityOf(this.cloud, this.limits);
  }

  /** Opens the journal and makes the pool; the loop is not started. */
  open(): AddressPool {
    const hook = this.onBoundary ? { onBoundary: this.onBoundary } : {};
    this.journal = Journal.open<PoolRecord>(this.path, { ...hook, origin: this.origin });
    this.#stop = new AbortController();
    this.pool = new AddressPool({
      cloud: this.cloud,
      onNews: (news) => void this.news.push(news),
      onReach: (away) => void this.reached.push(away),
      ...(this.metadata ? { metadata: this.metadata } : {}),
      journal: this.journal,
      identity: this.identity,
      limits: this.limits,
      nodeName: 'node-1',
      settings: this.settings,
      tags: this.tags,
      clock: this.clock,
      random: this.#random,
      kernel: this.kernel,
      linkOf: testLink,
      log: { debug: () => {}, info: this.#note, warn: this.#note, error: this.#note },
      ...hook,
    });
    if (this.listener) this.pool.onEniChange(this.listener);
    return this.pool;
  }

  async start(): Promise<AddressPool> {
    this.open();
    const started = this.pool.start(this.#stop.signal);
    await settle();
    await started;
    await settle();
    return this.pool;
  }

  async stop(): Promise<void> {
    this.#stop.abort(new Error('stopped'));
    await this.clock.advance(0);
    // A call that a test has cut off never ends.
    await Promise.race([this.pool.stopped(), settle(100)]);
    this.journal.close();
  }

  /** Ends the pool as a kill does: nothing that it still does has an effect. */
  abandon(): void {
    this.#stop.abort(new Error('killed'));
    this.journal.close();
  }

  async restart(): Promise<AddressPool> {
    await this.stop();
    return this.start();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop().catch(() => {});
    rmSync(this.dir, { recursive: true, force: true });
  }
}
