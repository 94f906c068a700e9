// Every number and name by which the datapath's objects are known in a kernel that others use too: mark bits, route
// tables, rule priorities, link groups, link names. Invariant: whatever Podway makes carries one of these, and nothing
// without one is ever changed. ARCHITECTURE.md shows the same table to operators.
import { hash } from 'node:crypto';
import { localMac, type Mac } from '../base/mac.ts';

/** OWN_ARRIVAL after the pair. */
export { OWN_ARRIVED } from '../base/packet-marks.ts';
export { PROTOCOL } from '../kernel/rtnetlink.ts';

/** Our bits of packet and connection marks: which ENI. The other 25 belong to policy, identity and to others. */
export const ENI_MASK = 0x7f;
/** All bits but ours, as nft wants them in `mark & KEEP | value`. */
export const KEEP_MASK = 0xffffff80;
/** Connection mark: begun by a pod, leaves the VPC with the node's primary address through the primary ENI. */
export const CT_SNAT = 0x7f;
/** Connection mark: came in by the primary ENI to an address of the node; its replies leave by the primary ENI. */
export const CT_PRIMARY = 0x7e;
/** Packet mark in the place of an ENI's: leaves by its sender's branch, unless the node itself has the destination. */
export const BRANCH_ENI = 0x7d;
/** ENI marks are 1..0x7c; the largest instance type has 80 ENIs over all its cards. */
export const MAX_ENI_MARK = 0x7c;

/** Our bits of packet marks for pods with branch ENIs: which of the ways below a packet goes; 0: none. */
export const BRANCH_MASK = 0x1c00;
/** Those of them that rules look at: BY_BRANCH is true of ARRIVAL_REPLY too. */
export const WAY_MASK = 0xc00;
/** Leaves by the sender's branch. */
export const BY_BRANCH = 0x400;
/** Came in by a branch. */
export const CAME_BY_BRANCH = 0x800;
/** The node answers what a pod began by its branch. */
export const NODE_REPLY = 0xc00;
/** Arrived on the node for a strict pod: crosses the pair of links into the pod's conntrack zone. */
export const ARRIVAL = 0x1000;
/** The same of what the node itself sends to a Service or a port of its own: no group and no policy is asked. */
export const OWN_ARRIVAL = 0x1800;
/** Of ARRIVAL and OWN_ARRIVAL alike. */
export const ARRIVAL_MASK = 0x1400;
/** The pod's reply to either: crosses the pair the other way, before the branches and the node's own addresses. */
export const ARRIVAL_REPLY = 0x1400;

/** Routes to the pods of this node, one per address. */
export const PODS_TABLE = 0x5000;
/** Black holes for the addresses of our ENIs; a pod's route in PODS_TABLE comes first. */
export const UNHELD_TABLE = 0x4fff;
/** The same addresses for packets of the node itself: unreachable, so that its processes get an error. */
export const UNREACHABLE_TABLE = 0x4ffe;
/** Device indexes per network card that the tables leave room for. */
const TABLES_PER_CARD = 128;
/** EC2 has no more cards than this on any type (p5: 32). */
const MAX_CARDS = 32;

export type EniSlot = { readonly deviceIndex: number; readonly networkCard: number };

/** The primary ENI: its table is `main`, which the operating system writes. */
export const isPrimary = (eni: EniSlot): boolean => eni.deviceIndex === 0 && eni.networkCard === 0;

/** `card/device`, the ENI's identity inside the datapath: valid for one attachment and one boot. */
export const slotKey = (eni: EniSlot): string => `${eni.networkCard}/${eni.deviceIndex}`;

/** Route table of a secondary ENI. RangeError outside what EC2 has. */
export function eniTable(eni: EniSlot): number {
  if (isPrimary(eni)) throw new RangeError('the primary ENI has no table of its own');
  if (
    !(
      eni.deviceIndex >= 0 &&
      eni.deviceIndex < TABLES_PER_CARD &&
      eni.networkCard >= 0 &&
      eni.networkCard < MAX_CARDS
    )
  ) {
    throw new RangeError(
      `no route table for ENI ${slotKey(eni)} (card 0..${MAX_CARDS - 1}, device 0..${TABLES_PER_CARD - 1})`,
    );
  }
  return PODS_TABLE + eni.deviceIndex + TABLES_PER_CARD * eni.networkCard;
}

/** Routes to pods with a branch ENI: for the node itself, and for what came in by a branch. */
export const BRANCH_PODS_TABLE = PODS_TABLE + TABLES_PER_CARD * MAX_CARDS;
/** Route table of a branch, by its VLAN id (1..4094). */
export const branchTableOf = (vlan: number): number => BRANCH_PODS_TABLE + vlan;
/** What arrived on the node for a strict pod, and the replies to it. */
export const ARRIVAL_TABLE = BRANCH_PODS_TABLE + 0xfff;
export const ARRIVAL_REPLY_TABLE = BRANCH_PODS_TABLE + 0x1000;
export const isBranchTable = (table: number): boolean =>
  table >= BRANCH_PODS_TABLE && table <= ARRIVAL_REPLY_TABLE;

/** True for every route table number that is ours. */
export const isOurTable = (table: number): boolean =>
  table >= UNREACHABLE_TABLE && (table < BRANCH_PODS_TABLE || isBranchTable(table));

