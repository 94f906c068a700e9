// Notifications of the kernel: links, addresses, routes, rules, neighbours, settings, connection tracking, nftables. The event
// loop itself waits for the socket (koffi's handle over uv_poll), so that no thread is spent on it; a burst is read in
// slices. Notifications are hints: `lost` says that the kernel dropped some, and that the reader must read the objects.
import { koffi } from './ffi.ts';
import { type Address, decodeAddress, RTM_DELADDR, RTM_NEWADDR } from './netlink/address.ts';
import { Attributes } from './netlink/attribute.ts';
import {
  type ConntrackEntry,
  decodeConntrack,
  IPCTNL_MSG_CT_DELETE,
  IPCTNL_MSG_CT_NEW,
} from './netlink/conntrack.ts';
import { decodeLink, type Link, RTM_DELLINK, RTM_NEWLINK } from './netlink/link.ts';
import { type Message, NLM_F_CREATE, NLM_F_EXCL } from './netlink/message.ts';
import {
  decodeFdb,
  decodeNeighbour,
  type Fdb,
  type Neighbour,
  RTM_DELNEIGH,
  RTM_NEWNEIGH,
} from './netlink/neighbour.ts';
import { decodeNetconf, type Netconf, RTM_NEWNETCONF } from './netlink/netconf.ts';
import { NFGEN_LENGTH, SUBSYSTEM_CONNTRACK, SUBSYSTEM_NFTABLES } from './netlink/nfnetlink-header.ts';
import { decodeRoute, type Route, RTM_DELROUTE, RTM_NEWROUTE } from './netlink/route.ts';
import { decodeRule, RTM_DELRULE, RTM_NEWRULE, type Rule } from './netlink/rule.ts';
import { NETLINK_NETFILTER, NETLINK_ROUTE, NetlinkSocket } from './netlink/socket.ts';
import type { Netns } from './netns.ts';

/** Group numbers of linux/rtnetlink.h and linux/netfilter/nfnetlink_compat.h. */
const ROUTE_GROUPS = {
  link: [1],
  neighbour: [3],
  address: [5, 9],
  route: [7, 11],
  rule: [8, 19],
  netconf: [24, 25],
} as const;
const NETFILTER_GROUPS = {
  'conntrack-new': [1],
  'conntrack-update': [2],
  'conntrack-destroy': [3],
  nftables: [7],
} as const;

export type KernelGroup = keyof typeof ROUTE_GROUPS | keyof typeof NETFILTER_GROUPS;

export type NftObjectKind = 'table' | 'chain' | 'rule' | 'set' | 'element' | 'object' | 'flowtable';

export type KernelEvent =
  | { kind: 'link'; change: 'new' | 'del'; link: Link }
  | { kind: 'address'; change: 'new' | 'del'; address: Address }
  | { kind: 'route'; change: 'new' | 'del'; route: Route }
  | { kind: 'rule'; change: 'new' | 'del'; rule: Rule }
  | { kind: 'neighbour'; change: 'new' | 'del'; neighbour: Neighbour }
  | { kind: 'fdb'; change: 'new' | 'del'; fdb: Fdb }
  | { kind: 'netconf'; netconf: Netconf }
  | { kind: 'conntrack'; change: 'new' | 'update' | 'destroy'; entry: ConntrackEntry }
  | {
      kind: 'nftables';
      change: 'new' | 'del';
      object: NftObjectKind;
      family: number;
      table: string;
      set?: string;
    }
  /** A transaction ended: what was reported before it is now in force. */
  | { kind: 'nftables-generation'; generation: number; threadId: number; process: string }
  | { kind: 'lost' };

/** Datagrams per turn of the event loop: a storm must not starve requests. */
const DATAGRAMS_PER_TURN = 64;

