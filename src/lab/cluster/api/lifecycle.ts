// What happens by itself after a write: a new namespace gets its service account, a deleted one is emptied and goes,
// dependents go with their owner, a CustomResourceDefinition serves its kind. Run after the write that caused it.
import { isDeepStrictEqual } from 'node:util';
import type { OwnerReference } from '../../../kube/types.ts';
import { at, textAt } from './columns.ts';
import { CLEANUP, type Definition, kindOfDefinition } from './crds.ts';
import { ApiError } from './errors.ts';
import type { Any, Kind, Kinds, Served } from './kinds.ts';
import type { Stored } from './storage.ts';
import { FOREGROUND, type Verbs } from './verbs.ts';

/** As kube-apiserver's --event-ttl, and a bound on how many Events there are at all; the oldest go first. */
const EVENT_TTL_MS = 3600_000;
export const MAX_EVENTS = 5000;

export class Lifecycle {
  private readonly verbs: Verbs;
  private readonly kinds: Kinds;
  private readonly unserved: (collection: string) => void;
  /** Owner's uid to the dependents that named it: collection and key. */
  private readonly dependents = new Map<string, Map<string, { kind: Kind; stored: Stored }>>();

  /** `unserved`: told the collection of a kind that is no longer served. */
  constructor(verbs: Verbs, kinds: Kinds, unserved: (collection: string) => void) {
    this.verbs = verbs;
    this.unserved = unserved;
    this.kinds = kinds;
    verbs.hooks = {
      blocked: (stored) => this.blocking(stored.object.metadata.uid).length > 0,
      orphan: (stored) => {
        for (const { kind, stored: dependent } of this.dependentsOf(stored.object.metadata.uid))
          this.disown(kind, dependent, stored.object.metadata.uid);
      },
      created: (served, stored) => {
        this.track(served.kind, stored);
        if (this.isAbandoned(stored))
          this.verbs.delete(served.kind, stored.namespace, stored.name, { propagationPolicy: 'Background' });
        if (isNamespace(served.kind)) this.furnish(stored.name);
        else if (isDefinition(served.kind)) this.define(stored);
        else if (served.kind.collection === 'events') this.expireEvents();
      },
      changed: (kind, stored, before) => {
        if (stored.object.metadata.ownerReferences !== before.object.metadata.ownerReferences) {
          this.untrack(kind, before);
          this.track(kind, stored);
          this.finishOwners(before);
        }
        const ending = stored.object.metadata.deletionTimestamp !== undefined;
        if (ending && stored.object.metadata.finalizers?.includes(FOREGROUND)) this.deleteFirst(kind, stored);
        if (isNamespace(kind) && ending) this.empty(stored.name);
        else if (isDefinition(kind)) {
          if (ending) this.undefine(stored);
          else if (!isDeepStrictEqual(at(stored.object, 'spec'), at(before.object, 'spec')))
            this.define(stored);
        }
      },
      removed: (kind, stored) => this.afterRemoval(kind, stored),
    };
  }

  /** Takes up what was stored before: owners, namespaces that were being emptied. */
  resume(): void {
    const definitions = [...this.verbs.storage.collection(DEFINITIONS).items.values()];
    for (const stored of definitions) this.define(stored);
    for (const kind of this.kinds.all()) {
      for (const stored of this.verbs.collection(kind).items.values()) this.track(kind, stored);
    }
    for (const stored of [...this.verbs.storage.collection('namespaces').items.values()]) {
      if (stored.object.metadata.deletionTimestamp !== undefined) this.empty(stored.name);
    }
    for (const stored of definitions)
      if (stored.object.metadata.deletionTimestamp !== undefined) this.undefine(stored);
  }

  private define(stored: Stored): void {
    this.kinds.add(kindOfDefinition(stored.object as Definition));
  }

  /** Deletes all objects of a definition; it goes with the last of them. */
  private undefine(stored: Stored): void {
    const { group, names } = (stored.object as Definition).spec;
    const kind = this.kinds.all().find((k) => k.group === group && k.plural === names.plural);
    for (const each of kind ? [...this.verbs.collection(kind).items.values()] : []) {
      if (each.object.metadata.deletionTimestamp === undefined)
        this.verbs.delete(kind!, each.namespace, each.name);
    }
    this.finishDefinition(group, names.plural);
  }

