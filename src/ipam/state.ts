// The pool as one immutable value, and the transitions between values. Pure: no clock, no I/O.
// An ENI holds blocks, which EC2 assigns: an address is a block of one, a prefix a larger one. A use is an address's
// present or last state (held, cooling, quarantined). Invariant: an address has one use, so it has at most one holder;
// only its release ends a held use, never the cloud. An address without a use, or one that has cooled and is clean, is
// free.
import type { BranchMode } from '../base/branch-words.ts';
import { type Cidr, cidrContains, formatIp, type Ip, type Ipv4 } from '../base/ip.ts';
import type { Mac } from '../base/mac.ts';
import type { EniId } from '../cloud/port.ts';

export type OwnerKey = string & { readonly __ownerKey: unique symbol };
export type AttachmentId = { network: string; containerId: string; ifname: string };
export type Owner = AttachmentId & {
  netns?: string;
  pod?: { namespace: string; name: string; uid?: string };
  /** The host link, set when nothing else is known of the holder; the attachment's names are empty then. */
  link?: string;
};
export const ownerKey = (owner: AttachmentId & { link?: string }): OwnerKey =>
  (owner.link ?? `${owner.network}/${owner.containerId}/${owner.ifname}`) as OwnerKey;
/** The holder's display name: the pod, else the container, else the link. */
export const ownerName = ({ pod, containerId, link }: Owner): string =>
  pod ? `${pod.namespace}/${pod.name}` : (link ?? `container ${containerId.slice(0, 12)}`);

/** What a lease records of the ENI that carries its address. */
export type EniRef = {
  id: EniId;
  mac: Mac;
  deviceIndex: number;
  networkCard: number;
  subnetCidr: Cidr;
  primaryIp: Ip;
};
/** The branch ENI of a pod, whose addresses are of no ENI of the pool. As the journal has it. */
export type BranchRef = {
  id: string;
  mac: Mac;
  /** 1 to 4094. */
  vlan: number;
  subnetCidr: string;
  associationId?: string;
  /** Kept for the pod's life, whatever the settings say meanwhile; absent: strict. */
  mode?: BranchMode;
};
export type Lease = {
  owner: Owner;
  ips: Ip[];
  /** Null for a lease found in the kernel, until EC2 has told which ENI carries its address, and for one with a branch. */
  eni: EniRef | null;
  branch?: BranchRef;
  /** When its ADD came; 0 for a lease found in the kernel, so that every DEL and GC is later. */
  at: number;
};
/** As ADD gets it. */
export type GivenLease = Lease & { eni: EniRef };

/** Between two looks whether a quarantine is over, at most (ms). */
export const QUARANTINE_LOOK_MS = 5_000;

export type Use =
  | { readonly kind: 'held'; readonly lease: Lease }
  /** Released at `since`; free from `until` (ms) on, once nothing of the last holder is left (`clean`). */
  | { readonly kind: 'cooling'; readonly since: number; readonly until: number; readonly clean: boolean }
  | { readonly kind: 'quarantined'; readonly since: number; readonly reason: string };

export type Block = {
  readonly cidr: Cidr;
  /** When it came to the pool. */
  readonly since: number;
  /** A public address maps to it: it is given out but never returned to EC2. */
  readonly pinned: boolean;
  /** The node's network has not been told of it yet. */
  readonly pending: boolean;
  /** Being returned to EC2: it is never given out again. */
  readonly leaving: boolean;
  /** A foreign address on an ENI of ours: shown and counted, never given out, never returned to EC2. */
  readonly foreign: boolean;
  /** Start of the describe that first did not list it, or null. */
  readonly missingSince: number | null;
};

