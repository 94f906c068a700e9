// The datapath's inputs and answers as plain values. Addresses of both families have one type (base/ip). IPv6 is on where
// an ENI has an IPv6 prefix: the node's tables, rules and chains have an IPv6 half then, and no object of it otherwise.
import type { BranchMode } from '../base/branch-words.ts';
import type { Cidr, Ip } from '../base/ip.ts';
import type { Mac } from '../base/mac.ts';
import type { Netns } from '../kernel/netns.ts';
import type { Branch } from './branch.ts';
import type { AttachmentKey, EniSlot } from './marks.ts';

/** `node`: to the node's primary address; `random`: the same with random ports; `none`: pods keep their own. */
export type SnatMode = 'node' | 'random' | 'none';

/** An attached ENI of ours, as the cloud describes it. */
export type Eni = EniSlot & {
  readonly id: string;
  readonly mac: Mac;
  /** Of an IPv6-only subnet's ENI an IPv6 address. */
  readonly primaryIp: Ip;
  /** The ENI's own IPv6 address beside it, where it has one. */
  readonly ownIp6?: Ip | undefined;
  readonly subnetCidr: Cidr;
  /** The subnet's router; the first address after the network address by default. */
  readonly gateway?: Ip;
  /** Every secondary address that the ENI holds: held by a pod, free, or cooling. */
  readonly addresses: readonly Ip[];
  readonly prefixes: readonly Cidr[];
};

/** A pod that is wired: what the journal knows of it. */
export type HeldPod = {
  readonly hostIfname: string;
  readonly ips: readonly Ip[];
  /** Null while it is unknown which ENI carries its address: its routes are kept, its element is not made. */
  readonly eni: EniSlot | null;
  /** VLAN id of its branch ENI; absent for a pod without one. */
  readonly vlan?: number | undefined;
  /** Of a pod with a branch; absent: strict. */
  readonly mode?: BranchMode | undefined;
};

/** All that should be true on the node. */
export type NodeDatapath = {
  readonly enis: readonly Eni[];
  readonly vpcCidrs: readonly Cidr[];
  readonly snat: SnatMode;
  /** Of IPv6; absent: none. */
  readonly snat6?: SnatMode | undefined;
  /** Destinations outside the VPC that see the pod's own address. */
  readonly excludeSnatCidrs: readonly Cidr[];
  /** Pods of IPv6 alone may reach IPv4 hosts with the node's address. */
  readonly egress4?: boolean | undefined;
  /** MTU of secondary ENIs, bytes: that of the primary one's link. */
  readonly eniMtu: number;
  readonly pods: readonly HeldPod[];
  /** The ENI that carries branches; absent: none. */
  readonly trunk?: { readonly mac: Mac } | undefined;
  /** Pods with branch ENIs, whose links are in `pods` too. */
  readonly branches?: readonly Branch[] | undefined;
  /** Addresses that they reach on the node while they are on a link of it; 169.254.0.0/16 always is. */
  readonly nodeLocal?: readonly Ip[] | undefined;
  /**
   * With policy enforced: the mark that the policy table sets on packets it has judged. Only marked packets reach pods,
   * so deleting the policy table blocks the node's pods instead of opening them.
   */
  readonly judged?: { readonly mark: number; readonly mask: number };
};

export type PodRoute = {
  readonly dst: Cidr;
  /** The pod's own gateway when absent. */
  readonly gateway?: Ip;
  readonly mtu?: number;
  readonly advmss?: number;
  readonly priority?: number;
  readonly table?: number;
  readonly scope?: 'universe' | 'link' | 'host';
};

export type PodWiring = {
  readonly containerId: string;
  readonly ifname: string;
  readonly netns: Netns;
  readonly netnsPath: string;
  readonly ips: readonly Ip[];
  readonly eni: EniSlot;
  /** Bytes, both ends of the pair. */
  readonly mtu: number;
  /** The pod's end; one derived from the host link's name when absent. */
  readonly mac?: Mac;
  /** Routes in the pod; a default route per family when absent. */
  readonly routes?: readonly PodRoute[];
  /** hostLinkName() of the attachment. */
  readonly hostIfname: string;
  /** linkAlias() of the attachment. */
  readonly alias?: string | undefined;
  /** VLAN id of its branch ENI, whose stand-in a sync has made. `eni` is the primary one then: what the VPC's services see. */
  readonly vlan?: number | undefined;
  /** Of a pod with a branch; absent: strict. */
  readonly mode?: BranchMode | undefined;
};

export type WiredPod = {
  readonly hostIfname: string;
  readonly hostIfindex: number;
  readonly hostMac: Mac;
  readonly podIfindex: number;
  readonly podMac: Mac;
  readonly mtu: number;
  readonly ips: readonly Ip[];
  /** One per family in `ips`. */
  readonly gateways: readonly Ip[];
  readonly routes: readonly PodRoute[];
};

/** What DEL passes: the link's name, and the addresses when the journal has them. */
export type CutTarget = {
  readonly hostIfname: string;
  readonly ips?: readonly Ip[];
  /** The sandbox's path: rules there that would outlive the link are removed. */
  readonly netnsPath?: string | undefined;
};

/** What CHECK compares the kernel with. */
export type CheckTarget = {
  readonly hostIfname: string;
  readonly ifname: string;
  /** The pod's own end is not looked at when absent. */
  readonly netnsPath?: string | undefined;
  readonly ips: readonly Ip[];
  /** Not compared when null. */
  readonly eni: EniSlot | null;
  /** Of a pod with a branch. */
  readonly mode?: BranchMode | undefined;
  /** From the ADD's result; not compared when absent. */
  readonly mac?: Mac;
  readonly mtu?: number;
  readonly routes?: readonly PodRoute[];
};

/** A foreign change that is reported and not repaired. `object` identifies the thing across reports. */
export type Told = {
  /** withheld: the node only reports. fight: put back again and again. address: a pod's, on a link of the node. kernel-rule: put back. */
  readonly kind: 'withheld' | 'fight' | 'address' | 'kernel-rule';
  readonly object: string;
  readonly text: string;
  /** Whose pod it concerns, where it is one's. */
  readonly ip?: Ip;
};

/** What a sync found and did, for the log and for `ipam check`. */
export type SyncReport = {
  /** One line for each thing that differed and was put right. */
  readonly changes: readonly string[];
  /** Held pods whose link is gone: the journal says held, the kernel has nothing. */
  readonly missingPods: readonly string[];
  /** ENIs that no link of the node belongs to: their addresses cannot be used. */
  readonly absent: readonly Eni[];
  /** When a withheld repair may be done (ms); null when none was withheld. */
  readonly retryAt: number | null;
};

export type { AttachmentKey, EniSlot };
