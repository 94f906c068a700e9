// What is known of the cluster's branches: what EC2 described, and what it answered since. A describe counts for an interface
// only when it was begun after the last answer about it, since EC2's describes may be late; what it knows to be there is gone,
// and what is on a trunk is off it, only when LOOKS such describes in a row have said so. No effects; the caller brings the time.
import type { EniDescription, EniId, TrunkAssociation } from '../../cloud/port.ts';
import type { Branch } from './plan.ts';
import { readBranch } from './tags.ts';
import { VlanIds } from './vlans.ts';

const LOOKS = 2;
/** How long a deleted interface may still turn up in describes (ms). */
const REMEMBERED = 120_000;

type Kept = { branch: Branch; answeredAt: number; missing: number; off: number };

export type News = { vanished: Branch[]; gone: Branch[] };

export class BranchRecord {
  readonly #kept = new Map<EniId, Kept>();
  readonly #deleted = new Map<EniId, number>();
  readonly #vlans = new Map<EniId, VlanIds>();

  get branches(): Branch[] {
    return [...this.#kept.values()].map(({ branch }) => branch);
  }

  find(eniId: EniId): Branch | undefined {
    return this.#kept.get(eniId)?.branch;
  }

  vlansOf(trunkId: EniId): VlanIds {
    let ids = this.#vlans.get(trunkId);
    if (!ids) {
      ids = new VlanIds();
      this.#vlans.set(trunkId, ids);
    }
    return ids;
  }

  /** EC2 has answered a create, or a describe of this one alone. */
  made(branch: Branch, now: number): void {
    this.#kept.set(branch.eniId, { branch, answeredAt: now, missing: 0, off: 0 });
    this.vlansOf(branch.trunkId).hold(branch.vlanId, branch.podUid, now);
  }

  associated(branch: Branch, association: NonNullable<Branch['association']>, now: number): void {
    Object.assign(branch, { association, looseSince: null });
    this.#answered(branch, now);
  }

  disassociated(branch: Branch, now: number): void {
    Object.assign(branch, { association: null, looseSince: now });
    this.#answered(branch, now);
  }

  deleted(branch: Branch, now: number): void {
    this.#kept.delete(branch.eniId);
    this.#deleted.set(branch.eniId, now);
    this.#end(branch, now);
  }

  #answered({ eniId }: Branch, now: number): void {
    const kept = this.#kept.get(eniId);
    if (kept) Object.assign(kept, { answeredAt: now, missing: 0, off: 0 });
  }

  /** The id's owner is the pod: another branch of it keeps it. */
  #end({ trunkId, podUid }: Branch, now: number): void {
    if (!this.branches.some((other) => other.trunkId === trunkId && other.podUid === podUid))
      this.vlansOf(trunkId).end(podUid, now);
  }

  /**
   * `enis` and `associations` as described by calls that were begun at `began` (ms). `isHeld`: a pod of the cluster, or
   * one that has just ended, has the branch.
   */
  observe(
    enis: readonly EniDescription[],
    associations: readonly TrunkAssociation[],
    began: number,
    now: number,
    isHeld: (branch: Branch) => boolean,
  ): News {
    const news: News = { vanished: [], gone: [] };
    const ofBranch = new Map(associations.map((one) => [one.branchId, one]));
    const seen = new Map(enis.map((eni) => [eni.id, eni]));
    for (const eni of enis) this.#see(eni, ofBranch.get(eni.id), began, now, news);
    for (const [eniId, kept] of this.#kept) {
      const { branch } = kept;
      if (kept.answeredAt >= began) continue;
      if (seen.has(eniId)) kept.missing = 0;
      else if (++kept.missing >= LOOKS) {
        news.gone.push(branch);
        this.#kept.delete(eniId);
        this.#end(branch, began - 1);
        continue;
      }
      branch.orphaned = isHeld(branch) ? 0 : branch.orphaned + 1;
    }
    for (const [eniId, at] of this.#deleted) if (now - at > REMEMBERED) this.#deleted.delete(eniId);
    this.#seeVlans(seen, associations, began, now);
    return news;
  }

  #see(
    eni: EniDescription,
    found: TrunkAssociation | undefined,
    began: number,
    now: number,
    news: News,
  ): void {
    const association = found ? { id: found.id, trunkId: found.trunkId, vlanId: found.vlanId } : null;
    const kept = this.#kept.get(eni.id);
    if (!kept) {
      const branch = this.#deleted.has(eni.id) ? null : readBranch(eni);
      if (!branch) return;
      Object.assign(branch, { association, looseSince: association ? null : now });
      this.made(branch, began - 1);
      return;
    }
    const { branch } = kept;
    if (kept.answeredAt >= began) return;
    if (association || !branch.association) {
      kept.off = 0;
      if (association) Object.assign(branch, { association, looseSince: null });
    } else if (++kept.off >= LOOKS) {
      kept.off = 0;
      Object.assign(branch, { association: null, looseSince: now });
      news.vanished.push(branch);
    }
  }

  /** An id is in use while an association has it, and while an interface that is tagged with it is there. */
  #seeVlans(
    seen: ReadonlyMap<EniId, EniDescription>,
    associations: readonly TrunkAssociation[],
    began: number,
    now: number,
  ): void {
    const inUse = new Map<EniId, Set<number>>([...this.#vlans.keys()].map((id) => [id, new Set()]));
    for (const { trunkId, vlanId } of associations) inUse.get(trunkId)?.add(vlanId);
    for (const eni of seen.values()) {
      const branch = readBranch(eni);
      if (branch) inUse.get(branch.trunkId)?.add(branch.vlanId);
    }
    for (const [trunkId, vlans] of inUse) this.#vlans.get(trunkId)!.observe(vlans, began, now);
  }
}