export type Eni = EniRef & {
  /** The ENI's own IPv6 address beside its primary one; it is no block: pods get theirs out of /80s alone. */
  readonly ip6?: Ip;
  readonly subnetId: string;
  readonly groupIds: readonly string[];
  readonly interfaceType: string;
  readonly attachmentId: string | null;
  readonly deleteOnTermination: boolean;
  readonly primary: boolean;
  /** attached: the node's network does not know it yet; ready: its addresses may be given out; leaving: on its way out. */
  readonly phase: 'attached' | 'ready' | 'leaving';
  readonly since: number;
  /** When our last change of this ENI in EC2 ended; describes begun before that are ignored for it. */
  readonly settledAt: number;
  readonly missingSince: number | null;
  /** No link of the node belongs to this ENI, so its addresses cannot be used. */
  readonly linkless?: boolean;
  readonly blocks: ReadonlyMap<Ip, Block>;
  /** Addresses that calls of ours may have assigned without a known answer: that many unknown addresses are ours. */
  readonly unsettled: { readonly count: number; readonly since: number } | null;
  /** Addresses returned to EC2 lately, with the time: a lagging describe must not bring them back. */
  readonly returned: ReadonlyMap<Ip, number>;
};

/** An ENI that is being made; it survives a restart, and `token` makes the repeated create find the first. */
export type Creation = {
  readonly token: string;
  readonly subnetId: string;
  readonly groupIds: readonly string[];
  readonly networkCard: number;
  readonly deviceIndex: number;
  /** Single addresses. */
  readonly count: number;
  /** /28s; absent: none. */
  readonly prefixes?: number;
  /** /80s; absent: none. */
  readonly prefixes6?: number;
  /** Its addresses by name, the primary one first; absent: EC2 chooses. */
  readonly ips?: readonly Ipv4[];
  readonly since: number;
  readonly eniId: EniId | null;
  /** Of the ENI, once it is made. */
  mac?: Mac;
  /** EC2 has taken the request to attach it; known to the present process alone. */
  readonly taken?: true;
};

/** A foreign ENI on this instance: it takes a slot. */
export type ForeignEni = {
  id: EniId;
  deviceIndex: number;
  networkCard: number;
  description: string;
  /** Of a trunk, which whoever controls branches has made. */
  trunk?: { mac: Mac; subnetId: string; primaryIp: string };
};

export type Trunk = { readonly id: EniId; readonly mac: Mac };

/** The ENI of this instance that carries branches; null when none is known. */
export function trunkOf({ foreign, enis }: Pick<PoolState, 'foreign' | 'enis'>): Trunk | null {
  for (const { id, trunk } of foreign) if (trunk) return { id, mac: trunk.mac };
  for (const { id, mac, interfaceType } of enis.values()) if (interfaceType === 'trunk') return { id, mac };
  return null;
}

/** The pause of something that failed lately. */
export type Pause = {
  readonly cause: import('../base/causes.ts').Cause;
  readonly message: string;
  /** What the failed call was about, such as its action. */
  readonly object?: string | undefined;
  readonly since: number;
  readonly failedAt: number;
  readonly failures: number;
  readonly until: number;
  /** While a pod waits, one try is made at this time in spite of the pause. */
  readonly probeAt: number;
};

/** What EC2 said of a subnet when it was last asked, at `at` (ms). How long it is left alone is in its pauses. */
export type SubnetFacts = {
  readonly cidr: Cidr;
  /** Null: it has no IPv6. */
  readonly cidr6: Cidr | null;
  readonly zone: string;
  readonly free: number;
  readonly at: number;
};

/** A held address that EC2 no longer routes here: another interface has it, or its ENI no longer exists. */
export type Taken = { readonly since: number; readonly why: string };

/**
 * The journal was lost under running pods. Until EC2 has listed this node's addresses, none is given out and the
 * kernel's routes and rules stay as they are. Then addresses without a holder cool until `until`, since they may have
 * been released a moment ago. `describedAt`: the first describe that left a holder without an ENI.
 */
export type Unsure = {
  readonly since: number;
  /** Null when the kernel held no object of ours, so that no pod can have held an address. */
  readonly until: number | null;
  readonly describedAt: number | null;
};

