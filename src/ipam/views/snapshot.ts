// The pool as `podway ipam show` prints it (docs: the command line's contract; fields are added, never renamed).

import type { BranchMode } from '../../base/branch-words.ts';
import { isEgress } from '../../base/egress.ts';
import type { PodwayError } from '../../base/errors.ts';
import {
  cidrContains,
  cidrSize,
  compareIp,
  familyOf,
  formatCidr,
  formatIp,
  type Ip,
  parseIp,
} from '../../base/ip.ts';
import type { InstanceLimits } from '../../cloud/limits.ts';
import { podAddresses, roomOf } from '../config/max-pods.ts';
import type { AttachedEni } from '../core.ts';
import type { CloudStatus } from '../ec2/reconcile.ts';
import { type TrunkView, viewTrunkSlot } from '../plan/trunk-slot.ts';
import type { PoolPolicy } from '../policy.ts';
import {
  type Block,
  type Eni,
  type ForeignEni,
  isFree,
  type Owner,
  type PoolState,
  type Use,
} from '../state.ts';

export type AddressView = {
  ip: string;
  state: 'held' | 'free' | 'cooling' | 'quarantined' | 'foreign';
  containerId?: string;
  ifname?: string;
  pod?: string;
  /** ISO time. */
  coolingUntil?: string;
  reason?: string;
  /** Being returned to EC2, or not listed by the last describe: not given out. */
  leaving?: true;
  missing?: true;
};
type CauseView = { code: string; message: string; next?: string };
type CountView = { held: number; free: number; cooling: number };
type PrefixView = CountView & { cidr: string; leaving?: true; missing?: true };
export type EniView = {
  id: string;
  deviceIndex: number;
  networkCard: number;
  mac: string;
  ifname: string | null;
  subnetId: string;
  type: string;
  trunk: boolean;
  primaryIp: string;
  phase: string;
  addresses: AddressView[];
  prefixes: PrefixView[];
  ipv6Prefixes: PrefixView[];
  branches: BranchView[];
};
/** A pod's branch ENI on a trunk. */
export type BranchView = {
  id: string;
  vlanId: number;
  mac: string;
  ips: string[];
  containerId: string;
  pod?: string;
  mode: BranchMode;
};
export type PoolSnapshot = {
  node: string;
  instanceId?: string;
  instanceType: string;
  /** Of the pods' primary address. */
  family: 'IPv4' | 'IPv6';
  families: PoolPolicy['families'];
  /** `addresses`: that pods can have, at most. */
  limits: { enis: number; ipv4PerEni: number; addresses: number; pods: number };
  warm: { target: number; cooldownSeconds: number };
  addressing: PoolPolicy['addressing'];
  enis: EniView[];
  totals: CountView & { quarantined: number; foreign: number };
  totals6: CountView;
  /** Addresses outside the ENIs' blocks, such as held ones that EC2 lists on no ENI of the node: never deleted. */
  astray: AddressView[];
  foreignEnis: { id: string; deviceIndex: number; description: string }[];
  creating: number;
  /** Where pods with security groups of their own are wanted. */
  trunk?: TrunkView;
  /** The waiting pods, each with the error that it would get now. */
  waiting: { containerId: string; pod?: string; since: string; cause: CauseView }[];
  trouble: CauseView | null;
  cloud: CloudStatus;
};

export type SnapshotContext = {
  state: PoolState;
  now: number;
  nodeName: string;
  limits: InstanceLimits;
  cooldownMs: number;
  ifnameOf: ((eni: Pick<AttachedEni, 'mac'>) => string | undefined) | undefined;
  policy: PoolPolicy;
  waiting: { owner: Owner; since: number; cause: PodwayError }[];
  trouble: PodwayError | null;
  cloud: CloudStatus;
  enis: AttachedEni[];
};

