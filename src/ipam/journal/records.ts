// The pool's journal records and their replay. Addresses are text in the file, so that an operator can read it.
// Written before an answer leaves (hold), before a cloud call (intents: a creation, an ENI or block that is leaving)
// and after it (finalisers: the ENI as it is now). Replay is a fold: records it does not know are skipped, so that an
// older agent can read a newer file.

import { type Cidr, formatCidr, formatIp, type Ip, parseCidr, parseIp, parseIpv4 } from '../../base/ip.ts';
import type { Journal } from '../../base/journal.ts';
import type { Mac } from '../../base/mac.ts';
import type { NodeIdentity } from '../../cloud/imds.ts';
import type { EniId } from '../../cloud/port.ts';
import {
  type Block,
  type Creation,
  type Eni,
  type EniRef,
  emptyPool,
  type ForeignEni,
  type Lease,
  markClean,
  type OwnerKey,
  ownerKey,
  type PoolState,
  type Use,
  withEni,
  withEntry,
  withoutEni,
  withoutEntry,
  withUnsettled,
} from '../state.ts';

type EniRefText = {
  id: EniId;
  mac: Mac;
  deviceIndex: number;
  networkCard: number;
  subnetCidr: string;
  primaryIp: string;
};
type LeaseText = Omit<Lease, 'ips' | 'eni'> & { ips: string[]; eni: EniRefText | null };
type BlockText = { cidr: string; since: number; pinned?: true; leaving?: true; foreign?: true };
type EniText = EniRefText & { ip6?: string } & Pick<
    Eni,
    | 'subnetId'
    | 'groupIds'
    | 'interfaceType'
    | 'attachmentId'
    | 'primary'
    | 'phase'
    | 'since'
    | 'deleteOnTermination'
  > & {
    blocks: BlockText[];
    unsettled?: Eni['unsettled'];
    /** Addresses returned to EC2 lately, with the time. */
    returned?: [string, number][];
  };
type IdentityText = Omit<NodeIdentity, 'primary'> & {
  primary: Omit<NodeIdentity['primary'], 'ip'> & { ip: string };
};

type CreationText = Omit<Creation, 'ips'> & { ips?: string[] };

export type PoolRecord =
  | { k: 'node'; identity: IdentityText }
  | { k: 'eni'; eni: EniText }
  | { k: 'eni-gone'; id: EniId; at: number }
  | { k: 'foreign'; enis: readonly ForeignEni[] }
  | { k: 'creation'; creation: CreationText }
  | { k: 'creation-done'; token: string }
  /** An assign is in flight: this many new addresses are ours even if no answer named them. `at` since version 2. */
  | { k: 'assigning'; id: EniId; count: number; at?: number }
  | { k: 'hold'; lease: LeaseText }
  | {
      k: 'release';
      key: OwnerKey;
      ips: string[];
      since: number;
      until: number;
      clean?: true;
      reason?: string;
    }
  | { k: 'clean'; ips: string[] }
  | { k: 'quarantine'; ip: string; since: number; reason: string }
  /** The journal was lost before: the records are incomplete until `sure`. */
  | { k: 'unsure'; since: number; until: number | null }
  | { k: 'sure' }
  /** Says nothing: whether there is room is tried with it. */
  | { k: 'probe'; room: string };

export type PoolJournal = Pick<
  Journal<PoolRecord>,
  'path' | 'replay' | 'appendSync' | 'compact' | 'compactionDue' | 'isInPlace'
>;

const refText = (ref: EniRef): EniRefText => ({
  id: ref.id,
  mac: ref.mac,
  deviceIndex: ref.deviceIndex,
  networkCard: ref.networkCard,
  subnetCidr: formatCidr(ref.subnetCidr),
  primaryIp: formatIp(ref.primaryIp),
});
const refOf = (text: EniRefText): EniRef => ({
  ...text,
  subnetCidr: parseCidr(text.subnetCidr),
  primaryIp: parseIp(text.primaryIp),
});

