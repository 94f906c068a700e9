// The datapath's memory between calls, and its sockets to the kernel. Everything in `Memory` can be read again from the
// journal (pods) and the kernel (the rest); it is kept so that the hot path need not read it.
import type { Ip } from '../base/ip.ts';
import type { Mac } from '../base/mac.ts';
import type { Way } from '../kernel/bpf/hooks.ts';
import type { Netns } from '../kernel/netns.ts';
import type { NfNetlink } from '../kernel/nfnetlink.ts';
import type { Nft } from '../kernel/nftables.ts';
import type { RtNetlink } from '../kernel/rtnetlink.ts';
import type { HeldPod, NodeDatapath } from './types.ts';

/** What wiring and cutting a pod need. */
export type Doors = {
  readonly netns: Netns;
  readonly rt: RtNetlink;
  readonly nf: NfNetlink;
  /** A socket for one batch in a pod's namespace. */
  readonly openPod: (netns: Netns) => RtNetlink;
};

export type Kernel = Doors & {
  readonly nft: Nft;
  /** Of branches' programs; absent: what the kernel has. */
  readonly hooks?: Way | undefined;
};

/** `at`: when it was cut, ms, monotonic. */
export type CutLink = { readonly at: number; readonly group: number };

export type Memory = {
  node: NodeDatapath | undefined;
  /** By slot key; secondary ENIs. */
  marks: ReadonlyMap<string, number>;
  /** Slot keys whose link, table, rule and chain are in place: their addresses may be given to pods. */
  ready: Set<string>;
  /** Pods whose wiring should be there, by host link name. */
  pods: Map<string, HeldPod>;
  /** Pods wired by this process without policy rules in their sandbox, by host link name: nothing there outlives the link. */
  ruleless: Set<string>;
  /** Links that are cut and wait for their deletion, by name. */
  cut: Map<string, CutLink>;
  /** Links cut so far: gives each its group. */
  cutCount: number;
  /** Index of each held pod's link, by name: keys of the pods' map contain it, even after the link is gone. */
  indexes: Map<string, number>;
  /** Name and MAC address of each held pod's link that has been up, by interface index. */
  podLinks: Map<number, { readonly name: string; readonly mac: Mac | null }>;
  /** Slot key and name of each ENI's link, by interface index. */
  eniLinks: Map<number, { readonly key: string; readonly name: string }>;
  /** When an address that a pod holds was last removed from a link of the node (ms), by address and link. */
  removedAt: Map<string, number>;
  /** Addresses of our ENIs that no pod holds and that are on a link of the node, with its name. */
  onLinks: ReadonlyMap<Ip, string>;
  /** Those of them that others route to a link of theirs: pods of another network plugin. */
  elsewhere: ReadonlySet<Ip>;
  /** Chains or rules of a foreign nft table changed since we last read them; true until the first read. */
  foreignChanged: boolean;
  /** The nft table when it was last correct: our text and the kernel's listing. */
  table: { text: string; kernel: string } | undefined;
  /** The nft table of branches without their elements, as `table`; null: there is none, undefined: not looked yet. */
  branchTable: { text: string; kernel: string | null } | null | undefined;
  /** Ways of branches (branch.ts) whose shared parts are in place: a branch of one may come alone. */
  ways: ReadonlySet<string>;
  /** Index of the trunk's link, as of the last sync. */
  trunk: number | undefined;
  /** Index of the pod's link that the elements of a branch in that table name, by VLAN id. */
  zoned: Map<number, number>;
  /** Links that are there for branches and have been up, by interface index. */
  standIns: Set<number>;
};

export const emptyMemory = (): Memory => ({
  node: undefined,
  marks: new Map(),
  ready: new Set(),
  pods: new Map(),
  ruleless: new Set(),
  cut: new Map(),
  cutCount: 0,
  indexes: new Map(),
  podLinks: new Map(),
  eniLinks: new Map(),
  removedAt: new Map(),
  onLinks: new Map(),
  elsewhere: new Set(),
  foreignChanged: true,
  table: undefined,
  branchTable: undefined,
  ways: new Set(),
  trunk: undefined,
  zoned: new Map(),
  standIns: new Set(),
});
