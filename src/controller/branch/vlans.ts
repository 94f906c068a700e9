// The VLAN ids of one trunk: who holds each, and which may be given. Invariant: an id has one owner, and is given to
// another only when a describe that was begun after its end showed nothing of it, and QUARANTINE has passed since: a frame
// of the former holder may still be on its way. Values in, values out; the caller brings the time (ms).
import { MAX_VLAN } from '../../kube/index.ts';

export const QUARANTINE = 30_000;
/** Who holds an id that EC2 showed, and that nobody here gave. */
const STRANGER = 'ec2';

type Slot = {
  owner: string;
  /** When EC2 answered that it had ended; null while it is held. */
  endedAt: number | null;
  /** When a later describe first showed nothing of it. */
  unseenAt: number | null;
};

export class VlanIds {
  readonly #slots = new Map<number, Slot>();
  readonly #ofOwner = new Map<string, number>();
  /** Ids are given in turn, so that one that was just freed comes last. */
  #last = 0;

  /** The owner's id, the same each time. Null when none is free. */
  take(owner: string, now: number): number | null {
    const held = this.#ofOwner.get(owner);
    if (held !== undefined) {
      // It was to end, and is wanted again.
      Object.assign(this.#slots.get(held)!, { endedAt: null, unseenAt: null });
      return held;
    }
    for (let step = 1; step <= MAX_VLAN; step++) {
      const vlan = ((this.#last + step - 1) % MAX_VLAN) + 1;
      if (!this.#isFree(vlan, now)) continue;
      this.#last = vlan;
      this.#put(vlan, owner);
      return vlan;
    }
    return null;
  }

  /** Says that the id is this owner's, as tags or an association tell. False when it is another's. */
  hold(vlan: number, owner: string, now: number): boolean {
    const slot = this.#slots.get(vlan);
    if (slot && slot.owner !== owner && slot.owner !== STRANGER && !this.#isFree(vlan, now)) return false;
    const other = this.#ofOwner.get(owner);
    if (other !== undefined && other !== vlan) return false;
    this.#last = Math.max(this.#last, vlan);
    this.#put(vlan, owner);
    return true;
  }

  ownerOf(vlan: number): string | undefined {
    return this.#slots.get(vlan)?.owner;
  }

  /** EC2 has answered that what the owner had is gone, or the owner asked EC2 for nothing. */
  end(owner: string, now: number): void {
    const slot = this.#slots.get(this.#ofOwner.get(owner) ?? 0);
    if (slot) slot.endedAt ??= now;
  }

  /** The ids that describes showed, which were begun at `began`. */
  observe(seen: ReadonlySet<number>, began: number, now: number): void {
    for (const vlan of seen) if (!this.#slots.has(vlan) || this.#isFree(vlan, now)) this.#put(vlan, STRANGER);
    for (const [vlan, slot] of this.#slots) {
      if (seen.has(vlan)) slot.unseenAt = null;
      else if (slot.owner === STRANGER || (slot.endedAt !== null && slot.endedAt < began))
        slot.unseenAt ??= now;
    }
  }

  #isFree(vlan: number, now: number): boolean {
    const slot = this.#slots.get(vlan);
    return !slot || (slot.unseenAt !== null && now - slot.unseenAt >= QUARANTINE);
  }

  #put(vlan: number, owner: string): void {
    const former = this.#slots.get(vlan);
    if (former && this.#ofOwner.get(former.owner) === vlan) this.#ofOwner.delete(former.owner);
    this.#slots.set(vlan, { owner, endedAt: null, unseenAt: null });
    if (owner !== STRANGER) this.#ofOwner.set(owner, vlan);
  }
}
