// Links (rtnetlink RTM_*LINK, struct ifinfomsg): operations to messages, messages to values.
// A veth's peer is made down and in its final namespace by the same request: the kernel refuses a peer that is
// asked up in it, and what a later message can set (alias, port flags) is a message of its own in the batch.
import type { Mac } from '../../base/mac.ts';
import type { Netns } from '../netns.ts';
import { Attributes, beginNest, endNest, putMac, putText, putU8, putU32 } from './attribute.ts';
import type { ByteWriter } from './bytes.ts';
import { beginMessage, endMessage, type Message, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL } from './message.ts';

export const RTM_NEWLINK = 16;
export const RTM_DELLINK = 17;
export const RTM_GETLINK = 18;

const AF_UNSPEC = 0;
const AF_INET = 2;
const AF_INET6 = 10;
const IFF_UP = 0x1;
const IFF_RUNNING = 0x40;

const IFLA_ADDRESS = 1;
const IFLA_IFNAME = 3;
const IFLA_MTU = 4;
const IFLA_LINK = 5;
const IFLA_MASTER = 10;
const IFLA_TXQLEN = 13;
const IFLA_LINKINFO = 18;
const IFLA_IFALIAS = 20;
const IFLA_AF_SPEC = 26;
const IFLA_GROUP = 27;
const IFLA_NET_NS_FD = 28;
const IFLA_EXT_MASK = 29;
const IFLA_NUM_TX_QUEUES = 31;
const IFLA_NUM_RX_QUEUES = 32;
const IFLA_LINK_NETNSID = 37;
const IFLA_INET_CONF = 1;
const IFLA_INET6_ADDR_GEN_MODE = 8;
/** enum in6_addr_gen_mode (linux/if_link.h). */
const ADDR_GEN_MODE_NONE = 1;
const IFLA_INFO_KIND = 1;
const IFLA_INFO_DATA = 2;
const IFLA_INFO_SLAVE_KIND = 4;
const IFLA_INFO_SLAVE_DATA = 5;
const VETH_INFO_PEER = 1;
const IFLA_BR_AGEING_TIME = 4;
const IFLA_BR_MCAST_SNOOPING = 23;
const RTEXT_FILTER_SKIP_STATS = 8;
/** The kernel counts ageing in USER_HZ. */
const TICKS_PER_SECOND = 100;

/** Flags of a bridge port, by IFLA_BRPORT number. */
const PORT_FLAGS = {
  hairpin: 4,
  learning: 8,
  flood: 9,
  proxyArp: 10,
  mcastFlood: 27,
  bcastFlood: 30,
  neighSuppress: 32,
  isolated: 33,
} as const;

/** Settings of IPv4 on a link, by IPV4_DEVCONF number (linux/ip.h): net/ipv4/conf/LINK without a file to open. */
const CONF4 = { rpFilter: 8, acceptLocal: 23, srcValidMark: 24 } as const;

export type Conf4 = { readonly [K in keyof typeof CONF4]?: number };

export type BridgePort = { -readonly [K in keyof typeof PORT_FLAGS]?: boolean };

export type VethAdd = {
  op: 'veth-add';
  name: string;
  /** Asks for this interface index; EBUSY when taken. */
  index?: number;
  mac?: Mac;
  /** Bytes. */
  mtu?: number;
  group?: number;
  /** At most 254 bytes: the kernel counts the NUL, and takes 255. */
  alias?: string;
  txqlen?: number;
  /** Queues per direction, at both ends. By default the kernel makes one per CPU and disables all but the first. */
  queues?: number;
  /** The link's namespace; the socket's when absent. */
  netns?: Netns;
  peer: { name: string; index?: number; mac?: Mac; mtu?: number; txqlen?: number; netns?: Netns };
};

export type BridgeAdd = {
  op: 'bridge-add';
  name: string;
  mac?: Mac;
  mtu?: number;
  /** Seconds; 0 forgets learned addresses at once. */
  ageingTime?: number;
  mcastSnooping?: boolean;
};

