// Compares trunk and branches in all four views: what the agent holds, the stand-ins in the kernel, the interfaces in
// EC2, and the annotations in the API. A row tells all four views. A node without trunk and branches asks nothing.
import { formatIp } from '../../base/ip.ts';
import type { EniDescription, EniId } from '../../cloud/port.ts';
import type { NodeView } from '../../datapath/check.ts';
import { standInName } from '../../datapath/marks.ts';
import { TAG_TRUNK, TAG_VLAN } from '../../ipam/ec2/tags.ts';
import type { Trunk } from '../../ipam/state.ts';
import { POD_ENI } from '../../kube/vpc-resources.ts';
import { readBranch } from '../branch-pods.ts';
import { type CompareOptions, type Difference, none } from './difference.ts';

/** A branch in one view; absent fields are what the view does not tell. */
type Face = { id: string; pod?: string; vlan?: number; mac?: string; ips?: string[]; trunk?: string };

type Views = {
  trunk: Trunk | null;
  journal: readonly Face[];
  kernel: readonly (Face & { link: string; up: boolean })[];
  hasTrunkLink: boolean;
  /** Those of the journal, and all that the trunk carries. */
  cloud: readonly (Face & { isOn: boolean })[];
  /** Null: no API is configured. */
  api: readonly Face[] | null;
};

export async function branchViews({ pool, datapath, cloud, api }: CompareOptions): Promise<Difference[]> {
  const { trunk } = pool;
  const leases = pool.held().filter(({ branch }) => branch);
  const view = datapath.observeNode();
  if (trunk === null && leases.length === 0 && view.standIns.length === 0) return [];
  const journal = leases.map(({ owner: { pod }, ips, branch }) => ({
    ...{ id: branch!.id, vlan: branch!.vlan, mac: branch!.mac, ips: ips.map(formatIp) },
    ...(pod ? { pod: `${pod.namespace}/${pod.name}` } : {}),
  }));
  const described = new Map<string, EniDescription>();
  if (trunk) {
    const filter = { kind: 'tags', tags: { [TAG_TRUNK]: trunk.id } } as const;
    for (const eni of await cloud.describeNetworkInterfaces(filter)) described.set(eni.id, eni);
  }
  const missing = journal.map(({ id }) => id as EniId).filter((id) => !described.has(id));
  if (missing.length > 0) {
    const filter = { kind: 'ids', ids: missing, absent: 'skip' } as const;
    for (const eni of await cloud.describeNetworkInterfaces(filter)) described.set(eni.id, eni);
  }
  return compareBranches({
    ...{ trunk, journal },
    kernel: view.standIns.map(standInFace),
    hasTrunkLink: trunk !== null && view.linkMacs.has(trunk.mac),
    cloud: [...described.values()].map(cloudFace),
    api: api.isConfigured ? await annotated(api) : null,
  });
}

const standInFace = ({ name, mac, alias, up }: NodeView['standIns'][number]): Views['kernel'][number] => ({
  ...{ link: name, up, id: alias ?? '', vlan: Number(/\d+$/.exec(name)?.[0]) },
  ...(mac === null ? {} : { mac }),
});

function cloudFace(eni: EniDescription): Views['cloud'][number] {
  const vlan = Number(eni.tags[TAG_VLAN]);
  const trunk = eni.tags[TAG_TRUNK];
  return {
    ...{ id: eni.id, mac: eni.mac, isOn: eni.interfaceType === 'branch' && eni.status === 'in-use' },
    ips: [...eni.addresses.slice(0, 1).map(({ ip }) => ip), ...eni.ipv6Addresses].map(formatIp),
    ...(vlan > 0 ? { vlan } : {}),
    ...(trunk === undefined ? {} : { trunk }),
  };
}

async function annotated(api: CompareOptions['api']): Promise<Face[]> {
  return (await api.pods()).flatMap(({ metadata: { namespace, name, annotations }, status }) => {
    const text = annotations?.[POD_ENI];
    if (text === undefined || status?.phase === 'Succeeded' || status?.phase === 'Failed') return [];
    const pod = `${namespace}/${name}`;
    try {
      const { ref, ips } = readBranch(pod, text);
      return [{ pod, id: ref.id, vlan: ref.vlan, mac: ref.mac, ips: ips.map(formatIp) }];
    } catch {
      // Its ADD says what is wrong with it.
      return [{ pod, id: 'unreadable' }];
    }
  });
}

/** Pure. */
export function compareBranches(views: Views): Difference[] {
  const { trunk, journal, kernel, cloud, api } = views;
  const found: Difference[] = [];
  if (trunk === null && journal.length > 0)
    found.push({
      ...none,
      kind: 'trunk',
      object: 'trunk',
      journal: `${journal.length} branches`,
      cloud: 'no trunk on this instance',
    });
  if (trunk && !views.hasTrunkLink)
    found.push({
      ...none,
      kind: 'trunk',
      object: trunk.id,
      journal: trunk.mac,
      kernel: 'no link with its MAC address',
    });
  for (const one of journal) {
    const link = kernel.find(({ link: name }) => name === standInName(one.vlan!));
    const eni = cloud.find(({ id }) => id === one.id);
    const told = api?.find(({ pod }) => pod !== undefined && pod === one.pod);
    const on = eni && !eni.isOn ? 'on no trunk' : eni ? textOf(eni) : 'no such interface';
    const row = {
      object: one.pod ? `${one.id} of ${one.pod}` : one.id,
      journal: textOf(one),
      kernel: link
        ? `${link.link}${link.up ? '' : ' is down'} ${textOf(link)}`
        : `no ${standInName(one.vlan!)}`,
      cloud: on,
      api: api === null || one.pod === undefined ? null : told ? textOf(told) : 'no annotation',
    };
    if (!link?.up || differs(one, link)) found.push({ kind: 'branch-kernel', ...row });
    const isElsewhere = eni?.trunk !== undefined && trunk !== null && eni.trunk !== trunk.id;
    if (!eni?.isOn || isElsewhere || differs(one, eni)) found.push({ kind: 'branch-cloud', ...row });
    if (row.api !== null && (!told || differs(one, told))) found.push({ kind: 'branch-api', ...row });
  }
  const held = new Set(journal.map(({ id }) => id));
  const wired = new Set(journal.map(({ vlan }) => standInName(vlan!)));
  const wanted = new Set(api?.map(({ id }) => id));
  for (const one of kernel)
    if (!wired.has(one.link))
      found.push({ ...none, kind: 'branch-stray', object: one.link, kernel: textOf(one) });
  for (const one of cloud)
    if (one.isOn && !held.has(one.id) && !wanted.has(one.id))
      found.push({
        ...none,
        kind: 'branch-loose',
        object: one.id,
        cloud: textOf(one),
        api: api && 'no pod has it',
      });
  return found;
}

/** What both views tell is not the same. */
const differs = (a: Face, b: Face): boolean =>
  a.id !== b.id ||
  (['vlan', 'mac'] as const).some(
    (key) => a[key] !== undefined && b[key] !== undefined && a[key] !== b[key],
  ) ||
  (a.ips !== undefined && b.ips !== undefined && a.ips.join() !== b.ips.join());

const textOf = ({ id, vlan, mac, ips = [], trunk }: Face): string =>
  [id, vlan === undefined ? '' : `VLAN ${vlan}`, mac ?? '', ...ips, trunk === undefined ? '' : `on ${trunk}`]
    .filter((part) => part !== '')
    .join(' ');