export const eniRecord = (eni: Eni): PoolRecord => ({
  k: 'eni',
  eni: {
    ...refText(eni),
    ...(eni.ip6 === undefined ? {} : { ip6: formatIp(eni.ip6) }),
    subnetId: eni.subnetId,
    groupIds: eni.groupIds,
    interfaceType: eni.interfaceType,
    attachmentId: eni.attachmentId,
    primary: eni.primary,
    phase: eni.phase,
    since: eni.since,
    deleteOnTermination: eni.deleteOnTermination,
    blocks: [...eni.blocks.values()].map((block) => ({
      cidr: formatCidr(block.cidr),
      since: block.since,
      ...(block.pinned ? { pinned: true as const } : {}),
      ...(block.leaving ? { leaving: true as const } : {}),
      ...(block.foreign ? { foreign: true as const } : {}),
    })),
    ...(eni.unsettled ? { unsettled: eni.unsettled } : {}),
    ...(eni.returned.size > 0
      ? { returned: [...eni.returned].map(([ip, at]): [string, number] => [formatIp(ip), at]) }
      : {}),
  },
});

export const holdRecord = (lease: Lease): PoolRecord => ({
  k: 'hold',
  lease: { ...lease, ips: lease.ips.map(formatIp), eni: lease.eni && refText(lease.eni) },
});

export function creationRecord({ ips, ...rest }: Creation): PoolRecord {
  return { k: 'creation', creation: { ...rest, ...(ips ? { ips: ips.map(formatIp) } : {}) } };
}

const creationOf = ({ ips, ...rest }: CreationText): Creation => ({
  ...rest,
  ...(ips ? { ips: ips.map(parseIpv4) } : {}),
});

export const nodeRecord = (identity: NodeIdentity): PoolRecord => ({
  k: 'node',
  identity: { ...identity, primary: { ...identity.primary, ip: formatIp(identity.primary.ip) } },
});

export type Replayed = {
  state: PoolState;
  leases: Map<OwnerKey, Lease>;
  identity: NodeIdentity | null;
  /** Records that could not be applied, or that show that a record is lost; each is reported. */
  refused: string[];
};

/** Folds the records of a journal into the pool that they describe, as of `now`. */
export function replayRecords(records: readonly PoolRecord[], now: number): Replayed {
  const replayed: Replayed = { state: emptyPool, leases: new Map(), identity: null, refused: [] };
  for (const record of records) {
    try {
      applyRecord(replayed, record, now);
    } catch (error) {
      replayed.refused.push(`${record.k}: ${(error as Error).message}`);
    }
  }
  return replayed;
}

function applyRecord(into: Replayed, record: PoolRecord, now: number): void {
  const { state } = into;
  switch (record.k) {
    case 'node':
      into.identity = {
        ...record.identity,
        primary: {
          ...record.identity.primary,
          ip: parseIp(record.identity.primary.ip),
        },
      };
      return;
    case 'eni':
      into.state = withEni(state, eniOf(record.eni, now));
      return;
    case 'eni-gone':
      into.state = withoutEni(state, record.id, record.at);
      return;
    case 'foreign':
      into.state = { ...state, foreign: record.enis };
      return;
    case 'assigning': {
      const eni = state.enis.get(record.id);
      if (eni) into.state = withEni(state, withUnsettled(eni, record.count, record.at ?? now));
      return;
    }
    case 'creation':
      into.state = {
        ...state,
        creations: withEntry(state.creations, record.creation.token, creationOf(record.creation)),
      };
      return;
    case 'creation-done':
      into.state = { ...state, creations: withoutEntry(state.creations, record.token) };
      return;
    case 'hold': {
      const lease: Lease = {
        ...record.lease,
        ips: record.lease.ips.map(parseIp),
        eni: record.lease.eni && refOf(record.lease.eni),
      };
      for (const ip of lease.ips) {
        const use = state.uses.get(ip);
        const earlier = use?.kind === 'held' ? ownerKey(use.lease.owner) : undefined;
        if (earlier === undefined || earlier === ownerKey(lease.owner)) continue;
        // The later hold wins: the release between the two records is lost.
        into.leases.delete(earlier);
        into.refused.push(`hold: ${formatIp(ip)} was held by ${earlier} without release`);
      }
      into.leases.set(ownerKey(lease.owner), lease);
      into.state = withUses(state, lease.ips, { kind: 'held', lease });
      return;
    }
    case 'release':
      into.leases.delete(record.key);
      into.state = withUses(state, record.ips.map(parseIp), {
        kind: 'cooling',
        since: record.since,
        until: record.until,
        clean: record.clean === true,
      });
      return;
    case 'clean':
      into.state = markClean(state, record.ips.map(parseIp));
      return;
    case 'quarantine':
      into.state = withUses(state, [parseIp(record.ip)], {
        kind: 'quarantined',
        since: record.since,
        reason: record.reason,
      });
      return;
    case 'unsure':
      into.state = { ...state, unsure: { since: record.since, until: record.until, describedAt: null } };
      return;
    case 'sure':
      into.state = { ...state, unsure: null };
      return;
    default:
      return;
  }
}

