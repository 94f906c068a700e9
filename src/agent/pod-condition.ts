// A condition on pods that says whether EC2 routes the pod's address to this node. False from the moment that the
// address is found with somebody else, True when it is back; pods that never lost theirs have none. The last word on a
// pod is what is sent. Never throws and never waits for its caller; an API that refuses or is away is tried a few times.
import { type Clock, systemClock } from '../base/clock.ts';
import type { Log } from '../base/log.ts';
import type { KubeClient } from '../kube/index.ts';
import type { PodName } from './tell.ts';

type Kube = typeof import('../kube/index.ts');
export type Connect = () => Promise<{ client: KubeClient; kube: Kube }>;
export type AddressCondition = { assigned: boolean; reason: string; message: string };

export const ADDRESS_ASSIGNED = 'podway.io/AddressAssigned';
/** Pods whose word is not sent yet: more than a node takes. */
const MOST_WAITING = 1_000;
const TRIES = 5;
/** Between two tries (ms), doubled each time. */
const FIRST_WAIT = 1_000;

type Word = { pod: PodName; said: AddressCondition; since: string };

export class PodConditions {
  readonly #connect: Connect;
  readonly #log: Log;
  readonly #clock: Clock;
  readonly #waiting = new Map<string, Word>();
  #sending: Promise<void> | null = null;

  constructor(connect: Connect, log: Log, clock: Clock = systemClock) {
    this.#connect = connect;
    this.#log = log;
    this.#clock = clock;
  }

  say(pod: PodName, said: AddressCondition): void {
    const key = `${pod.namespace}/${pod.name}`;
    if (this.#waiting.size >= MOST_WAITING && !this.#waiting.has(key)) return;
    const since = `${new Date(this.#clock.now()).toISOString().slice(0, 19)}Z`;
    this.#waiting.set(key, { pod, said, since });
    this.#sending ??= this.#sendAll().finally(() => {
      this.#sending = null;
    });
  }

  /** Resolves when nothing waits to be sent. */
  async flush(): Promise<void> {
    await this.#sending;
  }

  async #sendAll(): Promise<void> {
    for (let tries = 1; this.#waiting.size > 0; tries++) {
      const error = await this.#sendOnce().catch((thrown: unknown) => thrown);
      if (error === undefined) {
        tries = 0;
        continue;
      }
      if (tries >= TRIES) {
        this.#log.warn(
          { error: String(error), pods: this.#waiting.size },
          'conditions of pods were not sent',
        );
        this.#waiting.clear();
        return;
      }
      await this.#clock.sleep(FIRST_WAIT * 2 ** (tries - 1));
    }
  }

  async #sendOnce(): Promise<void> {
    const { client, kube } = await this.#connect();
    try {
      for (const [key, word] of [...this.#waiting]) {
        await this.#send(client, kube, word);
        // A newer word that came meanwhile is sent next.
        if (this.#waiting.get(key) === word) this.#waiting.delete(key);
      }
    } finally {
      client.close();
    }
  }

  async #send(client: KubeClient, kube: Kube, { pod, said, since }: Word): Promise<void> {
    const condition = {
      type: ADDRESS_ASSIGNED,
      status: said.assigned ? 'True' : 'False',
      reason: said.reason,
      message: said.message,
      lastTransitionTime: since,
    };
    // The uid keeps it from another pod that has the name by now.
    const metadata = pod.uid === undefined ? {} : { metadata: { uid: pod.uid } };
    const patch = { ...metadata, status: { conditions: [condition] } };
    try {
      await client.patch(kube.pods, pod.name, pod.namespace, patch, {
        type: 'strategic',
        subresource: 'status',
      });
    } catch (error) {
      if (!kube.isNotFound(error) && !kube.isConflict(error)) throw error;
    }
  }
}