export type LinkSet = {
  op: 'link-set';
  index?: number;
  name?: string;
  up?: boolean;
  mtu?: number;
  mac?: Mac;
  /** Index of the bridge; 0 for none. */
  master?: number;
  /** Moves the link; with newName it gets that name on arrival. */
  netns?: Netns;
  /** Needs `index`: the name attribute of the request is the new name. */
  newName?: string;
  group?: number;
  /** At most 254 bytes: the kernel counts the NUL, and takes 255. */
  alias?: string;
  txqlen?: number;
  conf4?: Conf4;
  /** The kernel makes no link-local address by itself. Has an effect from the next time on that the link goes up. */
  noLinkLocal?: true;
  port?: BridgePort;
};

export type LinkDel = { op: 'link-del'; index?: number; name?: string };
/** Deletes every link of the group in one request: one RCU wait for all of them. */
export type GroupDel = { op: 'group-del'; group: number };

export type LinkOp = VethAdd | BridgeAdd | LinkSet | LinkDel | GroupDel;

export type Link = {
  index: number;
  name: string;
  /** Absent for links without a six-byte address. */
  mac: Mac | null;
  mtu: number;
  /** Administratively up. */
  up: boolean;
  /** Operational as well (RFC 2863): the kernel sends by it. With the carrier there this is one work item of the kernel away. */
  running: boolean;
  /** `veth`, `bridge`, …; null for links that the kernel gives no kind (lo, physical). */
  kind: string | null;
  /** 0 when none. */
  masterIndex: number;
  /** Index of a veth's peer, in the peer's namespace; 0 when there is none. */
  peerIndex: number;
  /** Id that this namespace has for the peer's; null when the peer is in the same namespace. */
  peerNetnsId: number | null;
  group: number;
  alias: string | null;
  /** Present on a bridge's ports. */
  port?: Required<BridgePort>;
};

/** struct ifinfomsg. */
function putHeader(w: ByteWriter, family: number, index: number, flags: number, change: number): void {
  const at = w.take(16);
  w.bytes[at] = family;
  w.view.setInt32(at + 4, index, true);
  w.view.setUint32(at + 8, flags, true);
  w.view.setUint32(at + 12, change, true);
}

type Common = { mac?: Mac; mtu?: number; group?: number; txqlen?: number; queues?: number };

function putCommon(w: ByteWriter, values: Common): void {
  if (values.mac !== undefined) putMac(w, IFLA_ADDRESS, values.mac);
  if (values.mtu !== undefined) putU32(w, IFLA_MTU, values.mtu);
  if (values.txqlen !== undefined) putU32(w, IFLA_TXQLEN, values.txqlen);
  if (values.group !== undefined) putU32(w, IFLA_GROUP, values.group);
  if (values.queues !== undefined) {
    putU32(w, IFLA_NUM_TX_QUEUES, values.queues);
    putU32(w, IFLA_NUM_RX_QUEUES, values.queues);
  }
}

function create(
  w: ByteWriter,
  kind: string,
  op: Common & { name: string; index?: number; netns?: Netns },
  info?: () => void,
) {
  const message = beginMessage(w, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL);
  putHeader(w, AF_UNSPEC, op.index ?? 0, 0, 0);
  putText(w, IFLA_IFNAME, op.name);
  putCommon(w, op);
  if (op.netns) putU32(w, IFLA_NET_NS_FD, op.netns.fd);
  const linkInfo = beginNest(w, IFLA_LINKINFO);
  putText(w, IFLA_INFO_KIND, kind);
  if (info) {
    const at = beginNest(w, IFLA_INFO_DATA);
    info();
    endNest(w, at);
  }
  endNest(w, linkInfo);
  endMessage(w, message);
}

function vethAdd(w: ByteWriter, op: VethAdd): number {
  create(w, 'veth', op, () => {
    const at = beginNest(w, VETH_INFO_PEER);
    putHeader(w, AF_UNSPEC, op.peer.index ?? 0, 0, 0);
    putText(w, IFLA_IFNAME, op.peer.name);
    putCommon(w, op.queues === undefined ? op.peer : { ...op.peer, queues: op.queues });
    if (op.peer.netns) putU32(w, IFLA_NET_NS_FD, op.peer.netns.fd);
    endNest(w, at);
  });
  if (op.alias === undefined) return 1;
  // rtnl_create_link knows no alias.
  linkSet(w, { op: 'link-set', name: op.name, alias: op.alias });
  return 2;
}

