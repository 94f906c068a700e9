// Says on each NodeNetwork whether it is followed: its condition `Accepted`. All nodes judge alike and see each other's
// word by their watch, so each waits a random moment and writes only what is not said yet. Bounded; never throws.
import { type Clock, rfc3339, systemClock } from '../base/clock.ts';
import type { Log } from '../base/log.ts';
import type { Condition, KubeClient, NodeNetwork } from '../kube/index.ts';

type Kube = typeof import('../kube/index.ts');

export type Word = { readonly accepted: boolean; readonly message: string; readonly generation: number };
export type Said = NonNullable<NonNullable<NodeNetwork['status']>['conditions']>;

const ACCEPTED = 'Accepted';
/** Writes are spread over this long (ms): a cluster's nodes learn of a change at once. */
const SPREAD_MS = 3_000;
const TRIES = 5;

export class AcceptedConditions {
  readonly #client: KubeClient;
  readonly #kube: Kube;
  readonly #log: Log;
  readonly #signal: AbortSignal;
  readonly #clock: Clock;
  readonly #wanted = new Map<string, Word>();
  readonly #said = new Map<string, Said>();
  readonly #busy = new Set<string>();

  constructor(client: KubeClient, kube: Kube, log: Log, signal: AbortSignal, clock: Clock = systemClock) {
    this.#client = client;
    this.#kube = kube;
    this.#log = log;
    this.#signal = signal;
    this.#clock = clock;
  }

  /** What is to be said of each NodeNetwork that concerns this node, and what is said already. */
  want(words: ReadonlyMap<string, Word>, said: ReadonlyMap<string, Said>): void {
    this.#wanted.clear();
    this.#said.clear();
    for (const [name, word] of words) this.#wanted.set(name, word);
    for (const [name, conditions] of said) this.#said.set(name, conditions);
    for (const name of words.keys()) if (this.#isMissing(name)) void this.#write(name);
  }

  #isMissing(name: string): boolean {
    const word = this.#wanted.get(name);
    if (!word) return false;
    const known = this.#said.get(name)?.find(({ type }) => type === ACCEPTED);
    return (
      known?.status !== (word.accepted ? 'True' : 'False') ||
      known.message !== word.message ||
      known.observedGeneration !== word.generation
    );
  }

  async #write(name: string): Promise<void> {
    if (this.#busy.has(name)) return;
    this.#busy.add(name);
    try {
      for (let tries = 1; tries <= TRIES && !this.#signal.aborted; tries++) {
        await this.#clock.sleep(Math.random() * SPREAD_MS * tries, this.#signal).catch(() => undefined);
        if (this.#signal.aborted || !this.#isMissing(name)) return;
        if (await this.#writeOnce(name)) return;
      }
    } finally {
      this.#busy.delete(name);
    }
  }

  /** True when nothing is left to do. */
  async #writeOnce(name: string): Promise<boolean> {
    const word = this.#wanted.get(name)!;
    const { nodeNetworks, isConflict, isNotFound } = this.#kube;
    try {
      const object = await this.#client.get(nodeNetworks, name, undefined, this.#signal);
      if (object.metadata.generation !== word.generation) return true;
      const before = object.status?.conditions ?? [];
      const known = before.find(({ type }) => type === ACCEPTED);
      const status: Condition['status'] = word.accepted ? 'True' : 'False';
      const condition = {
        type: ACCEPTED,
        status,
        reason: word.accepted ? 'Valid' : 'Invalid',
        message: word.message,
        lastTransitionTime:
          known?.status === status && known.lastTransitionTime
            ? known.lastTransitionTime
            : rfc3339(this.#clock.now()),
        observedGeneration: word.generation,
      };
      const conditions = [...before.filter(({ type }) => type !== ACCEPTED), condition];
      const metadata = { resourceVersion: object.metadata.resourceVersion };
      const patch = { metadata, status: { conditions } };
      await this.#client.patch(nodeNetworks, name, undefined, patch, { subresource: 'status' }, this.#signal);
      return true;
    } catch (error) {
      if (isNotFound(error)) return true;
      // Another node was first: the watch tells what it said.
      if (!isConflict(error)) this.#log.debug({ error: String(error), name }, 'a condition is not sent yet');
      return false;
    }
  }
}
