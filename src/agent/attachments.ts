// Runs ADD, DEL, CHECK and GC of attachments with the pool and the datapath.
// Invariant: one operation at a time per container id and interface name; an ADD that fails, or whose caller has gone,
// leaves no address, link, route or element; DEL of an absent attachment succeeds.
import { statSync } from 'node:fs';
import { isEgress } from '../base/egress.ts';
import { PodwayError } from '../base/errors.ts';
import { bitsOf, type Cidr, familyOf, formatIp, type Ip, parseCidr, parseIp } from '../base/ip.ts';
import type { CniRequest, Result, Route } from '../cni/types.ts';
import { linkAlias } from '../datapath/alias.ts';
import type { Datapath } from '../datapath/datapath.ts';
import type { PodEnd } from '../datapath/pod-end.ts';
import type { PodRoute, PodWiring } from '../datapath/types.ts';
import { defaultRoutes } from '../datapath/wire.ts';
import type { AddressPool } from '../ipam/pool.ts';
import type { AttachmentId, Lease, Owner } from '../ipam/state.ts';
import { type Netns, openNetns } from '../kernel/netns.ts';
import type { Branch } from './branch-pods.ts';
import { KeyedLock } from './keyed-lock.ts';
import { linkOf } from './links.ts';
import { PRIMARY_SLOT } from './node-state.ts';
import type { Policies } from './policies.ts';

type Of<V extends CniRequest['verb']> = Extract<CniRequest, { verb: V }>;

export type AttachmentsOptions = {
  pool: AddressPool;
  datapath: Pick<Datapath, 'wirePod' | 'cutPod' | 'checkPod' | 'reapLinks' | 'repair'>;
  ownNetns: Netns;
  /** Puts policies in force before a pod's link is made; absent where nothing judges. */
  policies?: Pick<Policies, 'admit' | 'release'>;
  /** Pods with branch ENIs; absent where no API tells of them. */
  branches?: Branches;
  /** Bytes, when neither the config nor a setting says otherwise. */
  defaultMtu: () => number;
};

/** What ADD and DEL of a pod with a branch need beside the rest. */
export type Branches = {
  /** Null for a pod without one; waits for the annotation, a bounded time. */
  of(pod: NonNullable<Owner['pod']>, signal: AbortSignal): Promise<Branch | null>;
  /** False for a pod that surely has none and needs none. */
  concerns(pod: NonNullable<Owner['pod']>): boolean;
  /** The node's trunk is known and has its link. Throws BRANCH_PENDING after a bounded time. */
  trunk(signal: AbortSignal): Promise<void>;
  /** Makes the stand-in and the ways of a lease's branch: call before the pod's link is made. */
  make(lease: Lease): Promise<void>;
  /** Completes its zone: call after the pod's link is wired. */
  join(lease: Lease): Promise<void>;
  /** Takes all of it away: call when the lease is over. */
  drop(lease: Lease): Promise<void>;
  /** No connection of the last pod that had the address is left. */
  forget(ip: Ip): Promise<unknown>;
};

/** ADD gives up after this many attempts to wire the pod, with a repair of the node between two attempts. */
const REWIRE_TRIES = 3;
/** CNI 1.1 gives a route's scope as the kernel's number (linux/rtnetlink.h). */
const scopes: Record<number, NonNullable<PodRoute['scope']>> = { 0: 'universe', 253: 'link', 254: 'host' };

export class Attachments {
  readonly #o: AttachmentsOptions;
  readonly #locks = new KeyedLock();
  /** What each ADD made in its pod, by name of the host link. */
  readonly #ends = new Map<string, { at: number; end: PodEnd }>();

  constructor(options: AttachmentsOptions) {
    this.#o = options;
  }

