// Subresources other than status: binding and eviction of pods, scale, finalize of namespaces, tokens.
import { rfc3339 } from '../../../base/clock.ts';
import type { Pod } from '../../../kube/types.ts';
import type { Admitted } from './admitted.ts';
import * as errors from './errors.ts';
import { readPath, writePath } from './jsonpath.ts';
import type { Any, ScalePaths, Served } from './kinds.ts';
import { objectOf, type ReadBody, type Reply, type Target, writeOptions } from './options.ts';
import { applyMerge, type Json, jsonPatch, mergePatch } from './patch.ts';
import type { User } from './pki.ts';
import type { Stored } from './storage.ts';
import { objectJson } from './table.ts';
import type { ServiceAccountTokens } from './tokens.ts';
import type { Verbs } from './verbs.ts';

const JSON_TYPES = ['application/json', 'application/yaml'];
const SUCCESS = (code: number) =>
  JSON.stringify({ kind: 'Status', apiVersion: 'v1', metadata: {}, status: 'Success', code });

type Parts = { verbs: Verbs; tokens: ServiceAccountTokens; admitted: Admitted };

export async function subresource(
  { verbs, tokens, admitted }: Parts,
  target: Target,
  user: User,
  method: string,
  query: URLSearchParams,
  body: ReadBody,
  reply: Reply,
): Promise<void> {
  const { served, namespace, name, subresource: sub } = target;
  const { kind } = served;
  if (name === undefined || (kind.namespaced && namespace === '')) throw errors.noSuchPath();
  const place = { served, namespace, name, subresource: sub ?? '' };
  const options = () => writeOptions(query, null, false);
  const create = async (group: string, version: string, kindName: string): Promise<Any> => {
    const { value } = await body(JSON_TYPES);
    const there = { group, version, kind: kindName };
    return admitted.admit('CREATE', place, there, user, options(), objectOf(value));
  };
  if (sub === 'scale' && kind.scale) {
    const admit = (wanted: Any) =>
      admitted.admit(
        'UPDATE',
        place,
        { group: 'autoscaling', version: 'v1', kind: 'Scale' },
        user,
        options(),
        wanted,
      );
    return scale(verbs, target, kind.scale, method, query, body, reply, admit);
  }
  if (sub === undefined || !kind.subresources.includes(sub)) throw errors.noSuchPath();
  if (sub === 'binding' && method === 'POST') {
    const binding = await create('', 'v1', 'Binding');
    const node = (binding['target'] as { name?: unknown } | undefined)?.name;
    if (typeof node !== 'string' || node === '') {
      throw errors.invalid({ group: '', plural: 'bindings', kind: 'Binding' }, name, [
        errors.required('target.name'),
      ]);
    }
    bind(verbs, served, namespace, name, node, binding.metadata?.annotations);
    return reply(201, SUCCESS(201));
  }
  if (sub === 'eviction' && method === 'POST') {
    const eviction = await create('policy', 'v1', 'Eviction');
    const { gracePeriodSeconds } = (eviction['deleteOptions'] ?? {}) as { gracePeriodSeconds?: number };
    verbs.delete(kind, namespace, name, gracePeriodSeconds === undefined ? {} : { gracePeriodSeconds });
    return reply(201, SUCCESS(201));
  }
  if (sub === 'token' && method === 'POST') {
    const request = await create('authentication.k8s.io', 'v1', 'TokenRequest');
    const account = verbs.get(kind, namespace, name).object.metadata;
    return reply(201, JSON.stringify(tokens.issue(account, namespace, name, request)));
  }
  if ((sub === 'finalize' || sub === 'approval') && method === 'PUT') {
    const { value } = await body(JSON_TYPES);
    return reply(
      200,
      objectJson(
        served,
        verbs.update(served, namespace, name, objectOf(value), {
          subresource: sub === 'approval' ? 'status' : undefined,
        }),
      ),
    );
  }
  if (sub === 'exec' || sub === 'portforward')
    throw errors.badRequest(`pods/${sub} is a stream: the request has to ask for a WebSocket`);
  throw errors.methodNotAllowed();
}

