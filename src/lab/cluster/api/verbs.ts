// What create, update, patch and delete mean, for every kind alike and for callers inside and outside the process.
// All of it is synchronous: between reading an object and writing it nothing else can happen.
// Fails by throwing ApiError; nothing is written then.

import { randomUUID } from 'node:crypto';
import { isDeepStrictEqual } from 'node:util';
import { rfc3339 } from '../../../base/clock.ts';
import type { KubeObject, ObjectMeta } from '../../../kube/types.ts';
import * as errors from './errors.ts';
import { type Any, fromStored, type HookContext, type Kind, type Served, toStored } from './kinds.ts';
import {
  generatedName,
  keepMetadata,
  metadataProblems,
  metadataShape,
  nameProblem,
  serverMetadata,
} from './metadata.ts';
import type { Collection, Storage, Stored } from './storage.ts';

export type FieldValidation = 'Strict' | 'Warn' | 'Ignore';

export type WriteOptions = {
  dryRun?: boolean;
  fieldValidation?: FieldValidation;
  /** Receives what Kubernetes sends as Warning headers. */
  warn?: (text: string) => void;
  /** For webhooks that may change it: completed and not checked. With `dryRun`. */
  draft?: boolean;
  /** The identity that was told to webhooks. */
  born?: { uid: string; at: string };
};

export type UpdateOptions = WriteOptions & { subresource?: 'status' | undefined };

export type DeleteOptions = {
  gracePeriodSeconds?: number | null;
  propagationPolicy?: 'Orphan' | 'Background' | 'Foreground';
  preconditions?: { uid?: string; resourceVersion?: string };
} & Pick<WriteOptions, 'dryRun' | 'warn'>;

export type VerbHooks = {
  /** True when a dependent says that its owner has to wait for it. */
  blocked?: (stored: Stored) => boolean;
  /** Lets go of dependents that are to stay. */
  orphan?: (stored: Stored) => void;
  created?: (served: Served, stored: Stored) => void;
  changed?: (kind: Kind, stored: Stored, before: Stored) => void;
  removed?: (kind: Kind, stored: Stored) => void;
};

/** Finalizer of an owner that goes when its dependents have gone. */
export const FOREGROUND = 'foregroundDeletion';
const ORPHAN = 'orphan';

export class Verbs {
  readonly storage: Storage;
  readonly now: () => number;
  readonly serviceCidrs: readonly string[];
  hooks: VerbHooks = {};

  constructor(storage: Storage, now: () => number, serviceCidrs: readonly string[]) {
    this.storage = storage;
    this.now = now;
    this.serviceCidrs = serviceCidrs;
  }

  collection(kind: Kind): Collection {
    return this.storage.collection(kind.collection);
  }

  find(kind: Kind, namespace: string, name: string): Stored | undefined {
    return this.collection(kind).items.get(`${kind.namespaced ? namespace : ''}/${name}`);
  }

  get(kind: Kind, namespace: string, name: string): Stored {
    const stored = this.find(kind, namespace, name);
    if (stored === undefined) throw errors.notFound(kind, name);
    return stored;
  }

  /** `body` becomes ours: it is changed and frozen. */
  create(served: Served, namespace: string, body: Any, options: WriteOptions = {}): Stored {
    const { kind } = served;
    checkTypeMeta(served, body);
    const meta = checkMetadata(body);
    if (kind.namespaced) {
      if (meta.namespace !== undefined && meta.namespace !== '' && meta.namespace !== namespace) {
        throw errors.badRequest(
          'the namespace of the provided object does not match the namespace sent on the request',
        );
      }
      meta.namespace = namespace;
      this.checkNamespace(kind, namespace, meta.name ?? meta.generateName ?? '');
    } else delete meta.namespace;
    if (meta.resourceVersion) {
      throw errors.badRequest('resourceVersion should not be set on objects to be created');
    }
    if (!meta.name) meta.name = this.generateName(kind, namespace, meta);
    const name = meta.name;
    // Taken names come before other problems, as admission order has it for the common "apply twice" race.
    if (this.find(kind, namespace, name)) throw errors.alreadyExists(kind, name);

    this.decode(served, body, options);
    const { apiVersion, kind: kindName, metadata: _, ...rest } = toStored(served, body);
    const object: Any = {
      apiVersion: apiVersion!,
      kind: kindName!,
      metadata: serverMetadata(meta, kind),
      ...rest,
    };
    object.metadata.uid = options.born?.uid ?? randomUUID();
    object.metadata.creationTimestamp = options.born?.at ?? rfc3339(this.now());
    if (kind.status && !kind.createsWithStatus) delete object['status'];
    if (kind.status) object.metadata.generation = 1;
    kind.defaults?.(object, this.context(), null);
    if (options.draft) return preview(this.storage.version, kind, namespace, name, object);
    const problem = nameProblem(kind.nameRule, name);
    const causes = problem ? [errors.invalidValue('metadata.name', name, problem)] : [];
    causes.push(...metadataProblems(object.metadata), ...(kind.check?.(object, null) ?? []));
    if (causes.length > 0) throw errors.invalid(kind, name, causes);
    for (const text of kind.warnings?.(object) ?? []) options.warn?.(text);
    if (options.dryRun) return preview(this.storage.version, kind, namespace, name, object);
    const stored = this.storage.write(this.collection(kind), kind.namespaced ? namespace : '', name, object);
    this.hooks.created?.(served, stored);
    return stored;
  }

