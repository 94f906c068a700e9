// Follows a collection: lists it, watches it, and lists again when the watch has lost its place. What the API last said
// stays while it is away. Bounded: `keep` says what of an object is remembered; the caller's selectors say which.
import type { Alarm } from '../base/alarm.ts';
import { type Clock, systemClock } from '../base/clock.ts';
import type { KubeClient, WatchQuery } from './client.ts';
import { isExpired, isNotFound } from './errors.ts';
import type { Resource } from './resources.ts';
import type { KubeObject } from './types.ts';

export type FollowOptions<T, V> = {
  fieldSelector?: string;
  labelSelector?: string;
  /** What is kept of an object. */
  keep: (object: T) => V;
  /** All that is kept, by name or NAMESPACE/NAME: after the first list, and when one of them has changed. */
  onChange: (kept: ReadonlyMap<string, V>) => void;
  /** The API does not answer or refuses; called once until it answers again. */
  onAway: (error: Error) => void;
};

const PAGE = 500;
/** Between two tries (ms): the first pause, doubled up to the last; each up to half longer. */
const FIRST_WAIT = 1_000;
const LAST_WAIT = 30_000;
/** The kind does not exist: its definition may be installed later (ms, up to half longer). */
const NO_KIND_WAIT = 60_000;

/** Ends when `signal` aborts. Never throws. */
export const follow = <T extends KubeObject, V>(
  client: KubeClient,
  resource: Resource<T>,
  options: FollowOptions<T, V>,
  signal: AbortSignal,
  clock: Clock = systemClock,
): Promise<void> =>
  followEach<T, T>(client, resource, { ...options, sink: new Collection(options) }, signal, clock);

/** Hears of each object by itself: for collections that are too large to be compared as a whole. */
export type Sink<T> = {
  /** All that there is: after each list. */
  replace(objects: readonly T[]): void;
  put(object: T): void;
  remove(object: KubeObject): void;
};

export type FollowEachOptions<T, V = T> = Pick<
  FollowOptions<KubeObject, never>,
  'fieldSelector' | 'labelSelector' | 'onAway'
> & {
  sink: Sink<V>;
  /** What is passed on of an object, the whole without it: of a large collection only a page is held whole. */
  view?: (object: T) => V;
  /**
   * Ends the waits between tries early, but for the first second of each: the API may answer again. Rung when it does.
   */
  alarm?: Alarm;
  /** Ends when the kind does not exist, and leaves what was told as it was. */
  endsWhenGone?: boolean;
  /** The API's own: an answer that the kind does not exist is a fault of the way there, and what was told stays. */
  isBuiltIn?: boolean;
  /** A watch of which nothing is heard for so long (ms) is begun anew: its connection may be dead. */
  idleMs?: () => number;
  /** The API has told something: objects, an event or a bookmark, or that it watches on from where it was. */
  onHeard?: () => void;
};

/** Ends when `signal` aborts, or as `endsWhenGone` says. Never throws. */
export async function followEach<T extends KubeObject, V = T>(
  client: KubeClient,
  resource: Resource<T>,
  options: FollowEachOptions<T, V>,
  signal: AbortSignal,
  clock: Clock = systemClock,
): Promise<void> {
  const { fieldSelector, labelSelector, sink: collection, alarm, onHeard } = options;
  const view = options.view ?? ((object: T) => object as unknown as V);
  const selectors = {
    ...(fieldSelector === undefined ? {} : { fieldSelector }),
    ...(labelSelector === undefined ? {} : { labelSelector }),
  };
  let place: string | null = null;
  let wait = FIRST_WAIT;
  let isAway = false;
  const isBack = () => {
    if (isAway) alarm?.ring();
    isAway = false;
  };
  while (!signal.aborted) {
    try {
      if (place === null) {
        const found = await listAll({ client, resource, view, selectors }, signal);
        collection.replace(found.items);
        onHeard?.();
        place = found.resourceVersion;
        isBack();
      }
      const began = clock.now();
      const idle = new Idle(signal, options.idleMs);
      const onOpen = () => {
        if (isAway) alarm?.ring();
        idle.heard();
        onHeard?.();
      };
      try {
        const query: WatchQuery = { ...selectors, resourceVersion: place };
        for await (const event of client.watch(resource, query, idle.signal, onOpen)) {
          idle.heard();
          onHeard?.();
          wait = FIRST_WAIT;
          isBack();
          place = (event.object as KubeObject).metadata.resourceVersion ?? place;
          if (event.type === 'DELETED') collection.remove(event.object);
          else if (event.type !== 'BOOKMARK') collection.put(view(event.object as T));
        }
      } finally {
        idle.close();
      }
      // A server that ends each watch at once is not asked in a loop.
      if (clock.now() - began < FIRST_WAIT) await clock.sleep(FIRST_WAIT, signal);
    } catch (error) {
      if (signal.aborted) return;
      // A watch that was quiet goes on from its place at once; one that was not even answered is away.
      if (error instanceof QuietWatch && error.wasOpen) continue;
      if (isExpired(error)) {
        place = null;
        continue;
      }
      let pause = wait;
      if (isNotFound(error) && !options.isBuiltIn) {
        if (options.endsWhenGone) return;
        // No definition, no objects.
        place = null;
        collection.replace([]);
        pause = NO_KIND_WAIT;
      } else {
        if (!isAway) options.onAway(error as Error);
        isAway = true;
        wait = Math.min(wait * 2, LAST_WAIT);
      }
      const ms = pause * (1 + Math.random() / 2);
      const least = alarm ? Math.min(ms, FIRST_WAIT) : ms;
      await clock.sleep(least, signal).catch(() => undefined);
      if (alarm && ms > least)
        await clock.sleep(ms - least, AbortSignal.any([signal, alarm.signal])).catch(() => undefined);
    }
  }
}

