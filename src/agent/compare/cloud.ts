// The journal beside EC2: ENIs, their addresses and prefixes, and what pods hold of them.
import { formatCidr, formatIp } from '../../base/ip.ts';
import { type CompareOptions, type Difference, none, texts } from './difference.ts';

export async function journalAndCloud({ pool, cloud }: CompareOptions): Promise<Difference[]> {
  const found: Difference[] = [];
  const described = await cloud.describeNetworkInterfaces({
    kind: 'instance',
    instanceId: pool.identity.instanceId,
  });
  const byId = new Map(described.map((eni) => [eni.id, eni] as const));
  for (const eni of pool.enis()) {
    const there = byId.get(eni.id);
    if (!there) {
      found.push({
        ...none,
        kind: 'eni',
        object: eni.id,
        journal: `device ${eni.deviceIndex}`,
        kernel: null,
        cloud: 'not attached to this instance',
      });
      continue;
    }
    const cloudHas = new Set([
      ...there.addresses.filter((a) => !a.primary).map((a) => `${formatIp(a.ip)}/32`),
      ...there.ipv4Prefixes.map(formatCidr),
    ]);
    const weHave = new Set(eni.blocks.map(formatCidr));
    // What is known to be somebody else's is no difference.
    for (const { cidr, foreign } of pool.state.enis.get(eni.id)?.blocks.values() ?? [])
      if (foreign) cloudHas.delete(formatCidr(cidr));
    for (const block of weHave) {
      if (!cloudHas.has(block))
        found.push({
          ...none,
          kind: 'address',
          object: block,
          journal: `on ${eni.id}`,
          cloud: 'not assigned',
        });
    }
    for (const block of cloudHas) {
      if (!weHave.has(block)) found.push({ ...none, kind: 'address', object: block, cloud: `on ${eni.id}` });
    }
  }
  for (const lease of pool.held()) {
    const there = byId.get(lease.eni.id);
    const assigned = there?.addresses.some((a) => lease.ips.includes(a.ip));
    if (!assigned)
      found.push({
        ...none,
        kind: 'address',
        object: texts(lease.ips),
        journal: `held by ${lease.owner.containerId}`,
        cloud: 'not assigned',
      });
  }
  return found;
}