  /** Replaces an object; `body` becomes ours. */
  update(served: Served, namespace: string, name: string, body: Any, options: UpdateOptions = {}): Stored {
    const { kind } = served;
    checkTypeMeta(served, body);
    const meta = checkMetadata(body);
    if (meta.name !== undefined && meta.name !== name) {
      throw errors.badRequest(
        `the name of the object (${meta.name}) does not match the name on the URL (${name})`,
      );
    }
    if (kind.namespaced && meta.namespace && meta.namespace !== namespace) {
      throw errors.badRequest(
        `the namespace of the object (${meta.namespace}) does not match the namespace on the URL (${namespace})`,
      );
    }
    const stored = this.get(kind, namespace, name);
    const before = stored.object as Any;
    if (meta.uid && meta.uid !== before.metadata.uid) {
      throw errors.conflict(
        kind,
        name,
        `Precondition failed: UID in precondition: ${meta.uid}, UID in object meta: ${before.metadata.uid}`,
      );
    }
    if (meta.resourceVersion && meta.resourceVersion !== '0') {
      if (meta.resourceVersion !== String(stored.version)) throw errors.staleVersion(kind, name);
    } else if (kind.custom) {
      throw errors.invalid(kind, name, [
        errors.invalidValue('metadata.resourceVersion', 0, 'must be specified for an update'),
      ]);
    }
    this.decode(served, body, options);
    let object = toStored(served, body);
    if (options.subresource === 'status') {
      const kept = kind.custom ? before.metadata : keepMetadata(meta, before.metadata);
      object = {
        ...before,
        metadata: { ...kept },
        ...('status' in object ? { status: object['status'] } : {}),
      };
      if (!('status' in body)) delete object['status'];
      // Hooks may change what they get; the frozen parts of `before` must stay out of their reach.
      if (kind.defaults) object = JSON.parse(JSON.stringify(object)) as Any;
    } else {
      object.metadata = keepMetadata(meta, before.metadata);
      if (kind.status) {
        delete object['status'];
        if ('status' in before) object['status'] = before['status'];
        object.metadata.generation = before.metadata.generation ?? 1;
      }
    }
    kind.defaults?.(object, this.context(), before);
    const wished = options.subresource !== 'status' && !sameDesire(object, before);
    if (kind.status && wished) object.metadata.generation = (before.metadata.generation ?? 0) + 1;
    if (options.draft) return preview(stored.version, kind, namespace, name, object);
    const causes = [...metadataProblems(object.metadata), ...(kind.check?.(object, before) ?? [])];
    if (before.metadata.deletionTimestamp) {
      const had = new Set(before.metadata.finalizers);
      const added = (object.metadata.finalizers ?? []).filter((f) => !had.has(f));
      if (added.length > 0) {
        causes.push({
          reason: 'FieldValueForbidden',
          message: `Forbidden: no new finalizers can be added if the object is being deleted, found new finalizers ${JSON.stringify(added)}`,
          field: 'metadata.finalizers',
        });
      }
    }
    if (causes.length > 0) throw errors.invalid(kind, name, causes);
    if (wished) for (const text of kind.warnings?.(object) ?? []) options.warn?.(text);
    return this.commit(kind, stored, object, options.dryRun);
  }

