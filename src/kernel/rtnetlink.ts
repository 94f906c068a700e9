// Links, addresses, routes, rules, neighbours and forwarding entries of one namespace: values in, values out.
// A batch is one send; the kernel works it off in order and goes on after a refusal, so a caller that needs all or
// nothing undoes what went through. Refusals are NetlinkError, with the operation, its place and the kernel's words.
import { formatCidr, formatIp } from '../base/ip.ts';
import { ENODEV, ENOENT, NetlinkError } from './errors.ts';
import {
  type Address,
  type AddressOp,
  decodeAddress,
  encodeAddressDump,
  encodeAddressOp,
} from './netlink/address.ts';
import { ByteWriter } from './netlink/bytes.ts';
import {
  decodeLink,
  encodeLinkGet,
  encodeLinkOp,
  type Link,
  type LinkOp,
  type VethAdd,
} from './netlink/link.ts';
import type { Message } from './netlink/message.ts';
import {
  decodeFdb,
  decodeNeighbour,
  encodeFdbDump,
  encodeFdbOp,
  encodeNeighbourDump,
  encodeNeighbourOp,
  type Fdb,
  type FdbOp,
  type Neighbour,
  type NeighbourOp,
} from './netlink/neighbour.ts';
import {
  decodeRoute,
  encodeRouteDump,
  encodeRouteOp,
  type Route,
  type RouteFilter,
  type RouteOp,
  routeMatches,
} from './netlink/route.ts';
import { decodeRule, encodeRuleDump, encodeRuleOp, type Rule, type RuleOp } from './netlink/rule.ts';
import { NETLINK_ROUTE, NetlinkSocket } from './netlink/socket.ts';
import type { Transport } from './netlink/transport.ts';
import type { Netns } from './netns.ts';

export { NetlinkError } from './errors.ts';
export type { Address, AddressOp } from './netlink/address.ts';
export type { BridgePort, Conf4, Link, LinkOp } from './netlink/link.ts';
export type { Fdb, FdbOp, Neighbour, NeighbourOp, NeighbourState } from './netlink/neighbour.ts';
export {
  PROTOCOL,
  type Route,
  type RouteFilter,
  type RouteOp,
  type RouteScope,
  type RouteType,
} from './netlink/route.ts';
export type { Rule, RuleAction, RuleOp } from './netlink/rule.ts';

export type RtOp = LinkOp | AddressOp | RouteOp | RuleOp | NeighbourOp | FdbOp;

export const MAIN_TABLE = 254;
export const LOCAL_TABLE = 255;

/** One send carries at most this much: well under the default send buffer, and more than a thousand operations. */
const BATCH_BYTES = 128 << 10;

/** Appends the operation's messages to the batch; returns how many. */
export function encodeRtOp(w: ByteWriter, op: RtOp): number {
  switch (op.op) {
    case 'veth-add':
    case 'bridge-add':
    case 'link-set':
    case 'link-del':
    case 'group-del':
      return encodeLinkOp(w, op);
    case 'addr-add':
    case 'addr-replace':
    case 'addr-del':
      return encodeAddressOp(w, op);
    case 'route-add':
    case 'route-replace':
    case 'route-del':
      return encodeRouteOp(w, op);
    case 'rule-add':
    case 'rule-del':
      return encodeRuleOp(w, op);
    case 'neigh-replace':
    case 'neigh-del':
      return encodeNeighbourOp(w, op);
    case 'fdb-replace':
    case 'fdb-del':
      return encodeFdbOp(w, op);
  }
}

