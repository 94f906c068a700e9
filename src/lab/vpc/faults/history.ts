// The VPC's states of the last moments, so that an answer can be of a past one. States share what did not change.
// Begins with the lab's process, and keeps no more than somebody has asked to look back.
import type { LabState } from '../context.ts';

/** States that are kept at most; further back the oldest of them stands for the past. */
const MOST = 5_000;

export class History {
  #states: { at: number; state: LabState }[] = [];

  /** `state` holds from `now` on; what was replaced more than `reachMs` ago is forgotten. */
  note(state: LabState, now: number, reachMs: number): void {
    if (this.#states.at(-1)?.state !== state) this.#states.push({ at: now, state });
    const from = now - reachMs;
    let forgotten = Math.max(0, this.#states.length - MOST);
    while (forgotten + 1 < this.#states.length && this.#states[forgotten + 1]!.at <= from) forgotten++;
    if (forgotten > 0) this.#states = this.#states.slice(forgotten);
  }

  /** The state at a time; the oldest that is known for all times before it. */
  at(time: number): LabState {
    for (let i = this.#states.length - 1; i > 0; i--) {
      if (this.#states[i]!.at <= time) return this.#states[i]!.state;
    }
    return this.#states[0]!.state;
  }
}