  /** Throws ATTACHMENT_EXISTS, INVALID_NETNS, UNSUPPORTED_FIELD, or the pool's cause when there is no address. */
  add(request: Of<'ADD'>, signal: AbortSignal): Promise<Result> {
    return this.#locks.run(keyOf(request), async () => {
      using netns = this.#sandbox(request.netns);
      const { wishes } = request.conf;
      if (wishes.ips) {
        throw new PodwayError(
          'UNSUPPORTED_FIELD',
          `ips ${wishes.ips.join(', ')}: addresses cannot be chosen by the caller`,
          {
            object: 'ips',
          },
        );
      }
      const owner = ownerOf(request);
      this.#refuseHeld(owner);
      const wished = wishedRoutes(wishes.routes);
      const lease =
        (owner.pod && this.#o.branches?.concerns(owner.pod)
          ? await this.#branchLease(owner, signal)
          : null) ??
        this.#o.pool.tryAcquire(owner) ??
        (await this.#o.pool.acquire(owner, signal));
      const routes = podRoutes(wishes.defaultRoute, wished, lease.ips);
      try {
        const waiting = this.#o.policies?.admit(owner.pod, lease.ips, signal);
        if (waiting) await waiting;
        const wiring = {
          containerId: request.containerId,
          ifname: request.ifname,
          netns,
          netnsPath: request.netns,
          ips: lease.ips,
          eni: lease.eni ?? PRIMARY_SLOT,
          ...(lease.branch ? { vlan: lease.branch.vlan, mode: lease.branch.mode } : {}),
          mtu: wishes.mtu ?? this.#o.defaultMtu(),
          routes,
          hostIfname: linkOf(owner),
          alias: linkAlias(owner),
          ...(wishes.mac === undefined ? {} : { mac: wishes.mac }),
        };
        const forgotten = lease.branch ? this.#forget(lease) : undefined;
        if (lease.branch) await this.#o.branches?.make(lease);
        const wired = this.#tryWire(wiring) ?? (await this.#wireAgain(wiring, signal));
        if (lease.branch) await this.#o.branches?.join(lease);
        await forgotten;
        signal.throwIfAborted();
        this.#ends.set(wiring.hostIfname, {
          at: lease.at,
          end: { mac: wishes.mac, mtu: wiring.mtu, routes },
        });
        return resultOf(request, wired, routes);
      } catch (error) {
        await this.#over([lease], 'add-failed');
        throw error;
      }
    });
  }

  /** Null for a pod without a branch. */
  async #branchLease(owner: Owner, signal: AbortSignal): Promise<Lease | null> {
    const { branches, pool } = this.#o;
    const branch = owner.pod && (await branches?.of(owner.pod, signal));
    if (!branch) return null;
    await branches?.trunk(signal);
    return pool.holdBranch(owner, branch.ref, branch.ips);
  }

  /** What the pod's addresses had before is gone before ADD answers. The kernel walks its table beside what else is done. */
  #forget({ ips }: Lease): Promise<unknown> {
    const forgotten = Promise.all(ips.map((ip) => this.#o.branches?.forget(ip)));
    // An ADD that fails before it looks at this does not fail twice.
    forgotten.catch(() => undefined);
    return forgotten;
  }

  /** Null when others removed an ENI's link or the nft table that the wiring needs. */
  #tryWire(wiring: PodWiring): Wired | null {
    try {
      return this.#o.datapath.wirePod(wiring);
    } catch (error) {
      if (error instanceof PodwayError && error.code === 'DATAPATH_CHANGED') return null;
      throw error;
    }
  }

  /** Repairs links and table, then wires. If others keep removing them, throws DATAPATH_CHANGED. */
  async #wireAgain(wiring: PodWiring, signal: AbortSignal): Promise<Wired> {
    for (let tries = 1; tries < REWIRE_TRIES; tries++) {
      await this.#o.datapath.repair(['links', 'table'], { urgent: true });
      signal.throwIfAborted();
      const wired = this.#tryWire(wiring);
      if (wired) return wired;
    }
    return this.#o.datapath.wirePod(wiring);
  }

  /**
   * Idempotent. Needs neither the namespace nor prevResult; touches nothing of a newer attachment. Aborts an ADD of the
   * same attachment that waits for an address: otherwise DEL would wait for that ADD.
   */
  del(request: Pick<Of<'DEL'>, 'containerId' | 'ifname'> & { network: string }): Promise<void> {
    this.#o.pool.endWait(request.containerId, request.ifname);
    return this.#locks.run(keyOf(request), () => this.#delHeld(request));
  }

  /** Throws INTERNAL with every difference between the kernel and what ADD made. */
  check(request: Of<'CHECK'>): Promise<void> {
    return this.#locks.run(keyOf(request), () => {
      const key = { network: request.conf.name, containerId: request.containerId, ifname: request.ifname };
      const lease = this.#held(key);
      if (!lease) {
        throw new PodwayError(
          'INTERNAL',
          `${request.ifname} of container ${request.containerId} has no address on this node`,
          {
            object: `${request.containerId}/${request.ifname}`,
          },
        );
      }
      const own = request.prevResult.interfaces.find(
        (link) => link.name === request.ifname && link.sandbox !== undefined,
      );
      const wrong = this.#o.datapath.checkPod({
        hostIfname: linkOf(lease.owner),
        ifname: request.ifname,
        netnsPath: request.netns,
        ips: lease.ips,
        eni: lease.branch ? PRIMARY_SLOT : lease.eni,
        mode: lease.branch?.mode,
        ...(own?.mac === undefined ? {} : { mac: own.mac.toLowerCase() as never }),
        ...(own?.mtu === undefined ? {} : { mtu: own.mtu }),
        routes: podRoutes(
          request.conf.wishes.defaultRoute,
          wishedRoutes(request.conf.wishes.routes),
          lease.ips,
        ),
      });
      if (wrong.length > 0) {
        throw new PodwayError(
          'INTERNAL',
          `${request.ifname} of container ${request.containerId}: ${wrong.join('; ')}`,
          {
            object: `${request.containerId}/${request.ifname}`,
          },
        );
      }
    });
  }

  /** Removes every attachment of the network that existed before the call and is not in the valid list. */
  async gc(request: Of<'GC'>, now: number): Promise<void> {
    const valid = new Set(request.valid.map(keyOf));
    // Gives nameless holders (known only by their link) their names; those still nameless are kept.
    for (const { containerId, ifname } of request.valid)
      this.#held({ network: request.conf.name, containerId, ifname });
    const stale = this.#o.pool
      .held()
      .filter(
        (lease) =>
          lease.owner.network === request.conf.name && lease.at <= now && !valid.has(keyOf(lease.owner)),
      );
    const failures: string[] = [];
    for (const { owner, at } of stale) {
      try {
        await this.#locks.run(keyOf(owner), () => {
          if (this.#o.pool.find(owner)?.at === at) return this.#delHeld(owner);
        });
      } catch (error) {
        failures.push(`${owner.containerId}/${owner.ifname}: ${(error as Error).message}`);
      }
    }
    if (failures.length > 0)
      throw new PodwayError('INTERNAL', `GC of ${request.conf.name}: ${failures.join('; ')}`, {
        object: request.conf.name,
        has: failures.length,
        limit: stale.length,
      });
  }

  /** Runs `work` if the lease still holds, while no other operation of its attachment runs. */
  whileHeld(lease: Lease, work: () => void): Promise<void> {
    return this.#locks.run(keyOf(lease.owner), () => {
      if (this.#o.pool.find(lease.owner)?.at === lease.at) work();
    });
  }

  /** The sandbox of a lease, open; null when it is gone. */
  sandboxOf({ owner }: Lease): Netns | null {
    try {
      return owner.netns === undefined ? null : this.#sandbox(owner.netns);
    } catch (error) {
      if (error instanceof PodwayError && error.code === 'INVALID_NETNS') return null;
      throw error;
    }
  }

  /** The pod's end as the lease's ADD made it; undefined when an earlier agent process ran that ADD. */
  wiredEnd(lease: Lease): PodEnd | undefined {
    const wired = this.#ends.get(linkOf(lease.owner));
    return wired?.at === lease.at ? wired.end : undefined;
  }

  /** Releases a lease whose sandbox is gone, since its DEL may never come. Call only inside whileHeld. */
  giveUp(lease: Lease): void {
    void this.#over([lease], 'vanished');
  }

  #sandbox(path: string): Netns {
    // A relative path would mean one file to the plugin and another to the agent: their working directories differ.
    if (!path.startsWith('/')) {
      throw new PodwayError('INVALID_NETNS', `${path} is not an absolute path`, { object: path });
    }
    let netns: Netns;
    try {
      netns = openNetns(path);
    } catch (error) {
      throw new PodwayError(
        'INVALID_NETNS',
        `${path} is not a network namespace: ${(error as Error).message}`,
        { object: path },
        { cause: error },
      );
    }
    const whose =
      netns.inode === this.#o.ownNetns.inode ? 'node' : netns.inode === MACHINE_NETNS ? 'machine' : undefined;
    if (!whose) return netns;
    netns.close();
    throw new PodwayError('INVALID_NETNS', `${path} is the ${whose}'s own network namespace`, {
      object: path,
    });
  }

  #refuseHeld(owner: Owner): void {
    const held = this.#held(owner);
    if (!held) return;
    throw new PodwayError(
      'ATTACHMENT_EXISTS',
      `${owner.ifname} of container ${owner.containerId} holds ${held.ips.map(formatIp).join(', ')} already`,
      { object: `${owner.containerId}/${owner.ifname}`, since: held.at },
    );
  }

  /** The attachment's lease. A holder known only by its link is given the attachment's name here. */
  #held(key: AttachmentId): Lease | null {
    const { pool } = this.#o;
    return pool.find(key) ?? (pool.hasNameless ? pool.name(key, linkOf(key)) : null);
  }

  #delHeld(key: { network: string; containerId: string; ifname: string }): void | Promise<void> {
    // A container has each interface name once, so the lease is found even if the network was renamed since ADD.
    const leases = this.#o.pool.findByContainer(key.containerId, key.ifname);
    const nameless = leases.length === 0 ? this.#o.pool.findByLink(linkOf(key)) : null;
    if (nameless) leases.push(nameless);
    if (leases.length === 0) this.#o.datapath.cutPod({ hostIfname: linkOf(key) });
    return this.#over(leases, 'del');
  }

  /** Ends leases; only what a branch left is waited for. */
  #over(leases: readonly Lease[], reason: string): void | Promise<void> {
    for (const lease of leases) this.#end(lease, reason);
    // The answer does not wait for the links: a thread deletes them together within 100 ms.
    void this.#o.datapath.reapLinks();
    const branched = leases.filter((lease) => lease.branch);
    if (branched.length > 0) return this.#branchesEnded(branched);
  }

  /** Stand-ins, rules and elements without a lease go; the repair loop would find them too. */
  async #branchesEnded(leases: readonly Lease[]): Promise<void> {
    for (const lease of leases) await this.#o.branches?.drop(lease);
  }

  #end(lease: Lease, reason: string): void {
    this.#o.datapath.cutPod(targetOf(lease));
    this.#o.policies?.release(lease.owner.pod, lease.ips);
    this.#o.pool.release(lease.owner, reason);
    this.#ends.delete(linkOf(lease.owner));
  }
}

