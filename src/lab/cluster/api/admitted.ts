// The verbs for those who may wait: what webhooks concern goes by them before it is written. Without any it is the verb
// itself, at once. With some: the object is drafted, mutated, checked, validated, and written last; a write that another
// one came before is done again from the start when it named no version.
import type { Admission, Admitting, Ask } from '../admission/admission.ts';
import type { Operation } from '../admission/hooks.ts';
import type { AdmissionRequest, GroupVersionKind } from '../admission/review.ts';
import { ApiError, staleVersion } from './errors.ts';
import { type Any, fromStored, type Served, toStored } from './kinds.ts';
import type { User } from './pki.ts';
import type { Stored } from './storage.ts';
import type { DeleteOptions, UpdateOptions, Verbs, WriteOptions } from './verbs.ts';

/** Writes by others that may come in between. */
const TRIES = 5;

/** Where a request goes. `subresource`: empty for the object itself. */
type Place = { served: Served; namespace: string; name: string; subresource: string };

const OPTIONS: Readonly<Record<Operation, string>> = {
  CREATE: 'CreateOptions',
  UPDATE: 'UpdateOptions',
  DELETE: 'DeleteOptions',
  CONNECT: 'ConnectOptions',
};

export class Admitted {
  readonly #verbs: Verbs;
  readonly #admission: Admission;

  constructor(verbs: Verbs, admission: Admission) {
    this.#verbs = verbs;
    this.#admission = admission;
  }

