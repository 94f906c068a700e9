// Conditions of the Node that the agent owns, such as whether EC2 can be reached. The Node is read first and patched only
// when status or reason differ, so that a restart writes nothing new. Only the newest word of each type is sent; an API
// that is away is asked again, ever more seldom. Never throws and never blocks the caller.

import { eventReason } from '../base/causes.ts';
import { type Clock, rfc3339, systemClock } from '../base/clock.ts';
import type { PodwayError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import type { Away } from '../ipam/ec2/reach.ts';
import type { Connect } from './pod-condition.ts';

export const CLOUD_REACHABLE = 'PodwayCloudReachable';
export const NETWORK_UNAVAILABLE = 'NetworkUnavailable';

export type NodeCondition = {
  type: string;
  status: 'True' | 'False';
  reason: string;
  message: string;
  /** Ms: when the status became so. */
  since: number;
};

/** Between two tries (ms): the first pause, doubled up to the last; each up to half longer. */
const FIRST_WAIT = 1_000;
const LAST_WAIT = 60_000;

/** What the Node says of EC2. `now` is when it answered, while it does. */
export function cloudCondition(away: Away | null, now: number): NodeCondition {
  const type = CLOUD_REACHABLE;
  if (!away) return { type, status: 'True', reason: 'Answering', message: 'EC2 answers', since: now };
  const { reason, message, since } = away;
  const text = `EC2 cannot be reached: ${message}; pods start while the node has free addresses`;
  return { type, status: 'False', reason, message: text, since };
}

/**
 * Kubernetes' own condition of a node whose pods would have no network: its node lifecycle controller taints such a node
 * (node.kubernetes.io/network-unavailable), for runtimes that do not ask STATUS. `trouble` is null while ADD is served.
 */
export function networkCondition(trouble: PodwayError | null, now: number): NodeCondition {
  const type = NETWORK_UNAVAILABLE;
  if (!trouble)
    return {
      type,
      status: 'False',
      reason: 'PodwayServes',
      message: 'Podway gives pods their network',
      since: now,
    };
  return { type, status: 'True', reason: eventReason(trouble.code), message: trouble.message, since: now };
}

export class NodeConditions {
  readonly #node: string;
  readonly #connect: Connect;
  readonly #log: Log;
  readonly #clock: Clock;
  readonly #signal: AbortSignal;
  readonly #waiting = new Map<string, NodeCondition>();
  #sending: Promise<void> | null = null;

  constructor(node: string, connect: Connect, log: Log, signal: AbortSignal, clock: Clock = systemClock) {
    this.#node = node;
    this.#connect = connect;
    this.#log = log;
    this.#clock = clock;
    this.#signal = signal;
  }

  say(condition: NodeCondition): void {
    this.#waiting.set(condition.type, condition);
    this.#sending ??= this.#sendAll().finally(() => {
      this.#sending = null;
    });
  }

  /** Resolves when nothing waits to be sent. */
  async flush(): Promise<void> {
    await this.#sending;
  }

  async #sendAll(): Promise<void> {
    for (let wait = FIRST_WAIT; this.#waiting.size > 0 && !this.#signal.aborted; ) {
      try {
        await this.#sendOnce();
        wait = FIRST_WAIT;
      } catch (error) {
        if (this.#signal.aborted) return;
        const level = wait === FIRST_WAIT ? 'warn' : 'debug';
        this.#log[level]({ error: String(error) }, 'a condition of the node is not sent yet');
        await this.#clock.sleep(wait * (1 + Math.random() / 2), this.#signal).catch(() => undefined);
        wait = Math.min(wait * 2, LAST_WAIT);
      }
    }
  }

  async #sendOnce(): Promise<void> {
    const { client, kube } = await this.#connect();
    const node = await client.get(kube.nodes, this.#node);
    for (const [type, word] of [...this.#waiting]) {
      const known = node.status?.conditions?.find((one) => one.type === type);
      if (known?.status !== word.status || known.reason !== word.reason) {
        const condition = {
          type,
          status: word.status,
          reason: word.reason,
          message: word.message,
          lastHeartbeatTime: rfc3339(this.#clock.now()),
          lastTransitionTime:
            known?.status === word.status
              ? (known.lastTransitionTime ?? rfc3339(word.since))
              : rfc3339(word.since),
        };
        const patch = { status: { conditions: [condition] } };
        await client.patch(kube.nodes, this.#node, undefined, patch, {
          type: 'strategic',
          subresource: 'status',
        });
      }
      // A newer word that came meanwhile is sent next.
      if (this.#waiting.get(type) === word) this.#waiting.delete(type);
    }
  }
}