/** Network namespace of process 1: on a node the node's own, in a lab that of the user's machine. */
const MACHINE_NETNS = ((): bigint | undefined => {
  try {
    return statSync('/proc/1/ns/net', { bigint: true }).ino;
  } catch {
    return undefined;
  }
})();

const keyOf = (key: { containerId: string; ifname: string }): string => `${key.containerId}/${key.ifname}`;

const targetOf = ({ owner, ips }: Lease) => ({
  hostIfname: linkOf(owner),
  ips,
  netnsPath: owner.netns,
});

const ownerOf = (request: Of<'ADD'>): Owner => ({
  network: request.conf.name,
  containerId: request.containerId,
  ifname: request.ifname,
  netns: request.netns,
  ...(request.pod ? { pod: request.pod } : {}),
});

function wishedRoutes(wished: readonly Route[]): PodRoute[] {
  return wished.map((route): PodRoute => {
    const dst: Cidr = parseCidr(route.dst);
    const scope = route.scope === undefined ? undefined : scopes[route.scope];
    if (route.scope !== undefined && !scope) {
      throw new PodwayError(
        'INVALID_CONFIG',
        `route ${route.dst} has scope ${route.scope}, not 0, 253 or 254`,
        { object: 'routes' },
      );
    }
    return {
      dst,
      ...(route.gw === undefined ? {} : { gateway: parseIp(route.gw) }),
      ...(route.mtu === undefined ? {} : { mtu: route.mtu }),
      ...(route.advmss === undefined ? {} : { advmss: route.advmss }),
      ...(route.priority === undefined ? {} : { priority: route.priority }),
      ...(route.table === undefined ? {} : { table: route.table }),
      ...(scope === undefined ? {} : { scope }),
    };
  });
}

