// Handles pods whose host link disappeared without a DEL. If the sandbox is gone too, the addresses are released. If it
// lives and the pod's end is known (from its ADD, or read from the pod a little later), the link is made again
// with the same address and MAC address. Otherwise the pod is reported and its address stays held until DEL.
import { formatIp } from '../base/ip.ts';
import type { Log } from '../base/log.ts';
import { linkAlias } from '../datapath/alias.ts';
import { type History, isForgotten, judge } from '../datapath/backoff.ts';
import type { Datapath } from '../datapath/datapath.ts';
import { type PodEnd, readPodEnd } from '../datapath/pod-end.ts';
import type { AddressPool } from '../ipam/pool.ts';
import type { Lease } from '../ipam/state.ts';
import type { Attachments } from './attachments.ts';
import { linkOf } from './links.ts';
import { PRIMARY_SLOT } from './node-state.ts';
import type { Tell } from './tell.ts';

/** A pod's end is read this long after its ADD (ms): plugins behind ours in the chain have changed it by then. */
const LEARN_AFTER_MS = 3_000;

export type LostLinksOptions = {
  pool: AddressPool;
  datapath: Datapath;
  attachments: Attachments;
  log: Log;
  tell: Tell;
  /** False: a lost link is only reported. */
  mayRepair: boolean;
  /** Ms since 1970, as leases count. */
  now: () => number;
};

type Known = { readonly at: number; readonly end: PodEnd };

export class LostLinks {
  readonly #o: LostLinksOptions;
  /** By host link. */
  readonly #ends = new Map<string, Known>();
  readonly #histories = new Map<string, History>();

  constructor(options: LostLinksOptions) {
    this.#o = options;
  }

  /** Reads the ends of pods that are not known yet, one on each turn of the event loop. */
  async learn(): Promise<void> {
    const { pool, attachments, now } = this.#o;
    const held = pool.held();
    const links = new Set(held.map((lease) => linkOf(lease.owner)));
    for (const link of this.#ends.keys()) if (!links.has(link)) this.#ends.delete(link);
    for (const [link, history] of this.#histories)
      if (isForgotten(history, performance.now())) this.#histories.delete(link);
    for (const lease of held) {
      const link = linkOf(lease.owner);
      if (this.#ends.get(link)?.at === lease.at || now() - lease.at < LEARN_AFTER_MS) continue;
      await new Promise((resolve) => setImmediate(resolve));
      using netns = attachments.sandboxOf(lease);
      const end = netns && readPodEnd(netns, lease.owner.ifname);
      if (end) this.#ends.set(link, { at: lease.at, end });
    }
  }

  /** Releases or wires again the pods whose link is gone. Returns when to look again (ms, monotonic), or null. */
  async restore(missing: readonly string[]): Promise<number | null> {
    if (missing.length === 0) return null;
    const gone = new Set(missing);
    let again: number | null = null;
    for (const lease of this.#o.pool.held()) {
      if (!gone.has(linkOf(lease.owner))) continue;
      await this.#o.attachments.whileHeld(lease, () => {
        const at = this.#restoreOne(lease);
        if (at !== null) again = Math.min(again ?? at, at);
      });
    }
    return again;
  }

  #restoreOne(lease: Lease): number | null {
    const { attachments, datapath, log, tell, mayRepair } = this.#o;
    const { owner, ips, branch } = lease;
    const eni = branch ? PRIMARY_SLOT : lease.eni;
    const link = linkOf(owner);
    using netns = attachments.sandboxOf(lease);
    if (!netns) {
      attachments.giveUp(lease);
      log.info({ ...owner }, 'released the addresses of a sandbox that is gone');
      return null;
    }
    const what = `the link ${link} of ${formatIp(ips[0]!)} was deleted`;
    const lost = (why: string) =>
      tell({
        kind: 'lost-link',
        object: `link ${link}`,
        text: `${what} and is not made again: ${why}. The pod has no network until it is deleted`,
        ...(owner.pod ? { pod: owner.pod } : {}),
      });
    if (!mayRepair) {
      lost('repair is report');
      return null;
    }
    const known = this.#ends.get(link);
    const end = known?.at === lease.at ? known.end : attachments.wiredEnd(lease);
    if (eni === null) {
      lost('nobody has told yet which ENI has the address');
      return null;
    }
    if (!end || owner.netns === undefined) {
      lost('this agent has not seen the pod’s end');
      return null;
    }
    const verdict = judge(this.#histories.get(link), performance.now());
    this.#histories.set(link, verdict.history);
    if (!verdict.repair) {
      if (verdict.begins)
        lost('it was deleted three times in 10 s, and is made again every 10 s from now on');
      return verdict.at;
    }
    try {
      const { mac, mtu, routes } = end;
      datapath.wirePod({
        containerId: owner.containerId,
        ifname: owner.ifname,
        netns,
        netnsPath: owner.netns,
        ips,
        eni,
        mtu,
        hostIfname: link,
        alias: linkAlias(owner),
        vlan: branch?.vlan,
        mode: branch?.mode,
        ...(mac === undefined ? {} : { mac }),
        ...(routes === undefined ? {} : { routes }),
      });
      tell({
        kind: 'restored-link',
        object: `link ${link}`,
        text: `${what} and made again, with the same address and MAC address; what other plugins did in the pod is not`,
        ...(owner.pod ? { pod: owner.pod } : {}),
      });
    } catch (error) {
      lost((error as Error).message);
    }
    return null;
  }
}
