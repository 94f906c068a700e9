// Reads a pod's end (MAC address, MTU and routes), so that it can be made again when its link was deleted.
// Reads only, in the pod's namespace; needs only the interface's name.
import { cidrCovers, hostCidr } from '../base/ip.ts';
import type { Mac } from '../base/mac.ts';
import type { Netns } from '../kernel/netns.ts';
import { MAIN_TABLE, type Route, RtNetlink } from '../kernel/rtnetlink.ts';
import { POD_GATEWAY } from './desired.ts';
import { defaultMetric } from './diff.ts';
import { PROTOCOL } from './marks.ts';
import type { PodRoute } from './types.ts';

export type PodEnd = {
  /** The one derived from the host link's name when absent. */
  readonly mac?: Mac | undefined;
  /** Bytes. */
  readonly mtu: number;
  /** As in a wiring. */
  readonly routes?: readonly PodRoute[] | undefined;
};

/** Null when the interface is not there. */
export function readPodEnd(netns: Netns, ifname: string): PodEnd | null {
  using pod = RtNetlink.open(netns);
  const link = pod.link(ifname);
  if (!link?.mac) return null;
  const routes = pod
    .routes({ oif: link.index, protocol: PROTOCOL })
    .filter((route) => route.table === MAIN_TABLE && !cidrCovers(hostCidr(POD_GATEWAY), route.dst))
    .map(asWired);
  // A second interface has its own route table; wirePod detects that again.
  return { mac: link.mac, mtu: link.mtu, routes: routes.length > 0 ? routes : undefined };
}

const asWired = ({ dst, gateway, mtu, advmss, metric, scope }: Route): PodRoute => ({
  dst,
  ...(gateway === null ? {} : { gateway }),
  ...(mtu === null ? {} : { mtu }),
  ...(advmss === null ? {} : { advmss }),
  ...(metric === defaultMetric(dst) ? {} : { priority: metric }),
  ...(scope === 'universe' || scope === 'link' || scope === 'host' ? { scope } : {}),
});
