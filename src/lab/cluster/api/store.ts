// The API without HTTP, for those who live in the same process: the same verbs, checks and errors (ApiError).
// What it returns is frozen and shared: copy with structuredClone before changing it.
import type { Resource } from '../../../kube/resources.ts';
import type { KubeObject } from '../../../kube/types.ts';
import { noSuchPath } from './errors.ts';
import type { Any, Kinds, Served } from './kinds.ts';
import { fromStored } from './kinds.ts';
import type { Json } from './patch.ts';
import type { User } from './pki.ts';
import type { Rest } from './rest.ts';
import { selectionOf } from './selection.ts';
import type { Stored } from './storage.ts';
import { bind } from './subresources.ts';
import type { DeleteOptions } from './verbs.ts';
import { openWatch, watchStart } from './watch.ts';

export type Frozen<T> = T extends (infer U)[]
  ? readonly Frozen<U>[]
  : T extends object
    ? { readonly [K in keyof T]: Frozen<T[K]> }
    : T;

export type Selectors = { namespace?: string; labelSelector?: string; fieldSelector?: string };

export type StoreEvent<T> = { type: 'ADDED' | 'MODIFIED' | 'DELETED'; object: Frozen<T> };

export type PatchKind = 'merge' | 'json' | 'strategic' | 'apply';

const patchTypes = {
  merge: 'application/merge-patch+json',
  json: 'application/json-patch+json',
  strategic: 'application/strategic-merge-patch+json',
  apply: 'application/apply-patch+yaml',
} as const;

export class Store {
  private readonly kinds: Kinds;
  private readonly rest: Rest;

  constructor(kinds: Kinds, rest: Rest) {
    this.kinds = kinds;
    this.rest = rest;
  }

  private served(r: Resource): Served {
    const found = this.kinds.find(r.group, r.version, r.plural);
    if (found === undefined) throw noSuchPath();
    return found;
  }

  private show<T extends KubeObject>(served: Served, stored: Stored): Frozen<T> {
    return fromStored(served, stored.object as Any) as unknown as Frozen<T>;
  }

  /** Version of the last write: where a watch may begin. */
  get resourceVersion(): string {
    return String(this.rest.verbs.storage.version);
  }

  get<T extends KubeObject>(r: Resource<T>, name: string, namespace = ''): Frozen<T> {
    const served = this.served(r);
    return this.show(served, this.rest.verbs.get(served.kind, namespace, name));
  }

  /** Like get, with null for what does not exist. */
  find<T extends KubeObject>(r: Resource<T>, name: string, namespace = ''): Frozen<T> | null {
    const served = this.served(r);
    const stored = this.rest.verbs.find(served.kind, namespace, name);
    return stored === undefined ? null : this.show<T>(served, stored);
  }

  list<T extends KubeObject>(r: Resource<T>, selectors: Selectors = {}): Frozen<T>[] {
    const served = this.served(r);
    const { matches } = selectionOf(served.kind, selectors);
    const out: Frozen<T>[] = [];
    for (const stored of this.rest.verbs.collection(served.kind).sorted()) {
      if (matches(stored)) out.push(this.show(served, stored));
    }
    return out;
  }

  create<T extends KubeObject>(r: Resource<T>, object: T | Frozen<T>, namespace?: string): Frozen<T> {
    const served = this.served(r);
    const where = namespace ?? object.metadata.namespace ?? (r.namespaced ? 'default' : '');
    return this.show(served, this.rest.verbs.create(served, where, copyOf(object)));
  }

  /** True when webhooks are to see such an object before it is made: `create` passes them by. */
  isAdmitted(r: Resource, { metadata: { name = '', namespace } }: KubeObject): boolean {
    const where = namespace ?? (r.namespaced ? 'default' : '');
    const place = { served: this.served(r), namespace: where, name, subresource: '' };
    return this.rest.admitted.concerned('CREATE', place) !== null;
  }

  /** Makes an object by the webhooks that concern it. */
  async createAdmitted<T extends KubeObject>(r: Resource<T>, object: T, user: User): Promise<Frozen<T>> {
    const served = this.served(r);
    const where = object.metadata.namespace ?? (r.namespaced ? 'default' : '');
    return this.show<T>(served, await this.rest.admitted.create(served, where, copyOf(object), user));
  }

  update<T extends KubeObject>(r: Resource<T>, object: T | Frozen<T>): Frozen<T> {
    return this.write(r, object, undefined);
  }

  /** Writes `status` alone. */
  updateStatus<T extends KubeObject>(r: Resource<T>, object: T | Frozen<T>): Frozen<T> {
    return this.write(r, object, 'status');
  }

  private write<T extends KubeObject>(
    r: Resource<T>,
    object: T | Frozen<T>,
    subresource: 'status' | undefined,
  ): Frozen<T> {
    const served = this.served(r);
    const { name = '', namespace = '' } = object.metadata;
    return this.show(
      served,
      this.rest.verbs.update(served, namespace, name, copyOf(object), { subresource }),
    );
  }

  patch<T extends KubeObject>(
    r: Resource<T>,
    name: string,
    namespace: string,
    patch: unknown,
    options: { type?: PatchKind; subresource?: 'status' } = {},
  ): Frozen<T> {
    const served = this.served(r);
    const type = patchTypes[options.type ?? 'merge'];
    const value = JSON.parse(JSON.stringify(patch)) as Json;
    const { stored } = this.rest.patch(served, namespace, name, type, value, {
      subresource: options.subresource,
    });
    return this.show(served, stored);
  }

  /** Answers the object as it was last, and whether it is gone. */
  delete<T extends KubeObject>(
    r: Resource<T>,
    name: string,
    namespace = '',
    options: DeleteOptions = {},
  ): { object: Frozen<T>; gone: boolean } {
    const served = this.served(r);
    const { stored, gone } = this.rest.verbs.delete(served.kind, namespace, name, options);
    return { object: this.show(served, stored), gone };
  }

  /** Gives a pod its node; 409 when it has one. */
  bindPod(name: string, namespace: string, node: string): void {
    bind(this.rest.verbs, this.kinds.find('', 'v1', 'pods')!, namespace, name, node);
  }

  /**
   * Without `resourceVersion` first an ADDED for each object that exists, then changes. Events come in order, each
   * in a microtask after its write, so that a listener may write. Throws ApiError 410 for a version that is too old.
   */
  watch<T extends KubeObject>(
    r: Resource<T>,
    listener: (event: StoreEvent<T>) => void,
    options: Selectors & { resourceVersion?: string } = {},
  ): { close(): void } {
    const served = this.served(r);
    const { storage } = this.rest.verbs;
    let waiting: StoreEvent<T>[] = [];
    let closed = false;
    const drain = () => {
      const events = waiting;
      waiting = [];
      for (const event of events) if (!closed) listener(event);
    };
    const stop = openWatch(
      this.rest.verbs.collection(served.kind),
      storage.version,
      selectionOf(served.kind, options),
      watchStart({ resourceVersion: options.resourceVersion }),
      (signal) => {
        if (signal.type === 'INITIAL_END') return;
        if (waiting.push({ type: signal.type, object: this.show<T>(served, signal.stored) }) === 1)
          queueMicrotask(drain);
      },
    );
    return {
      close: () => {
        closed = true;
        stop();
      },
    };
  }
}

/** Through JSON, so that what is stored is what a client could have sent. */
const copyOf = (object: object): Any => JSON.parse(JSON.stringify(object)) as Any;
