// Computes the desired kernel state of the node from the pool, IMDS and the settings, and hands it to the datapath.
import { systemClock } from '../base/clock.ts';
import { isEgress } from '../base/egress.ts';
import { type Cidr, formatIp, type Ip, parseCidr, parseIp } from '../base/ip.ts';
import type { Log } from '../base/log.ts';
import type { Mac } from '../base/mac.ts';
import type { Imds } from '../cloud/imds.ts';
import type { EniId } from '../cloud/port.ts';
import type { Branch } from '../datapath/branch.ts';
import type { GateRule } from '../datapath/branch-gate.ts';
import type { Datapath } from '../datapath/datapath.ts';
import { findEniLink } from '../datapath/enis.ts';
import type { Part } from '../datapath/parts.ts';
import type { NodeDatapath, SyncReport } from '../datapath/types.ts';
import type { AddressPool } from '../ipam/pool.ts';
import type { Lease } from '../ipam/state.ts';
import type { Netns } from '../kernel/netns.ts';
import { RtNetlink } from '../kernel/rtnetlink.ts';
import type { AgentSettings } from './config.ts';
import { linkOf } from './links.ts';
import type { Tell } from './tell.ts';
import { VpcCidrs } from './vpc-cidrs.ts';

/** Bytes, until the primary ENI's link was seen: fits every path. */
const LEAST_MTU = 1500;

export type NodeStateOptions = {
  pool: AddressPool;
  imds: Imds;
  datapath: Datapath;
  netns: Netns;
  settings: Pick<AgentSettings, 'snat' | 'excludeSnatCidrs'> & {
    /** Absent: none. */
    snat6?: AgentSettings['snat6'];
    /** Bytes: of secondary ENIs; absent: the primary ENI's link's. */
    eniMtu?: number;
  };
  file: string;
  log: Log;
  tell: Tell;
  /** What the groups of a branch let in, by its ENI; undefined while it is not known. */
  gateOf?: (eniId: string) => readonly GateRule[] | undefined;
  /** Addresses of the node itself for pods with branches, in canonical text. */
  nodeLocal?: () => readonly string[];
  /** What the pods' routes ask of packets, with policies in force. */
  judged?: () => NodeDatapath['judged'];
};

export class NodeState {
  readonly #o: NodeStateOptions;
  readonly #vpc: VpcCidrs;
  #mtu = LEAST_MTU;
  #primaryIndex: number | null = null;
  /** By MAC address: of the trunk, which each ADD of a pod with a branch asks for. */
  readonly #linkIndexes = new Map<Mac, number>();
  /** ENIs that had no link at the last look. */
  #linkless: ReadonlySet<EniId> = new Set();

