// The objects of one kind by who controls them, kept by the events of a watch: what a controller owns is found without
// a walk over all objects.
import type { KubeObject } from '../../../kube/types.ts';
import { controllerOf } from './plan.ts';

type Event<T> = { type: 'ADDED' | 'MODIFIED' | 'DELETED'; object: T };

export class Children<T extends KubeObject> {
  readonly #all = new Map<string, T>();
  /** By the controller's uid (the namespace for objects without a controller), then by their own uid. */
  readonly #groups = new Map<string, Map<string, T>>();

  see({ type, object }: Event<T>): void {
    const uid = object.metadata.uid ?? '';
    const before = this.#all.get(uid);
    if (before) {
      const group = this.#groups.get(keyOf(before));
      group?.delete(uid);
      if (group?.size === 0) this.#groups.delete(keyOf(before));
    }
    this.#all.delete(uid);
    if (type === 'DELETED') return;
    this.#all.set(uid, object);
    const key = keyOf(object);
    const group = this.#groups.get(key) ?? new Map<string, T>();
    this.#groups.set(key, group.set(uid, object));
  }

  of(owner: KubeObject): T[] {
    return [...(this.#groups.get(owner.metadata.uid ?? '')?.values() ?? [])];
  }

  /** Objects of a namespace without a controller. */
  orphans(namespace = ''): T[] {
    return [...(this.#groups.get(`/${namespace}`)?.values() ?? [])];
  }

  all(): T[] {
    return [...this.#all.values()];
  }
}

const keyOf = (object: KubeObject): string =>
  controllerOf(object)?.uid ?? `/${object.metadata.namespace ?? ''}`;
