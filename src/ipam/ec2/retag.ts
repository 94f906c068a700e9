// Puts back the tags that somebody removed from the pool's ENIs: by them an ENI is found again after a lost journal, and
// deleted after a lost instance. Invariant: a tag that is there, whatever it says, is left as it is; so are ENIs that a
// person keeps from the pool, and the primary one. A failure costs nothing but the tags, and is tried again later.
import { CloudError, type EniDescription } from '../../cloud/port.ts';
import type { Core } from '../core.ts';
import { isKeptAway, lackingTags, ownTags } from './tags.ts';

/** A new ENI's tags may lag in describes for so long (ms). */
const NEW_FOR = 60_000;
/** A role that may tag only what it creates is not asked again before (ms). */
const DENIED_FOR = 3_600_000;
/** After another failure (ms). */
const AGAIN = 60_000;

export class Retagger {
  readonly #core: Core;
  #notBefore = 0;

  constructor(core: Core) {
    this.#core = core;
  }

  /** Looks at a describe of this instance's ENIs. */
  async putBack(described: readonly EniDescription[]): Promise<void> {
    const { state, clock, identity, tags, cloud, signal, log } = this.#core;
    for (const eni of described) {
      const now = clock.now();
      const known = state.enis.get(eni.id);
      if (!known || known.primary || known.phase === 'leaving' || known.since + NEW_FOR > now) continue;
      if (now < this.#notBefore || isKeptAway(eni.tags)) continue;
      const lacking = lackingTags(eni.tags, ownTags(tags, identity.instanceId, known.since));
      if (Object.keys(lacking).length === 0) continue;
      const fields = { eni: eni.id, tags: Object.keys(lacking).sort() };
      try {
        await cloud.createTags(eni.id, lacking, signal);
        log.warn(fields, 'somebody removed tags of an ENI of this node; they are there again');
      } catch (error) {
        const isDenied = error instanceof CloudError && error.code === 'CLOUD_DENIED';
        this.#notBefore = clock.now() + (isDenied ? DENIED_FOR : AGAIN);
        log.warn({ ...fields, error: String(error) }, 'an ENI of this node lacks tags');
      }
    }
  }
}