class QuietWatch extends Error {
  override name = 'QuietWatch';
  readonly wasOpen: boolean;

  constructor(ms: number, wasOpen: boolean) {
    super(`nothing was heard of a watch for ${ms} ms`);
    this.wasOpen = wasOpen;
  }
}

/** Aborts a watch of which nothing is heard. */
class Idle {
  readonly signal: AbortSignal;
  readonly #ms: (() => number) | undefined;
  readonly #end = new AbortController();
  #timer: NodeJS.Timeout | undefined;
  #isOpen = false;

  constructor(signal: AbortSignal, ms: (() => number) | undefined) {
    this.#ms = ms;
    this.signal = ms ? AbortSignal.any([signal, this.#end.signal]) : signal;
    this.#begin();
  }

  heard(): void {
    this.#isOpen = true;
    this.#begin();
  }

  #begin(): void {
    if (!this.#ms) return;
    clearTimeout(this.#timer);
    const ms = this.#ms();
    this.#timer = setTimeout(() => this.#end.abort(new QuietWatch(ms, this.#isOpen)), ms).unref();
  }

  close(): void {
    clearTimeout(this.#timer);
  }
}

type Listing<T extends KubeObject, V> = {
  client: KubeClient;
  resource: Resource<T>;
  view: (object: T) => V;
  selectors: { fieldSelector?: string; labelSelector?: string };
};

async function listAll<T extends KubeObject, V>(
  { client, resource, view, selectors }: Listing<T, V>,
  signal: AbortSignal,
): Promise<{ items: V[]; resourceVersion: string }> {
  const items: V[] = [];
  for (let next: string | undefined; ; ) {
    const page = await client.list(
      resource,
      { ...selectors, limit: PAGE, ...(next === undefined ? {} : { continue: next }) },
      signal,
    );
    for (const one of page.items) items.push(view(one));
    next = page.metadata.continue || undefined;
    if (next === undefined) return { items, resourceVersion: page.metadata.resourceVersion ?? '0' };
  }
}

/** The object's name, or NAMESPACE/NAME. */
export const keyOf = ({ metadata: { namespace, name } }: KubeObject): string =>
  namespace === undefined ? name! : `${namespace}/${name}`;

/** What is kept of the collection; tells only changes of that. */
class Collection<T extends KubeObject, V> implements Sink<T> {
  readonly #options: Pick<FollowOptions<T, V>, 'keep' | 'onChange'>;
  #kept = new Map<string, V>();
  /** Each value as text: a change of one is found without a look at the others. */
  #texts: Map<string, string> | null = null;

  constructor(options: Pick<FollowOptions<T, V>, 'keep' | 'onChange'>) {
    this.#options = options;
  }

  replace(objects: readonly T[]): void {
    const before = this.#texts;
    this.#kept = new Map(objects.map((object) => [keyOf(object), this.#options.keep(object)]));
    const texts = new Map([...this.#kept].map(([key, value]) => [key, textOf(value)]));
    this.#texts = texts;
    const isSame = before?.size === texts.size && [...texts].every(([key, text]) => before.get(key) === text);
    if (!isSame) this.#options.onChange(this.#kept);
  }

  put(object: T): void {
    const key = keyOf(object);
    const value = this.#options.keep(object);
    const text = textOf(value);
    const isSame = this.#texts?.get(key) === text;
    this.#texts?.set(key, text);
    this.#kept = new Map(this.#kept).set(key, value);
    if (!isSame) this.#options.onChange(this.#kept);
  }

  remove(object: KubeObject): void {
    const key = keyOf(object);
    if (!this.#texts?.delete(key)) return;
    this.#kept = new Map(this.#kept);
    this.#kept.delete(key);
    this.#options.onChange(this.#kept);
  }
}

const textOf = (value: unknown): string => JSON.stringify(value) ?? '';
