// Owns the leases: gives, finds, releases and quarantines addresses. Invariant: a hold is in the journal before ADD is
// answered. A release takes effect at once; if the journal cannot be written, the address is quarantined in memory
// until the release is in the journal. Throws JournalError where the record must be written first.
import { PodwayError } from '../base/errors.ts';
import { formatIp, type Ip } from '../base/ip.ts';
import { JournalError } from '../base/journal.ts';
import { type Core, commit } from './core.ts';
import { coolingRecords, holdRecord, type PoolRecord } from './journal/records.ts';
import { givingNow, nextFree } from './plan/census.ts';
import type { PoolSettings } from './settings.ts';
import {
  type AttachmentId,
  type BranchRef,
  blockHolding,
  dropSpent,
  eniRef,
  type GivenLease,
  hold,
  type Lease,
  markClean,
  type Owner,
  type OwnerKey,
  ownerKey,
  ownerName,
  release,
  type Use,
  withEntry,
} from './state.ts';

export class Leases {
  readonly #core: Core;
  /** Milliseconds; holds for later releases. */
  cooldownMs: number;
  /** True when addresses need no cleaning after a release. */
  readonly #clean: boolean;

  /** Whether leases exist of which only the link is known; asked at each ADD. */
  #nameless: number;

  constructor(core: Core, settings: Pick<PoolSettings, 'cooldownMs' | 'beforeReuse'>) {
    this.#core = core;
    this.cooldownMs = settings.cooldownMs;
    this.#clean = settings.beforeReuse === undefined;
    this.#nameless = [...core.leases.values()].filter(({ owner }) => owner.link !== undefined).length;
  }

