// Network namespaces of one lab's fabric: made, opened, set up and removed here, and nowhere else.
// Invariant: a namespace is written down in the lab's folder, with the life that it is made for, before it is made and
// struck off after it is gone, so that a killed process leaves none that its successor does not know, and no lab ever
// touches another's.
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseCidr } from '../../base/ip.ts';
import {
  createNetns,
  deleteNetns,
  NETNS_DIR,
  type Netns,
  NetnsError,
  openNetns,
} from '../../kernel/netns.ts';
import { RtNetlink } from '../../kernel/rtnetlink.ts';
import { writeSysctl } from '../../kernel/sysctl.ts';
import type { NetnsEntry } from './entries.ts';
import {
  EC2_ADDRESS,
  GATEWAY_LINK,
  HOST_SCOPE,
  IMDS_ADDRESS,
  IMDS_CALLERS,
  INTERNET_HOST,
  INTERNET_LENGTH,
  INTERNET_LINK,
  INTERNET_MTU,
  INTERNET_ROUTER,
  KUBE_ADDRESS,
  netnsName,
  RESOLVER_ADDRESS,
} from './names.ts';

export type Space = { where: string; name: string; ns: Netns; rt: RtNetlink };

const LOCAL_TABLE = 255;

const SYSCTLS: Record<NetnsEntry['role'], Record<string, string>> = {
  router: {
    'net/ipv4/ip_forward': '1',
    'net/ipv4/conf/all/rp_filter': '0',
    'net/ipv4/conf/default/rp_filter': '0',
    // The router's own errors come back by it, from a NAT gateway that hands them on to who sent.
    'net/ipv4/conf/all/accept_local': '1',
    // Two instances of one subnet talk by the router: that is the design, not a detour to be told about.
    'net/ipv4/conf/all/send_redirects': '0',
    'net/ipv4/conf/default/send_redirects': '0',
    'net/ipv6/conf/all/disable_ipv6': '1',
    'net/ipv6/conf/default/disable_ipv6': '1',
    // With br_netfilter the inet hooks would run inside the bridge, before a frame has its caller's mark.
    'net/bridge/bridge-nf-call-iptables': '0',
    'net/bridge/bridge-nf-call-ip6tables': '0',
    'net/bridge/bridge-nf-call-arptables': '0',
  },
  internet: {
    'net/ipv4/ip_forward': '1',
    'net/ipv4/conf/all/rp_filter': '0',
    'net/ipv4/conf/default/rp_filter': '0',
    'net/ipv4/conf/all/send_redirects': '0',
    'net/ipv4/conf/default/send_redirects': '0',
    'net/ipv6/conf/default/disable_ipv6': '1',
  },
  // It forgets a silent flow as AWS's does, and takes up none in its middle.
  nat: {
    'net/ipv4/ip_forward': '1',
    'net/ipv4/conf/all/rp_filter': '0',
    'net/ipv4/conf/default/rp_filter': '0',
    'net/ipv4/conf/all/send_redirects': '0',
    'net/ipv4/conf/default/send_redirects': '0',
    'net/ipv6/conf/all/forwarding': '1',
    'net/ipv6/conf/default/accept_ra': '0',
    'net/ipv6/conf/default/addr_gen_mode': '1',
    'net/netfilter/nf_conntrack_tcp_loose': '0',
    'net/netfilter/nf_conntrack_tcp_timeout_established': '350',
    'net/netfilter/nf_conntrack_udp_timeout_stream': '350',
  },
  // As a cloud image boots: no forwarding, loose reverse path filter, no autoconfiguration noise.
  instance: {
    'net/ipv4/ip_forward': '0',
    'net/ipv4/conf/all/rp_filter': '0',
    'net/ipv4/conf/default/rp_filter': '2',
    'net/ipv6/conf/all/accept_ra': '0',
    'net/ipv6/conf/default/accept_ra': '0',
    'net/ipv6/conf/default/addr_gen_mode': '1',
  },
};

/** Set last when a namespace is made, on its loopback link: what bears it was set up to the end. */
const READY = 'podway';

export class Spaces {
  readonly #lab: string;
  readonly #ledger: string;
  readonly #open = new Map<string, Space>();

  constructor(lab: string, dir: string) {
    this.#lab = lab;
    this.#ledger = join(dir, 'fabric', 'netns');
  }

  get(where: string): Space | undefined {
    return this.#open.get(where);
  }

  /** The open namespace; throws when there is none of that name. */
  at(where: string): Space {
    const space = this.#open.get(where);
    if (space === undefined) throw new Error(`the fabric of lab ${this.#lab} has no namespace "${where}"`);
    return space;
  }

