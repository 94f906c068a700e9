// One resource request, decoded: from a path, query and body to a verb and its answer.
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Pod } from '../../../kube/types.ts';
import { Admission } from '../admission/admission.ts';
import type { Dial } from '../admission/call.ts';
import type { PodAccess } from '../streaming/access.ts';
import { serveLog } from '../streaming/logs.ts';
import { Admitted } from './admitted.ts';
import * as errors from './errors.ts';
import type { Any, Kind, Kinds, Served } from './kinds.ts';
import { fromStored } from './kinds.ts';
import { Lists } from './lists.ts';
import { type Answer, negotiate } from './negotiate.ts';
import {
  contentTypeOf,
  deleteOptions,
  includeOf,
  isTrue,
  numberOf,
  objectOf,
  PATCH_TYPES,
  type ReadBody,
  type Reply,
  selectors,
  type Target,
  WRITE_TYPES,
  warnIn,
  writeOptions,
} from './options.ts';
import { applyMerge, type Json, jsonPatch, mergePatch, strategicMergePatch } from './patch.ts';
import type { User } from './pki.ts';
import { noAttach, podAccess, streamError } from './pod-streams.ts';
import { selectionOf } from './selection.ts';
import type { Stored } from './storage.ts';
import { Streams } from './streams.ts';
import { subresource } from './subresources.ts';
import { type IncludeObject, listJson, listMeta, objectJson, partial, renderTable } from './table.ts';
import type { ServiceAccountTokens } from './tokens.ts';
import type { UpdateOptions, Verbs } from './verbs.ts';
import { watchStart } from './watch.ts';

/** `rest`: path segments after the group and version. Null when they name nothing that is served. */
export function targetOf(
  kinds: Kinds,
  group: string,
  version: string,
  rest: readonly string[],
): Target | null {
  let namespace = '';
  let segments = rest;
  if (rest[0] === 'namespaces' && rest.length >= 3 && rest[2] !== 'status' && rest[2] !== 'finalize') {
    namespace = rest[1]!;
    segments = rest.slice(2);
  }
  const [plural, name, sub, ...more] = segments;
  if (plural === undefined || more.length > 0 || name === '' || sub === '') return null;
  const served = kinds.find(group, version, plural);
  if (served === undefined) return null;
  if (namespace !== '' && !served.kind.namespaced) return null;
  return { served, namespace, name, subresource: sub };
}

export class Rest {
  readonly verbs: Verbs;
  readonly lists = new Lists();
  readonly streams: Streams;
  readonly tokens: ServiceAccountTokens;
  readonly admitted: Admitted;
  /** The nodes' side of logs and streams; null before there are nodes. */
  access: () => PodAccess | null = () => null;

  constructor(verbs: Verbs, tokens: ServiceAccountTokens) {
    this.verbs = verbs;
    const dial: Dial = (endpoint) => podAccess(this).dial(endpoint);
    this.admitted = new Admitted(verbs, new Admission({ list: verbs.context().list, dial }));
    this.tokens = tokens;
    this.streams = new Streams(() => verbs.storage.version, verbs.now);
  }