/** The operation's own values, for an error's message. */
function describe(op: RtOp): string {
  const link = (it: { index?: number; name?: string }) => it.name ?? `link ${it.index}`;
  switch (op.op) {
    case 'group-del':
      return `group ${op.group}`;
    case 'addr-add':
    case 'addr-replace':
    case 'addr-del':
      return `${formatIp(op.ip)}/${op.length} on link ${op.index}`;
    case 'route-add':
    case 'route-replace':
    case 'route-del':
      return `${formatCidr(op.dst)} table ${op.table}${op.gateway === undefined ? '' : ` via ${formatIp(op.gateway)}`}${op.oif === undefined ? '' : ` dev link ${op.oif}`}`;
    case 'rule-add':
    case 'rule-del':
      return `IPv${op.family} priority ${op.priority} table ${op.table}`;
    case 'neigh-replace':
    case 'neigh-del':
      return `${formatIp(op.ip)} on link ${op.index}`;
    case 'fdb-replace':
    case 'fdb-del':
      return `${op.mac} on port ${op.index}`;
    default:
      return link(op);
  }
}

/** The batch of the calling thread: nothing waits between filling it and sending it. */
const batch = new ByteWriter(16 << 10);

const noted = () => {};

export class RtNetlink implements Disposable {
  readonly #socket: NetlinkSocket;
  /** For applyAsync: a socket and a queue of their own, made when first used. */
  #slow: NetlinkSocket | undefined;
  #slowTail: Promise<unknown> = Promise.resolve();
  #closed = false;

  private constructor(socket: NetlinkSocket) {
    this.#socket = socket;
  }

  /** Over anything that takes requests and answers them. */
  static over(transport: Transport): RtNetlink {
    return new RtNetlink(new NetlinkSocket(transport));
  }

  /** A socket in `ns` (the caller's namespace when absent); it stays there and is usable from anywhere. */
  static open(ns?: Netns): RtNetlink {
    return new RtNetlink(NetlinkSocket.open(NETLINK_ROUTE, { ns, strict: true }));
  }

  /** For one batch: as `open`, with fewer calls, and without dumps. */
  static openBriefly(ns: Netns): RtNetlink {
    return new RtNetlink(NetlinkSocket.open(NETLINK_ROUTE, { ns, brief: true }));
  }