function bridgeAdd(w: ByteWriter, op: BridgeAdd): number {
  create(w, 'bridge', op, () => {
    if (op.ageingTime !== undefined) putU32(w, IFLA_BR_AGEING_TIME, op.ageingTime * TICKS_PER_SECOND);
    if (op.mcastSnooping !== undefined) putU8(w, IFLA_BR_MCAST_SNOOPING, op.mcastSnooping ? 1 : 0);
  });
  return 1;
}

function whichLink(op: { index?: number; name?: string }): number {
  if (op.index === undefined && op.name === undefined)
    throw new TypeError('a link operation needs index or name');
  return op.index ?? 0;
}

function putConf4(w: ByteWriter, conf: Conf4): void {
  const spec = beginNest(w, IFLA_AF_SPEC);
  const family = beginNest(w, AF_INET);
  const values = beginNest(w, IFLA_INET_CONF);
  if (conf.rpFilter !== undefined) putU32(w, CONF4.rpFilter, conf.rpFilter);
  if (conf.acceptLocal !== undefined) putU32(w, CONF4.acceptLocal, conf.acceptLocal);
  if (conf.srcValidMark !== undefined) putU32(w, CONF4.srcValidMark, conf.srcValidMark);
  endNest(w, values);
  endNest(w, family);
  endNest(w, spec);
}

function putNoLinkLocal(w: ByteWriter): void {
  const spec = beginNest(w, IFLA_AF_SPEC);
  const family = beginNest(w, AF_INET6);
  putU8(w, IFLA_INET6_ADDR_GEN_MODE, ADDR_GEN_MODE_NONE);
  endNest(w, family);
  endNest(w, spec);
}

function linkSet(w: ByteWriter, op: LinkSet): number {
  const index = whichLink(op);
  if (op.newName !== undefined && index === 0) throw new TypeError('a rename needs the index of the link');
  let messages = 0;
  const { up, mtu, mac, master, netns, newName, group, alias, txqlen, conf4, port } = op;
  if (op.noLinkLocal) {
    // A message of its own, and first: in the one that sets the link up the kernel reads it after it has made the address.
    const message = beginMessage(w, RTM_NEWLINK, 0);
    putHeader(w, AF_UNSPEC, index, 0, 0);
    if (index === 0) putText(w, IFLA_IFNAME, op.name!);
    putNoLinkLocal(w);
    endMessage(w, message);
    messages++;
  }
  if (
    [up, mtu, mac, master, netns, newName, group, alias, txqlen, conf4].some((value) => value !== undefined)
  ) {
    const message = beginMessage(w, RTM_NEWLINK, 0);
    putHeader(w, AF_UNSPEC, index, up ? IFF_UP : 0, up === undefined ? 0 : IFF_UP);
    if (newName !== undefined) putText(w, IFLA_IFNAME, newName);
    else if (index === 0) putText(w, IFLA_IFNAME, op.name!);
    putCommon(w, op);
    if (alias !== undefined) putText(w, IFLA_IFALIAS, alias);
    if (master !== undefined) putU32(w, IFLA_MASTER, master);
    if (netns) putU32(w, IFLA_NET_NS_FD, netns.fd);
    if (conf4) putConf4(w, conf4);
    endMessage(w, message);
    messages++;
  }
  if (port) {
    // Port flags need the master already set, so they come after.
    const message = beginMessage(w, RTM_NEWLINK, 0);
    putHeader(w, AF_UNSPEC, index, 0, 0);
    if (index === 0) putText(w, IFLA_IFNAME, op.name!);
    const info = beginNest(w, IFLA_LINKINFO);
    putText(w, IFLA_INFO_SLAVE_KIND, 'bridge');
    const at = beginNest(w, IFLA_INFO_SLAVE_DATA);
    for (const [name, number] of Object.entries(PORT_FLAGS)) {
      const value = port[name as keyof BridgePort];
      if (value !== undefined) putU8(w, number, value ? 1 : 0);
    }
    endNest(w, at);
    endNest(w, info);
    endMessage(w, message);
    messages++;
  }
  return messages;
}

