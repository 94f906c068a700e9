// Runs one operation at a time per key, in the order of arrival; a key without operations takes no memory.

export class KeyedLock {
  #tails = new Map<string, Promise<void>>();

  async run<T>(key: string, work: () => Promise<T> | T): Promise<T> {
    const before = this.#tails.get(key);
    let release!: () => void;
    const mine = new Promise<void>((resolve) => {
      release = resolve;
    });
    this.#tails.set(key, mine);
    try {
      if (before) await before;
      return await work();
    } finally {
      if (this.#tails.get(key) === mine) this.#tails.delete(key);
      release();
    }
  }

  get size(): number {
    return this.#tails.size;
  }
}
