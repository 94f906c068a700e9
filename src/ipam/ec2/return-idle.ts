// Returns idle addresses to EC2 because an operator says so. All or nothing: what is held, cools, is quarantined, has a
// public address, or is not the pool's own is refused by name (NOT_IDLE), and then nothing is returned.
// Marking a block as leaving is the whole of it: from then on it is not given out, and the planner's next turn returns it.
import { PodwayError } from '../../base/errors.ts';
import { cidrSize, formatCidr, formatIp, type Ip } from '../../base/ip.ts';
import { type Core, commit, unpause } from '../core.ts';
import { eniRecord } from '../journal/records.ts';
import { type Census, censusOf, isIdle, prefixKey } from '../plan/census.ts';
import { blockOf, type Eni, isFree, isUsable, ownerName, type PoolState } from '../state.ts';

/** `ips`: single addresses, or the first address of a prefix. Throws NOT_IDLE. */
export function returnIdle(core: Core, ips: readonly Ip[]): void {
  const { state, clock } = core;
  const now = clock.now();
  const census = censusOf(state, now);
  const refused = ips.flatMap((ip) => {
    const why = whyNot(state, census, ip, now);
    return why === null ? [] : [{ ip: formatIp(ip), why }];
  });
  if (refused.length > 0) {
    const named = refused.map(({ ip, why }) => `${ip} ${why}`).join('; ');
    throw new PodwayError('NOT_IDLE', `nothing is returned: ${named}`, {
      object: refused[0]!.ip,
      has: refused.length,
      limit: ips.length,
    });
  }
  const changed = new Map<Eni['id'], Eni>();
  for (const ip of ips) {
    const found = blockOf(state, ip)!;
    const eni = changed.get(found.eni.id) ?? found.eni;
    const blocks = new Map(eni.blocks).set(found.block.cidr.ip, { ...found.block, leaving: true });
    changed.set(eni.id, { ...eni, blocks });
  }
  const enis = new Map(state.enis);
  for (const eni of changed.values()) enis.set(eni.id, eni);
  commit(core, { ...state, enis }, ...[...changed.values()].map((eni) => eniRecord(eni)));
  // What was refused for want of a whole /28 may be had now.
  unpause(core, ...[...changed.values()].map((eni) => prefixKey(eni.subnetId)));
}

/** Why the address cannot be returned; null when it can. */
function whyNot(state: PoolState, census: Census, ip: Ip, now: number): string | null {
  const found = blockOf(state, ip);
  const use = state.uses.get(ip);
  if (use && !isFree(use, now)) {
    if (use.kind === 'held') return `is held by ${ownerName(use.lease.owner)}`;
    if (use.kind === 'quarantined') return `is quarantined: ${use.reason}`;
    return `cools until ${new Date(use.until).toISOString()}`;
  }
  if (!found) {
    const own = [...state.enis.values()].find((eni) => eni.primaryIp === ip);
    return own ? `is the primary address of ${own.id}` : "is none of this node's";
  }
  const { eni, block } = found;
  if (block.foreign) return `was put on ${eni.id} by somebody else`;
  if (block.pinned) return 'has a public address';
  if (block.leaving || eni.phase === 'leaving') return 'is on its way back already';
  if (cidrSize(block.cidr) > 1 && block.cidr.ip !== ip)
    return `is part of the prefix ${formatCidr(block.cidr)}`;
  const count = census.enis
    .flatMap((one) => [...one.blocks, ...one.blocks6])
    .find((one) => one.block === block);
  if (!count || !isIdle(count)) return `is a prefix with addresses in use: ${formatCidr(block.cidr)}`;
  return isUsable(eni, block) ? null : `is not settled: EC2 or the node does not have it now`;
}