  constructor(options: NodeStateOptions) {
    this.#o = options;
    const { pool, imds, file, log } = options;
    this.#vpc = new VpcCidrs({
      file,
      read: (signal) => imds.vpcCidrs(pool.identity.primary.mac, signal),
      inUse: () => pool.enis().map((eni) => eni.primaryIp),
      log,
      now: () => systemClock.now(),
    });
  }

  /** The VPC's CIDRs, from an earlier run's file or from IMDS. */
  get knowsVpc(): boolean {
    return this.#vpc.all.length > 0;
  }

  /** Asks IMDS for the VPC's CIDRs. True when they changed. */
  learnVpc(signal: AbortSignal): Promise<boolean> {
    return this.#vpc.learn(signal);
  }

  /** Bytes: what the operating system has set on the primary ENI's link, as of the last look. */
  get mtu(): number {
    return this.#mtu;
  }

  /**
   * Makes the kernel match the present state. After a lost journal the state lacks ENIs until EC2 has listed them: their
   * links, rules and routes in the kernel stay as they are until then.
   */
  async sync(): Promise<SyncReport> {
    const { pool, datapath } = this.#o;
    return this.#note(await (pool.unsure ? datapath.repair([]) : datapath.syncNode(this.desired())));
  }

  /** Compares these parts of the last synced state with the kernel and puts differences right. */
  async repair(parts: Iterable<Part>): Promise<SyncReport> {
    // Secondary ENIs use the MTU that the operating system chose for the primary link.
    if ((this.#primaryMtu() ?? this.#mtu) !== this.#mtu) return this.sync();
    return this.#note(await this.#o.datapath.repair(parts));
  }

  #note(report: SyncReport): SyncReport {
    const linkless = new Set(report.absent.map((eni) => eni.id as EniId));
    for (const { id, mac } of report.absent) {
      if (!this.#linkless.has(id as EniId))
        this.#o.tell({
          kind: 'eni-link',
          object: id,
          text: `no link of the node has the MAC address ${mac} of ${id}: no pod gets its addresses`,
        });
    }
    for (const id of this.#linkless)
      if (!linkless.has(id)) this.#o.log.info({ eni: id }, 'the ENI has its link again');
    this.#linkless = linkless;
    for (const [ip, link] of this.#o.datapath.onLinks()) {
      const what = `address ${formatIp(ip)} of ${link}`;
      this.#o.tell({
        kind: 'address',
        object: what,
        text: `${what} is of the node's pool, and not given out while it is there`,
      });
    }
    this.#o.pool.noteNode({ linkless, onLinks: this.#o.datapath.onLinks() });
    return report;
  }

  /** Before the pod's link: makes what its branch needs, its own parts alone where the rest is in place. */
  async makeBranch(lease: Lease): Promise<void> {
    const branch = branchOf(lease, this.#o);
    if (branch && !this.#o.pool.unsure && (await this.#o.datapath.makeBranch(branch))) return;
    await this.sync();
  }

  /** After the pod's link is wired, which takes most of it along. */
  async joinBranch(lease: Lease): Promise<void> {
    const branch = branchOf(lease, this.#o);
    if (!branch || !this.#o.datapath.hasBranch(branch)) await this.sync();
  }

  /** After the pod's link is cut and its lease is over. */
  async dropBranch(lease: Lease): Promise<void> {
    const branch = branchOf(lease, this.#o);
    if (!branch || !this.#o.datapath.dropBranch(branch)) await this.sync();
  }

  desired(): NodeDatapath {
    this.#mtu = this.#primaryMtu() ?? this.#mtu;
    return this.wanted();
  }

  /** The same with the MTU of the last look. */
  wanted(): NodeDatapath {
    const { pool, settings } = this.#o;
    const judged = this.#o.judged?.();
    return {
      enis: pool.enis().map(({ id, mac, deviceIndex, networkCard, primaryIp, ip6, subnetCidr, blocks }) => ({
        id,
        mac,
        deviceIndex,
        networkCard,
        primaryIp,
        ownIp6: ip6,
        subnetCidr,
        addresses: blocks.filter(isHost).map((block) => block.ip),
        prefixes: blocks.filter((block) => !isHost(block)),
      })),
      vpcCidrs: this.#vpc.all,
      snat: settings.snat,
      snat6: settings.snat6,
      excludeSnatCidrs: settings.excludeSnatCidrs,
      eniMtu: settings.eniMtu ?? this.#mtu,
      egress4: pool.policy.egress4 === 'node' || pool.held().some(({ ips }) => ips.some(isEgress)),
      pods: pool.held().map(({ owner, ips, eni, branch }) => ({
        hostIfname: linkOf(owner),
        ips,
        ...(branch ? { eni: PRIMARY_SLOT, vlan: branch.vlan, mode: branch.mode ?? 'strict' } : { eni }),
      })),
      ...branchesOf(this.#o),
      ...(judged ? { judged } : {}),
    };
  }

  /** Null while the link is absent. Asks for one link instead of listing all: a node has hundreds. */
  #primaryMtu(): number | null {
    const { mac } = this.#o.pool.identity.primary;
    using rt = RtNetlink.open(this.#o.netns);
    let link = this.#primaryIndex === null ? null : rt.link(this.#primaryIndex);
    if (link?.mac !== mac) link = findEniLink(rt.links(), mac) ?? null;
    this.#primaryIndex = link?.index ?? null;
    return link?.mtu ?? null;
  }

  /** Addresses on the node's own links, whether we or others configured them. */
  addressesOnLinks(): Set<Ip> {
    using rt = RtNetlink.open(this.#o.netns);
    return new Set(rt.addresses().map((address) => address.ip));
  }

  /** Asks for the one link that was it last: a node has hundreds. */
  hasLink(mac: Mac): boolean {
    using rt = RtNetlink.open(this.#o.netns);
    const known = this.#linkIndexes.get(mac);
    if (known !== undefined && rt.link(known)?.mac === mac) return true;
    const link = findEniLink(rt.links(), mac);
    if (link) this.#linkIndexes.set(mac, link.index);
    else this.#linkIndexes.delete(mac);
    return link !== undefined;
  }

  /** Name of the ENI's link on this node. */
  ifnameOf(mac: Mac): string | undefined {
    using rt = RtNetlink.open(this.#o.netns);
    return rt.links().find((link) => link.mac === mac && !link.name.startsWith('pw'))?.name;
  }
}

/** What a pod with a branch has for the VPC's link-local services. */
export const PRIMARY_SLOT = { deviceIndex: 0, networkCard: 0 } as const;

/** Null for a pod without one. */
const branchOf = ({ owner, ips, branch }: Lease, { gateOf }: NodeStateOptions): Branch | null =>
  branch
    ? {
        eniId: branch.id,
        mac: branch.mac,
        vlan: branch.vlan,
        subnetCidr: parseCidr(branch.subnetCidr),
        hostIfname: linkOf(owner),
        ips,
        mode: branch.mode ?? 'strict',
        gate: gateOf?.(branch.id),
      }
    : null;

/** Nothing on a node whose pods have no branches. */
function branchesOf(options: NodeStateOptions): Pick<NodeDatapath, 'trunk' | 'branches' | 'nodeLocal'> {
  const { pool, nodeLocal } = options;
  const branches = pool.held().flatMap((lease) => branchOf(lease, options) ?? []);
  const { trunk } = pool;
  if (branches.length === 0 && trunk === null) return {};
  return { branches, nodeLocal: (nodeLocal?.() ?? []).map(parseIp), ...(trunk ? { trunk } : {}) };
}

const isHost = (cidr: Cidr): boolean => cidr.length === (typeof cidr.ip === 'number' ? 32 : 128);
