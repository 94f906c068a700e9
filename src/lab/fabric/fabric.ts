// The lab's VPC on real packets: namespaces, links, routes and nft tables that follow the VPC's state.
// Value, diff, apply. The first apply of a process reads the kernel; later ones start from what the last one left, so
// that one more address costs one neighbour and one batch of elements. After any failure the kernel is read again.
// Nothing here is needed for packets to flow: they go on while no process of the lab lives.
import { formatIp, type Ip, parseIp } from '../../base/ip.ts';
import { bindUdpIn, listenTcpIn } from '../../kernel/sockets.ts';
import type { VpcState } from '../vpc/model.ts';
import { Applier, type Fault } from './apply.ts';
import type { Entries } from './entries.ts';
import { IMDS_PORT, INTERNET, netnsName, RESOLVER_ADDRESS, RESOLVER_ADDRESS6, ROUTER } from './names.ts';
import { desiredFabric, type FabricPlan } from './plan.ts';
import { callerAddress, callerAddress6 } from './ruleset.ts';
import { Spaces } from './spaces.ts';

export type FabricLog = {
  info(values: object, message: string): void;
  warn(values: object, message: string): void;
};

export type FabricOptions = {
  lab: string;
  /** The lab's folder: the names of its namespaces are written down in it. */
  dir: string;
  log?: FabricLog;
  fault?: Fault;
};

export type Fabric = {
  /** Brings the kernel to the state; calls that come while one runs are answered by one more run for all of them. */
  apply(state: VpcState): Promise<void>;
  /** As apply of the last state, from a fresh look at the kernel. */
  repair(): Promise<void>;
  /** Name under `ip netns` of a place: `vpc`, `internet`, or an instance by its name or id. */
  netnsOf(where: string): string;
  /** The life (see lifeOf) that each namespace was made for, by its place; the router's and the internet's is empty. */
  lives(): Map<string, string>;
  /** A listening TCP socket in the router's namespace, for `server.listen({ fd })`. */
  listen(address: string, port: number, options?: { ttl?: number }): number;
  /** The listening socket that all instances reach at 169.254.169.254 port 80. */
  listenImds(): number;
  /** The same at [fd00:ec2::254], once `hasIpv6`. */
  listenImds6(): number;
  /** A UDP socket in the router's namespace, for `socket.bind({ fd })`. */
  bindUdp(address: string, port: number): number;
  /** Where VPCs of the last state ask their resolver. */
  resolvers(): string[];
  /** A VPC of the last state has IPv6, so that the router does. */
  hasIpv6(): boolean;
  /** The instance that a connection to that socket comes from, by its `localAddress`. Null when there is none. */
  instanceOf(localAddress: string): Caller | null;
  /** Removes every namespace, and with them everything. Idempotent; needs no apply before. */
  destroy(): Promise<void>;
  /** Lets go of sockets and descriptors; the packets flow on. */
  close(): Promise<void>;
};

export type Caller = { instanceId: string; eniId: string };

type Waiter = { resolve: () => void; reject: (error: unknown) => void };

export function createFabric(options: FabricOptions): Fabric {
  const { lab, dir, log } = options;
  const spaces = new Spaces(lab, dir);
  const applier = new Applier(spaces, options.fault);
  /** What the kernel says, as far as we know; null when it must be asked. */
  let known: Entries | null = null;
  let plan: FabricPlan | null = null;
  let callers: Map<Ip, Caller> | null = null;
  let problems = '';
  let next: { state: VpcState; waiters: Waiter[] } | null = null;
  let last: VpcState | null = null;
  let running: Promise<void> | null = null;

  async function bring(state: VpcState): Promise<void> {
    const wanted = desiredFabric(state);
    if (wanted.problems.join() !== problems) {
      problems = wanted.problems.join();
      for (const problem of wanted.problems) log?.warn({ lab }, problem);
    }
    const from = known;
    known = null;
    try {
      if (from === null) await applier.converge(wanted.entries);
      else await applier.change(from, wanted.entries);
    } catch (error) {
      if (from === null) throw error;
      log?.warn({ lab, err: error }, 'the fabric is not as it was left; reading it again');
      await applier.converge(wanted.entries);
    }
    known = wanted.entries;
    plan = wanted;
    callers = null;
  }

  async function run(): Promise<void> {
    while (next !== null) {
      const { state, waiters } = next;
      next = null;
      last = state;
      try {
        await bring(state);
        for (const waiter of waiters) waiter.resolve();
      } catch (error) {
        for (const waiter of waiters) waiter.reject(error);
      }
    }
    running = null;
  }

  function apply(state: VpcState): Promise<void> {
    return new Promise((resolve, reject) => {
      next = { state, waiters: [...(next?.waiters ?? []), { resolve, reject }] };
      running ??= Promise.resolve().then(run);
    });
  }

  /** Waits for a run that is under way, and leaves none behind. */
  async function settle(): Promise<void> {
    while (running !== null) await running;
  }

  return {
    apply,
    async repair() {
      await settle();
      known = null;
      if (last !== null) await apply(last);
    },
    netnsOf: (where) => netnsName(lab, plan?.places.get(where) ?? where),
    lives: () => spaces.lives(),
    listen: (address, port, socketOptions) => listenTcpIn(spaces.at(ROUTER).ns, address, port, socketOptions),
    listenImds: () => listenTcpIn(spaces.at(ROUTER).ns, '0.0.0.0', IMDS_PORT),
    listenImds6: () => listenTcpIn(spaces.at(ROUTER).ns, '::', IMDS_PORT),
    bindUdp: (address, port) => bindUdpIn(spaces.at(ROUTER).ns, address, port),
    resolvers() {
      const own = [...(plan?.entries.values() ?? [])].flatMap((one) =>
        one.kind === 'resolver' ? one.ip : [],
      );
      const six = plan?.entries.has('ipv6') ? [RESOLVER_ADDRESS6] : [];
      return [RESOLVER_ADDRESS, ...own, ...six].map(formatIp);
    },
    hasIpv6: () => plan?.entries.has('ipv6') ?? false,
    instanceOf(localAddress) {
      callers ??= callersOf(plan, (port) => applier.indexOf(port));
      return callers.get(parseIp(localAddress)) ?? null;
    },
    async destroy() {
      await settle();
      known = null;
      plan = null;
      const places = new Set([...spaces.recorded(), ROUTER, INTERNET]);
      const router = spaces.open(ROUTER);
      if (router) await applier.removeLinks(router);
      await applier.close();
      // The router last: while it is there, a destroy that was cut off can still find the links.
      for (const where of [...places].filter((one) => one !== ROUTER)) spaces.remove(where);
      spaces.remove(ROUTER);
      spaces.forgetAll();
    },
    async close() {
      await settle();
      await applier.close();
      spaces.close();
      known = null;
    },
  };
}

/** Which port's packets the server finds itself called by, by the address that it is called at. */
function callersOf(plan: FabricPlan | null, indexOf: (port: string) => number | undefined): Map<Ip, Caller> {
  const callers = new Map<Ip, Caller>();
  for (const entry of plan?.entries.values() ?? []) {
    const index = entry.kind === 'port' ? indexOf(entry.name) : undefined;
    if (entry.kind !== 'port' || index === undefined) continue;
    const caller = { instanceId: entry.instanceId, eniId: entry.eniId };
    callers.set(callerAddress(index), caller);
    callers.set(callerAddress6(index), caller);
  }
  return callers;
}
