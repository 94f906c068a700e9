// Collects growth that no pod waits for, so that a wave of pods costs few calls.
import type { Action } from './plan.ts';

/** Ms from the first planned growth to its start. */
const GATHER = 150;

const grows = ({ kind }: Action): boolean =>
  kind === 'assign' || kind === 'assign-prefixes' || kind === 'create';

export class Gatherer {
  #since: number | null = null;

  dueAt(): number {
    return this.#since === null ? Number.POSITIVE_INFINITY : this.#since + GATHER;
  }

  /** Those of the planned actions that start now. `urgent`: a pod waits, or the next one would. */
  due(planned: readonly Action[], urgent: boolean, now: number): readonly Action[] {
    if (urgent || !planned.some(grows)) {
      this.#since = null;
      return planned;
    }
    this.#since ??= now;
    if (now < this.#since + GATHER) return planned.filter((action) => !grows(action));
    this.#since = null;
    return planned;
  }
}
