// Gives the policy's security groups to secondary ENIs that exist, where a NodeNetwork says `existingENIs: change`. The
// primary ENI keeps its own. An ENI that EC2 refuses to change is tried again later; nothing else waits for it.
import { type Clock, systemClock } from '../base/clock.ts';
import type { Log } from '../base/log.ts';
import type { EniId } from '../cloud/port.ts';
import type { AddressPool } from '../ipam/pool.ts';

/** A change shows in the next describe; until then, and after a failure, the ENI is left alone (ms). */
const AGAIN_MS = 10 * 60_000;
const RETRY_MS = 60_000;

export class EniGroups {
  readonly #pool: Pick<AddressPool, 'state' | 'cloud'>;
  readonly #log: Log;
  readonly #clock: Clock;
  readonly #tried = new Map<EniId, { groups: string; until: number }>();

  constructor(pool: Pick<AddressPool, 'state' | 'cloud'>, log: Log, clock: Clock = systemClock) {
    this.#pool = pool;
    this.#log = log;
    this.#clock = clock;
  }

  async change(groupIds: readonly string[], signal: AbortSignal): Promise<void> {
    const groups = wordOf(groupIds);
    const { enis } = this.#pool.state;
    for (const id of this.#tried.keys()) if (!enis.has(id)) this.#tried.delete(id);
    for (const { id, primary, phase, groupIds: present } of enis.values()) {
      if (primary || phase === 'leaving' || wordOf(present) === groups) continue;
      const tried = this.#tried.get(id);
      if (tried?.groups === groups && tried.until > this.#clock.now()) continue;
      try {
        await this.#pool.cloud.setSecurityGroups(id, groupIds, signal);
        this.#tried.set(id, { groups, until: this.#clock.now() + AGAIN_MS });
        this.#log.info({ eni: id, groups: groupIds }, 'changed the security groups of an ENI');
      } catch (error) {
        if (signal.aborted) return;
        this.#tried.set(id, { groups, until: this.#clock.now() + RETRY_MS });
        this.#log.warn(
          { eni: id, error: (error as Error).message },
          'an ENI keeps its security groups for now',
        );
      }
    }
  }
}

const wordOf = (groupIds: readonly string[]): string => groupIds.toSorted().join();