export function snapshotPool(context: SnapshotContext): PoolSnapshot {
  const { state, now, limits, cooldownMs, policy, trouble } = context;
  const trunk = viewTrunkSlot(state, { limits, policy });
  const totals = { held: 0, free: 0, cooling: 0, quarantined: 0, foreign: 0 };
  const totals6 = { held: 0, free: 0, cooling: 0 };
  const shown = new Set<Ip>();
  const enis = [...state.enis.values()]
    .sort((a, b) => a.networkCard - b.networkCard || a.deviceIndex - b.deviceIndex)
    .map((eni) => viewEni(context, eni, shown));
  for (const { trunk, ...eni } of state.foreign) if (trunk) enis.push(viewTrunk(context, eni, trunk));
  const astray = [...state.uses]
    .filter(([, use]) => use.kind !== 'held' || !use.lease.branch)
    .filter(([ip, use]) => !shown.has(ip) && !isFree(use, now) && !isEgress(ip))
    .map(([ip, use]) => viewAddress(state, ip, use, now));
  for (const address of [...enis.flatMap((eni) => eni.addresses), ...astray]) {
    if (address.ip.includes(':')) {
      if (address.state !== 'quarantined' && address.state !== 'foreign') totals6[address.state]++;
    } else totals[address.state]++;
  }
  for (const eni of enis) {
    for (const prefix of eni.prefixes) totals.free += prefix.free;
    for (const prefix of eni.ipv6Prefixes) totals6.free += prefix.free;
  }
  return {
    node: context.nodeName,
    instanceType: limits.instanceType,
    family: policy.families === 'ipv6' ? 'IPv6' : 'IPv4',
    families: policy.families,
    limits: {
      enis: limits.enis,
      ipv4PerEni: limits.ipv4PerEni,
      addresses: podAddresses(limits, roomOf(policy)),
      pods: policy.podLimit,
    },
    warm: { target: leastFree(policy), cooldownSeconds: cooldownMs / 1000 },
    addressing: policy.addressing,
    enis,
    totals,
    totals6,
    astray,
    foreignEnis: state.foreign.map(({ id, deviceIndex, description }) => ({ id, deviceIndex, description })),
    creating: state.creations.size,
    ...(trunk ? { trunk } : {}),
    waiting: context.waiting.map(({ owner, since, cause }) => ({
      containerId: owner.containerId,
      ...(owner.pod ? { pod: `${owner.pod.namespace}/${owner.pod.name}` } : {}),
      since: new Date(since).toISOString(),
      cause: viewCause(cause),
    })),
    trouble: trouble ? viewCause(trouble) : null,
    cloud: context.cloud,
  };
}

/** Free addresses that the policy keeps whatever the demand; the AWS VPC CNI's spare ENIs and prefixes not counted. */
function leastFree({ targets }: PoolPolicy): number {
  if (targets.kind === 'warm') return targets.free;
  return targets.kind === 'forecast' ? targets.minIdle : targets.warmIps;
}

const viewCause = ({ code, message, details }: PodwayError): CauseView => ({
  code,
  message,
  ...(details.next ? { next: details.next } : {}),
});