function remove(w: ByteWriter, index: number, name: string | undefined, group: number | undefined): number {
  const message = beginMessage(w, RTM_DELLINK, 0);
  putHeader(w, AF_UNSPEC, index, 0, 0);
  if (name !== undefined) putText(w, IFLA_IFNAME, name);
  if (group !== undefined) putU32(w, IFLA_GROUP, group);
  endMessage(w, message);
  return 1;
}

/** Appends the operation's messages; returns how many. */
export function encodeLinkOp(w: ByteWriter, op: LinkOp): number {
  switch (op.op) {
    case 'veth-add':
      return vethAdd(w, op);
    case 'bridge-add':
      return bridgeAdd(w, op);
    case 'link-set':
      return linkSet(w, op);
    case 'link-del':
      return remove(w, whichLink(op), op.index === undefined ? op.name : undefined, undefined);
    case 'group-del':
      // Group 0 holds all links without a group: never delete it.
      if (op.group === 0) throw new RangeError('group 0 is never deleted');
      return remove(w, 0, undefined, op.group);
  }
}

/** A message about a veth whose peer is in another namespace, with the fields that decodeLink reads. */
export function encodeVeth(
  w: ByteWriter,
  end: { index: number; name: string; mac: Mac; mtu: number; group: number; peerIndex: number },
): void {
  const message = beginMessage(w, RTM_NEWLINK, 0);
  putHeader(w, AF_UNSPEC, end.index, 0, 0);
  putText(w, IFLA_IFNAME, end.name);
  putCommon(w, end);
  putU32(w, IFLA_LINK, end.peerIndex);
  putU32(w, IFLA_LINK_NETNSID, 0);
  const info = beginNest(w, IFLA_LINKINFO);
  putText(w, IFLA_INFO_KIND, 'veth');
  endNest(w, info);
  endMessage(w, message);
}

/** A request for one link (by name or index), or for all of them. */
export function encodeLinkGet(w: ByteWriter, which: string | number | null): void {
  const message = beginMessage(w, RTM_GETLINK, which === null ? NLM_F_DUMP : 0);
  putHeader(w, AF_UNSPEC, typeof which === 'number' ? which : 0, 0, 0);
  if (typeof which === 'string') putText(w, IFLA_IFNAME, which);
  putU32(w, IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);
  endMessage(w, message);
}

export function decodeLink(message: Message): Link {
  const view = new DataView(message.bytes.buffer, message.bytes.byteOffset + message.start, 16);
  const flags = view.getUint32(8, true);
  const attributes = new Attributes(message.bytes, message.start + 16, message.end);
  const info = attributes.nest(IFLA_LINKINFO);
  const link: Link = {
    index: view.getInt32(4, true),
    name: attributes.text(IFLA_IFNAME) ?? '',
    mac: attributes.mac(IFLA_ADDRESS) ?? null,
    mtu: attributes.u32(IFLA_MTU) ?? 0,
    up: (flags & IFF_UP) !== 0,
    running: (flags & IFF_RUNNING) !== 0,
    kind: info?.text(IFLA_INFO_KIND) ?? null,
    masterIndex: attributes.u32(IFLA_MASTER) ?? 0,
    peerIndex: attributes.u32(IFLA_LINK) ?? 0,
    peerNetnsId: attributes.i32(IFLA_LINK_NETNSID) ?? null,
    group: attributes.u32(IFLA_GROUP) ?? 0,
    alias: attributes.text(IFLA_IFALIAS) ?? null,
  };
  if (info?.text(IFLA_INFO_SLAVE_KIND) === 'bridge') {
    const flagsOfPort = info.nest(IFLA_INFO_SLAVE_DATA);
    const isSet = (name: keyof BridgePort) => flagsOfPort?.u8(PORT_FLAGS[name]) === 1;
    link.port = {
      hairpin: isSet('hairpin'),
      learning: isSet('learning'),
      flood: isSet('flood'),
      proxyArp: isSet('proxyArp'),
      mcastFlood: isSet('mcastFlood'),
      bcastFlood: isSet('bcastFlood'),
      neighSuppress: isSet('neighSuppress'),
      isolated: isSet('isolated'),
    };
  }
  return link;
}