/** The wished routes, and a default route for each family of the pod that has none of them. */
function podRoutes(defaultRoute: boolean, wished: readonly PodRoute[], ips: readonly Ip[]): PodRoute[] {
  if (!defaultRoute) return [...wished];
  const isDefault = (route: PodRoute) => route.dst.length === 0 && (route.table ?? 254) === 254;
  const has = new Set(wished.filter(isDefault).map(({ dst }) => familyOf(dst.ip)));
  return [...defaultRoutes(ips).filter(({ dst }) => !has.has(familyOf(dst.ip))), ...wished];
}

type Wired = ReturnType<Datapath['wirePod']>;

/** The result of ADD: prevResult's entries, then the node's end, the pod's end and its addresses. */
function resultOf(request: Of<'ADD'>, wired: Wired, routes: readonly PodRoute[]): Result {
  const before = request.conf.prevResult ?? { interfaces: [], ips: [], routes: [], dns: {} };
  const place = before.interfaces.length + 1;
  const gatewayOf = (ip: Ip) => wired.gateways.find((one) => familyOf(one) === familyOf(ip));
  const withGateway = <K extends string>(key: K, ip: Ip) => {
    const gateway = gatewayOf(ip);
    return gateway === undefined ? {} : ({ [key]: formatIp(gateway) } as { [P in K]: string });
  };
  const isTold = ({ dst }: PodRoute) => dst.length > 0 || familyOf(dst.ip) === 6 || !wired.ips.some(isEgress);
  const asWished = new Map(request.conf.wishes.routes.map((route) => [route.dst, route] as const));
  return {
    interfaces: [
      ...before.interfaces,
      { name: wired.hostIfname, mac: wired.hostMac, mtu: wired.mtu },
      { name: request.ifname, mac: wired.podMac, mtu: wired.mtu, sandbox: request.netns },
    ],
    ips: [
      ...before.ips,
      // What the pod reaches IPv4 hosts by is not its address: nobody reaches it there.
      ...wired.ips
        .filter((ip) => !isEgress(ip))
        .map((ip) => ({
          address: `${formatIp(ip)}/${bitsOf(familyOf(ip))}`,
          interface: place,
          ...withGateway('gateway', ip),
        })),
    ],
    routes: [
      ...before.routes,
      ...routes.filter(isTold).map((route): Route => {
        const dst = `${formatIp(route.dst.ip)}/${route.dst.length}`;
        return asWished.get(dst) ?? { dst, ...withGateway('gw', route.dst.ip) };
      }),
    ],
    dns: Object.keys(request.conf.wishes.dns).length > 0 ? request.conf.wishes.dns : before.dns,
  };
}
