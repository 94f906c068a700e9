// Pods whose policies are not known in time, and which start all the same: a table of its own lets them reach their node,
// and be reached by it, and nothing else. Apart from the policy table, which may not be there or not be known. Invariant:
// an address is in the table from before its pod's link is made until `remove`. Fails with NftError or NetlinkError.
import { formatIp, type Ip, ipToBytes } from '../base/ip.ts';
import { OWN_ARRIVED } from '../base/packet-marks.ts';
import type { Netns } from '../kernel/netns.ts';
import { NetlinkError, NfNetlink } from '../kernel/nfnetlink.ts';
import { chainText, elementsText, hex, tableText, withoutTable } from '../kernel/nft-text.ts';
import { Nft } from '../kernel/nftables.ts';

export const ISOLATION_TABLE = 'podway-isolated';
const TABLE = `inet ${ISOLATION_TABLE}`;

const setOf = (ip: Ip): string => (typeof ip === 'number' ? 'pods4' : 'pods6');

function setText(name: string, type: string, ips: readonly Ip[]): string {
  const own = ips.filter((ip) => setOf(ip) === name).map(formatIp);
  return `  set ${name} { type ${type};${elementsText(own)} }`;
}

/** Ahead of both chains of policy. Neighbour discovery is below policy. */
const parts = (ips: readonly Ip[]): string[] => [
  setText('pods4', 'ipv4_addr', ips),
  setText('pods6', 'ipv6_addr', ips),
  chainText({ name: 'sent', rules: ['fib daddr type local accept', 'counter drop'] }),
  chainText({
    name: 'prerouting',
    hook: 'type filter hook prerouting priority -82; policy accept;',
    rules: [
      'icmpv6 type { 130-137, 143 } accept',
      `meta mark & ${hex(OWN_ARRIVED)} == ${hex(OWN_ARRIVED)} accept`,
      'ip saddr @pods4 goto sent',
      'ip6 saddr @pods6 goto sent',
      'ip daddr @pods4 counter drop',
      'ip6 daddr @pods6 counter drop',
    ],
  }),
];

export class Isolation {
  readonly #nft: Nft;
  readonly #nf: NfNetlink;
  readonly #ips = new Set<Ip>();
  #isThere = false;

  constructor(netns: Netns) {
    this.#nft = Nft.open(netns);
    this.#nf = NfNetlink.open(netns);
  }

  isOwn(port: number): boolean {
    return this.#nf.isOwn(port);
  }

  async add(ips: readonly Ip[]): Promise<void> {
    for (const ip of ips) this.#ips.add(ip);
    if (!this.#isThere) return await this.make();
    const fresh = ips.map((ip) => this.#operation('add', ip));
    try {
      this.#nf.elements(fresh);
    } catch {
      // In the set already, or the table is gone.
      await this.make();
    }
  }

  /** The table with all addresses, in one transaction, whatever is there. */
  async make(): Promise<void> {
    const ips = [...this.#ips];
    await this.#nft.run(`${withoutTable(TABLE)}${tableText(TABLE, parts(ips))}`);
    this.#isThere = true;
    // What came and went meanwhile.
    if (ips.length !== this.#ips.size || ips.some((ip) => !this.#ips.has(ip))) await this.make();
  }

  /** Synchronous; without the last one the table goes, a moment later. */
  remove(ips: readonly Ip[]): void {
    const known = ips.filter((ip) => this.#ips.delete(ip));
    if (known.length === 0) return;
    if (this.#ips.size === 0) {
      this.#isThere = false;
      void this.#nft.run(withoutTable(TABLE)).catch(() => undefined);
      return;
    }
    try {
      this.#nf.elements(known.map((ip) => this.#operation('del', ip)));
    } catch (error) {
      if (!(error instanceof NetlinkError)) throw error;
      // Somebody else has changed the table: it is made anew by who watches it.
      this.#isThere = false;
    }
  }

  get ips(): ReadonlySet<Ip> {
    return this.#ips;
  }

  #operation(op: 'add' | 'del', ip: Ip) {
    return { op, family: 'inet', table: ISOLATION_TABLE, set: setOf(ip), key: ipToBytes(ip) } as const;
  }

  /** Leaves the table as it is. */
  async close(): Promise<void> {
    await this.#nft.close();
    this.#nf.close();
  }
}
