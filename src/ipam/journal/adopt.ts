// Rebuilds the leases when the journal may be wrong: first from the links in the kernel, then from the journal. Pure.
// Invariant: an address whose pod's link is up has that pod as its holder; an address that only an unreadable record
// names is quarantined; an address without a holder cools again, since it may have been released a moment ago.

import { addToIp, cidrSize, familyOf, formatIp, type Ip, parseIp } from '../../base/ip.ts';
import type { Found, Replay } from '../../base/journal.ts';
import {
  blockOf,
  eniRef,
  type Lease,
  type Owner,
  type OwnerKey,
  ownerKey,
  type PoolState,
  type Use,
} from '../state.ts';
import type { PoolRecord, Replayed } from './records.ts';

/** A pod's link in the kernel, as the node's network sees it. */
export type StandingLink = {
  readonly link: string;
  /** The owner that the link's alias names; null without an alias. */
  readonly owner: Owner | null;
  readonly ips: readonly Ip[];
  /** How sure the addresses are: 0 for a route, more for less. */
  readonly doubt: number;
};
export type KernelView = {
  readonly links: readonly StandingLink[];
  /** The kernel holds objects of ours, so this is not a first start. */
  readonly any: boolean;
};

/** Why the journal alone is not trusted. `incomplete`: it is readable, but contradicts itself or the kernel. */
export type Loss = Exclude<Found, 'whole' | 'earlier'> | 'incomplete';

export type Adoption = {
  readonly loss: Loss;
  /** Leases made from links that the journal did not know. */
  readonly adopted: readonly Lease[];
  /** Links without an address: another link has it, or none was found. They are reported and not cut. */
  readonly bare: readonly {
    readonly link: string;
    readonly owner: Owner | null;
    readonly ips: readonly Ip[];
  }[];
  /** Leases of the journal whose address belongs to another owner's link. */
  readonly replaced: readonly Lease[];
  readonly quarantined: readonly Ip[];
};

export type AdoptContext = {
  readonly kernel: KernelView;
  /** Name of the link that an owner's attachment has. */
  readonly linkOf: (owner: Owner) => string;
  readonly now: number;
  readonly cooldownMs: number;
};

export type Adopted = { state: PoolState; leases: Map<OwnerKey, Lease>; adoption: Adoption | null };

/** How the journal is damaged; null when it is whole and names every pod that has a link in the kernel. */
export function lossOf(
  replay: Pick<Replay<PoolRecord>, 'found'>,
  replayed: Replayed,
  { kernel, linkOf }: Pick<AdoptContext, 'kernel' | 'linkOf'>,
): Loss | null {
  const { found } = replay;
  if (found === 'missing' || found === 'empty') return kernel.any ? found : null;
  if (found !== 'whole' && found !== 'earlier') return found;
  if (replayed.refused.length > 0) return 'incomplete';
  // The first write contains the node's own record: without that record the journal's beginning is lost.
  if (!replayed.identity && kernel.any) return 'cut';
  const known = new Set([...replayed.leases.values()].map((lease) => linkOf(lease.owner)));
  return kernel.links.every(({ link }) => known.has(link)) ? null : 'incomplete';
}

export function adopt(
  replay: Pick<Replay<PoolRecord>, 'found' | 'lost'>,
  replayed: Replayed,
  context: AdoptContext,
): Adopted {
  const loss = lossOf(replay, replayed, context);
  if (loss === null) return { state: replayed.state, leases: replayed.leases, adoption: null };
  const { kernel, linkOf, now, cooldownMs } = context;
  const until = now + cooldownMs;
  const uses = new Map(replayed.state.uses);
  const leases = new Map<OwnerKey, Lease>();
  const byLink = new Map([...replayed.leases.values()].map((lease) => [linkOf(lease.owner), lease]));
  const adopted: Lease[] = [];
  const bare: Adoption['bare'][number][] = [];
  const hold = (lease: Lease) => {
    leases.set(ownerKey(lease.owner), lease);
    for (const ip of lease.ips) uses.set(ip, { kind: 'held', lease });
  };
  // Addresses that were held start as cooling; those with a holder are set to held below.
  for (const [ip, use] of uses)
    if (use.kind === 'held') uses.set(ip, { kind: 'cooling', since: now, until, clean: false });

  const surestFirst = [...kernel.links].sort(
    (a, b) => a.doubt - b.doubt || Number(byLink.has(b.link)) - Number(byLink.has(a.link)),
  );
  for (const { link, owner, ips: seen } of surestFirst) {
    const known = byLink.get(link);
    const ips = (seen.length > 0 ? seen : (known?.ips ?? [])).filter((ip) => uses.get(ip)?.kind !== 'held');
    if (ips.length === 0) {
      bare.push({ link, owner: known?.owner ?? owner, ips: seen });
      continue;
    }
    const isSame = known !== undefined && isSameSet(known.ips, ips);
    // A lease of another boot or namespace is not reused: its ADD time belongs to another attachment.
    if (isSame && loss !== 'foreign') {
      hold(known);
      continue;
    }
    const at = blockOf(replayed.state, ips[0]!);
    const lease: Lease = {
      owner: known?.owner ?? owner ?? { network: '', containerId: '', ifname: '', link },
      ips,
      eni: isSame ? known.eni : at && eniRef(at.eni),
      at: 0,
    };
    hold(lease);
    adopted.push(lease);
  }

  const standing = new Set(kernel.links.map(({ link }) => link));
  const replaced: Lease[] = [];
  for (const lease of replayed.leases.values()) {
    if (loss === 'foreign' || standing.has(linkOf(lease.owner))) continue;
    // A lease without a link: its ADD may be unfinished or its sandbox gone; the agent checks that later.
    if (lease.ips.every((ip) => uses.get(ip)?.kind !== 'held')) hold(lease);
    else replaced.push(lease);
  }

  const quarantined: Ip[] = [];
  for (const ip of namedIn(replay.lost)) {
    const use = uses.get(ip);
    if (use?.kind === 'held' || use?.kind === 'quarantined') continue;
    uses.set(ip, { kind: 'quarantined', since: now, reason: 'an unreadable journal record names it' });
    quarantined.push(ip);
  }

  const unsure = { since: now, until: kernel.any ? until : null, describedAt: null };
  // An ENI whose making is the last that is known may have been made, used and left since: EC2 tells it by its tag.
  const state = coolUnheld({ ...replayed.state, uses, unsure, creations: new Map() });
  return { state, leases, adoption: { loss, adopted, bare, replaced, quarantined } };
}

