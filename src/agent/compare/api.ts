// Compares the journal with the Kubernetes API: this node's running pods and their addresses. Skipped without an API.
import { formatIp } from '../../base/ip.ts';
import type { Lease } from '../../ipam/state.ts';
import { type CompareOptions, type Difference, none, texts } from './difference.ts';

export async function journalAndApi({ api, pool }: CompareOptions): Promise<Difference[]> {
  if (!api.isConfigured) return [];
  const pods = await api.pods();
  const found: Difference[] = [];
  const leases = new Map<string, Lease>(
    pool
      .held()
      .flatMap((lease) =>
        lease.owner.pod ? [[`${lease.owner.pod.namespace}/${lease.owner.pod.name}`, lease] as const] : [],
      ),
  );
  const seen = new Set<string>();
  for (const pod of pods) {
    const name = `${pod.metadata.namespace}/${pod.metadata.name}`;
    seen.add(name);
    if (pod.spec.hostNetwork || pod.status?.phase !== 'Running' || pod.metadata.deletionTimestamp) continue;
    const lease = leases.get(name);
    const says = pod.status.podIP ?? 'no address';
    if (!lease?.ips.some((ip) => formatIp(ip) === says)) {
      found.push({
        ...none,
        kind: 'pod',
        object: name,
        journal: lease ? texts(lease.ips) : null,
        api: says,
      });
    }
  }
  for (const [name, lease] of leases) {
    if (!seen.has(name))
      found.push({ ...none, kind: 'pod', object: name, journal: texts(lease.ips), api: 'no such pod' });
  }
  return found;
}
