// Finds this node's own ENIs that are attached to nothing. One whose addresses pods hold is attached again; one that no
// creation names is deleted after a grace: it was made before a crash that took its record. Invariant: what another
// cluster, another instance or a person has is never touched, nor an ENI that was seen once only.
import type { EniDescription, EniId } from '../../cloud/port.ts';
import { type Core, commit } from '../core.ts';
import { eniRecord } from '../journal/records.ts';
import { hasForeign, leaseOn, withEni } from '../state.ts';
import { leavingEni } from './create.ts';
import { REMOVAL_GAP } from './observe.ts';
import { learnSubnets } from './subnet-facts.ts';
import { ageByTag, isLoose, TAG_CLUSTER, TAG_INSTANCE, type Whose } from './tags.ts';

/**
 * An ENI younger than this (ms) may be the work of a call that is still out, or of the agent before, which is about to
 * end. A call and its repeats take less.
 */
const GRACE = 60_000;

export const whoseOf = ({ identity, tags }: Pick<Core, 'identity' | 'tags'>): Whose => ({
  instanceId: identity.instanceId,
  cluster: tags[TAG_CLUSTER],
});

export class Orphans {
  readonly #core: Core;
  /** When each unowned ENI was first seen (ms). */
  #seen = new Map<EniId, number>();
  /** ENIs with an Elastic IP, told once. */
  readonly #told = new Set<EniId>();

  constructor(core: Core) {
    this.#core = core;
  }

  /** True of an ENI that a look has found, and that goes or stays as it is. */
  knows(id: EniId): boolean {
    return this.#seen.has(id) || this.#told.has(id);
  }

  /** One describe, by our tag. */
  async look(): Promise<EniDescription[]> {
    const core = this.#core;
    const { instanceId } = core.identity;
    const tagged = await core.cloud.describeNetworkInterfaces(
      { kind: 'tags', tags: { [TAG_INSTANCE]: instanceId } },
      core.signal,
    );
    const loose = tagged.filter((eni) => isLoose(eni, whoseOf(core)));
    await learnSubnets(
      core,
      loose.map((eni) => eni.subnetId),
    );
    return loose;
  }

  /** Deals with what a look found; answers in how many ms another look is needed, or null. */
  take(found: readonly EniDescription[]): number | null {
    const core = this.#core;
    const now = core.clock.now();
    const named = new Set<EniId | null>([...core.state.creations.values()].map((one) => one.eniId));
    const seen = new Map<EniId, number>();
    let again: number | null = null;
    for (const described of found) {
      if (named.has(described.id) || core.state.enis.has(described.id)) continue;
      if (this.#takeBack(described) || this.#isKept(described)) continue;
      const firstSeen = this.#seen.get(described.id) ?? now;
      const age = Math.max(now - firstSeen, ageByTag(described.tags, now) ?? 0);
      // A creation that has no ENI id yet may turn out to have made this ENI.
      if (named.has(null) || now - firstSeen < REMOVAL_GAP || age < GRACE) {
        seen.set(described.id, firstSeen);
        again = REMOVAL_GAP + 1_000;
      } else this.#condemn(described);
    }
    this.#seen = seen;
    return again;
  }

  /** True when pods hold addresses of the ENI: the planner attaches it again. */
  #takeBack(described: EniDescription): boolean {
    const core = this.#core;
    const eni = leavingEni(core, described);
    const lease = leaseOn(core.state, eni);
    if (!lease) return false;
    // EC2 does not say where an unattached ENI was attached: its leases do, unless the journal was lost.
    const { deviceIndex, networkCard } = lease.eni ?? eni;
    const phase = 'attached';
    const lost = { ...eni, phase, deviceIndex, networkCard, missingSince: core.clock.now() } as const;
    commit(core, withEni(core.state, lost), eniRecord(lost));
    core.log.error({ eni: eni.id }, 'an ENI whose addresses pods hold was taken from the instance');
    return true;
  }

  #isKept(described: EniDescription): boolean {
    if (!hasForeign(leavingEni(this.#core, described))) return false;
    if (!this.#told.has(described.id))
      this.#core.log.warn(
        { eni: described.id },
        'an ENI of this node hangs loose with an Elastic IP; it is left alone',
      );
    this.#told.add(described.id);
    return true;
  }

  #condemn(described: EniDescription): void {
    const core = this.#core;
    const eni = leavingEni(core, described);
    commit(core, withEni(core.state, eni), eniRecord(eni));
    core.log.warn({ eni: eni.id }, 'found an ENI of this node that is attached to nothing; deleting it');
  }
}
