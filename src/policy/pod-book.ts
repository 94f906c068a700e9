// Knows the pods that the API shows, and which pod has which address. It knows the addresses of this node's pods before
// the API shows them. A pod that the API no longer shows keeps its rules while its sandbox lives on this node. No I/O.
import type { Ip } from '../base/ip.ts';
import { isSubject } from './compile.ts';
import { type PodView, podKey } from './model.ts';
import { isSameView } from './objects.ts';

/** Of one pod; undefined where there is none. */
export type PodChange = {
  readonly key: string;
  readonly before: PodView | undefined;
  readonly after: PodView | undefined;
};

export class PodBook {
  readonly #node: string;
  #pods: Map<string, PodView> | null = null;
  /** Addresses of this node's pods, from before their links are made. */
  readonly #held = new Map<string, readonly Ip[]>();
  readonly #holders = new Map<Ip, string>();
  /** Holders whose pod the API does not show any more: their sandbox lives, and their rules with it. */
  readonly #kept = new Map<string, PodView>();
  /** The pod that an address was last seen with. */
  readonly #owners = new Map<Ip, string>();

  constructor(node: string) {
    this.#node = node;
  }

  /** The API has told them. */
  get isKnown(): boolean {
    return this.#pods !== null;
  }

  get shown(): ReadonlyMap<string, PodView> {
    return this.#pods ?? new Map();
  }

  get held(): ReadonlyMap<string, readonly Ip[]> {
    return this.#held;
  }

  /** All that there are, by NAMESPACE/NAME. */
  get all(): Iterable<readonly [string, PodView]> {
    return this.#kept.size === 0 ? this.shown : [...this.shown, ...this.#kept];
  }

  get(key: string): PodView | undefined {
    return this.#pods?.get(key) ?? this.#kept.get(key);
  }

  /** NAMESPACE/NAME of the pod that has the address, as far as is known. */
  ownerOf(ip: Ip): string | undefined {
    return this.#holders.get(ip) ?? this.#owners.get(ip);
  }

  /** True when the address is that pod's, as far as is known. */
  isOwner = (key: string, ip: Ip): boolean => (this.ownerOf(ip) ?? key) === key;

  replace(pods: Iterable<PodView>): void {
    const before = this.#pods;
    this.#pods = new Map();
    this.#owners.clear();
    for (const pod of pods) {
      const key = podKey(pod);
      this.#pods.set(key, pod);
      for (const ip of pod.ips) this.#owners.set(ip, key);
    }
    for (const [key, pod] of before ?? []) if (!this.#pods.has(key)) this.#keep(key, pod);
  }

  /** Null: nothing has changed. */
  put(pod: PodView): PodChange | null {
    if (!this.#pods) return null;
    const key = podKey(pod);
    const before = this.#pods.get(key);
    if (before && isSameView(before, pod)) return null;
    // The last one that came with an address is taken for its holder.
    if (before && before.ips.join() !== pod.ips.join()) this.#pods.delete(key);
    this.#pods.set(key, pod);
    this.#kept.delete(key);
    for (const ip of pod.ips) this.#owners.set(ip, key);
    return { key, before, after: pod };
  }

  /** Null: nothing has changed. `note` hears of the change while the addresses are still the pod's. */
  remove(key: string, note: (change: PodChange) => void): void {
    const before = this.#pods?.get(key);
    if (!before) return;
    this.#pods!.delete(key);
    this.#keep(key, before);
    note({ key, before, after: this.#kept.get(key) });
    for (const ip of before.ips) if (this.#owners.get(ip) === key) this.#owners.delete(ip);
  }

  /** The force-deleted pod's sandbox still runs here. */
  #keep(key: string, pod: PodView): void {
    if (this.#held.has(key) && isSubject(pod, this.#node)) this.#kept.set(key, pod);
  }

  hold(key: string, ips: readonly Ip[]): void {
    this.#held.set(key, ips);
    for (const ip of ips) this.#holders.set(ip, key);
  }

  /** The pod that the API shows is the one that holds. */
  isNew(key: string): void {
    this.#kept.delete(key);
  }

  release(key: string, ips: readonly Ip[]): void {
    const held = this.#held.get(key);
    if (held && ips.some((ip) => held.includes(ip))) {
      this.#held.delete(key);
      this.#kept.delete(key);
    }
    for (const ip of ips) if (this.#holders.get(ip) === key) this.#holders.delete(ip);
  }
}