  async answer(
    request: IncomingMessage,
    response: ServerResponse,
    target: Target,
    user: User,
    query: URLSearchParams,
    body: ReadBody,
    reply: Reply,
  ): Promise<void> {
    const { served, namespace, name } = target;
    const method = request.method ?? 'GET';
    const accept = negotiate(request.headers.accept, ['table', 'partial']);
    const include = includeOf(query);
    const show = (code: number, stored: Stored) =>
      reply(code, this.oneJson(served, stored, accept.as, include), contentTypeOf(accept));
    if (target.subresource === 'log' && isPods(served.kind)) return this.log(target, method, query, response);
    if (target.subresource === 'attach' && isPods(served.kind)) throw noAttach(name ?? '');
    if (target.subresource !== undefined && target.subresource !== 'status') {
      return subresource(this, target, user, method, query, body, reply);
    }
    const status = target.subresource === 'status';
    if (status && !served.kind.status) throw errors.noSuchPath();
    if (name === undefined)
      return this.collection(request, response, target, user, query, body, reply, accept);
    if (served.kind.namespaced && namespace === '') throw errors.noSuchPath();

    switch (method) {
      case 'GET':
      case 'HEAD':
        if (isTrue(query.get('watch'))) return this.watch(response, target, query, accept);
        return show(200, this.verbs.get(served.kind, namespace, name));
      case 'PUT': {
        const { value } = await body(WRITE_TYPES);
        const options = writeOptions(query, response, status);
        return show(200, await this.admitted.update(served, namespace, name, objectOf(value), user, options));
      }
      case 'PATCH': {
        const { value, type } = await body(PATCH_TYPES);
        if (type === 'application/apply-patch+yaml' && !query.get('fieldManager')) {
          const options = { group: 'meta.k8s.io', plural: '', kind: 'PatchOptions' };
          throw errors.invalid(options, '', [errors.required('fieldManager', 'is required for apply patch')]);
        }
        const options = writeOptions(query, response, status);
        const plan = this.patchPlan(served, namespace, name, type, value as Json, options);
        if ('create' in plan)
          return show(201, await this.admitted.create(served, namespace, plan.create, user, options));
        return show(200, await this.admitted.modify(served, namespace, name, user, options, plan.change));
      }
      case 'DELETE': {
        if (status) throw errors.methodNotAllowed();
        const options = { ...(await deleteOptions(request, query, body)), warn: warnIn(response) };
        const { stored, gone } = await this.admitted.delete(served, namespace, name, user, options);
        if (!gone || accept.as === 'table') return show(200, stored);
        // kube-apiserver answers the pod itself, and a Status for most other kinds.
        if (served.kind.grace) return show(200, stored);
        return reply(200, JSON.stringify(deletedStatus(served, stored)), contentTypeOf(accept));
      }
      default:
        throw errors.methodNotAllowed();
    }
  }

  private async log(
    { served, namespace, name }: Target,
    method: string,
    query: URLSearchParams,
    response: ServerResponse,
  ): Promise<void> {
    if (method !== 'GET') throw errors.methodNotAllowed();
    const pod = this.verbs.get(served.kind, namespace, name!).object as Pod;
    try {
      await serveLog(podAccess(this), pod, query, response);
    } catch (error) {
      throw streamError(error);
    }
  }

  private async collection(
    request: IncomingMessage,
    response: ServerResponse,
    target: Target,
    user: User,
    query: URLSearchParams,
    body: ReadBody,
    reply: Reply,
    accept: Answer,
  ): Promise<void> {
    const { served, namespace } = target;
    switch (request.method) {
      case 'GET':
      case 'HEAD': {
        if (isTrue(query.get('watch'))) return this.watch(response, target, query, accept);
        const page = this.page(target, query);
        return reply(200, this.listText(served, page, accept, includeOf(query)), contentTypeOf(accept));
      }
      case 'POST': {
        if (served.kind.namespaced && namespace === '') throw errors.methodNotAllowed();
        const { value } = await body(WRITE_TYPES);
        const options = writeOptions(query, response, false);
        const stored = await this.admitted.create(served, namespace, objectOf(value), user, options);
        return reply(201, this.oneJson(served, stored, accept.as, includeOf(query)), contentTypeOf(accept));
      }
      case 'DELETE': {
        if (served.kind.namespaced && namespace === '') throw errors.methodNotAllowed();
        const options = await deleteOptions(request, query, body);
        const page = this.page(target, query);
        for (const { namespace: where, name } of page.items) {
          try {
            await this.admitted.delete(served, where, name, user, options);
          } catch (error) {
            if (!(error instanceof errors.ApiError) || error.code !== 404) throw error;
          }
        }
        return reply(200, this.listText(served, page, accept, includeOf(query)), contentTypeOf(accept));
      }
      default:
        throw errors.methodNotAllowed();
    }
  }

  private page({ served, namespace }: Target, query: URLSearchParams) {
    const { verbs } = this;
    const limit = numberOf(query, 'limit');
    return this.lists.list(
      verbs.collection(served.kind),
      verbs.storage.version,
      selectionOf(served.kind, selectors(query, namespace)),
      {
        limit,
        continue: query.get('continue') ?? undefined,
        resourceVersion: query.get('resourceVersion') ?? undefined,
        resourceVersionMatch: query.get('resourceVersionMatch') ?? undefined,
      },
      verbs.now(),
    );
  }

