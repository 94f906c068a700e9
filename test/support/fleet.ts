// Nodes without a kernel over the lab's real EC2: each is a real pool with the real EC2 and IMDS clients, signatures, budget
// and backoff, over HTTP on loopback, and all share one VPC with its latencies and token buckets. Time runs `speed` times
// as fast for pools and VPC alike; what a call costs this machine counts as that much more latency.
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Clock } from '../../src/base/clock.ts';
import { formatIp } from '../../src/base/ip.ts';
import { Journal } from '../../src/base/journal.ts';
import { fastClock } from '../../src/base/testing.ts';
import { defaultCredentials } from '../../src/cloud/credentials.ts';
import { createEc2Cloud } from '../../src/cloud/ec2.ts';
import { createImds, type Imds, ImdsError, type NodeIdentity } from '../../src/cloud/imds.ts';
import { loadLimits } from '../../src/cloud/limits.ts';
import type { PoolRecord } from '../../src/ipam/journal/records.ts';
import { AddressPool, type PoolSettings } from '../../src/ipam/pool.ts';
import { openVpc, type VpcService, type VpcSettings } from '../../src/lab/vpc/index.ts';
import { seeded } from './wait.ts';

export type FleetOptions = {
  nodes: number;
  instanceType: string;
  speed: number;
  vpc: Partial<VpcSettings>;
  pool?: Partial<PoolSettings>;
  seed?: number;
};

const REGION = 'us-west-2';
const CIDR = '10.0.0.0/16';

export class Fleet implements AsyncDisposable {
  readonly clock: Clock;
  readonly vpc: VpcService;
  readonly nodes: FleetNode[] = [];
  readonly #dir = mkdtempSync(join(tmpdir(), 'podway-fleet-'));
  readonly #servers: Server[] = [];

  private constructor(options: FleetOptions) {
    this.clock = fastClock(options.speed);
    this.vpc = openVpc({
      dir: this.#dir,
      region: REGION,
      zones: [`${REGION}a`],
      clock: this.clock,
      log: { warn: console.error, error: console.error },
    });
  }

  /** The VPC with its instances; agents are not started, and EC2 is at its best until now. */
  static async make(options: FleetOptions): Promise<Fleet> {
    const fleet = new Fleet(options);
    const { vpc } = fleet;
    const vpcId = (await vpc.act('CreateVpc', { CidrBlock: CIDR })).Vpc!.VpcId!;
    const subnet = (await vpc.act('CreateSubnet', { VpcId: vpcId, CidrBlock: CIDR })).Subnet!;
    for (let i = 0; i < options.nodes; i++) {
      const { Instances } = await vpc.act('RunInstances', {
        ImageId: 'ami-1',
        InstanceType: options.instanceType as never,
        MinCount: 1,
        MaxCount: 1,
        SubnetId: subnet.SubnetId!,
      });
      const instanceId = Instances![0]!.InstanceId!;
      // An address each: a process keeps a bounded number of connections to one.
      const ec2 = await fleet.#listen((request, response) => void vpc.ec2Handler(request, response));
      const imds = await fleet.#listen(
        (request, response) => void vpc.imdsHandler(request, response, { instanceId }),
      );
      const seed = (options.seed ?? 1) * 1000 + i;
      const file = join(fleet.#dir, `node-${i}`);
      fleet.nodes.push(
        new FleetNode({ file, ec2, imds, clock: fleet.clock, seed, settings: { ...POOL, ...options.pool } }),
      );
    }
    Object.assign(vpc.settings, options.vpc);
    return fleet;
  }

  /** Time of the fleet's clock since `from` (ms). */
  since = (from: number): number => this.clock.now() - from;

  async #listen(handler: Parameters<typeof createServer>[1]): Promise<string> {
    const server = createServer(handler);
    this.#servers.push(server);
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  }

  /** Addresses that EC2 has on interfaces of the instances, and those that the pools know, both sorted. */
  books(): { ec2: string[]; pools: string[]; loose: string[] } {
    const enis = Object.values(this.vpc.state().networkInterfaces);
    return {
      ec2: enis.flatMap((eni) => eni.privateIps.slice(1)).sort(),
      pools: this.nodes.flatMap((node) => node.addresses()).sort(),
      loose: enis.filter((eni) => !eni.attachment).map((eni) => eni.id),
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.nodes.map((node) => node.end()));
    for (const server of this.#servers) {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    }
    this.vpc.close();
    rmSync(this.#dir, { recursive: true, force: true });
  }
}

const POOL: PoolSettings = { warm: 5, cooldownMs: 30_000, idleReleaseMs: 60_000 };

/** An agent without its identity is started again: the nodes' IMDS shares their process, which may be slow. */
async function identityOf(imds: Imds, tries = 10): Promise<NodeIdentity> {
  for (let i = 1; ; i++) {
    try {
      return await imds.identity();
    } catch (error) {
      if (i === tries || !(error instanceof ImdsError)) throw error;
    }
  }
}

type NodeParts = {
  file: string;
  ec2: string;
  imds: string;
  clock: Clock;
  seed: number;
  settings: PoolSettings;
};

export class FleetNode {
  pool!: AddressPool;
  readonly #parts: NodeParts;
  #journal: Journal<PoolRecord> | undefined;
  #stop = new AbortController();

  constructor(parts: NodeParts) {
    this.#parts = parts;
  }

  async start(): Promise<void> {
    const { file, ec2, clock, seed, settings } = this.#parts;
    const imds = createImds({ endpoint: this.#parts.imds, clock });
    const cloud = createEc2Cloud({
      region: REGION,
      endpoint: ec2,
      clock,
      credentials: defaultCredentials({ imds, env: {} }),
    });
    const identity = await identityOf(imds);
    this.#journal = Journal.open<PoolRecord>(file);
    this.#stop = new AbortController();
    this.pool = new AddressPool({
      cloud,
      metadata: imds,
      journal: this.#journal,
      identity,
      limits: await loadLimits(identity.instanceType, cloud),
      nodeName: identity.instanceId,
      settings,
      clock,
      random: seeded(seed),
    });
    await this.pool.start(this.#stop.signal);
  }

  /** An address for a pod, asked for again after each refusal, as a runtime does. Rejects when `tries` are over. */
  async addPod(name: string, tries = 100): Promise<string> {
    const owner = {
      network: 'podway',
      containerId: name,
      ifname: 'eth0',
      pod: { namespace: 'default', name },
    };
    for (let i = 1; ; i++) {
      try {
        return formatIp((await this.pool.acquire(owner)).ips[0]!);
      } catch (error) {
        if (i >= tries || this.#stop.signal.aborted) throw error;
        await this.#parts.clock.sleep(1_000);
      }
    }
  }

  addresses(): string[] {
    return [...this.pool.state.enis.values()].flatMap((eni) =>
      [...eni.blocks.values()].map((block) => formatIp(block.cidr.ip)),
    );
  }

  async end(): Promise<void> {
    this.#stop.abort(new Error('ended'));
    await this.pool?.stopped();
    this.#journal?.close();
  }
}
