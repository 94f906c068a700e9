// A cache of one kind that follows the API: list, then watch from there, and again from the start when the API says
// 410. Reconnects for ever, with a bounded and jittered pause; the cache keeps its last state meanwhile.
// Handlers run synchronously, in the order of the changes; what they throw ends in `onError`, never in the loop.
import { type Clock, systemClock } from '../base/clock.ts';
import type { KubeClient } from './client.ts';
import { isExpired, KubeError } from './errors.ts';
import { apiVersionOf, type Resource } from './resources.ts';
import type { KubeObject } from './types.ts';

/** First and largest pause before a reconnect, milliseconds. */
const FIRST_PAUSE = 200;
const LARGEST_PAUSE = 30_000;
/** Objects asked for in one page. */
const PAGE = 500;

export type InformerChange<T> =
  | { type: 'added'; object: T }
  | { type: 'updated'; object: T; before: T }
  | { type: 'deleted'; object: T };

export type InformerOptions<T> = {
  namespace?: string;
  labelSelector?: string;
  fieldSelector?: string;
  onChange?: (change: InformerChange<T>) => void;
  /** Failed lists and watches, and what handlers threw. */
  onError?: (error: unknown) => void;
  /** Keeps less of each object, for memory: called once for every object that comes in. */
  trim?: (object: T) => T;
  clock?: Clock;
  random?: () => number;
};

export class Informer<T extends KubeObject> {
  private readonly client: KubeClient;
  private readonly resource: Resource<T>;
  private readonly options: InformerOptions<T>;
  private readonly objects = new Map<string, T>();
  private waiters: (() => void)[] = [];
  private listed = false;
  private version = '';
  /** Reconnects since the last event that arrived. */
  failures = 0;
  connected = false;

  constructor(client: KubeClient, resource: Resource<T>, options: InformerOptions<T> = {}) {
    this.client = client;
    this.resource = resource;
    this.options = options;
  }

  get(name: string, namespace = ''): T | undefined {
    return this.objects.get(`${namespace}/${name}`);
  }

  list(): IterableIterator<T> {
    return this.objects.values();
  }

  get size(): number {
    return this.objects.size;
  }

  /** True once the first list is complete. */
  get synced(): boolean {
    return this.listed;
  }

  async whenSynced(signal?: AbortSignal): Promise<void> {
    if (this.listed) return;
    await new Promise<void>((resolve, reject) => {
      if (signal?.aborted) return reject(signal.reason);
      const abort = () => reject(signal?.reason);
      signal?.addEventListener('abort', abort, { once: true });
      this.waiters.push(() => {
        signal?.removeEventListener('abort', abort);
        resolve();
      });
    });
  }

  /** Runs until the signal aborts, then resolves. */
  async run(signal: AbortSignal): Promise<void> {
    const clock = this.options.clock ?? systemClock;
    const random = this.options.random ?? Math.random;
    while (!signal.aborted) {
      try {
        if (this.version === '') await this.relist(signal);
        await this.follow(signal);
      } catch (error) {
        if (signal.aborted) break;
        if (isExpired(error)) this.version = '';
        else this.options.onError?.(error);
        // The first 410 is answered with a list at once; only failures in a row are slowed down.
        if (!isExpired(error) || this.failures > 0) this.failures++;
        else this.failures = 1;
        if (isExpired(error) && this.failures === 1) continue;
      } finally {
        this.connected = false;
      }
      const ceiling = Math.min(LARGEST_PAUSE, FIRST_PAUSE * 2 ** Math.min(this.failures, 10));
      // A watch that ended as planned goes on at once, give or take.
      const pause = this.failures === 0 ? random() * FIRST_PAUSE : ceiling / 2 + (random() * ceiling) / 2;
      try {
        await clock.sleep(pause, signal);
      } catch {
        break;
      }
    }
  }

  private selectors() {
    const { namespace, labelSelector, fieldSelector } = this.options;
    return {
      ...(namespace === undefined ? {} : { namespace }),
      ...(labelSelector === undefined ? {} : { labelSelector }),
      ...(fieldSelector === undefined ? {} : { fieldSelector }),
    };
  }

  private async relist(signal: AbortSignal): Promise<void> {
    const seen = new Map<string, T>();
    let next: string | undefined;
    let version = '';
    do {
      const page = await this.client.list(
        this.resource,
        { ...this.selectors(), limit: PAGE, ...(next ? { continue: next } : {}) },
        signal,
      );
      version = page.metadata.resourceVersion ?? '';
      for (const item of page.items) {
        const object = this.trimmed(item);
        seen.set(keyOf(object), object);
      }
      next = page.metadata.continue;
    } while (next);
    for (const [key, object] of [...this.objects]) {
      if (!seen.has(key)) this.drop(key, object);
    }
    for (const object of seen.values()) this.put(object);
    this.version = version;
    if (!this.listed) {
      this.listed = true;
      for (const waiter of this.waiters.splice(0)) waiter();
    }
  }

  private async follow(signal: AbortSignal): Promise<void> {
    // Each watch ends after five to ten minutes, so that a connection that died in silence is not trusted for long.
    const timeoutSeconds = 300 + Math.floor((this.options.random ?? Math.random)() * 300);
    const query = { ...this.selectors(), resourceVersion: this.version, timeoutSeconds };
    const watch = this.client.watch(this.resource, query, signal);
    this.connected = true;
    for await (const event of watch) {
      this.failures = 0;
      if (event.type === 'ERROR')
        throw new KubeError(event.object.code ?? 500, event.object.reason ?? '', event.object.message ?? '');
      this.version = event.object.metadata.resourceVersion ?? this.version;
      if (event.type === 'BOOKMARK') continue;
      const object = this.trimmed(event.object);
      if (event.type === 'DELETED') this.drop(keyOf(object), object);
      else this.put(object);
    }
    this.failures = 0;
  }

  private trimmed(object: T): T {
    // Items of a list come without these; references to the object need them.
    object.apiVersion ??= apiVersionOf(this.resource);
    object.kind ??= this.resource.kind;
    return this.options.trim ? this.options.trim(object) : object;
  }

  private put(object: T): void {
    const key = keyOf(object);
    const before = this.objects.get(key);
    if (
      before?.metadata.resourceVersion === object.metadata.resourceVersion &&
      before?.metadata.uid === object.metadata.uid
    )
      return;
    // Deleted and made again under one name while the watch was away: two objects, so two changes.
    if (before !== undefined && before.metadata.uid !== object.metadata.uid) {
      this.drop(key, before);
      this.put(object);
      return;
    }
    this.objects.set(key, object);
    this.tell(before === undefined ? { type: 'added', object } : { type: 'updated', object, before });
  }

  private drop(key: string, object: T): void {
    if (this.objects.delete(key)) this.tell({ type: 'deleted', object });
  }

  private tell(change: InformerChange<T>): void {
    try {
      this.options.onChange?.(change);
    } catch (error) {
      this.options.onError?.(error);
    }
  }
}

const keyOf = (object: KubeObject): string =>
  `${object.metadata.namespace ?? ''}/${object.metadata.name ?? ''}`;