  /** Places that were written down, whether or not they still are there. */
  recorded(): string[] {
    try {
      return readdirSync(this.#ledger).sort();
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
      throw error;
    }
  }

  /** The instance life that each place was made for; empty text when it is not recorded. */
  lives(): Map<string, string> {
    return new Map(this.recorded().map((where) => [where, readFileSync(join(this.#ledger, where), 'utf8')]));
  }

  /**
   * Opens the namespace, makes it when it is missing, and finishes one that was made by halves. One of another life is
   * opened as it is: it goes by `remove`.
   */
  ensure(entry: NetnsEntry): Space {
    const known = this.#open.get(entry.where);
    if (known !== undefined) return known;
    mkdirSync(this.#ledger, { recursive: true, mode: 0o700 });
    const name = netnsName(this.#lab, entry.where);
    const record = join(this.#ledger, entry.where);
    let ns = openIfThere(name);
    if (ns === undefined) {
      writeFileSync(record, entry.life);
      deleteNetns(name); // a plain file that a killed process left
      ns = createNetns(name);
    } else if (!existsSync(record)) writeFileSync(record, '');
    const space: Space = { where: entry.where, name, ns, rt: RtNetlink.open(ns) };
    const lo = space.rt.link('lo');
    // What a guest changes later is the guest's: only our own namespaces are set up again.
    if (lo !== null && (lo.alias !== READY || entry.role !== 'instance')) {
      for (const [key, value] of Object.entries(SYSCTLS[entry.role])) setIfThere(ns, key, value);
      space.rt.apply([
        { op: 'link-set', index: lo.index, up: true },
        { op: 'link-set', index: lo.index, alias: READY },
      ]);
    }
    this.#open.set(entry.where, space);
    return space;
  }

  /** Opens the namespace when it is there. */
  open(where: string): Space | undefined {
    const known = this.#open.get(where);
    if (known !== undefined) return known;
    const name = netnsName(this.#lab, where);
    const ns = openIfThere(name);
    if (ns === undefined) return undefined;
    const space: Space = { where, name, ns, rt: RtNetlink.open(ns) };
    this.#open.set(where, space);
    return space;
  }

  /** The last trace: the folder of names, once all are gone. */
  forgetAll(): void {
    this.close();
    rmSync(join(this.#ledger, '..'), { recursive: true, force: true });
  }

  /** Takes the name away; links in it go with it. Idempotent. */
  remove(where: string): void {
    this.forget(where);
    deleteNetns(netnsName(this.#lab, where));
    rmSync(join(this.#ledger, where), { force: true });
  }

  /** Closes what is open of it. */
  forget(where: string): void {
    const space = this.#open.get(where);
    if (space === undefined) return;
    this.#open.delete(where);
    space.rt.close();
    space.ns.close();
  }

  /** Has someone else removed the namespace's name, or put another in its place? */
  isStale(where: string): boolean {
    const space = this.#open.get(where);
    if (space === undefined) return false;
    try {
      using now = openNetns(space.ns.path);
      return now.inode !== space.ns.inode;
    } catch {
      return true;
    }
  }

  close(): void {
    for (const where of [...this.#open.keys()]) this.forget(where);
  }
}

function openIfThere(name: string): Netns | undefined {
  try {
    return openNetns(`${NETNS_DIR}/${name}`);
  } catch (error) {
    if (error instanceof NetnsError) return undefined;
    throw error;
  }
}

function setIfThere(ns: Netns, key: string, value: string): void {
  try {
    writeSysctl(ns, key, value);
  } catch (error) {
    // A kernel without IPv6 or br_netfilter has none of their keys, and nothing to keep quiet.
    const cause = (error as Error).cause as NodeJS.ErrnoException | undefined;
    if (cause?.code !== 'ENOENT') throw error;
  }
}

/** The router's own addresses, and the wire between the router and the internet. Idempotent. */
export function connectInternet(router: Space, internet: Space): void {
  const lo = router.rt.link('lo')!.index;
  router.rt.apply([
    ...[IMDS_ADDRESS, EC2_ADDRESS, KUBE_ADDRESS, RESOLVER_ADDRESS].map(
      (ip) => ({ op: 'addr-replace', index: lo, ip, length: 32, scope: HOST_SCOPE }) as const,
    ),
    // Every address of the range is the router's own: one listener hears all callers of IMDS.
    { op: 'route-replace', dst: IMDS_CALLERS, table: LOCAL_TABLE, type: 'local', oif: lo },
  ]);
  let inner = router.rt.link(GATEWAY_LINK);
  if (inner === null || internet.rt.link(INTERNET_LINK)?.peerIndex !== inner.index) {
    // A link without its other end, or to an internet that is gone.
    if (inner !== null) router.rt.apply([{ op: 'link-del', index: inner.index }]);
    router.rt.apply([
      {
        op: 'veth-add',
        name: GATEWAY_LINK,
        mtu: INTERNET_MTU,
        peer: { name: INTERNET_LINK, mtu: INTERNET_MTU, netns: internet.ns },
      },
    ]);
    inner = router.rt.link(GATEWAY_LINK)!;
  }
  router.rt.apply([
    { op: 'link-set', index: inner.index, up: true },
    { op: 'addr-replace', index: inner.index, ip: INTERNET_ROUTER, length: INTERNET_LENGTH },
  ]);
  const outer = internet.rt.link(INTERNET_LINK)!.index;
  internet.rt.apply([
    { op: 'link-set', index: outer, up: true },
    // Without the prefix's own route: public addresses of the same prefix are behind the router, not on the wire.
    { op: 'addr-replace', index: outer, ip: INTERNET_HOST, length: INTERNET_LENGTH, noPrefixRoute: true },
    {
      op: 'route-replace',
      dst: { ip: INTERNET_ROUTER, length: 32 },
      table: 254,
      oif: outer,
      protocol: STATIC,
    },
    // A sender to an unused address gets an ICMP error.
    { op: 'route-replace', dst: parseCidr('0.0.0.0/0'), table: 254, type: 'unreachable', protocol: STATIC },
  ]);
}

/** RTPROT_STATIC: the internet's fixed routes, apart from the ones that the plan owns. */
const STATIC = 4;
