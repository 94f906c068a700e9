// Compares the journal with the kernel: each pod's wiring, and pod links without a lease. The node's links, routes and
// elements are listed once; each pod's namespace is entered on a separate turn of the event loop.
import { setImmediate as nextTurn } from 'node:timers/promises';
import { formatIp } from '../../base/ip.ts';
import { linkOf } from '../links.ts';
import { PRIMARY_SLOT } from '../node-state.ts';
import { type CompareOptions, type Difference, none, texts } from './difference.ts';

export async function journalAndKernel({ pool, datapath }: CompareOptions): Promise<Difference[]> {
  const found: Difference[] = [];
  const held = new Set<string>();
  const view = datapath.observeNode();
  for (const lease of pool.held()) {
    const hostIfname = linkOf(lease.owner);
    held.add(hostIfname);
    await nextTurn();
    if (lease.owner.link !== undefined) {
      found.push({
        ...none,
        kind: 'attachment',
        object: hostIfname,
        journal: `${texts(lease.ips)}, of an attachment that nobody has named yet`,
        kernel: 'up',
      });
    }
    const target = {
      hostIfname,
      ifname: lease.owner.ifname,
      netnsPath: lease.owner.netns,
      ips: lease.ips,
      eni: lease.branch ? PRIMARY_SLOT : lease.eni,
      mode: lease.branch?.mode,
    };
    const wrong = datapath.checkPod(target, view);
    if (wrong.length > 0) {
      found.push({
        ...none,
        kind: 'attachment',
        object: `${lease.owner.containerId}/${lease.owner.ifname}`,
        journal: texts(lease.ips),
        kernel: wrong.join('; '),
      });
    }
  }
  for (const ip of pool.quarantined()) {
    const use = pool.state.uses.get(ip);
    if (use?.kind !== 'quarantined') continue;
    found.push({ ...none, kind: 'address', object: formatIp(ip), journal: `quarantined: ${use.reason}` });
  }
  for (const link of view.podLinks) {
    // A link that is down was cut by a DEL and is deleted within a moment.
    if (held.has(link.name) || !link.up) continue;
    found.push({ ...none, kind: 'link', object: link.name, kernel: 'up' });
  }
  return found;
}