export type PoolState = {
  readonly enis: ReadonlyMap<EniId, Eni>;
  readonly uses: ReadonlyMap<Ip, Use>;
  /** Held addresses that EC2 refuses to assign again; asked for again from time to time. */
  readonly taken: ReadonlyMap<Ip, Taken>;
  readonly creations: ReadonlyMap<string, Creation>;
  readonly foreign: readonly ForeignEni[];
  /** ENIs removed lately, with the time: a lagging describe must not bring them back. */
  readonly removed: ReadonlyMap<EniId, number>;
  /** Calls in flight: by ENI id or creation token, the number of addresses that the call will bring. */
  readonly busy: ReadonlyMap<string, number>;
  /** Addresses configured on a link of the node, with the link's name: not given out while they are there. */
  readonly onLinks: ReadonlyMap<Ip, string>;
  /** Pauses by key: `cloud`, `create`, `subnet:ID` (it is full), `prefix:ID` (it has no whole /28), `eni:ID`. */
  readonly pauses: ReadonlyMap<string, Pause>;
  readonly subnets: ReadonlyMap<string, SubnetFacts>;
  readonly unsure: Unsure | null;
};

export const emptyPool: PoolState = {
  enis: new Map(),
  uses: new Map(),
  taken: new Map(),
  creations: new Map(),
  foreign: [],
  removed: new Map(),
  busy: new Map(),
  onLinks: new Map(),
  pauses: new Map(),
  subnets: new Map(),
  unsure: null,
};

export function withEntry<K, V>(map: ReadonlyMap<K, V>, key: K, value: V): ReadonlyMap<K, V> {
  return new Map(map).set(key, value);
}
export function withoutEntry<K, V>(map: ReadonlyMap<K, V>, key: K): ReadonlyMap<K, V> {
  if (!map.has(key)) return map;
  const next = new Map(map);
  next.delete(key);
  return next;
}

export const isFree = (use: Use | undefined, now: number): boolean =>
  use === undefined || (use.kind === 'cooling' && use.clean && use.until <= now);

/** True when addresses of the block may be given out. */
export const isUsable = (eni: Eni, block: Block): boolean =>
  eni.phase === 'ready' &&
  !eni.linkless &&
  eni.missingSince === null &&
  !block.pending &&
  !block.leaving &&
  !block.foreign &&
  block.missingSince === null;

export const hasForeign = (eni: Eni): boolean => [...eni.blocks.values()].some((block) => block.foreign);

export const eniRef = (eni: Eni): EniRef => ({
  id: eni.id,
  mac: eni.mac,
  deviceIndex: eni.deviceIndex,
  networkCard: eni.networkCard,
  subnetCidr: eni.subnetCidr,
  primaryIp: eni.primaryIp,
});

/** A lease of an address that the ENI carries, or carried when it was given out. */
export function leaseOn(state: PoolState, eni: Eni): Lease | null {
  for (const [ip, use] of state.uses) {
    if (use.kind !== 'held') continue;
    if (use.lease.eni?.id === eni.id || blockHolding(eni, ip)) return use.lease;
  }
  return null;
}

export const isHolding = (state: PoolState, eni: Eni): boolean => leaseOn(state, eni) !== null;

/** The ENI's block that carries the address. */
export function blockHolding(eni: Eni, ip: Ip): Block | undefined {
  const exact = eni.blocks.get(ip);
  if (exact && cidrContains(exact.cidr, ip)) return exact;
  for (const block of eni.blocks.values()) if (cidrContains(block.cidr, ip)) return block;
  return undefined;
}

/** Gives the address to the lease's owner. Throws when it is not free, since it would get a second holder. */
export function hold(state: PoolState, lease: Lease, now: number): PoolState {
  const uses = new Map(state.uses);
  for (const ip of lease.ips) {
    if (!isFree(uses.get(ip), now))
      throw new Error(`${formatIp(ip)} is ${uses.get(ip)?.kind}, it cannot be given out`);
    uses.set(ip, { kind: 'held', lease });
  }
  return { ...state, uses };
}

