// Events about objects, as `kubectl describe` shows them. One Event object per cause (object, type, reason, text):
// a repeat counts up instead of adding one, and each object has a budget, so that a pod that fails in a loop costs
// the API little. Never throws and never waits for its caller: what cannot be sent is counted and dropped.
import { createHash, randomBytes } from 'node:crypto';
import { hostname } from 'node:os';
import { rfc3339 } from '../base/clock.ts';
import type { KubeClient } from './client.ts';
import { isNotFound } from './errors.ts';
import { events } from './resources.ts';
import type { KubeEvent, KubeObject, ObjectReference } from './types.ts';

/** Causes remembered; the longest unseen goes first. */
const MAX_CAUSES = 1000;
/** Waiting to be sent; more are dropped. */
const MAX_QUEUE = 200;
/** As the spam filter of client-go: 25 at once per object, then one in five minutes. */
const BURST = 25;
const REFILL_MS = 300_000;
/** A repeat within this time is only counted; the count is sent with the next Event. */
const REPEAT_MS = 5_000;

type Known = { name: string; namespace: string; count: number; first: string; sent: number };
type Budget = { tokens: number; at: number };
type Pending = { regarding: ObjectReference; type: 'Normal' | 'Warning'; reason: string; message: string };

export type RecorderOptions = {
  component: string;
  host?: string;
  now?: () => number;
  onError?: (error: unknown) => void;
};

export class EventRecorder {
  private readonly client: KubeClient;
  private readonly options: RecorderOptions;
  private readonly known = new Map<string, Known>();
  private readonly budgets = new Map<string, Budget>();
  private readonly queue: Pending[] = [];
  private sending: Promise<void> | null = null;
  /** Events that were not sent: over budget, queue full, or refused. */
  dropped = 0;

  constructor(client: KubeClient, options: RecorderOptions) {
    this.client = client;
    this.options = options;
  }

  record(
    about: KubeObject | ObjectReference,
    type: 'Normal' | 'Warning',
    reason: string,
    message: string,
  ): void {
    const regarding = referenceTo(about);
    if (this.queue.length >= MAX_QUEUE || !this.allow(regarding)) {
      this.dropped++;
      return;
    }
    this.queue.push({ regarding, type, reason, message: message.slice(0, 1024) });
    this.sending ??= this.drain().finally(() => {
      this.sending = null;
    });
  }

  /** Resolves when all that was recorded is sent or dropped. */
  async flush(): Promise<void> {
    while (this.sending !== null) await this.sending;
  }

  private now(): number {
    return (this.options.now ?? Date.now)();
  }

  private allow(regarding: ObjectReference): boolean {
    const key = `${regarding.kind}/${regarding.namespace ?? ''}/${regarding.name}/${regarding.uid ?? ''}`;
    const now = this.now();
    const budget = this.budgets.get(key) ?? { tokens: BURST, at: now };
    budget.tokens = Math.min(BURST, budget.tokens + (now - budget.at) / REFILL_MS);
    budget.at = now;
    keepNewest(this.budgets, key, budget);
    if (budget.tokens < 1) return false;
    budget.tokens -= 1;
    return true;
  }

  private async drain(): Promise<void> {
    for (let next = this.queue.shift(); next !== undefined; next = this.queue.shift()) {
      try {
        await this.send(next);
      } catch (error) {
        this.dropped++;
        this.options.onError?.(error);
      }
    }
  }

  private async send(pending: Pending): Promise<void> {
    const { regarding, type, reason, message } = pending;
    const now = this.now();
    const at = rfc3339(now);
    const cause = createHash('sha256')
      .update(
        JSON.stringify([
          regarding.kind,
          regarding.namespace,
          regarding.name,
          regarding.uid,
          type,
          reason,
          message,
        ]),
      )
      .digest('base64');
    const known = this.known.get(cause);
    if (known !== undefined) {
      known.count++;
      keepNewest(this.known, cause, known);
      if (now - known.sent < REPEAT_MS) return;
      try {
        await this.client.patch(events, known.name, known.namespace, {
          count: known.count,
          lastTimestamp: at,
        });
        known.sent = now;
        return;
      } catch (error) {
        // Events expire at the server: then the cause begins anew.
        if (!isNotFound(error)) throw error;
        this.known.delete(cause);
      }
    }
    const namespace = regarding.namespace ?? 'default';
    const name = `${regarding.name}.${randomBytes(8).toString('hex')}`;
    const { component, host = hostname() } = this.options;
    const event: KubeEvent = {
      metadata: { name, namespace },
      involvedObject: regarding,
      type,
      reason,
      message,
      count: 1,
      firstTimestamp: at,
      lastTimestamp: at,
      source: { component, host },
      reportingComponent: component,
      reportingInstance: host,
    };
    await this.client.create(events, event, namespace);
    keepNewest(this.known, cause, { name, namespace, count: 1, first: at, sent: now });
  }
}

function keepNewest<V>(map: Map<string, V>, key: string, value: V): void {
  map.delete(key);
  map.set(key, value);
  if (map.size > MAX_CAUSES) map.delete(map.keys().next().value!);
}

function referenceTo(about: KubeObject | ObjectReference): ObjectReference {
  if (!('metadata' in about)) return about;
  const { apiVersion, kind, metadata } = about;
  return {
    ...(apiVersion === undefined ? {} : { apiVersion }),
    ...(kind === undefined ? {} : { kind }),
    ...(metadata.namespace === undefined ? {} : { namespace: metadata.namespace }),
    ...(metadata.name === undefined ? {} : { name: metadata.name }),
    ...(metadata.uid === undefined ? {} : { uid: metadata.uid }),
    ...(metadata.resourceVersion === undefined ? {} : { resourceVersion: metadata.resourceVersion }),
  };
}
