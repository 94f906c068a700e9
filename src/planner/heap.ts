// A queue by time: what is due first comes first, and of two with one time the one that was added first.

type Item<T> = { readonly at: number; readonly order: number; readonly value: T };

export class TimeHeap<T> {
  readonly #items: Item<T>[] = [];
  #added = 0;

  /** When the next is due; infinity when there is none. */
  get nextAt(): number {
    return this.#items[0]?.at ?? Number.POSITIVE_INFINITY;
  }

  push(at: number, value: T): void {
    const items = this.#items;
    const item = { at, order: this.#added++, value };
    let index = items.length;
    items.push(item);
    while (index > 0) {
      const parent = (index - 1) >> 1;
      if (!isBefore(item, items[parent]!)) break;
      items[index] = items[parent]!;
      index = parent;
    }
    items[index] = item;
  }

  pop(): T | undefined {
    const items = this.#items;
    const first = items[0];
    if (!first) return undefined;
    const last = items.pop()!;
    if (items.length === 0) return first.value;
    let index = 0;
    for (;;) {
      let child = 2 * index + 1;
      if (child >= items.length) break;
      if (child + 1 < items.length && isBefore(items[child + 1]!, items[child]!)) child++;
      if (!isBefore(items[child]!, last)) break;
      items[index] = items[child]!;
      index = child;
    }
    items[index] = last;
    return first.value;
  }
}

const isBefore = (a: Item<unknown>, b: Item<unknown>): boolean =>
  a.at < b.at || (a.at === b.at && a.order < b.order);