// Rules of nodes whose pods have branches. With them the kernel's rule for local addresses, at 0, stands at RULE_LOCAL.
export const RULE_BRANCH_GUARD = 1;
export const RULE_ARRIVAL_REPLY = 9;
export const RULE_BRANCH = 10;
export const RULE_BRANCH_ELSE = 11;
export const RULE_LOCAL = 20;
export const RULE_ARRIVAL = 509;
export const RULE_BRANCH_PODS = 510;
export const RULE_BRANCH_PODS_ELSE = 511;

// Rules are walked in this order for each packet that is not local: after `local` (0), long before `main` (32766).
export const RULE_PODS = 512;
export const RULE_UNREACHABLE = 513;
export const RULE_UNHELD = 514;
export const RULE_ENI = 1024;
// Of pods in standard mode: after all that is on the node.
export const RULE_STANDARD_GUARD = 1025;
export const RULE_STANDARD = 1026;
export const RULE_STANDARD_ELSE = 1027;
/** Inside a pod with more than one interface: the address's own table. */
export const RULE_POD_SOURCE = 512;

/** Link group of pods' host links. */
export const GROUP_PODS = 0x5000;
/** Groups that cut links are moved to and deleted by, one after another. */
export const GROUP_CUT = 0x5001;
const CUT_GROUPS = 16;
/** Links to a group: deleting fifty at once holds the kernel's rtnl lock for 44 ms, and every ADD waits for it. */
const LINKS_PER_CUT_GROUP = 32;

/** The group of the n-th link that was cut. */
export const cutGroup = (n: number): number => GROUP_CUT + (Math.floor(n / LINKS_PER_CUT_GROUP) % CUT_GROUPS);
export const isCutGroup = (group: number): boolean => group >= GROUP_CUT && group < GROUP_CUT + CUT_GROUPS;
/** These bits of a link's group are GROUP_PODS for all of ours: one comparison for a packet. */
export const GROUPS_MASK = 0xffffffe0;
export const isOurGroup = (group: number): boolean => group === GROUP_PODS || isCutGroup(group);

/** Link group of branches' stand-ins; no group of the pods' links. */
export const GROUP_BRANCHES = 0x5020;
/** A stand-in has this index plus its VLAN id, so that the trunk's program needs no map. */
export const BRANCH_INDEX = 0x500000;
export const standInIndex = (vlan: number): number => BRANCH_INDEX + vlan;
export const isStandInIndex = (index: number): boolean =>
  index > BRANCH_INDEX && index < BRANCH_INDEX + 0x1000;
export const standInName = (vlan: number): string => `pwv${vlan}`;
/** The end that has the branch's MAC. */
export const isStandIn = (link: { name: string; group: number }): boolean =>
  link.group === GROUP_BRANCHES && /^pwv\d+$/.test(link.name);
/** The other end. */
export const isFarEnd = (link: { name: string; group: number }): boolean =>
  link.group === GROUP_BRANCHES && /^pwv\d+x$/.test(link.name);
/**
 * The pair of links between the node's own conntrack zone and those of strict pods: what arrives leaves by the outer
 * end.
 */
export const ARRIVAL_OUTER = { name: 'pwvout', index: BRANCH_INDEX + 0x1001 } as const;
/** In the stand-ins' group: what comes in by it has come for a pod with a branch. */
export const ARRIVAL_INNER = { name: 'pwvin', index: BRANCH_INDEX + 0x1002 } as const;
export const GROUP_ARRIVALS = 0x5021;
export const isArrivalLink = (link: { name: string; group: number }): boolean =>
  (link.group === GROUP_BRANCHES && link.name === ARRIVAL_INNER.name) ||
  (link.group === GROUP_ARRIVALS && link.name === ARRIVAL_OUTER.name);
/** A link that is there for branches, far ends aside, which go with theirs. */
export const isBranchLink = (link: { name: string; group: number }): boolean =>
  isStandIn(link) || isArrivalLink(link);
/** nft table of branches, beside NFT_TABLE. */
export const BRANCH_TABLE = 'podway-branch';

export const LINK_PREFIX = 'pw';
export const NFT_TABLE = 'podway';

export type AttachmentKey = {
  readonly network: string;
  readonly containerId: string;
  readonly ifname: string;
};

/** Name of the attachment's link on the node: `pw` and 12 hex digits, the same at every start. */
export const hostLinkName = (key: AttachmentKey): string =>
  // NUL cannot occur in any of the three, so different attachments give different texts.
  LINK_PREFIX + hash('sha256', `${key.network}\0${key.containerId}\0${key.ifname}`).slice(0, 12);
export const isPodLinkName = (name: string): boolean => /^pw[0-9a-f]{12}$/.test(name);

/**
 * MAC addresses of the two ends, set at creation: a link that is born with an address of its own is left alone by
 * udev's MACAddressPolicy, which otherwise changes it under the pod's permanent neighbour.
 */
export function linkMacs(hostIfname: string): { host: Mac; pod: Mac } {
  const bytes = hash('sha256', `mac\0${hostIfname}`, 'buffer');
  return { host: localMac(bytes.subarray(0, 6)), pod: localMac(bytes.subarray(6, 12)) };
}
