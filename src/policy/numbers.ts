// Numbers of classes, identities and rulings on this node: given once, never used for anything else, so that a change in
// several steps never meets a number with two meanings. They pass through the packet's priority, 32 bits.

/** Rulings stand above all identities: a lookup that finds none leaves a number that no ruling has. */
const FIRST_RULING = 0x8000_0000;
const LIMIT = 0x7fff_ffff;

export class Numbers {
  readonly #given = {
    class: new Map<string, number>(),
    identity: new Map<string, number>(),
    ruling: new Map<string, number>(),
  };
  readonly #next = { class: 1, identity: 1, ruling: FIRST_RULING };

  of(kind: 'class' | 'identity' | 'ruling', name: string): number {
    const known = this.#given[kind].get(name);
    if (known !== undefined) return known;
    const number = this.#next[kind]++;
    // 2,000 million identities: a node that made a thousand a second would get there after 24 days of it.
    if (number - (kind === 'ruling' ? FIRST_RULING : 0) > LIMIT)
      throw new RangeError(`no number is left for one more ${kind}`);
    this.#given[kind].set(name, number);
    return number;
  }

  has(kind: 'class' | 'identity', name: string): boolean {
    return this.#given[kind].has(name);
  }

  /** Forgets names that are in no table any more; their numbers are not given again. */
  keepOnly(kind: 'class' | 'identity', names: ReadonlyMap<string, unknown>): void {
    for (const name of this.#given[kind].keys()) if (!names.has(name)) this.#given[kind].delete(name);
  }
}