/** Ends a lease; its addresses cool until `until`. */
export function release(state: PoolState, lease: Lease, now: number, until: number): PoolState {
  const uses = new Map(state.uses);
  let { taken } = state;
  for (const ip of lease.ips) {
    uses.set(ip, { kind: 'cooling', since: now, until, clean: false });
    taken = withoutEntry(taken, ip);
  }
  return { ...state, uses, taken };
}

/** Marks these addresses as clean: nothing of their last holder is left in the kernel. */
export function markClean(state: PoolState, ips: Iterable<Ip>): PoolState {
  const uses = new Map(state.uses);
  for (const ip of ips) {
    const use = uses.get(ip);
    if (use?.kind === 'cooling') uses.set(ip, { ...use, clean: true });
  }
  return { ...state, uses };
}

export const withEni = (state: PoolState, eni: Eni): PoolState => ({
  ...state,
  enis: withEntry(state.enis, eni.id, eni),
});

/** The ENI after the node's network has set up it and these blocks: their addresses may be given out. */
export function toldEni(eni: Eni, told: ReadonlySet<Ip>): Eni {
  const blocks = new Map(eni.blocks);
  for (const [ip, block] of blocks) if (told.has(ip)) blocks.set(ip, { ...block, pending: false });
  return { ...eni, phase: eni.phase === 'attached' ? 'ready' : eni.phase, blocks };
}

/** Forgets an ENI. Uses of its addresses stay: a held one is still held, a cooling one still cools. */
export const withoutEni = (state: PoolState, id: EniId, now: number): PoolState => ({
  ...state,
  enis: withoutEntry(state.enis, id),
  removed: withEntry(state.removed, id, now),
  pauses: withoutEntry(state.pauses, `eni:${id}`),
});

/** Forgets ended cooldowns of addresses that no ENI has any more. */
export function dropStrays(state: PoolState, now: number): PoolState {
  let uses: Map<Ip, Use> | undefined;
  for (const [ip, use] of state.uses) {
    if (!isFree(use, now) || blockOf(state, ip)) continue;
    uses ??= new Map(state.uses);
    uses.delete(ip);
  }
  return uses ? { ...state, uses } : state;
}

/** More uses than this, and those of IPv6 that have ended are forgotten. */
const MANY_USES = 256;

/**
 * Forgets the IPv6 addresses that have cooled. A /80 has more addresses than can be kept, and none of them comes again: the
 * next one is later than all before (next6 in plan/census.ts).
 */
export function dropSpent(state: PoolState, now: number): PoolState {
  if (state.uses.size < MANY_USES) return state;
  const uses = new Map([...state.uses].filter(([ip, use]) => typeof ip === 'number' || !isFree(use, now)));
  return uses.size === state.uses.size ? state : { ...state, uses };
}

/** The ENI and block that an address belongs to, if any. */
export function blockOf(state: PoolState, ip: Ip): { eni: Eni; block: Block } | null {
  for (const eni of state.enis.values()) {
    const block = blockHolding(eni, ip);
    if (block) return { eni, block };
  }
  return null;
}

export const newBlock = (cidr: Cidr, now: number, over: Partial<Block> = {}): Block => ({
  cidr,
  since: now,
  pinned: false,
  pending: true,
  leaving: false,
  foreign: false,
  missingSince: null,
  ...over,
});

/** The ENI with `count` more addresses (fewer when negative) that a call of ours may have brought. */
export function withUnsettled(eni: Eni, count: number, at: number): Eni {
  const sum = (eni.unsettled?.count ?? 0) + count;
  return {
    ...eni,
    unsettled: sum > 0 ? { count: sum, since: Math.max(at, eni.unsettled?.since ?? at) } : null,
  };
}

/** No address cools longer than the setting says now, also when it or the clock has changed since the release. */
export function shortenCooling(state: PoolState, now: number, cooldownMs: number): PoolState {
  const uses = new Map(state.uses);
  for (const [ip, use] of uses) {
    if (use.kind === 'cooling' && use.until > now + cooldownMs)
      uses.set(ip, { ...use, until: now + cooldownMs });
  }
  return { ...state, uses };
}