function viewEni(context: SnapshotContext, eni: Eni, shown: Set<Ip>): EniView {
  const { state, now } = context;
  const attached = context.enis.find((one) => one.id === eni.id);
  const addresses: AddressView[] = [];
  const prefixes: (PrefixView & { family: number })[] = [];
  for (const block of eni.blocks.values()) {
    const flags = {
      ...(block.leaving || eni.phase === 'leaving' ? { leaving: true as const } : {}),
      ...(block.missingSince !== null || eni.missingSince !== null ? { missing: true as const } : {}),
    };
    if (cidrSize(block.cidr) === 1) {
      shown.add(block.cidr.ip);
      const view = viewAddress(state, block.cidr.ip, state.uses.get(block.cidr.ip), now);
      addresses.push({ ...view, ...(block.foreign ? { state: 'foreign' as const } : {}), ...flags });
      continue;
    }
    const inside = [...state.uses].filter(([ip]) => cidrContains(block.cidr, ip));
    const counts = { held: 0, cooling: 0, quarantined: 0 };
    for (const [ip, use] of inside) {
      shown.add(ip);
      if (isFree(use, now)) continue;
      counts[use.kind]++;
      addresses.push({ ...viewAddress(state, ip, use, now), ...flags });
    }
    prefixes.push({ ...viewPrefix(block, counts), ...flags });
  }
  addresses.sort((a, b) => compareIp(parseIp(a.ip), parseIp(b.ip)));
  const plain = (family: number) =>
    prefixes.filter((one) => one.family === family).map(({ family: _, ...rest }) => rest);
  return {
    id: eni.id,
    deviceIndex: eni.deviceIndex,
    networkCard: eni.networkCard,
    mac: eni.mac,
    ifname: (attached && context.ifnameOf?.(attached)) ?? null,
    subnetId: eni.subnetId,
    type: eni.interfaceType,
    trunk: eni.interfaceType === 'trunk',
    primaryIp: formatIp(eni.primaryIp),
    phase: eni.phase,
    addresses,
    prefixes: plain(4),
    ipv6Prefixes: plain(6),
    branches: eni.interfaceType === 'trunk' ? viewBranches(state) : [],
  };
}

/** A trunk that somebody else has made: its addresses are no pod's. */
function viewTrunk(
  { ifnameOf, state }: SnapshotContext,
  { id, deviceIndex, networkCard }: Omit<ForeignEni, 'trunk'>,
  { mac, subnetId, primaryIp }: NonNullable<ForeignEni['trunk']>,
): EniView {
  return {
    ...{ id, deviceIndex, networkCard, mac, subnetId, primaryIp },
    ifname: ifnameOf?.({ mac }) ?? null,
    type: 'trunk',
    trunk: true,
    phase: 'foreign',
    ...{ addresses: [], prefixes: [], ipv6Prefixes: [] },
    branches: viewBranches(state),
  };
}

function viewBranches(state: PoolState): BranchView[] {
  const leases = new Set([...state.uses.values()].flatMap((use) => (use.kind === 'held' ? use.lease : [])));
  return [...leases]
    .flatMap(({ branch, ips, owner }) =>
      branch === undefined
        ? []
        : {
            id: branch.id,
            vlanId: branch.vlan,
            mac: branch.mac,
            ips: ips.map(formatIp),
            containerId: owner.containerId,
            ...(owner.pod ? { pod: `${owner.pod.namespace}/${owner.pod.name}` } : {}),
            mode: branch.mode ?? 'strict',
          },
    )
    .sort((a, b) => a.vlanId - b.vlanId);
}

function viewPrefix(block: Block, counts: { held: number; cooling: number; quarantined: number }) {
  const { held, cooling, quarantined } = counts;
  const free = cidrSize(block.cidr) - held - cooling - quarantined;
  return { cidr: formatCidr(block.cidr), held, cooling, free, family: familyOf(block.cidr.ip) };
}

/** Describes an address's use, with the same words in `ipam show` and `ipam check`. */
export function viewAddress(state: PoolState, ip: Ip, use: Use | undefined, now: number): AddressView {
  const text = formatIp(ip);
  if (use === undefined || isFree(use, now)) {
    const link = state.onLinks.get(ip);
    if (link === undefined) return { ip: text, state: 'free' };
    return { ip: text, state: 'quarantined', reason: `it is on ${link} of the node` };
  }
  if (use.kind === 'held') {
    const { containerId, ifname, pod } = use.lease.owner;
    const taken = state.taken.get(ip);
    return {
      ip: text,
      ...(taken ? { state: 'quarantined', reason: taken.why } : { state: 'held' }),
      containerId,
      ifname,
      ...(pod ? { pod: `${pod.namespace}/${pod.name}` } : {}),
    };
  }
  if (use.kind === 'quarantined') return { ip: text, state: 'quarantined', reason: use.reason };
  return { ip: text, state: 'cooling', coolingUntil: new Date(use.until).toISOString() };
}