/** Gives a pod its node, once. */
export function bind(
  verbs: Verbs,
  served: Served,
  namespace: string,
  name: string,
  node: string,
  annotations: Record<string, string> = {},
): Stored {
  const stored = verbs.get(served.kind, namespace, name);
  const pod = JSON.parse(stored.json) as Any & Pod;
  if (pod.metadata.deletionTimestamp !== undefined) {
    throw errors.conflict(served.kind, name, `pod ${name} is being deleted, cannot be assigned to a host`);
  }
  if (pod.spec.nodeName)
    throw errors.conflict(
      served.kind,
      name,
      `pod ${name} is already assigned to node "${pod.spec.nodeName}"`,
    );
  pod.spec.nodeName = node;
  if (Object.keys(annotations).length > 0)
    pod.metadata.annotations = { ...pod.metadata.annotations, ...annotations };
  verbs.update(served, namespace, name, pod);
  const bound = JSON.parse(verbs.get(served.kind, namespace, name).json) as Any & Pod;
  const others = (bound.status?.conditions ?? []).filter((c) => c.type !== 'PodScheduled');
  const scheduled = {
    type: 'PodScheduled',
    status: 'True' as const,
    lastProbeTime: null,
    lastTransitionTime: rfc3339(verbs.now()),
  };
  bound.status = { ...bound.status, conditions: [...others, scheduled] };
  return verbs.update(served, namespace, name, bound, { subresource: 'status' });
}

function scaleOf(served: Served, paths: ScalePaths, stored: Stored): Any {
  const object = stored.object as Any;
  const selector = paths.selector === undefined ? undefined : readPath(object, paths.selector);
  const { name, namespace, uid, resourceVersion, creationTimestamp } = object.metadata;
  return {
    kind: 'Scale',
    apiVersion: 'autoscaling/v1',
    metadata: {
      name: name!,
      ...(namespace === undefined ? {} : { namespace }),
      uid: uid!,
      resourceVersion: resourceVersion!,
      creationTimestamp: creationTimestamp!,
    },
    spec: { replicas: readPath(object, paths.spec) ?? (served.kind.custom ? 0 : 1) },
    status: {
      replicas: readPath(object, paths.status) ?? 0,
      ...(typeof selector === 'string' ? { selector } : {}),
    },
  };
}

async function scale(
  verbs: Verbs,
  { served, namespace, name }: Target,
  paths: ScalePaths,
  method: string,
  query: URLSearchParams,
  body: ReadBody,
  reply: Reply,
  admit: (wanted: Any) => Promise<Any>,
): Promise<void> {
  const now = scaleOf(served, paths, verbs.get(served.kind, namespace, name!));
  if (method === 'GET') return reply(200, JSON.stringify(now));
  let wanted: Any;
  if (method === 'PUT') wanted = objectOf((await body(JSON_TYPES)).value);
  else if (method === 'PATCH') {
    const { value, type } = await body([
      'application/merge-patch+json',
      'application/json-patch+json',
      'application/apply-patch+yaml',
      'application/strategic-merge-patch+json',
    ]);
    const patch = value as Json;
    wanted = objectOf(
      type === 'application/json-patch+json'
        ? jsonPatch(now as Json, patch)
        : type === 'application/apply-patch+yaml'
          ? applyMerge(now as Json, patch)
          : mergePatch(now as Json, patch),
    );
  } else throw errors.methodNotAllowed();
  wanted = await admit(wanted);
  const replicas = (wanted['spec'] as { replicas?: unknown } | undefined)?.replicas ?? 0;
  if (!Number.isSafeInteger(replicas) || (replicas as number) < 0) {
    throw errors.invalid({ group: 'autoscaling', plural: 'scales', kind: 'Scale' }, name!, [
      errors.invalidValue('spec.replicas', replicas, 'must be greater than or equal to 0'),
    ]);
  }
  const stored = verbs.modify(served, namespace, name!, writeOptions(query, null, false), (object) => {
    if (wanted.metadata?.resourceVersion) object.metadata.resourceVersion = wanted.metadata.resourceVersion;
    writePath(object, paths.spec, replicas as number);
    return object;
  });
  reply(200, JSON.stringify(scaleOf(served, paths, stored)));
}
