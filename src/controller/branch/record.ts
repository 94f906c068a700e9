// What is known of the cluster's branches: what EC2 described, and what it answered since. A describe counts for an
// interface only when it was begun after the last answer about it, since EC2's describes may be late. What it knows to
// be there is gone, and what is on a trunk is off it, when a second describe, of that interface alone, says so too. No
// effects; the caller brings the time.
import type { EniDescription, EniId, TrunkAssociation } from '../../cloud/port.ts';
import type { Branch } from './plan.ts';
import { readBranch } from './tags.ts';
import { VlanIds } from './vlans.ts';

/** How long a deleted interface may still turn up in describes (ms). */
const REMEMBERED = 120_000;
/** What contradicts an answer of so short ago (ms) may be late. */
const SETTLED = 10_000;

type Kept = { branch: Branch; answeredAt: number };

export type News = { vanished: Branch[]; gone: Branch[] };

/** A describe: of all branches, or of those that hang on no trunk. */
export type Look = {
  scope: 'all' | 'loose';
  enis: readonly EniDescription[];
  /** Null: not asked for this time. Only beside all branches. */
  associations: readonly TrunkAssociation[] | null;
  began: number;
};

const isLoose = ({ status }: EniDescription): boolean => status === 'available';
const isOn = ({ status }: EniDescription): boolean => status === 'in-use' || status === 'associated';

export class BranchRecord {
  readonly #kept = new Map<EniId, Kept>();
  readonly #deleted = new Map<EniId, number>();
  readonly #vlans = new Map<EniId, VlanIds>();
  /** EC2 shows what only its associations explain. */
  wantsAssociations = true;

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
    this.#kept.set(branch.eniId, { branch, answeredAt: now });
    // On another trunk than it was made for where that one went.
    const { trunkId, vlanId } = branch.association ?? branch;
    this.vlansOf(trunkId).hold(vlanId, branch.podUid, now);
  }

  associated(branch: Branch, association: NonNullable<Branch['association']>, now: number): void {
    Object.assign(branch, { association, looseSince: null });
    this.#answered(branch, now);
  }

  tagged(branch: Branch, place: Pick<Branch, 'trunkId' | 'vlanId'>): void {
    Object.assign(branch, place);
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
    if (kept) kept.answeredAt = now;
  }

  /** The id's owner is the pod: another branch of it keeps it. On each trunk that the pod had one. */
  #end({ podUid }: Branch, now: number): void {
    if (this.branches.some((other) => other.podUid === podUid)) return;
    for (const ids of this.#vlans.values()) ids.end(podUid, now);
  }

  /**
   * `isHeld`: a pod of the cluster, or one that has just ended, has the branch. Answers with those that are gone or off
   * their trunk as it seems, for `confirm`.
   */
  observe(
    { scope, enis, associations, began }: Look,
    now: number,
    isHeld: (branch: Branch) => boolean,
  ): EniId[] {
    if (associations) this.wantsAssociations = false;
    const ofBranch = associations && new Map(associations.map((one) => [one.branchId, one]));
    const seen = new Map(enis.map((eni) => [eni.id, eni]));
    for (const eni of enis) this.#see(eni, ofBranch && (ofBranch.get(eni.id) ?? null), began, now);
    const suspects: EniId[] = [];
    for (const [eniId, { branch, answeredAt }] of this.#kept) {
      if (answeredAt >= began) continue;
      const eni = seen.get(eniId);
      const isOdd = eni ? isLoose(eni) && branch.association !== null : scope === 'all';
      if (isOdd && answeredAt + SETTLED < began) suspects.push(eniId);
      if (scope === 'all') branch.orphaned = isHeld(branch) ? 0 : branch.orphaned + 1;
    }
    for (const [eniId, at] of this.#deleted) if (now - at > REMEMBERED) this.#deleted.delete(eniId);
    if (associations) this.#seeVlans(seen, associations, began, now);
    return suspects;
  }

  /** `enis`: those of `suspects` that a describe of `began` showed. */
  confirm(suspects: readonly EniId[], enis: readonly EniDescription[], began: number, now: number): News {
    const news: News = { vanished: [], gone: [] };
    const seen = new Map(enis.map((eni) => [eni.id, eni]));
    for (const eniId of suspects) {
      const kept = this.#kept.get(eniId);
      if (!kept || kept.answeredAt + SETTLED >= began) continue;
      const { branch } = kept;
      const eni = seen.get(eniId);
      if (!eni) {
        news.gone.push(branch);
        this.#kept.delete(eniId);
        this.#end(branch, began - 1);
      } else if (isLoose(eni) && branch.association) {
        Object.assign(branch, { association: null, looseSince: now });
        news.vanished.push(branch);
      }
    }
    return news;
  }

  /** `found`: its association; null for none, undefined where associations were not asked for. */
  #see(eni: EniDescription, found: TrunkAssociation | null | undefined, began: number, now: number): void {
    const association = found ? { id: found.id, trunkId: found.trunkId, vlanId: found.vlanId } : null;
    const kept = this.#kept.get(eni.id);
    if (kept) {
      if (kept.answeredAt >= began) return;
      if (association) Object.assign(kept.branch, { association, looseSince: null });
      else if (isOn(eni) && !kept.branch.association) this.wantsAssociations = true;
      return;
    }
    const branch = this.#deleted.has(eni.id) ? null : readBranch(eni);
    if (!branch) return;
    if (isOn(eni) && !association) {
      // Whose it is, and under which id, is known with its association.
      this.wantsAssociations = true;
      return;
    }
    Object.assign(branch, { association, looseSince: association ? null : now });
    this.made(branch, began - 1);
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
