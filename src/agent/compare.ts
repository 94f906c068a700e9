// `ipam check`: the journal, the kernel, the cloud and the Kubernetes API side by side. Changes nothing. Each view says
// what it has, as text; a difference names the object that they disagree about.
import { formatCidr, formatIp, type Ip } from '../base/ip.ts';
import type { Cloud } from '../cloud/port.ts';
import type { Datapath } from '../datapath/datapath.ts';
import { hostLinkName, isPodLinkName } from '../datapath/marks.ts';
import type { AddressPool } from '../ipam/pool.ts';
import type { Lease } from '../ipam/state.ts';
import type { Netns } from '../kernel/netns.ts';
import { RtNetlink } from '../kernel/rtnetlink.ts';
import type { AgentConfig } from './config.ts';

export type Difference = {
  kind: 'address' | 'attachment' | 'link' | 'eni' | 'pod';
  object: string;
  journal: string | null;
  kernel: string | null;
  cloud: string | null;
  api: string | null;
};
export type Comparison = { ok: boolean; differences: Difference[] };

export type CompareOptions = {
  config: AgentConfig;
  pool: AddressPool;
  cloud: Cloud;
  datapath: Datapath;
  netns: Netns;
};

const none = { journal: null, kernel: null, cloud: null, api: null };
const texts = (ips: readonly Ip[]) => ips.map(formatIp).join(',');

/** What two looks agree on. */
export function lastingDifferences(first: Comparison, second: Comparison): Comparison {
  const seen = new Set(first.differences.map(({ kind, object }) => `${kind} ${object}`));
  const differences = second.differences.filter(({ kind, object }) => seen.has(`${kind} ${object}`));
  return { ok: differences.length === 0, differences };
}

export async function compareViews(options: CompareOptions): Promise<Comparison> {
  const differences = [
    ...journalAndKernel(options),
    ...(await journalAndCloud(options)),
    ...(await journalAndApi(options)),
  ];
  return { ok: differences.length === 0, differences };
}

function journalAndKernel({ pool, datapath, netns }: CompareOptions): Difference[] {
  const found: Difference[] = [];
  const held = new Set<string>();
  for (const lease of pool.held()) {
    const hostIfname = hostLinkName(lease.owner);
    held.add(hostIfname);
    const wrong = datapath.checkPod({
      hostIfname,
      ifname: lease.owner.ifname,
      netnsPath: lease.owner.netns ?? '',
      ips: lease.ips,
      eni: lease.eni,
    });
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
  using rt = RtNetlink.open(netns);
  for (const link of rt.links()) {
    // A link that is down is cut: its DEL was answered and its deletion follows within a moment.
    if (!isPodLinkName(link.name) || held.has(link.name) || !link.up) continue;
    found.push({ ...none, kind: 'link', object: link.name, kernel: 'up' });
  }
  return found;
}

async function journalAndCloud({ pool, cloud }: CompareOptions): Promise<Difference[]> {
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

async function journalAndApi({ config, pool }: CompareOptions): Promise<Difference[]> {
  if (config.kubeconfig === undefined) return [];
  // Loaded only when somebody asks: with it come TLS and its megabytes.
  const { KubeClient, pods: podResource, readKubeConfig } = await import('../kube/index.ts');
  const client = new KubeClient(await readKubeConfig(config.kubeconfig));
  try {
    const { items } = await client.list(podResource, { fieldSelector: `spec.nodeName=${config.nodeName}` });
    const found: Difference[] = [];
    const leases = new Map<string, Lease>(
      pool
        .held()
        .flatMap((lease) =>
          lease.owner.pod ? [[`${lease.owner.pod.namespace}/${lease.owner.pod.name}`, lease] as const] : [],
        ),
    );
    const seen = new Set<string>();
    for (const pod of items) {
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
  } finally {
    client.close();
  }
}