  /** Writes a changed object, or removes it when it was only waiting for its last finalizer. */
  private commit(kind: Kind, stored: Stored, object: Any, dryRun = false): Stored {
    object.metadata.resourceVersion = String(stored.version);
    if (isDeepStrictEqual(object, stored.object)) return stored;
    if (dryRun) return preview(stored.version, kind, stored.namespace, stored.name, object);
    const meta = object.metadata;
    const finished =
      meta.deletionTimestamp !== undefined &&
      (meta.deletionGracePeriodSeconds ?? 0) === 0 &&
      !meta.finalizers?.length &&
      !kind.held?.(object);
    if (finished) return this.remove(kind, stored, object);
    const written = this.storage.write(this.collection(kind), stored.namespace, stored.name, object);
    this.hooks.changed?.(kind, written, stored);
    return written;
  }

  /** `change` gets a private copy in the version that was asked for and returns what it should become. */
  modify(
    served: Served,
    namespace: string,
    name: string,
    options: UpdateOptions,
    change: (object: Any) => Any,
  ): Stored {
    const stored = this.get(served.kind, namespace, name);
    const copy = JSON.parse(stored.json) as Any;
    const changed = change(fromStored(served, copy));
    const meta = checkMetadata(changed);
    const rv = meta.resourceVersion;
    if (rv && rv !== String(stored.version)) throw errors.staleVersion(served.kind, name);
    meta.resourceVersion = String(stored.version);
    return this.update(served, namespace, name, changed, options);
  }

  /** Answers the object as it was last, and whether it is gone. */
  delete(
    kind: Kind,
    namespace: string,
    name: string,
    options: DeleteOptions = {},
  ): { stored: Stored; gone: boolean } {
    const stored = this.get(kind, namespace, name);
    const meta = stored.object.metadata;
    const { uid, resourceVersion } = options.preconditions ?? {};
    if (uid !== undefined && uid !== meta.uid) {
      throw errors.conflict(
        kind,
        name,
        `Precondition failed: UID in precondition: ${uid}, UID in object meta: ${meta.uid}`,
      );
    }
    if (resourceVersion !== undefined && resourceVersion !== meta.resourceVersion) {
      throw errors.conflict(
        kind,
        name,
        `Precondition failed: ResourceVersion in precondition: ${resourceVersion}, ResourceVersion in object meta: ${meta.resourceVersion}`,
      );
    }
    const lasting = kind.lasting?.(stored.object as Any) ?? null;
    if (lasting !== null) throw errors.forbidden(kind, name, lasting);
    let policy = options.propagationPolicy;
    if (kind.orphansByDefault && policy === undefined) {
      policy = 'Orphan';
      options.warn?.(
        'child pods are preserved by default when jobs are deleted; set propagationPolicy=Background to remove them or set propagationPolicy=Orphan to suppress this warning',
      );
    }
    let grace = 0;
    if (kind.grace) {
      const own = kind.grace(stored.object as Any);
      grace = own === 0 ? 0 : (options.gracePeriodSeconds ?? own);
      if (grace < 0) grace = 1;
      const left = meta.deletionGracePeriodSeconds;
      // A second delete may shorten the grace and never lengthens it.
      if (meta.deletionTimestamp !== undefined && left !== undefined) grace = Math.min(grace, left);
    }
    const finalizers = this.withPolicy(stored, policy);
    const gone = grace === 0 && finalizers.length === 0 && !kind.held?.(stored.object as Any);
    if (options.dryRun) return { stored, gone };
    if (policy === 'Orphan') this.hooks.orphan?.(stored);
    if (gone) return { stored: this.remove(kind, stored, stored.object as Any), gone };
    const began = meta.deletionTimestamp !== undefined;
    if (
      began &&
      grace === meta.deletionGracePeriodSeconds &&
      isDeepStrictEqual(finalizers, meta.finalizers ?? [])
    ) {
      return { stored, gone: false };
    }
    const object = JSON.parse(stored.json) as Any;
    object.metadata.deletionTimestamp =
      began && grace === meta.deletionGracePeriodSeconds
        ? meta.deletionTimestamp!
        : rfc3339(this.now() + grace * 1000);
    object.metadata.deletionGracePeriodSeconds = grace;
    if (finalizers.length > 0) object.metadata.finalizers = finalizers;
    else delete object.metadata.finalizers;
    kind.ending?.(object);
    if (kind.status && object.metadata.generation !== undefined && !began) object.metadata.generation += 1;
    const written = this.storage.write(this.collection(kind), stored.namespace, name, object);
    this.hooks.changed?.(kind, written, stored);
    return { stored: written, gone: false };
  }