const isSameSet = (a: readonly Ip[], b: readonly Ip[]): boolean =>
  a.length === b.length && a.every((ip) => b.includes(ip));

/** Addresses named by hold and release records in unreadable lines. */
function namedIn(lines: readonly string[]): Set<Ip> {
  const found = new Set<Ip>();
  for (const line of lines) {
    for (const [, list] of line.matchAll(/"ips":\[([^\]]*)\]/g)) {
      for (const [text] of list!.matchAll(/\d+\.\d+\.\d+\.\d+|[\da-f]+:[\da-f:]+/g)) {
        const ip = tryParse(text);
        if (ip !== null) found.add(ip);
      }
    }
  }
  return found;
}

function tryParse(text: string): Ip | null {
  try {
    return parseIp(text);
  } catch {
    return null; // A damaged line may contain any text.
  }
}

/** After a lost journal: starts the cooldown of every address without a holder, also of those that already cool. */
export function coolUnheld(state: PoolState): PoolState {
  const { since, until } = state.unsure ?? { since: 0, until: null };
  if (until === null) return state;
  const uses = new Map(state.uses);
  const cool = (ip: Ip, use: Use | undefined) => {
    if (use === undefined || use.kind === 'cooling')
      uses.set(ip, { kind: 'cooling', since, until: Math.max(until, use?.until ?? 0), clean: false });
  };
  for (const [ip, use] of state.uses) cool(ip, use);
  for (const eni of state.enis.values()) {
    for (const { cidr, foreign } of eni.blocks.values()) {
      if (foreign) continue;
      // Of a /80 no address comes again (next6 in plan/census.ts), and it has too many to list.
      for (let offset = 0; familyOf(cidr.ip) === 4 && offset < cidrSize(cidr); offset++) {
        const ip = addToIp(cidr.ip, offset);
        if (!uses.has(ip)) cool(ip, undefined);
      }
    }
  }
  return { ...state, uses };
}

/** Sets the ENI of leases that were found in the kernel, once EC2 has told which ENI carries their address. */
export function findTheirEnis(state: PoolState): { state: PoolState; found: Lease[]; missing: Lease[] } {
  const found: Lease[] = [];
  const missing: Lease[] = [];
  const uses = new Map(state.uses);
  for (const [ip, use] of state.uses) {
    if (use.kind !== 'held' || use.lease.eni !== null || use.lease.branch || use.lease.ips[0] !== ip)
      continue;
    const at = blockOf(state, ip);
    if (!at) {
      missing.push(use.lease);
      continue;
    }
    const lease: Lease = { ...use.lease, eni: eniRef(at.eni) };
    for (const each of lease.ips) uses.set(each, { kind: 'held', lease });
    found.push(lease);
  }
  return { state: found.length > 0 ? { ...state, uses } : state, found, missing };
}

/** The loss as text for the log, the Event and `ipam check`. */
export function describeLoss(loss: Loss): string {
  switch (loss) {
    case 'missing':
      return 'the journal is missing';
    case 'empty':
      return 'the journal is empty';
    case 'cut':
      return 'the end or the beginning of the journal is missing';
    case 'damaged':
      return 'records of the journal cannot be read';
    case 'version':
      return 'the journal is of a version that this agent does not know';
    case 'foreign':
      return 'the journal is of another boot or network namespace';
    case 'incomplete':
      return 'the journal lacks records';
  }
}

export const addressesOf = (leases: readonly Lease[]): string =>
  leases.flatMap((lease) => lease.ips.map(formatIp)).join(', ');