  /** The webhooks that a request may concern; null for none. `labels`: of the object, when it is a new one. */
  concerned(
    operation: Operation,
    { served, namespace, name, subresource }: Place,
    labels: Readonly<Record<string, string>> = {},
  ): Admitting | null {
    const { kind, version } = served;
    const isNamespace = kind.group === '' && kind.plural === 'namespaces';
    const where = isNamespace ? name : namespace;
    const known = this.#verbs.storage.collection('namespaces').items.get(`/${where}`);
    return this.#admission.concerned({
      operation,
      group: kind.group,
      version: version.name,
      otherVersions: kind.versions.map((each) => each.name).filter((each) => each !== version.name),
      resource: kind.plural,
      subresource,
      namespace: where,
      namespaceLabels: isNamespace
        ? { ...known?.object.metadata.labels, ...labels, 'kubernetes.io/metadata.name': name }
        : where === ''
          ? null
          : (known?.object.metadata.labels ?? {}),
    });
  }

  async create(served: Served, namespace: string, body: Any, user: User, options: WriteOptions = {}) {
    const place = { served, namespace, name: body.metadata?.name ?? '', subresource: '' };
    const hooks = this.concerned('CREATE', place, body.metadata?.labels);
    if (hooks === null) return this.#verbs.create(served, namespace, body, options);
    const verbs = this.#verbs;
    // Unknown fields are told here: the draft has none any more.
    const draft = verbs.create(served, namespace, copyOf(body), { ...options, dryRun: true, draft: true });
    const asked = withoutServers(fromStored(served, copyOf(draft.object)));
    const ask = this.#ask('CREATE', { ...place, name: draft.name }, user, options, asked, null);
    const quiet = { ...options, dryRun: true, warn: () => {} };
    const object = (await this.#admission.mutate(hooks.mutating, ask))!;
    const checked = verbs.create(served, namespace, copyOf(object), quiet);
    await this.#admission.validate(hooks.validating, {
      ...ask,
      object: withoutVersion(fromStored(served, copyOf(checked.object))),
    });
    const { uid, creationTimestamp } = checked.object.metadata;
    return verbs.create(served, namespace, object, {
      ...options,
      born: { uid: uid!, at: creationTimestamp! },
    });
  }

  /** `change` gets a private copy in the version that was asked for and returns what it should become. */
  async modify(
    served: Served,
    namespace: string,
    name: string,
    user: User,
    options: UpdateOptions,
    change: (object: Any) => Any,
  ): Promise<Stored> {
    const place = { served, namespace, name, subresource: options.subresource ?? '' };
    const hooks = this.concerned('UPDATE', place);
    if (hooks === null) return this.#verbs.modify(served, namespace, name, options, change);
    for (let left = TRIES; ; left--) {
      const stored = this.#verbs.get(served.kind, namespace, name);
      const changed = change(fromStored(served, JSON.parse(stored.json) as Any));
      const named = changed.metadata?.resourceVersion;
      const version = String(stored.version);
      if (named && named !== '0' && named !== version) throw staleVersion(served.kind, name);
      changed.metadata ??= {};
      changed.metadata.resourceVersion = version;
      const written = await this.#updateOnce(hooks, place, user, options, stored, changed);
      if (written !== null) return written;
      if (left === 1) throw staleVersion(served.kind, name);
    }
  }

  async update(
    served: Served,
    namespace: string,
    name: string,
    body: Any,
    user: User,
    options: UpdateOptions = {},
  ): Promise<Stored> {
    const place = { served, namespace, name, subresource: options.subresource ?? '' };
    const hooks = this.concerned('UPDATE', place);
    if (hooks === null) return this.#verbs.update(served, namespace, name, body, options);
    for (let left = TRIES; ; left--) {
      const stored = this.#verbs.get(served.kind, namespace, name);
      const written = await this.#updateOnce(hooks, place, user, options, stored, copyOf(body));
      if (written !== null) return written;
      if (left === 1 || body.metadata?.resourceVersion) throw staleVersion(served.kind, name);
    }
  }

  /** Null when the object changed meanwhile. */
  async #updateOnce(
    hooks: Admitting,
    place: Place,
    user: User,
    options: UpdateOptions,
    stored: Stored,
    body: Any,
  ): Promise<Stored | null> {
    const { served, namespace, name } = place;
    const verbs = this.#verbs;
    const shown = (each: Stored) => fromStored(served, copyOf(each.object));
    const draft = verbs.update(served, namespace, name, body, { ...options, dryRun: true, draft: true });
    const ask = this.#ask('UPDATE', place, user, options, shown(draft), shown(stored));
    const object = (await this.#admission.mutate(hooks.mutating, ask))!;
    const isSame = () => verbs.find(served.kind, namespace, name)?.version === stored.version;
    if (!isSame()) return null;
    const quiet = { ...options, dryRun: true, warn: () => {} };
    const checked = verbs.update(served, namespace, name, copyOf(object), quiet);
    await this.#admission.validate(hooks.validating, { ...ask, object: shown(checked) });
    if (!isSame()) return null;
    return verbs.update(served, namespace, name, object, options);
  }

  async delete(served: Served, namespace: string, name: string, user: User, options: DeleteOptions = {}) {
    const place = { served, namespace, name, subresource: '' };
    const hooks = this.concerned('DELETE', place);
    if (hooks !== null) {
      const stored = this.#verbs.get(served.kind, namespace, name);
      const old = fromStored(served, copyOf(stored.object));
      const ask = this.#ask('DELETE', place, user, options, null, old);
      await this.#admission.mutate(hooks.mutating, ask);
      await this.#admission.validate(hooks.validating, ask);
    }
    return this.#verbs.delete(served.kind, namespace, name, options);
  }

  /** Of a subresource whose object has a kind of its own: the object as the webhooks left it. */
  async admit(
    operation: Operation,
    place: Place,
    kind: GroupVersionKind,
    user: User,
    options: WriteOptions,
    object: Any,
  ): Promise<Any> {
    const hooks = this.concerned(operation, place);
    if (hooks === null) return object;
    const ask = { ...this.#ask(operation, place, user, options, object, null), convert: (same: Any) => same };
    const request = { ...ask.request, kind };
    const mutated = (await this.#admission.mutate(hooks.mutating, { ...ask, request }))!;
    await this.#admission.validate(hooks.validating, { ...ask, request, object: mutated });
    return mutated;
  }

  #ask(
    operation: Operation,
    { served, namespace, name, subresource }: Place,
    user: User,
    { dryRun = false, warn = () => {} }: WriteOptions,
    object: Any | null,
    oldObject: Any | null,
  ): Ask {
    const { kind, version } = served;
    const request: AdmissionRequest = {
      operation,
      kind: { group: kind.group, version: version.name, kind: kind.kind },
      resource: { group: kind.group, version: version.name, resource: kind.plural },
      subresource,
      namespace: kind.group === '' && kind.plural === 'namespaces' ? name : namespace,
      name,
      user,
      dryRun,
      options: OPTIONS[operation],
    };
    return { request, object, oldObject, warn, convert: (each, to) => convert(served, each, to) };
  }
}

/** An object of any of its kind's versions, at version `to`. */
function convert({ kind }: Served, object: Any, to: string): Any {
  const group = kind.group === '' ? '' : `${kind.group}/`;
  const at = (name: string): Served => {
    const version = kind.versions.find((each) => each.name === name);
    if (version === undefined)
      throw new ApiError(500, 'InternalError', `${kind.kind} has no version ${name}`);
    return { kind, version, apiVersion: `${group}${name}` };
  };
  if (object.apiVersion === `${group}${to}`) return object;
  const from = at(object.apiVersion!.slice(group.length));
  return fromStored(at(to), toStored(from, object));
}

const copyOf = (object: object): Any => JSON.parse(JSON.stringify(object)) as Any;

function withoutVersion(object: Any): Any {
  delete object.metadata.resourceVersion;
  return object;
}

/** What the server gives an object when it writes it. */
function withoutServers(object: Any): Any {
  delete object.metadata.uid;
  delete object.metadata.creationTimestamp;
  delete object.metadata.generation;
  return withoutVersion(object);
}
