// Sysctls that the datapath needs, the values they had before, and the way back. Invariant: the old value is on disk
// before the new one is in the kernel, so a kill in between loses nothing; the record lives under the node's run
// directory and dies with the boot, as the kernel's values do. Only restore() puts anything back.
import { mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { unwritable } from '../base/errors.ts';
import type { Netns } from '../kernel/netns.ts';
import type { Conf4 } from '../kernel/rtnetlink.ts';
import { readSysctl, writeSysctl } from '../kernel/sysctl.ts';

export type WantedSysctl = {
  readonly key: string;
  readonly value: string;
  /** Another accepted value: correct too, but slower. */
  readonly also?: string;
  /** Keys of a protocol that the kernel may lack (IPv6 off): a missing one is no error. */
  readonly optional?: boolean;
};

/**
 * Of the namespace as a whole. Turning forwarding on also sets it on every link. With early demultiplexing the kernel looks
 * for a socket of the node for each packet that it then forwards; without it, what is for the node costs a route lookup.
 */
export const nodeSysctls: readonly WantedSysctl[] = [
  { key: 'net/ipv4/ip_forward', value: '1' },
  { key: 'net/ipv4/ip_early_demux', value: '0', optional: true },
];

/**
 * Loose reverse path filter on every ENI: a pod's packets come and go by other links than the main table says. The kernel takes the larger of `all` and the link's value, so 2 also wins over `all=1`.
 */
const loose = (link: string): WantedSysctl => ({ key: `net/ipv4/conf/${link}/rp_filter`, value: '2' });
const forwarding = (link: string): WantedSysctl => ({ key: `net/ipv4/conf/${link}/forwarding`, value: '1' });

export const primaryLinkSysctls = (link: string): readonly WantedSysctl[] => [loose(link), forwarding(link)];

/**
 * Of the namespace, where pods have IPv6. Forwarding ends the acceptance of router advertisements at 1, and takes the default
 * route that they brought: a link that relies on them (1) gets 2, before.
 */
export const nodeSysctls6: readonly WantedSysctl[] = [{ key: 'net/ipv6/conf/all/forwarding', value: '1' }];
export const primaryLinkSysctls6 = (link: string): readonly WantedSysctl[] => [
  { key: `net/ipv6/conf/${link}/disable_ipv6`, value: '0' },
  { key: `net/ipv6/conf/${link}/accept_ra`, value: '2', also: '0' },
];
export const secondaryLinkSysctls6 = (link: string): readonly WantedSysctl[] => [
  { key: `net/ipv6/conf/${link}/disable_ipv6`, value: '0' },
  // The kernel makes no link-local address by itself, which would be tentative for a second.
  { key: `net/ipv6/conf/${link}/addr_gen_mode`, value: '1' },
];

export const secondaryLinkSysctls = (link: string): readonly WantedSysctl[] => [
  loose(link),
  forwarding(link),
  // An ENI speaks ARP for its own address alone: two ENIs of one subnet would answer for each other.
  { key: `net/ipv4/conf/${link}/arp_ignore`, value: '1' },
  { key: `net/ipv4/conf/${link}/arp_announce`, value: '2' },
  // When the ENI comes up again, the first question for its router may be lost: the next follows at once, not in a second.
  { key: `net/ipv4/neigh/${link}/retrans_time_ms`, value: '100', optional: true },
  // A router advertisement here would bring a second default route into `main`.
  { key: `net/ipv6/conf/${link}/accept_ra`, value: '0', optional: true },
];

/**
 * Of a pod's host link, in the message that sets it up. The nft table drops what has not the pod's source; with these two
 * the kernel does not look the source up a second time, which costs each packet 280 ns. `judged` as in podLinkSysctls.
 */
export const podLinkConf = (judged: boolean): Conf4 => ({
  rpFilter: 0,
  acceptLocal: 1,
  ...(judged ? { srcValidMark: 1 } : {}),
});
/** IPv6 of a host link, which no netlink message sets: on where the pod has an IPv6 address. */
export const podLinkIpv6 = (link: string, isOn: boolean): WantedSysctl => ({
  key: `net/ipv6/conf/${link}/disable_ipv6`,
  value: isOn ? '0' : '1',
  optional: true,
});
/** Of the pod's end, as keys and values: IPv6 on, no address or route from router advertisements. */
export const podEndSysctls = (ifname: string): readonly (readonly [key: string, value: string])[] => [
  ['net/ipv6/conf/lo/disable_ipv6', '0'],
  [`net/ipv6/conf/${ifname}/disable_ipv6`, '0'],
  [`net/ipv6/conf/${ifname}/accept_ra`, '0'],
];

/**
 * Not recorded: these go with the link. A pod must not advertise itself as the node's IPv6 router (CVE-2020-10749): without
 * an IPv6 address its link has none, with one the nft table lets nothing but neighbour discovery by.
 * With `all` at 1 or 2 the kernel checks the source after all. When only judged packets find the pods' table, it must
 * look with the packet's mark too, or it finds the black hole behind and drops what the pod sends. systemd sets 2 on each
 * new link.
 */
export const podLinkSysctls = (link: string, judged: boolean, has6 = false): readonly WantedSysctl[] => [
  { key: `net/ipv4/conf/${link}/rp_filter`, value: '0', also: '2' },
  ...(judged ? [{ key: `net/ipv4/conf/${link}/src_valid_mark`, value: '1' }] : []),
  podLinkIpv6(link, has6),
];

type Entry = { before: string; ours: string };

export type SysctlRecord = {
  /** Sets what differs and `may` be set; the keys that were changed. */
  ensure(wanted: readonly WantedSysctl[], may: (key: string) => boolean): string[];
  /** Puts back what is still as we set it, forgets all; the keys that were changed. */
  restore(): string[];
};

/** `path` absent: the record lives in memory only. */
export function openSysctlRecord(netns: Netns, path?: string): SysctlRecord {
  const entries = new Map<string, Entry>(path === undefined ? [] : readRecord(path));

  const save = () => {
    if (path === undefined) return;
    try {
      mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
      const aside = `${path}.new`;
      writeFileSync(aside, JSON.stringify(Object.fromEntries(entries)), { mode: 0o600 });
      renameSync(aside, path);
    } catch (error) {
      throw unwritable(path, error);
    }
  };

  return {
    ensure(wanted, may) {
      const changed: string[] = [];
      for (const { key, value, also, optional } of wanted) {
        const now = readSysctl(netns, key);
        if (now === value || (also !== undefined && now === also)) continue;
        if (now === null) {
          if (optional) continue;
          throw new Error(`${key} is not there in ${netns.path}: the datapath needs it`);
        }
        if (!may(key)) continue;
        // The first value that we read is the operator's; a later foreign value is drift.
        if (!entries.has(key)) {
          entries.set(key, { before: now, ours: value });
          try {
            save();
          } catch (error) {
            // Not on disk: the next call must try again before it sets anything.
            entries.delete(key);
            throw error;
          }
        }
        writeSysctl(netns, key, value);
        changed.push(key);
      }
      return changed;
    },
    restore() {
      const changed: string[] = [];
      // In reverse order: the namespace's value overwrites a link's own value, which was set after it.
      for (const [key, { before, ours }] of [...entries].reverse()) {
        if (readSysctl(netns, key) === ours) {
          writeSysctl(netns, key, before);
          changed.push(key);
        }
      }
      entries.clear();
      if (path !== undefined) rmSync(path, { force: true });
      return changed;
    },
  };
}

function readRecord(path: string): [string, Entry][] {
  try {
    return Object.entries(JSON.parse(readFileSync(path, 'utf8')) as Record<string, Entry>);
  } catch (error) {
    // A damaged record counts as lost: the present values become the ones to restore, and no pod has to wait.
    if ((error as NodeJS.ErrnoException).code === 'ENOENT' || error instanceof SyntaxError) return [];
    throw error;
  }
}
