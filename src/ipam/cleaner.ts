// Removes the conntrack entries of an address's last holder during the cooldown, so that neither DEL nor ADD has to.
// An address whose cleaning fails stays cooling and is tried again; an address is never given out uncleaned.
import { formatIp, type Ip } from '../base/ip.ts';
import { type Core, commit } from './core.ts';
import { dropSpent, markClean } from './state.ts';

/** Cleaning waits at most this long (ms) after the release, until the last packets have passed. */
const SETTLE = 1_000;
const RETRY = 1_000;
/** Between two batches (ms): a storm of DELs without cooldown costs a bounded share of a core. */
const PAUSE = 50;
/** Addresses cleaned in one go: a bound on how long the node's network is kept busy. */
const BATCH = 32;

export class Cleaner {
  readonly #core: Core;
  readonly #cooldownMs: () => number;
  readonly #clean: ((ip: Ip) => Promise<unknown> | unknown) | undefined;
  #busy = false;
  #notBefore = 0;

  constructor(core: Core, cooldownMs: () => number, beforeReuse?: (ip: Ip) => Promise<unknown> | unknown) {
    this.#core = core;
    this.#cooldownMs = cooldownMs;
    this.#clean = beforeReuse;
  }

  get #settle(): number {
    return Math.min(SETTLE, this.#cooldownMs() / 2);
  }

  dueAt(now: number): number {
    if (this.#busy) return Number.POSITIVE_INFINITY;
    const settle = this.#settle;
    let due = Number.POSITIVE_INFINITY;
    for (const use of this.#core.state.uses.values()) {
      if (use.kind === 'cooling' && !use.clean) due = Math.min(due, use.since + settle);
    }
    return Math.max(due, this.#notBefore, now);
  }

  startDue(now: number): Promise<void> | null {
    if (this.#busy || now < this.#notBefore) return null;
    const settle = this.#settle;
    const due: Ip[] = [];
    for (const [ip, use] of this.#core.state.uses) {
      if (use.kind === 'cooling' && !use.clean && use.since + settle <= now) due.push(ip);
      if (due.length >= BATCH) break;
    }
    if (due.length === 0) return null;
    this.#busy = true;
    return this.#run(due).finally(() => {
      this.#busy = false;
    });
  }

  async #run(due: Ip[]): Promise<void> {
    // All at once: they share one walk of the kernel's table, which costs the node 10 ms of a core.
    const cleaned = (await Promise.all(due.map((ip) => this.#cleanOne(ip)))).filter((ip) => ip !== null);
    this.#notBefore = Math.max(this.#notBefore, this.#core.clock.now() + PAUSE);
    if (cleaned.length === 0 || this.#core.signal.aborted) return;
    const next = dropSpent(markClean(this.#core.state, cleaned), this.#core.clock.now());
    commit(this.#core, next, { k: 'clean', ips: cleaned.map(formatIp) });
  }

  /** Returns the address when it is clean, null when cleaning failed or a new release needs another one. */
  async #cleanOne(ip: Ip): Promise<Ip | null> {
    const use = this.#core.state.uses.get(ip);
    try {
      await this.#clean?.(ip);
      // If the address was released again during the cleaning, it needs to be cleaned again.
      return this.#core.state.uses.get(ip) === use ? ip : null;
    } catch (error) {
      this.#notBefore = this.#core.clock.now() + RETRY;
      this.#core.log.warn(
        { ip: formatIp(ip), error: String(error) },
        'cannot remove the traces of an address',
      );
      return null;
    }
  }
}