function withUses(state: PoolState, ips: readonly Ip[], use: Use): PoolState {
  const uses = new Map(state.uses);
  for (const ip of ips) uses.set(ip, use);
  return { ...state, uses };
}

function eniOf({ ip6, ...text }: EniText, now: number): Eni {
  const blocks = new Map<Ip, Block>();
  for (const one of text.blocks) {
    const cidr: Cidr = parseCidr(one.cidr);
    blocks.set(cidr.ip, {
      cidr,
      since: one.since,
      pinned: one.pinned === true,
      pending: true,
      leaving: one.leaving === true,
      foreign: one.foreign === true,
      missingSince: null,
    });
  }
  return {
    ...text,
    ...refOf(text),
    ...(ip6 === undefined ? {} : { ip6: parseIp(ip6) }),
    // The node's network is told anew after a restart, before its addresses are given out again.
    phase: text.phase === 'ready' ? 'attached' : text.phase,
    // One ms back, so that a first describe that begins in this very millisecond counts.
    settledAt: now - 1,
    missingSince: null,
    blocks,
    unsettled: text.unsettled ?? null,
    returned: new Map((text.returned ?? []).map(([ip, at]) => [parseIp(ip), at])),
  };
}

/** Of an address that cools, whoever held it. */
const coolingRecord = (ip: Ip, { since, until, clean }: Use & { kind: 'cooling' }): PoolRecord => {
  const cooling = { k: 'release' as const, key: '' as OwnerKey, ips: [formatIp(ip)], since, until };
  return clean ? { ...cooling, clean } : cooling;
};
export const coolingRecords = (state: PoolState): PoolRecord[] =>
  [...state.uses].flatMap(([ip, use]) => (use.kind === 'cooling' ? [coolingRecord(ip, use)] : []));

/** The records of the whole present state: what a compaction writes. */
export function* liveRecords(state: PoolState, identity: NodeIdentity | null): Generator<PoolRecord> {
  if (identity) yield nodeRecord(identity);
  if (state.unsure) yield { k: 'unsure', since: state.unsure.since, until: state.unsure.until };
  for (const eni of state.enis.values()) yield eniRecord(eni);
  for (const [id, at] of state.removed) yield { k: 'eni-gone', id, at };
  if (state.foreign.length > 0) yield { k: 'foreign', enis: state.foreign };
  for (const creation of state.creations.values()) yield creationRecord(creation);
  const held = new Set<Lease>();
  for (const [ip, use] of state.uses) {
    const text = formatIp(ip);
    if (use.kind === 'held') {
      if (!held.has(use.lease)) yield holdRecord(use.lease);
      held.add(use.lease);
    } else if (use.kind === 'cooling') yield coolingRecord(ip, use);
    else yield { k: 'quarantine', ip: text, since: use.since, reason: use.reason };
  }
}