  private finishDefinition(group: string, plural: string): void {
    const name = `${plural}.${group}`;
    const stored = this.verbs.storage.collection(DEFINITIONS).items.get(`/${name}`);
    if (stored?.object.metadata.deletionTimestamp === undefined) return;
    if (this.verbs.storage.collection(name).items.size > 0) return;
    const copy = JSON.parse(stored.json) as Any;
    const finalizers = copy.metadata.finalizers?.filter((f) => f !== CLEANUP) ?? [];
    if (finalizers.length === copy.metadata.finalizers?.length) return;
    copy.metadata.finalizers = finalizers;
    this.verbs.update(this.served('apiextensions.k8s.io', 'customresourcedefinitions'), '', name, copy);
  }

  private served(group: string, plural: string): Served {
    return this.kinds.preferred(group, plural)!;
  }

  private expireEvents(): void {
    const collection = this.verbs.storage.collection('events');
    for (const stored of collection.items.values()) {
      const last = textAt(stored.object, 'lastTimestamp') || stored.object.metadata.creationTimestamp || '';
      if (collection.items.size <= MAX_EVENTS && Date.parse(last) > this.verbs.now() - EVENT_TTL_MS) break;
      this.verbs.storage.remove(collection, stored);
    }
  }

  private furnish(namespace: string): void {
    this.ignoreExisting(() =>
      this.verbs.create(this.served('', 'serviceaccounts'), namespace, { metadata: { name: 'default' } }),
    );
  }

  /** A namespace that stays gets its default service account again. */
  private refurnish(namespace: string): void {
    const known = this.verbs.storage.collection('namespaces').items.get(`/${namespace}`);
    if (known !== undefined && known.object.metadata.deletionTimestamp === undefined) this.furnish(namespace);
  }

  private ignoreExisting(make: () => void): void {
    try {
      make();
    } catch (error) {
      if (!(error instanceof ApiError) || error.code !== 409) throw error;
    }
  }

  private track(kind: Kind, stored: Stored): void {
    for (const owner of stored.object.metadata.ownerReferences ?? []) {
      const known = this.dependents.get(owner.uid) ?? new Map<string, { kind: Kind; stored: Stored }>();
      this.dependents.set(owner.uid, known);
      known.set(`${kind.collection} ${stored.key}`, { kind, stored });
    }
  }

  private untrack(kind: Kind, stored: Stored): void {
    for (const owner of stored.object.metadata.ownerReferences ?? []) {
      const known = this.dependents.get(owner.uid);
      known?.delete(`${kind.collection} ${stored.key}`);
      if (known?.size === 0) this.dependents.delete(owner.uid);
    }
  }

  /** The dependents of an owner as they are now; those that went or changed hands are left out. */
  private dependentsOf(uid = ''): { kind: Kind; stored: Stored }[] {
    return [...(this.dependents.get(uid)?.values() ?? [])].flatMap(({ kind, stored }) => {
      const now = this.verbs.find(kind, stored.namespace, stored.name);
      return now?.object.metadata.uid === stored.object.metadata.uid ? [{ kind, stored: now! }] : [];
    });
  }

  private blocking(uid = ''): { kind: Kind; stored: Stored }[] {
    return this.dependentsOf(uid).filter(({ stored }) =>
      stored.object.metadata.ownerReferences?.some((owner) => owner.uid === uid && owner.blockOwnerDeletion),
    );
  }

  private disown(kind: Kind, stored: Stored, uid = ''): void {
    const copy = JSON.parse(stored.json) as Any;
    copy.metadata.ownerReferences = copy.metadata.ownerReferences?.filter((owner) => owner.uid !== uid) ?? [];
    this.verbs.update(this.served(kind.group, kind.plural), stored.namespace, stored.name, copy);
  }

  /** True when every owner that it names is known not to be there. */
  private isAbandoned({ namespace, object }: Stored): boolean {
    const owners = object.metadata.ownerReferences ?? [];
    return owners.length > 0 && owners.every((owner) => this.ownerOf(owner, namespace) === null);
  }

  /** Null: not there; undefined: that cannot be known. */
  private ownerOf(
    owner: OwnerReference,
    namespace: string,
  ): { kind: Kind; stored: Stored } | null | undefined {
    const kind = this.kinds.findKind(owner.apiVersion, owner.kind)?.kind;
    // An object of the cluster that names an owner in some namespace does not say in which.
    if (kind === undefined || (kind.namespaced && namespace === '')) return undefined;
    const stored = this.verbs.find(kind, namespace, owner.name);
    return stored?.object.metadata.uid === owner.uid ? { kind, stored: stored! } : null;
  }

