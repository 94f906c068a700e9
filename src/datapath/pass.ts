// One sync's verdicts: before a difference is put right, its object is judged, once per sync; it is then repaired or
// withheld. For withheld repairs `retryAt` says when the next sync may do them.
import type { Part } from './parts.ts';

/** What is to be done about a difference: put right, left until a time (ms), or left as it is. */
export type Ruling = 'repair' | { readonly until: number | null };
export type Rule = (object: string, text: string) => Ruling;

export class Pass {
  readonly changes: string[] = [];
  /** How many things of each part were put right. */
  readonly counts = new Map<Part, number>();
  readonly #rulings = new Map<string, Ruling>();
  readonly #rule: Rule;
  #retryAt: number | null = null;
  #part: Part = 'sysctls';

  constructor(rule: Rule) {
    this.#rule = rule;
  }

  /** Ms; null when nothing waits. */
  get retryAt(): number | null {
    return this.#retryAt;
  }

  /** Objects that were found different. */
  get objects(): Iterable<string> {
    return this.#rulings.keys();
  }

  /** True when the difference is to be put right; tell `done` once it is. */
  may(object: string, text: string): boolean {
    let ruling = this.#rulings.get(object);
    if (ruling === undefined) {
      ruling = this.#rule(object, text);
      this.#rulings.set(object, ruling);
    }
    if (ruling === 'repair') return true;
    const { until } = ruling;
    if (until !== null) this.#retryAt = Math.min(this.#retryAt ?? Number.POSITIVE_INFINITY, until);
    return false;
  }

  /** What is done from now on belongs to this part. */
  enter(part: Part): void {
    this.#part = part;
  }

  done(text: string): void {
    this.changes.push(text);
    this.counts.set(this.#part, (this.counts.get(this.#part) ?? 0) + 1);
  }
}
