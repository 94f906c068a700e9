// Wakes those who wait to try again: something has happened that makes it worth while. Each ring is heard by those who
// wait at that moment.
export class Alarm {
  #next = new AbortController();

  /** Aborts at the next ring. */
  get signal(): AbortSignal {
    return this.#next.signal;
  }

  ring(): void {
    const rung = this.#next;
    this.#next = new AbortController();
    rung.abort();
  }
}