  private remove(kind: Kind, stored: Stored, last: Any): Stored {
    const removed = this.storage.remove(this.collection(kind), stored, last);
    this.hooks.removed?.(kind, removed);
    return removed;
  }

  /** Orphans are let go of at once, so only an owner that waits for its dependents needs to be held. */
  private withPolicy(stored: Stored, policy: DeleteOptions['propagationPolicy']): string[] {
    const finalizers = stored.object.metadata.finalizers ?? [];
    if (policy === undefined) return [...finalizers];
    const others = finalizers.filter((f) => f !== FOREGROUND && f !== ORPHAN);
    return policy === 'Foreground' && this.hooks.blocked?.(stored) ? [...others, FOREGROUND] : others;
  }

  context(): HookContext {
    return {
      now: this.now(),
      serviceCidrs: this.serviceCidrs,
      list: (id) => Array.from(this.storage.collection(id).items.values(), (s) => s.object),
    };
  }

  private decode(served: Served, body: Any, options: WriteOptions): void {
    const problems = served.version.decode?.(body);
    if (problems === undefined) return;
    if (problems.unknown.length > 0 && options.fieldValidation !== 'Ignore') {
      if (options.fieldValidation === 'Strict') {
        const list = problems.unknown.map((text) => text).join(', ');
        throw errors.badRequest(
          `${served.kind.kind} in version "${served.version.name}" cannot be handled as a ${served.kind.kind}: strict decoding error: ${list}`,
        );
      }
      for (const text of problems.unknown) options.warn?.(text);
    }
    if (problems.causes.length > 0)
      throw errors.invalid(served.kind, body.metadata.name ?? '', problems.causes);
  }

  private checkNamespace(kind: Kind, namespace: string, name: string): void {
    const found = this.storage.collection('namespaces').items.get(`/${namespace}`);
    if (found === undefined) {
      throw errors.notFound({ group: '', plural: 'namespaces', kind: 'Namespace' }, namespace);
    }
    if (found.object.metadata.deletionTimestamp !== undefined) {
      const error = errors.forbidden(
        kind,
        name,
        `unable to create new content in namespace ${namespace} because it is being terminated`,
      );
      error.details!.causes = [
        {
          reason: 'NamespaceTerminating',
          message: `namespace ${namespace} is being terminated`,
          field: 'metadata.namespace',
        },
      ];
      throw error;
    }
  }

  private generateName(kind: Kind, namespace: string, meta: ObjectMeta): string {
    if (!meta.generateName) {
      throw errors.invalid(kind, '', [errors.required('metadata.name', 'name or generateName is required')]);
    }
    for (let tries = 0; tries < 8; tries++) {
      const name = generatedName(meta.generateName);
      if (!this.find(kind, namespace, name)) return name;
    }
    throw errors.alreadyExists(kind, meta.generateName);
  }
}

function checkTypeMeta(served: Served, body: Any): void {
  if (body.apiVersion !== undefined && body.apiVersion !== '' && body.apiVersion !== served.apiVersion) {
    throw errors.badRequest(
      `the API version in the data (${body.apiVersion}) does not match the expected API version (${served.apiVersion})`,
    );
  }
  if (body.kind !== undefined && body.kind !== '' && body.kind !== served.kind.kind) {
    throw errors.badRequest(
      `${body.kind} in version "${served.version.name}" cannot be handled as a ${served.kind.kind}`,
    );
  }
  body.apiVersion = served.apiVersion;
  body.kind = served.kind.kind;
}

function checkMetadata(body: Any): ObjectMeta {
  body.metadata ??= {};
  const problem = metadataShape(body);
  if (problem) throw errors.badRequest(problem);
  return body.metadata;
}

/** True when everything but metadata and status is the same: such a change is no new generation. */
function sameDesire(a: Any, b: Any): boolean {
  const strip = ({ metadata: _m, status: _s, ...rest }: Any) => rest;
  return isDeepStrictEqual(strip(a), strip(b));
}

/** What a dry run answers: the object as it would be. */
function preview(version: number, kind: Kind, namespace: string, name: string, object: KubeObject): Stored {
  object.metadata.resourceVersion = String(version);
  const where = kind.namespaced ? namespace : '';
  return { key: `${where}/${name}`, namespace: where, name, version, object, json: JSON.stringify(object) };
}
