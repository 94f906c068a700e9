// Reports how a lost journal was rebuilt: one log line with the pods' names, an Event on the node, an Event on each pod
// whose link is left without its address, and a count of the pods that were taken over.

import { formatIp } from '../base/ip.ts';
import type { Adoption } from '../ipam/journal/adopt.ts';
import { describeLoss } from '../ipam/journal/adopt.ts';
import { ownerName } from '../ipam/state.ts';
import type { Parts } from './parts.ts';

/** Names in an Event's text; the rest is counted. The log has all. */
const NAMED = 10;

const some = (names: readonly string[]): string =>
  names.length > NAMED
    ? `${names.slice(0, NAMED).join(', ')} and ${names.length - NAMED} more`
    : names.join(', ');

export function tellAdoption(
  { log, metrics, events, journal }: Pick<Parts, 'log' | 'metrics' | 'events' | 'journal'>,
  { loss, adopted, bare, replaced, quarantined }: Adoption,
): void {
  const pods = adopted.map((lease) => `${ownerName(lease.owner)} ${lease.ips.map(formatIp).join()}`);
  const kept = quarantined.map(formatIp);
  const why = describeLoss(loss);
  const { damaged, tornBytes, keptAside } = journal.replay;
  log.error(
    {
      journal: journal.path,
      loss,
      damagedLines: damaged,
      tornBytes,
      keptAside,
      adopted: pods,
      replaced: replaced.map((lease) => ownerName(lease.owner)),
      quarantined: kept,
    },
    `${why}: ${pods.length} pods are held by their links`,
  );
  metrics.adopted.inc(adopted.length);
  const parts = [
    pods.length > 0 ? `held by their links: ${some(pods)}` : 'no pod was unknown',
    ...(kept.length > 0 ? [`quarantined: ${some(kept)}`] : []),
  ];
  events.node('Warning', 'JournalLost', `${journal.path}: ${why}; ${parts.join('; ')}`);
  for (const { link, owner, ips } of bare) {
    const text =
      ips.length > 0
        ? `link ${link} has ${ips.map(formatIp).join()}, which another pod holds: it is left as it is, without the address`
        : `link ${link} has no address: it is left as it is`;
    log.error({ link, pod: owner?.pod }, text);
    if (owner?.pod) events.pod(owner.pod, 'Warning', 'AddressConflict', text);
  }
}
