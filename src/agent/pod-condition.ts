// Sets a condition on pods that says whether EC2 routes the pod's address to this node: False once EC2 no longer does,
// True when it does again. Pods that never lost their address have no such condition. Only the newest value for a pod
// is sent. Never throws and never blocks the caller; after an error the API is tried a few more times.
import { type Clock, rfc3339, systemClock } from '../base/clock.ts';
import type { Log } from '../base/log.ts';
import type { KubeClient } from '../kube/index.ts';
import type { PodName } from './tell.ts';

type Kube = typeof import('../kube/index.ts');
export type Connect = () => Promise<{ client: KubeClient; kube: Kube }>;
export type AddressCondition = { assigned: boolean; reason: string; message: string };

export const ADDRESS_ASSIGNED = 'podway.io/AddressAssigned';
/** Pods whose condition may wait to be sent: more than a node takes. */
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
    const since = rfc3339(this.#clock.now());
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
    for (const [key, word] of [...this.#waiting]) {
      await this.#send(client, kube, word);
      // A newer value that came meanwhile is sent next.
      if (this.#waiting.get(key) === word) this.#waiting.delete(key);
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
    // The uid prevents patching a newer pod of the same name.
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