/** NFT_MSG_* that announce a new or removed object. */
const NFT_MESSAGES: ReadonlyMap<number, [NftObjectKind, 'new' | 'del']> = new Map([
  [0, ['table', 'new']],
  [2, ['table', 'del']],
  [3, ['chain', 'new']],
  [5, ['chain', 'del']],
  [6, ['rule', 'new']],
  [8, ['rule', 'del']],
  [9, ['set', 'new']],
  [11, ['set', 'del']],
  [12, ['element', 'new']],
  [14, ['element', 'del']],
  [18, ['object', 'new']],
  [20, ['object', 'del']],
  [22, ['flowtable', 'new']],
  [24, ['flowtable', 'del']],
]);
const NFT_MSG_NEWGEN = 15;
/** The first attribute of every nftables object is its table (its own name, for a table). */
const NFTA_TABLE = 1;
const NFTA_SET_ELEM_LIST_SET = 2;
const NFTA_GEN_ID = 1;
const NFTA_GEN_PROC_PID = 2;
const NFTA_GEN_PROC_NAME = 3;

/** Turns a notification of rtnetlink into an event; null for what has no meaning here. */
export function decodeRouteEvent(message: Message): KernelEvent | null {
  const event = <K extends string, V>(kind: K, change: 'new' | 'del', field: string, value: V | null) =>
    value === null ? null : ({ kind, change, [field]: value } as unknown as KernelEvent);
  switch (message.type) {
    case RTM_NEWLINK:
      return event('link', 'new', 'link', decodeLink(message));
    case RTM_DELLINK:
      return event('link', 'del', 'link', decodeLink(message));
    case RTM_NEWADDR:
      return event('address', 'new', 'address', decodeAddress(message));
    case RTM_DELADDR:
      return event('address', 'del', 'address', decodeAddress(message));
    case RTM_NEWROUTE:
      return event('route', 'new', 'route', decodeRoute(message));
    case RTM_DELROUTE:
      return event('route', 'del', 'route', decodeRoute(message));
    case RTM_NEWRULE:
      return event('rule', 'new', 'rule', decodeRule(message));
    case RTM_DELRULE:
      return event('rule', 'del', 'rule', decodeRule(message));
    case RTM_NEWNEIGH:
    case RTM_DELNEIGH: {
      const change = message.type === RTM_NEWNEIGH ? 'new' : 'del';
      return (
        event('neighbour', change, 'neighbour', decodeNeighbour(message)) ??
        event('fdb', change, 'fdb', decodeFdb(message))
      );
    }
    case RTM_NEWNETCONF: {
      const netconf = decodeNetconf(message);
      return netconf && { kind: 'netconf', netconf };
    }
    default:
      return null;
  }
}

/** Turns a notification of nfnetlink into an event; null for what has no meaning here. */
export function decodeNetfilterEvent(message: Message): KernelEvent | null {
  const subsystem = message.type >> 8;
  const type = message.type & 0xff;
  if (subsystem === SUBSYSTEM_CONNTRACK) {
    const entry = decodeConntrack(message);
    if (!entry) return null;
    if (type === IPCTNL_MSG_CT_DELETE) return { kind: 'conntrack', change: 'destroy', entry };
    if (type !== IPCTNL_MSG_CT_NEW) return null;
    const isNew = (message.flags & (NLM_F_CREATE | NLM_F_EXCL)) !== 0;
    return { kind: 'conntrack', change: isNew ? 'new' : 'update', entry };
  }
  if (subsystem !== SUBSYSTEM_NFTABLES) return null;
  const attributes = new Attributes(message.bytes, message.start + NFGEN_LENGTH, message.end);
  if (type === NFT_MSG_NEWGEN) {
    return {
      kind: 'nftables-generation',
      generation: attributes.u32be(NFTA_GEN_ID) ?? 0,
      threadId: attributes.u32be(NFTA_GEN_PROC_PID) ?? 0,
      process: attributes.text(NFTA_GEN_PROC_NAME) ?? '',
    };
  }
  const known = NFT_MESSAGES.get(type);
  if (!known) return null;
  const [object, change] = known;
  const set = object === 'element' ? attributes.text(NFTA_SET_ELEM_LIST_SET) : undefined;
  return {
    kind: 'nftables',
    change,
    object,
    family: message.bytes[message.start] ?? 0,
    table: attributes.text(NFTA_TABLE) ?? '',
    ...(set === undefined ? {} : { set }),
  };
}

