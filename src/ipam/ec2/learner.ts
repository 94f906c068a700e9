// Asks EC2, once it answers, what the planner has to know beside the ENIs: the type's limits, once; and the subnets that
// the policy names, when it bounds the node's share of them. A failure is tried again after a minute.
import type { Core } from '../core.ts';
import { learnLimits } from './learn-limits.ts';
import { learnSubnets } from './subnet-facts.ts';

/** The limits are asked for within this time (ms): nodes that start together do not ask at once. */
const SPREAD = 30_000;
/** Between two tries (ms). */
const AGAIN = 60_000;

export class Learner {
  readonly #core: Core;
  /** When the limits are asked for; infinity once they were. */
  #limitsAt: number;
  #isAsking = false;
  #notBefore = 0;

  constructor(core: Core) {
    this.#core = core;
    this.#limitsAt = core.clock.now() + placeOf(core.identity.instanceId) * SPREAD;
  }

  dueAt(): number {
    const subnetsAt = this.#unknown().length > 0 ? this.#notBefore : Number.POSITIVE_INFINITY;
    return Math.min(this.#limitsAt, subnetsAt);
  }

  startDue(now: number): Promise<void> | null {
    if (now >= this.#limitsAt) {
      this.#limitsAt = Number.POSITIVE_INFINITY;
      return learnLimits(this.#core);
    }
    const unknown = this.#unknown();
    if (this.#isAsking || now < this.#notBefore || unknown.length === 0) return null;
    this.#isAsking = true;
    this.#notBefore = now + AGAIN;
    return learnSubnets(this.#core, unknown)
      .catch((error) => this.#core.log.debug({ error: String(error) }, 'EC2 does not describe the subnets'))
      .finally(() => {
        this.#isAsking = false;
      });
  }

  /** Without their size no share of them is allowed. */
  #unknown(): string[] {
    const { state, policy } = this.#core;
    if (policy.maxSubnetPercent === null) return [];
    return policy.subnetIds.filter((id) => !state.subnets.has(id));
  }
}

/** A number from 0 to 1 that is the instance's own. */
function placeOf(instanceId: string): number {
  let sum = 0;
  for (const letter of instanceId) sum = (Math.imul(sum, 31) + letter.charCodeAt(0)) >>> 0;
  return sum / 2 ** 32;
}