  /** Gives the next free address to the owner; null when none is free. */
  give(owner: Owner): GivenLease | null {
    const now = this.#core.clock.now();
    const found = nextFree(this.#core.state, now, givingNow(this.#core));
    if (!found) return null;
    const lease: GivenLease = { owner, ips: found.ips, eni: eniRef(found.eni), at: now };
    commit(this.#core, hold(this.#core.state, lease, now), holdRecord(lease));
    this.#core.leases.set(ownerKey(owner), lease);
    return lease;
  }

  /** Holds a branch's addresses, which EC2 has chosen: that its last pod had them a moment ago is no obstacle. */
  giveBranch(owner: Owner, branch: BranchRef, ips: readonly Ip[]): Lease {
    const now = this.#core.clock.now();
    const lease: Lease = { owner, ips: [...ips], eni: null, branch, at: now };
    for (const other of this.#core.leases.values())
      if (other.branch?.vlan === branch.vlan)
        throw new PodwayError(
          'BRANCH_PENDING',
          `the VLAN id ${branch.vlan} of ${branch.id} is held by ${ownerName(other.owner)}, which has ${other.branch.id}`,
          { object: branch.id },
        );
    const uses = new Map(this.#core.state.uses);
    for (const ip of ips) {
      const use = uses.get(ip);
      if (use?.kind === 'held')
        throw new PodwayError(
          'ATTACHMENT_EXISTS',
          `${formatIp(ip)} of the branch ${branch.id} is held by ${ownerName(use.lease.owner)}`,
          { object: branch.id },
        );
      uses.set(ip, { kind: 'held', lease });
    }
    commit(this.#core, { ...this.#core.state, uses }, holdRecord(lease));
    this.#core.leases.set(ownerKey(owner), lease);
    return lease;
  }

  /** Sets the branch of a lease that was found in the kernel alone. */
  nameBranch(found: Lease, branch: BranchRef): void {
    const core = this.#core;
    const lease: Lease = { ...found, branch };
    const uses = new Map(core.state.uses);
    for (const ip of lease.ips) uses.set(ip, { kind: 'held', lease });
    commit(core, { ...core.state, uses }, holdRecord(lease));
    core.leases.set(ownerKey(lease.owner), lease);
  }

  /** Ends a lease; its address cools. Null when the owner has none. */
  release(owner: AttachmentId & { link?: string }, reason: string): Lease | null {
    const key = ownerKey(owner);
    const lease = this.#core.leases.get(key);
    if (!lease) return null;
    const since = this.#core.clock.now();
    const until = since + this.cooldownMs;
    const ips = lease.ips.map(formatIp);
    const record = { k: 'release' as const, key, ips, since, until, reason };
    let next = release(dropSpent(this.#core.state, since), lease, since, until);
    if (this.#clean) next = markClean(next, lease.ips);
    try {
      commit(this.#core, next, this.#clean ? { ...record, clean: true } : record);
    } catch (error) {
      if (!(error instanceof JournalError)) throw error;
      // The journal still says held. Until the release is written nobody else may get the address.
      const use: Use = {
        kind: 'quarantined',
        since,
        reason: `its release is not recorded: ${error.message}`,
      };
      const uses = new Map(next.uses);
      for (const ip of lease.ips) uses.set(ip, use);
      this.#core.state = { ...next, uses };
      this.#core.unrecorded = [...this.#core.unrecorded, record];
    }
    this.#core.leases.delete(key);
    const eni = lease.eni && this.#core.state.enis.get(lease.eni.id);
    // EC2 took the address away while it was held: the next describe removes it from the pool.
    if (eni && (eni.missingSince !== null || lease.ips.some((ip) => blockHolding(eni, ip)?.missingSince)))
      this.#core.reconcileSoon();
    if (lease.owner.link !== undefined) this.#nameless--;
    return lease;
  }

  find(owner: AttachmentId & { link?: string }): Lease | null {
    return this.#core.leases.get(ownerKey(owner)) ?? null;
  }

  get hasNameless(): boolean {
    return this.#nameless > 0;
  }

  findByLink(link: string): Lease | null {
    return this.#core.leases.get(link as OwnerKey) ?? null;
  }

  /** Sets the name of a lease that was found in the kernel and of which only the link was known. */
  name(owner: AttachmentId, link: string): Lease | null {
    const core = this.#core;
    const nameless = this.findByLink(link);
    if (!nameless) return null;
    const { network, containerId, ifname } = owner;
    const lease: Lease = { ...nameless, owner: { network, containerId, ifname } };
    const uses = new Map(core.state.uses);
    for (const ip of lease.ips) uses.set(ip, { kind: 'held', lease });
    commit(core, { ...core.state, uses }, holdRecord(lease));
    core.leases.delete(ownerKey(nameless.owner));
    core.leases.set(ownerKey(lease.owner), lease);
    this.#nameless--;
    return lease;
  }

  /** Keeps a free or cooling address from being given out. Never ends a hold. */
  quarantine(ip: Ip, reason: string): boolean {
    const use = this.#core.state.uses.get(ip);
    if (use?.kind === 'held' || use?.kind === 'quarantined') return false;
    const since = this.#core.clock.now();
    this.#put(ip, { kind: 'quarantined', since, reason }, [
      { k: 'quarantine', ip: formatIp(ip), since, reason },
    ]);
    return true;
  }

  /** Ends a quarantine: the address cools. False when the address is not quarantined. */
  endQuarantine(ip: Ip): boolean {
    if (!this.quarantined().includes(ip)) return false;
    const since = this.#core.clock.now();
    const use = { kind: 'cooling' as const, since, until: since + this.cooldownMs, clean: this.#clean };
    this.#put(ip, use, coolingRecords({ ...this.#core.state, uses: new Map([[ip, use]]) }));
    return true;
  }

  /** Addresses in quarantine, except those whose release only waits for the journal. */
  quarantined(): Ip[] {
    const waiting = new Set(this.#core.unrecorded.flatMap((record) => record.ips));
    return [...this.#core.state.uses].flatMap(([ip, use]) =>
      use.kind === 'quarantined' && !waiting.has(formatIp(ip)) ? [ip] : [],
    );
  }

  /** Throws ATTACHMENT_EXISTS for an owner that holds an address. */
  refuseHolder(owner: Owner): void {
    const held = this.find(owner);
    if (!held) return;
    const message = `${ownerKey(owner)} holds ${held.ips.map(formatIp).join(', ')} already`;
    throw new PodwayError('ATTACHMENT_EXISTS', message, { object: owner.containerId, since: held.at });
  }

  #put(ip: Ip, use: Use, records: PoolRecord[]): void {
    const uses = withEntry(this.#core.state.uses, ip, use);
    commit(this.#core, { ...this.#core.state, uses }, ...records);
  }
}