  private watch(response: ServerResponse, target: Target, query: URLSearchParams, accept: Answer): void {
    const { served, namespace, name } = target;
    const initial = query.get('sendInitialEvents');
    this.streams.serve(response, {
      served,
      collection: this.verbs.collection(served.kind),
      selection: selectionOf(served.kind, { ...selectors(query, namespace), name }),
      start: watchStart({
        resourceVersion: query.get('resourceVersion') ?? undefined,
        resourceVersionMatch: query.get('resourceVersionMatch') ?? undefined,
        sendInitialEvents: initial === null ? undefined : isTrue(initial),
      }),
      bookmarks: isTrue(query.get('allowWatchBookmarks')),
      timeoutSeconds: numberOf(query, 'timeoutSeconds') ?? 0,
      as: accept.as,
      include: includeOf(query),
    });
  }

  patch(
    served: Served,
    namespace: string,
    name: string,
    type: string,
    patch: Json,
    options: UpdateOptions,
  ): { stored: Stored; created: boolean } {
    const plan = this.patchPlan(served, namespace, name, type, patch, options);
    if ('create' in plan)
      return { stored: this.verbs.create(served, namespace, plan.create, options), created: true };
    return { stored: this.verbs.modify(served, namespace, name, options, plan.change), created: false };
  }

  /** What a patch does: makes the object that it applies, or changes the one that is there. */
  private patchPlan(
    served: Served,
    namespace: string,
    name: string,
    type: string,
    patch: Json,
    options: UpdateOptions,
  ): { create: Any } | { change: (object: Any) => Any } {
    if (type === 'application/apply-patch+yaml') {
      const applied = objectOf(patch);
      applied.metadata ??= {};
      if (applied.metadata.name !== undefined && applied.metadata.name !== name) {
        throw errors.badRequest(
          `metadata.name (${applied.metadata.name}) does not match the name on the URL (${name})`,
        );
      }
      applied.metadata.name = name;
      if (this.verbs.find(served.kind, namespace, name) === undefined) {
        if (options.subresource !== undefined) throw errors.notFound(served.kind, name);
        return { create: applied };
      }
      return { change: (object) => applyMerge(object as Json, applied as Json) as Any };
    }
    if (type === 'application/strategic-merge-patch+json' && served.kind.custom) {
      throw errors.unsupportedMediaType(PATCH_TYPES.filter((t) => t !== type));
    }
    return {
      change: (object) => {
        const patched =
          type === 'application/json-patch+json'
            ? jsonPatch(object as Json, patch)
            : type === 'application/merge-patch+json'
              ? mergePatch(object as Json, objectOf(patch) as Json)
              : strategicMergePatch(object as Json, patch);
        return objectOf(patched);
      },
    };
  }

  private oneJson(served: Served, stored: Stored, as: Answer['as'], include: IncludeObject): string {
    if (as === 'table') {
      const meta = { resourceVersion: String(stored.version) };
      return JSON.stringify(renderTable(served, [stored], meta, include, this.verbs.now()));
    }
    if (as === 'partial') return JSON.stringify(partial(fromStored(served, stored.object as Any)));
    return objectJson(served, stored);
  }

  private listText(
    served: Served,
    page: ReturnType<Lists['list']>,
    accept: Answer,
    include: IncludeObject,
  ): string {
    if (accept.as === 'table') {
      return JSON.stringify(renderTable(served, page.items, listMeta(page), include, this.verbs.now()));
    }
    if (accept.as === 'partial') {
      const items = page.items.map((stored) => partial(fromStored(served, stored.object as Any)));
      return JSON.stringify({
        kind: 'PartialObjectMetadataList',
        apiVersion: 'meta.k8s.io/v1',
        metadata: listMeta(page),
        items,
      });
    }
    return listJson(served, page);
  }
}

const isPods = (kind: Kind): boolean => kind.group === '' && kind.plural === 'pods';

const deletedStatus = ({ kind }: Served, stored: Stored) => ({
  kind: 'Status',
  apiVersion: 'v1',
  metadata: {},
  status: 'Success',
  details: {
    name: stored.name,
    ...(kind.group === '' ? {} : { group: kind.group }),
    kind: kind.plural,
    uid: stored.object.metadata.uid,
  },
});