function watchSocket(
  protocol: number,
  ns: Netns | undefined,
  groups: readonly number[],
  decode: (message: Message) => KernelEvent | null,
  isOwn: (port: number) => boolean,
  onEvent: (event: KernelEvent) => void,
): () => void {
  const socket = NetlinkSocket.open(protocol, { ns, groups });
  let closed = false;
  let scheduled = false;
  const read = () => {
    scheduled = false;
    if (closed) return;
    // Values first, callbacks after: a callback may use the thread's receive buffer for a request of its own.
    const events: KernelEvent[] = [];
    const state = socket.drain(DATAGRAMS_PER_TURN, (message) => {
      const event = isOwn(message.port) ? null : decode(message);
      if (event) events.push(event);
    });
    if (state === 'lost') events.push({ kind: 'lost' });
    for (const event of events) {
      if (closed) return;
      onEvent(event);
    }
  };
  const handle = koffi().node.poll(socket.fd, { readable: true }, () => {
    // koffi calls back without Node's callback scope: promise jobs would not run and exceptions would be lost.
    if (!scheduled && !closed) setImmediate(read);
    scheduled = true;
  });
  // A watch does not keep the process alive.
  handle.unref();
  watched.add(handle);
  return () => {
    closed = true;
    watched.delete(handle);
    handle.close();
    socket.close();
  };
}

/** Keeps the handles from the garbage collector, which would close them. */
const watched = new Set<unknown>();

export type WatchOptions = {
  groups: readonly KernelGroup[];
  /** True for the port of a socket whose changes are not reported. */
  isOwn?: (port: number) => boolean;
  /** Objects of other nftables tables are not reported; ends of transactions always are. */
  nftTables?: readonly string[];
  /** Called instead for a table, chain or rule of another table. */
  onOtherTable?: () => void;
};

/**
 * Watches the groups in `ns` (the caller's namespace when undefined) until closed. Only what happens after the return is
 * reported. A throw of `onEvent` is an uncaught exception.
 */
export function watchKernel(
  ns: Netns | undefined,
  options: WatchOptions,
  onEvent: (event: KernelEvent) => void,
): { close(): void } & Disposable {
  const route: number[] = [];
  const netfilter: number[] = [];
  for (const group of options.groups) {
    if (group in ROUTE_GROUPS) route.push(...ROUTE_GROUPS[group as keyof typeof ROUTE_GROUPS]);
    else netfilter.push(...NETFILTER_GROUPS[group as keyof typeof NETFILTER_GROUPS]);
  }
  const isOwn = options.isOwn ?? (() => false);
  const closers: (() => void)[] = [];
  const close = () => {
    for (const one of closers.splice(0)) one();
  };
  try {
    if (route.length > 0)
      closers.push(watchSocket(NETLINK_ROUTE, ns, route, decodeRouteEvent, isOwn, onEvent));
    if (netfilter.length > 0) {
      const { nftTables, onOtherTable } = options;
      const decode = (message: Message) => {
        const event = decodeNetfilterEvent(message);
        if (event?.kind !== 'nftables' || nftTables === undefined || nftTables.includes(event.table))
          return event;
        if (event.object === 'table' || event.object === 'chain' || event.object === 'rule') onOtherTable?.();
        return null;
      };
      closers.push(watchSocket(NETLINK_NETFILTER, ns, netfilter, decode, isOwn, onEvent));
    }
  } catch (error) {
    close();
    throw error;
  }
  return { close, [Symbol.dispose]: close };
}