  /** Deletes the dependents of an owner that waits for them; the last one that blocks it lets it go. */
  private deleteFirst(kind: Kind, owner: Stored): void {
    const { uid } = owner.object.metadata;
    for (const { kind: theirs, stored } of this.dependentsOf(uid)) {
      const { ownerReferences = [], deletionTimestamp } = stored.object.metadata;
      if (ownerReferences.length > 1) this.disown(theirs, stored, uid);
      else if (deletionTimestamp === undefined)
        this.verbs.delete(theirs, stored.namespace, stored.name, { propagationPolicy: 'Foreground' });
    }
    this.finishForeground(kind, owner);
  }

  /** A dependent went, or changed hands: owners that waited for it may go. */
  private finishOwners({ namespace, object }: Stored): void {
    for (const reference of object.metadata.ownerReferences ?? []) {
      const owner = this.ownerOf(reference, namespace);
      if (owner) this.finishForeground(owner.kind, owner.stored);
    }
  }

  private finishForeground(kind: Kind, owner: Stored): void {
    const now = this.verbs.find(kind, owner.namespace, owner.name);
    const { uid, finalizers = [], deletionTimestamp } = now?.object.metadata ?? {};
    if (now === undefined || deletionTimestamp === undefined || !finalizers.includes(FOREGROUND)) return;
    if (this.blocking(uid).length > 0) return;
    const copy = JSON.parse(now.json) as Any;
    copy.metadata.finalizers = finalizers.filter((each) => each !== FOREGROUND);
    this.verbs.update(this.served(kind.group, kind.plural), now.namespace, now.name, copy);
  }

  private afterRemoval(kind: Kind, stored: Stored): void {
    this.untrack(kind, stored);
    const uid = stored.object.metadata.uid ?? '';
    const left = this.dependentsOf(uid);
    this.dependents.delete(uid);
    for (const { kind: theirs, stored: dependent } of left) {
      // A dependent may have gone with one before it.
      if (this.verbs.find(theirs, dependent.namespace, dependent.name)?.version !== dependent.version)
        continue;
      if ((dependent.object.metadata.ownerReferences?.length ?? 0) > 1) this.disown(theirs, dependent, uid);
      else
        this.verbs.delete(theirs, dependent.namespace, dependent.name, { propagationPolicy: 'Background' });
    }
    this.finishOwners(stored);
    if (kind.namespaced) this.finishNamespace(stored.namespace);
    if (kind.collection === 'serviceaccounts' && stored.name === 'default') this.refurnish(stored.namespace);
    if (kind.custom) this.finishDefinition(kind.group, kind.plural);
    if (isDefinition(kind)) {
      const { group, names } = (stored.object as Definition).spec;
      this.kinds.remove(group, names.plural);
      this.unserved(`${names.plural}.${group}`);
    }
  }

  /** Deletes everything in a namespace; pods go when their nodes say so. */
  private empty(namespace: string): void {
    const seen = new Set<string>();
    for (const kind of this.kinds.all()) {
      if (!kind.namespaced || seen.has(kind.collection)) continue;
      seen.add(kind.collection);
      for (const stored of [...this.verbs.collection(kind).items.values()]) {
        if (stored.namespace !== namespace || stored.object.metadata.deletionTimestamp !== undefined)
          continue;
        if (this.verbs.find(kind, namespace, stored.name)) this.verbs.delete(kind, namespace, stored.name);
      }
    }
    this.finishNamespace(namespace);
  }

  private finishNamespace(name: string): void {
    const stored = this.verbs.storage.collection('namespaces').items.get(`/${name}`);
    if (stored?.object.metadata.deletionTimestamp === undefined) return;
    for (const kind of this.kinds.all()) {
      if (!kind.namespaced) continue;
      for (const key of this.verbs.collection(kind).items.keys()) if (key.startsWith(`${name}/`)) return;
    }
    const copy = JSON.parse(stored.json) as Any & { spec?: { finalizers?: string[] } };
    if (copy.spec?.finalizers?.length) {
      copy.spec = { ...copy.spec, finalizers: copy.spec.finalizers.filter((f) => f !== 'kubernetes') };
      this.verbs.update(this.served('', 'namespaces'), '', name, copy);
    }
  }
}

const DEFINITIONS = 'customresourcedefinitions.apiextensions.k8s.io';
const isDefinition = (kind: Kind): boolean => kind.collection === DEFINITIONS;
const isNamespace = (kind: Kind): boolean => kind.group === '' && kind.plural === 'namespaces';