  /** Makes the link and tells it as the kernel made it, or what the kernel refused; null when it is gone already. */
  tryCreate(op: VethAdd): Link | NetlinkError | null {
    batch.reset();
    encodeRtOp(batch, op);
    const failed: (NetlinkError | null)[] = [null];
    let made: Link | null = null;
    this.#socket.transact(
      batch,
      (_place, answer) => note(failed, [op], 0, answer),
      (message) => {
        made = decodeLink(message);
      },
    );
    // Before Linux 6.1 the creation of a link has no echo.
    return failed[0] ?? made ?? this.link(op.name);
  }

  /** Does them all in order; throws the first refusal. What follows a refused operation is attempted all the same. */
  apply(ops: readonly RtOp[]): void {
    const failed = this.#run(ops);
    for (const error of failed) if (error) throw error;
  }

  /** As `apply`, with a result per operation: null when it went through. */
  tryApply(ops: readonly RtOp[]): (NetlinkError | null)[] {
    return this.#run(ops);
  }

  #run(ops: readonly RtOp[]): (NetlinkError | null)[] {
    const failed: (NetlinkError | null)[] = Array(ops.length).fill(null);
    for (let from = 0; from < ops.length; ) {
      const { next, owner } = fill(batch, ops, from);
      this.#socket.transact(batch, (place, answer) => note(failed, ops, owner[place]!, answer));
      from = next;
    }
    return failed;
  }

  /**
   * As `apply`, off the main thread, on a socket of its own: for what holds the kernel's rtnl lock for long, such as
   * group deletes. Calls run one after another. Resolves with a result per operation.
   */
  applyAsync(ops: readonly RtOp[]): Promise<(NetlinkError | null)[]> {
    const work = this.#slowTail.then(async () => {
      if (this.#closed) throw new Error('the netlink socket is closed');
      this.#slow ??= this.#socket.sibling();
      const failed: (NetlinkError | null)[] = Array(ops.length).fill(null);
      const own = new ByteWriter(1024);
      for (let from = 0; from < ops.length; ) {
        const { next, owner } = fill(own, ops, from);
        await this.#slow.transactAsync(own, (place, answer) => note(failed, ops, owner[place]!, answer));
        from = next;
      }
      return failed;
    });
    this.#slowTail = work.catch(() => undefined);
    return work;
  }

  /** Makes the kernel look at the link's carrier now instead of in a work item (rtnl_getlink, Linux 6.8 on). */
  settleCarrier(index: number): void {
    batch.reset();
    encodeLinkGet(batch, index);
    this.#socket.get(batch, noted);
  }

  /** True when a notification's port says that a request of this object made the change. */
  isOwn(port: number): boolean {
    return port !== 0 && (port === this.#socket.port || port === this.#slow?.port);
  }

  links(): Link[] {
    batch.reset();
    encodeLinkGet(batch, null);
    return this.#dump('links', decodeLink);
  }

  /** One link by name or index; null when there is none. */
  link(nameOrIndex: string | number): Link | null {
    batch.reset();
    encodeLinkGet(batch, nameOrIndex);
    let link: Link | null = null;
    const refusal = this.#socket.get(batch, (message) => {
      link = decodeLink(message);
    });
    if (refusal && refusal.errno !== ENODEV) {
      throw new NetlinkError({ op: 'link', index: 0, detail: String(nameOrIndex), ...refusal });
    }
    return link;
  }

  /** Of all links or one; `netnsId`: in a namespace that a veth leads to, as `Link.peerNetnsId` names it. */
  addresses(index?: number, netnsId?: number): Address[] {
    batch.reset();
    encodeAddressDump(batch, index, netnsId);
    return this.#dump('addresses', decodeAddress, ENODEV);
  }

  /** Routes of both families unless one is named; an empty list for a table that is not there. */
  routes(filter: RouteFilter = {}): Route[] {
    const found: Route[] = [];
    for (const family of filter.family === undefined ? ([4, 6] as const) : [filter.family]) {
      batch.reset();
      encodeRouteDump(batch, family, filter);
      found.push(
        ...this.#dump('routes', decodeRoute, ENOENT, ENODEV).filter((route) => routeMatches(route, filter)),
      );
    }
    return found;
  }

  rules(family?: 4 | 6): Rule[] {
    const found: Rule[] = [];
    for (const one of family === undefined ? ([4, 6] as const) : [family]) {
      batch.reset();
      encodeRuleDump(batch, one);
      found.push(...this.#dump('rules', decodeRule));
    }
    return found;
  }

  neighbours(index?: number): Neighbour[] {
    batch.reset();
    encodeNeighbourDump(batch, index);
    return this.#dump('neighbours', decodeNeighbour).filter(
      (it) => index === undefined || it.index === index,
    );
  }

  fdb(): Fdb[] {
    batch.reset();
    encodeFdbDump(batch);
    return this.#dump('forwarding entries', decodeFdb);
  }

  #dump<T>(what: string, decode: (message: Message) => T | null, ...empty: number[]): T[] {
    let found: T[] = [];
    try {
      this.#socket.dump(
        batch,
        what,
        (message) => {
          const value = decode(message);
          if (value !== null) found.push(value);
        },
        () => {
          found = [];
        },
      );
    } catch (error) {
      if (error instanceof NetlinkError && empty.includes(error.errno)) return [];
      throw error;
    }
    return found;
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#socket.close();
    // A pool thread may be inside send(2) on the slow socket: close it when that is done.
    void this.#slowTail.then(() => this.#slow?.close());
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/** Fills the writer with operations from `from` on, up to the batch's bound. `owner[message]` is the operation's index. */
function fill(w: ByteWriter, ops: readonly RtOp[], from: number): { next: number; owner: number[] } {
  w.reset();
  const owner: number[] = [];
  let next = from;
  while (next < ops.length && w.length < BATCH_BYTES) {
    const messages = encodeRtOp(w, ops[next]!);
    for (let i = 0; i < messages; i++) owner.push(next);
    next++;
  }
  return { next, owner };
}

function note(
  failed: (NetlinkError | null)[],
  ops: readonly RtOp[],
  index: number,
  answer: { errno: number; kernelText: string; offset?: number },
): void {
  const op = ops[index]!;
  failed[index] ??= new NetlinkError({ op: op.op, index, detail: describe(op), ...answer });
}
