// For this folder's tests alone: VPC states made by hand, and commands and TCP in the namespaces of a fabric.
import { type ChildProcessWithoutNullStreams, execFile, spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import fc from 'fast-check';
import { openNetns } from '../../kernel/netns.ts';
import { listenTcpIn } from '../../kernel/sockets.ts';
import {
  emptyVpcState,
  type Instance,
  type NetworkInterface,
  type SecurityGroupRule,
  type VpcState,
} from '../vpc/model.ts';
import { createFabric, type Fabric, type FabricOptions } from './fabric.ts';

export const VPC = 'vpc-0aaaaaaaaaaaaaaaa';
export const SUBNET_A = 'subnet-0aaaaaaaaaaaaaa0a';
export const SUBNET_B = 'subnet-0aaaaaaaaaaaaaa0b';
export const TABLE = 'rtb-0aaaaaaaaaaaaaaaa';
export const GATEWAY = 'igw-0aaaaaaaaaaaaaaaa';
export const GROUP = 'sg-0aaaaaaaaaaaaaaaa';
export const OPEN_GROUP = 'sg-0bbbbbbbbbbbbbbbb';
export const INTERNET_HOST = '203.0.113.10';

let ruleCount = 0;
export const allow = (
  direction: SecurityGroupRule['direction'],
  peer: string,
  protocol = '-1',
  ports?: [number, number],
): SecurityGroupRule => ({
  id: `sgr-${++ruleCount}`,
  direction,
  protocol,
  ...(ports ? { fromPort: ports[0], toPort: ports[1] } : {}),
  peer: peer.startsWith('sg-') ? { kind: 'group', groupId: peer } : { kind: 'cidr', cidr: peer },
});

/** One VPC with an internet gateway, two subnets, and a group that lets its members talk. */
export function smallVpc(): VpcState {
  const state = emptyVpcState('us-west-2', ['us-west-2a', 'us-west-2b']);
  state.vpcs[VPC] = {
    id: VPC,
    cidrs: [{ cidr: '10.0.0.0/16', associationId: 'a' }],
    isDefault: false,
    tags: {},
  };
  const subnet = { vpcId: VPC, mapPublicIpOnLaunch: false, tags: {} };
  state.subnets[SUBNET_A] = { ...subnet, id: SUBNET_A, cidr: '10.0.0.0/19', zone: 'us-west-2a' };
  state.subnets[SUBNET_B] = { ...subnet, id: SUBNET_B, cidr: '10.0.32.0/19', zone: 'us-west-2b' };
  state.internetGateways[GATEWAY] = { id: GATEWAY, vpcId: VPC, tags: {} };
  state.routeTables[TABLE] = {
    id: TABLE,
    vpcId: VPC,
    routes: [
      { destination: '10.0.0.0/16', target: { kind: 'local' } },
      { destination: '0.0.0.0/0', target: { kind: 'internet-gateway', id: GATEWAY } },
    ],
    associations: [{ id: 'rtbassoc-1', main: true }],
    tags: {},
  };
  addGroup(state, GROUP, [allow('ingress', GROUP), allow('egress', '0.0.0.0/0')]);
  return state;
}

/** The VPC's blocks, routes and rules of IPv6, as EC2 makes them. */
export function giveIpv6(state: VpcState): void {
  state.vpcs[VPC]!.ipv6Cidrs = [{ cidr: IPV6_BLOCK, associationId: 'v6' }];
  state.subnets[SUBNET_A]!.ipv6Cidrs = [{ cidr: '2600:1f14:1:101::/64', associationId: 'a6' }];
  state.subnets[SUBNET_B]!.ipv6Cidrs = [{ cidr: '2600:1f14:1:102::/64', associationId: 'b6' }];
  state.routeTables[TABLE]!.routes.push(
    { destination: IPV6_BLOCK, target: { kind: 'local' } },
    { destination: '::/0', target: { kind: 'internet-gateway', id: GATEWAY } },
  );
  state.securityGroups[GROUP]!.rules.push(allow('egress', '::/0'));
}
export const IPV6_BLOCK = '2600:1f14:1:100::/56';

export function addGroup(state: VpcState, id: string, rules: SecurityGroupRule[]): void {
  state.securityGroups[id] = { id, vpcId: VPC, name: id, description: '', rules, tags: {} };
}

export type EniOptions = {
  ips: string[];
  subnetId?: string;
  groups?: string[];
  instance?: string;
  deviceIndex?: number;
  sourceDestCheck?: boolean;
};

/** `number` makes id and MAC: eni-…0a and 02:00:00:00:00:0a for 10. */
export function addEni(state: VpcState, number: number, options: EniOptions): NetworkInterface {
  const id = `eni-${number.toString(16).padStart(17, '0')}`;
  const hex = number.toString(16).padStart(4, '0');
  const eni: NetworkInterface = {
    id,
    mac: `02:00:00:00:${hex.slice(0, 2)}:${hex.slice(2)}`,
    vpcId: VPC,
    subnetId: options.subnetId ?? SUBNET_A,
    zone: 'us-west-2a',
    description: '',
    interfaceType: 'interface',
    status: options.instance ? 'in-use' : 'available',
    sourceDestCheck: options.sourceDestCheck ?? true,
    groupIds: options.groups ?? [GROUP],
    privateIps: options.ips,
    ipv6Addresses: [],
    ipv4Prefixes: [],
    ipv6Prefixes: [],
    requesterId: 'test',
    createTime: 0,
    tags: {},
  };
  if (options.instance) {
    eni.attachment = {
      id: `eni-attach-${number}`,
      instanceId: options.instance,
      deviceIndex: options.deviceIndex ?? 0,
      networkCardIndex: 0,
      status: 'attached',
      deleteOnTermination: true,
      attachTime: 0,
    };
  }
  state.networkInterfaces[id] = eni;
  return eni;
}

/** An instance with its primary ENI; its id is `i-NAME`. */
export function addInstance(state: VpcState, name: string, number: number, options: EniOptions): Instance {
  const subnetId = options.subnetId ?? SUBNET_A;
  const instance: Instance = {
    id: `i-${name}`,
    name,
    instanceType: 'm5.large',
    state: 'running',
    imageId: 'ami-1',
    subnetId,
    vpcId: VPC,
    zone: 'us-west-2a',
    launchTime: 0,
    hopLimit: 2,
    httpTokens: 'required',
    httpEndpoint: 'enabled',
    reservationId: 'r-1',
    agent: 'none',
    tags: {},
  };
  state.instances[instance.id] = instance;
  addEni(state, number, { ...options, instance: instance.id });
  return instance;
}

export const eniId = (number: number): string => `eni-${number.toString(16).padStart(17, '0')}`;

/** a and b in one subnet, c in the other. */
export function threeInstances(): VpcState {
  const state = smallVpc();
  addInstance(state, 'a', 0x0a, { ips: ['10.0.0.10'] });
  addInstance(state, 'b', 0x0b, { ips: ['10.0.0.11'] });
  addInstance(state, 'c', 0x0c, { ips: ['10.0.32.10'], subnetId: SUBNET_B });
  return state;
}

export const edit = (state: VpcState, change: (copy: VpcState) => void): VpcState => {
  const copy = structuredClone(state);
  change(copy);
  return copy;
};

export const skipReason = process.getuid?.() === 0 ? false : 'needs root for network namespaces';

export type Bench = {
  fabric: Fabric;
  dir: string;
  lab: string;
  /** Runs a shell command in a place; resolves with its output, rejects when it fails. */
  sh(where: string, command: string): Promise<string>;
  /** Brings a guest's link up; resolves when the router's end passes packets (see Applier's #running). */
  linkUp(where: string, link: string): Promise<unknown>;
  /** Received replies of `count` pings. */
  ping(where: string, to: string, options?: string): Promise<number>;
  /** Listens in a place; every line is answered with `PEER LOCAL LINE`. */
  serve(where: string, port: number, address?: string): Promise<void>;
  /** The answer to one line, or null when there was no connection within a second. */
  ask(where: string, to: string, port: number): Promise<string | null>;
  stream(where: string, to: string, port: number): Promise<Stream>;
  [Symbol.asyncDispose](): Promise<void>;
};

/** An open connection: `echo` sends a line and resolves with the answer, or null after a second of silence. */
export type Stream = { echo(line: string): Promise<string | null>; close(): void };

let benches = 0;

/** A fabric in namespaces of its own, removed with all that was started in it. */
export function bench(options: Partial<FabricOptions> = {}): Bench {
  const lab = options.lab ?? `pwtfabric${process.pid}x${++benches}`;
  const dir = options.dir ?? mkdtempSync(join(tmpdir(), 'podway-fabric-'));
  const fabric = createFabric({ lab, dir, ...options });
  const servers: Server[] = [];
  const sockets = new Set<Socket>();
  const children: ChildProcessWithoutNullStreams[] = [];

  const sh = (where: string, command: string) =>
    new Promise<string>((resolve, reject) => {
      const args = ['netns', 'exec', fabric.netnsOf(where), 'sh', '-c', command];
      execFile('ip', args, { timeout: 60_000 }, (error, stdout, stderr) =>
        error
          ? reject(new Error(`${where}: ${command}: ${stderr || stdout}`, { cause: error }))
          : resolve(stdout),
      );
    });

  async function stream(where: string, to: string, port: number): Promise<Stream> {
    // Bash opens TCP by itself; each line of stdin is sent, and its answer or LOST printed.
    const script = `exec 3<>/dev/tcp/${to}/${port} || exit 1; echo OPEN; while read -r l; do echo "$l" >&3; if read -r -t 1 r <&3; then echo "$r"; else echo LOST; fi; done`;
    const child = spawn('ip', ['netns', 'exec', fabric.netnsOf(where), 'bash', '-c', script]);
    children.push(child);
    const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
    const opened = await Promise.race([
      lines.next().then((line) => line.value === 'OPEN'),
      new Promise<false>((resolve) => setTimeout(resolve, 1000, false).unref()),
    ]);
    if (!opened) {
      child.kill();
      throw new Error(`${where} cannot connect to ${to}:${port}`);
    }
    return {
      async echo(line) {
        child.stdin.write(`${line}\n`);
        const answer = (await lines.next()).value as string | undefined;
        return answer === undefined || answer === 'LOST' ? null : answer;
      },
      close: () => void child.kill(),
    };
  }

  return {
    fabric,
    dir,
    lab,
    sh,
    async linkUp(where, link) {
      await sh(where, `ip link set ${link} up`);
      await sh('vpc', 'for link in $(ls /sys/class/net); do ip link show $link; done');
    },
    async ping(where, to, pingOptions = '-c1 -W0.5') {
      const output = await sh(where, `ping -n ${pingOptions} ${to} || true`);
      return Number(/(\d+) received/.exec(output)?.[1] ?? 0);
    },
    async serve(where, port, address = '0.0.0.0') {
      using ns = openNetns(`/run/netns/${fabric.netnsOf(where)}`);
      const fd = listenTcpIn(ns, address, port);
      const server = createServer((socket) => {
        sockets.add(socket);
        socket.on('error', () => {});
        createInterface({ input: socket }).on('line', (line) =>
          socket.write(`${socket.remoteAddress} ${socket.localAddress} ${line}\n`),
        );
      });
      servers.push(server);
      await new Promise<void>((resolve) => server.listen({ fd }, resolve));
    },
    async ask(where, to, port) {
      try {
        const one = await stream(where, to, port);
        const answer = await one.echo('hello');
        one.close();
        return answer;
      } catch {
        return null;
      }
    },
    stream,
    async [Symbol.asyncDispose]() {
      for (const child of children) child.kill('SIGKILL');
      for (const server of servers) server.close();
      for (const socket of sockets) socket.destroy();
      await fabric.destroy();
      if (options.dir === undefined) rmSync(dir, { recursive: true, force: true });
    },
  };
}

/** Waits until it holds, a bounded time. */
export async function until(
  condition: () => boolean | Promise<boolean>,
  what: string,
  ms = 30_000,
): Promise<void> {
  const end = Date.now() + ms;
  while (!(await condition())) {
    if (Date.now() > end) throw new Error(`not within ${ms} ms: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

/** States with anything attached anywhere, some of it impossible on AWS: a plan must be whole all the same. */
export const anyState = fc
  .tuple(
    fc.boolean(),
    fc.array(
      fc.record({
        instance: fc.integer({ min: 0, max: 3 }),
        running: fc.boolean(),
        ips: fc.uniqueArray(fc.integer({ min: 4, max: 60 }), { minLength: 1, maxLength: 4 }),
        second: fc.boolean(),
        check: fc.boolean(),
        groups: fc.subarray(['sg-1', 'sg-2', 'sg-3'], { minLength: 1 }),
        status: fc.constantFrom('attached' as const, 'attaching' as const, 'detaching' as const, undefined),
        isPublic: fc.boolean(),
        six: fc.integer({ min: 0, max: 2 }),
        prefix: fc.boolean(),
      }),
      { maxLength: 8 },
    ),
  )
  .map(([hasIpv6, enis]) => {
    const state = smallVpc();
    if (hasIpv6) giveIpv6(state);
    addGroup(state, 'sg-1', [allow('ingress', 'sg-2'), allow('egress', '0.0.0.0/0')]);
    addGroup(state, 'sg-2', [allow('ingress', 'sg-1', 'tcp', [1, 9])]);
    const taken = new Set<number>();
    for (const [i, eni] of enis.entries()) {
      const ips = eni.ips.filter((ip) => !taken.has(ip));
      for (const ip of ips) taken.add(ip);
      if (ips.length === 0) continue;
      const subnetId = eni.second ? SUBNET_B : SUBNET_A;
      const name = `n${eni.instance}`;
      const made = {
        ips: ips.map((ip) => `10.0.${eni.second ? 32 : 0}.${ip}`),
        subnetId,
        groups: eni.groups,
      };
      if (state.instances[`i-${name}`])
        addEni(state, i + 1, { ...made, instance: `i-${name}`, deviceIndex: i });
      else addInstance(state, name, i + 1, made).state = eni.running ? 'running' : 'stopped';
      const one = state.networkInterfaces[eniId(i + 1)]!;
      one.sourceDestCheck = eni.check;
      if (eni.status === undefined) delete one.attachment;
      else one.attachment!.status = eni.status;
      const block = state.subnets[subnetId]!.ipv6Cidrs?.[0]?.cidr.replace('/64', '');
      for (let n = 0; block !== undefined && n < eni.six; n++)
        one.ipv6Addresses.push(`${block}${i + 1}:${n}`);
      if (block !== undefined && eni.prefix)
        one.ipv6Prefixes.push(`${block.replace('::', '')}:${(i + 1).toString(16)}::/80`);
      if (eni.isPublic) {
        const publicIp = `198.51.100.${i + 1}`;
        state.publicAddresses[publicIp] = { publicIp, networkInterfaceId: one.id, tags: {} };
      }
    }
    return state;
  });
