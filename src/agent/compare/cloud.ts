// Compares the journal with EC2: ENIs, their addresses and prefixes. An address has one line, worded as in `ipam show`.
// It changes nothing itself; the pool hears of an ENI that hangs loose, which it would find later by itself.
import { systemClock } from '../../base/clock.ts';
import { isEgress } from '../../base/egress.ts';
import { type Cidr, cidrContains, cidrSize, formatCidr, formatIp, hostCidr, type Ip } from '../../base/ip.ts';
import type { EniDescription, EniId } from '../../cloud/port.ts';
import { bearsOurTags, isLoose, TAG_INSTANCE, type Whose } from '../../ipam/ec2/tags.ts';
import type { AddressPool } from '../../ipam/pool.ts';
import { viewAddress } from '../../ipam/views/snapshot.ts';
import { type CompareOptions, type Difference, none } from './difference.ts';

export async function journalAndCloud({ pool, cloud, config }: CompareOptions): Promise<Difference[]> {
  const { instanceId } = pool.identity;
  const whose: Whose = { instanceId, cluster: config.cluster };
  const described = await cloud.describeNetworkInterfaces({ kind: 'instance', instanceId });
  const tagged = await cloud.describeNetworkInterfaces({
    kind: 'tags',
    tags: { [TAG_INSTANCE]: instanceId },
  });
  const found = new Map<string, Difference>();
  const differ = (kind: 'eni' | 'address', object: string, journal: string | null, says: string) =>
    found.set(object, { ...none, kind, object, journal, cloud: says });
  const there = new Map(described.map((eni) => [eni.id, eni] as const));
  const inCloud: Cidr[] = [];
  for (const eni of pool.enis()) {
    const seen = there.get(eni.id);
    if (!seen) {
      differ('eni', eni.id, `device ${eni.deviceIndex}`, 'not attached to this instance');
      continue;
    }
    const wrong = eni.primary ? null : wrongWith(seen, whose);
    if (wrong) differ('eni', eni.id, `device ${eni.deviceIndex}`, wrong);
    const listed = new Map<string, Cidr>(
      [
        ...seen.addresses.filter((one) => !one.primary).map((one) => hostCidr(one.ip)),
        ...seen.ipv4Prefixes,
        ...seen.ipv6Prefixes,
      ].map((cidr) => [objectOf(cidr), cidr]),
    );
    inCloud.push(...listed.values());
    for (const cidr of eni.blocks) {
      if (!listed.delete(objectOf(cidr)))
        differ('address', objectOf(cidr), journalText(pool, cidr.ip, eni.id), 'not assigned');
    }
    // An address that the journal marks as foreign is no difference.
    for (const { cidr, foreign } of pool.state.enis.get(eni.id)?.blocks.values() ?? [])
      if (foreign) listed.delete(objectOf(cidr));
    for (const object of listed.keys()) differ('address', object, null, `on ${eni.id}`);
  }
  for (const lease of pool.held()) {
    // Of whoever controls branches.
    if (lease.branch) continue;
    for (const ip of lease.ips.filter((one) => !isEgress(one))) {
      const on = lease.eni?.id ?? 'an ENI that nobody knows';
      if (!inCloud.some((cidr) => cidrContains(cidr, ip)))
        differ('address', formatIp(ip), journalText(pool, ip, on), 'not assigned');
    }
  }
  const known = new Set<EniId>([...pool.state.enis.keys(), ...pool.state.foreign.map((eni) => eni.id)]);
  for (const { eniId } of pool.state.creations.values()) if (eniId) known.add(eniId);
  for (const eni of described)
    if (!known.has(eni.id))
      differ('eni', eni.id, null, `attached to this instance as device ${eni.attachment?.deviceIndex}`);
  for (const eni of tagged)
    if (!known.has(eni.id) && isLoose(eni, whose)) {
      differ('eni', eni.id, null, 'tagged for this node and attached to nothing');
      pool.sawLoose(eni.id);
    }
  return [...found.values()];
}

/** What of an ENI of ours is not as the pool made it, and matters once the journal is lost or the instance ends. */
function wrongWith(eni: EniDescription, whose: Whose): string | null {
  if (!bearsOurTags(eni.tags, whose)) return 'its tags do not say that it is this node’s';
  return eni.attachment?.deleteOnTermination === false ? 'it would outlive the instance' : null;
}

const objectOf = (cidr: Cidr): string => (cidrSize(cidr) === 1 ? formatIp(cidr.ip) : formatCidr(cidr));

function journalText({ state }: AddressPool, ip: Ip, eniId: string): string {
  const view = viewAddress(state, ip, state.uses.get(ip), systemClock.now());
  const holder = view.containerId ? ` by ${view.containerId}` : '';
  return `${view.state}${holder} on ${eniId}${view.reason ? `: ${view.reason}` : ''}`;
}
