// The patches of the API: JSON patch (RFC 6902), JSON merge patch (RFC 7386), strategic merge patch, and the merge
// of server-side apply. All are pure: they return the new value and share nothing with the old one's mutable parts.
// Merge keys are the patchMergeKey tags of k8s.io/api; a list without one is replaced whole.
import { applyPatch } from 'rfc6902';
import { ApiError, badRequest } from './errors.ts';

export type Json = null | boolean | number | string | Json[] | { [key: string]: Json };
type Fields = { [key: string]: Json };

/** As the API server: more operations than this are refused (webhook and REST limit of 10,000). */
const MAX_OPERATIONS = 10_000;

const isMap = (value: Json | undefined): value is Fields =>
  value !== null && typeof value === 'object' && !Array.isArray(value);

const unprocessable = (message: string) => new ApiError(422, 'Invalid', message, {});

export function jsonPatch(target: Json, patch: Json): Json {
  if (!Array.isArray(patch)) throw badRequest('error decoding patch: a JSON patch is a list of operations');
  if (patch.length > MAX_OPERATIONS) {
    throw new ApiError(
      413,
      'RequestEntityTooLarge',
      `The allowed maximum operations in a JSON patch is ${MAX_OPERATIONS}, got ${patch.length}`,
    );
  }
  for (const operation of patch) {
    if (!isMap(operation) || typeof operation['op'] !== 'string' || typeof operation['path'] !== 'string') {
      throw badRequest('error decoding patch: an operation has an op and a path');
    }
    for (const pointer of [operation['path'], operation['from']]) {
      if (typeof pointer === 'string' && /(^|\/)(__proto__|constructor|prototype)(\/|$)/.test(pointer)) {
        throw badRequest(`error decoding patch: the path ${pointer} names no field`);
      }
    }
  }
  const copy = structuredClone(target);
  const problems = applyPatch(copy, structuredClone(patch) as unknown as Parameters<typeof applyPatch>[1]);
  const problem = problems.find((p) => p !== null);
  if (problem) {
    throw unprocessable(
      `the server rejected our request due to an error in our request: ${problem.message || problem.name}`,
    );
  }
  return copy;
}

export function mergePatch(target: Json | undefined, patch: Json): Json {
  if (!isMap(patch)) return patch;
  const out: Fields = isMap(target) ? { ...target } : {};
  for (const [key, value] of Object.entries(patch)) {
    if (value === null) delete out[key];
    else out[key] = mergePatch(out[key], value);
  }
  return out;
}

/** Field name to merge key; fields whose key depends on where they stand are in `keyByParent`. */
const mergeKeys: Readonly<Record<string, string>> = {
  addresses: 'type',
  allocatedResourcesStatus: 'name',
  conditions: 'type',
  containers: 'name',
  drivers: 'name',
  env: 'name',
  ephemeralContainers: 'name',
  hostAliases: 'ip',
  hostIPs: 'ip',
  imagePullSecrets: 'name',
  initContainers: 'name',
  matchConditions: 'name',
  ownerReferences: 'uid',
  podIPs: 'ip',
  resourceClaimStatuses: 'name',
  resourceClaims: 'name',
  schedulingGates: 'name',
  secrets: 'name',
  topologySpreadConstraints: 'topologyKey',
  variables: 'name',
  volumeDevices: 'devicePath',
  volumeMounts: 'mountPath',
  volumes: 'name',
  webhooks: 'name',
};

/** `ports` has a key in containers and in a Service, and none in a NetworkPolicy or an EndpointSlice. */
const keyByParent: Readonly<Record<string, string>> = {
  'containers.ports': 'containerPort',
  'initContainers.ports': 'containerPort',
  'ephemeralContainers.ports': 'containerPort',
  'spec.ports': 'port',
};

/** The same for server-side apply, whose keys are the listMapKeys; they differ for ports. */
const applyKeys: Readonly<Record<string, readonly string[]>> = {
  'containers.ports': ['containerPort', 'protocol'],
  'initContainers.ports': ['containerPort', 'protocol'],
  'ephemeralContainers.ports': ['containerPort', 'protocol'],
  'spec.ports': ['port', 'protocol'],
};

const primitiveSets = new Set(['finalizers', 'podCIDRs']);

function keyOf(parent: string, field: string): string | undefined {
  return (
    keyByParent[`${parent}.${field}`] ?? (Object.hasOwn(mergeKeys, field) ? mergeKeys[field] : undefined)
  );
}

export function strategicMergePatch(target: Json | undefined, patch: Json): Json {
  if (!isMap(patch)) throw badRequest('error decoding patch: a strategic merge patch is an object');
  return mergeMaps(isMap(target) ? target : {}, patch, '');
}

const directive = /^\$(setElementOrder|deleteFromPrimitiveList)\/(.+)$/;

function mergeMaps(target: Fields, patch: Fields, parent: string): Fields {
  const how = patch['$patch'];
  if (how === 'replace') {
    const { $patch: _, ...rest } = patch;
    return rest;
  }
  if (how === 'delete') return {};
  if (how !== undefined && how !== 'merge')
    throw badRequest(`unknown patch type found: ${JSON.stringify(how)}`);
  const out: Fields = { ...target };
  const retain = patch['$retainKeys'];
  if (Array.isArray(retain)) for (const key of Object.keys(out)) if (!retain.includes(key)) delete out[key];
  const orders: [string, Json[]][] = [];
  for (const [key, value] of Object.entries(patch)) {
    if (key === '$patch' || key === '$retainKeys') continue;
    const special = directive.exec(key);
    if (special) {
      if (!Array.isArray(value)) throw badRequest(`${key} must be a list`);
      const [, name, field] = special as unknown as [string, string, string];
      if (name === 'setElementOrder') orders.push([field, value]);
      else if (Array.isArray(out[field])) out[field] = out[field].filter((item) => !value.includes(item));
      continue;
    }
    if (value === null) delete out[key];
    else if (isMap(value)) out[key] = mergeMaps(isMap(out[key]) ? out[key] : {}, value, key);
    else if (Array.isArray(value)) out[key] = mergeLists(out[key], value, parent, key);
    else out[key] = value;
  }
  for (const [field, order] of orders) {
    const list = out[field];
    if (Array.isArray(list)) out[field] = inOrder(list, order, keyOf(parent, field));
  }
  return out;
}

function mergeLists(target: Json | undefined, patch: Json[], parent: string, field: string): Json[] {
  const key = keyOf(parent, field);
  const plain = patch.filter(
    (item) => !(isMap(item) && item['$patch'] === 'replace' && Object.keys(item).length === 1),
  );
  if (key === undefined && primitiveSets.has(field) && patch.every((item) => !isMap(item))) {
    const old = Array.isArray(target) ? target : [];
    return [...old, ...patch.filter((item) => !old.includes(item))];
  }
  if (key === undefined || plain.length !== patch.length) return plain.map(withoutDirectives);
  const out = Array.isArray(target) ? [...target] : [];
  for (const item of patch) {
    if (!isMap(item)) throw badRequest(`${field}: a list that merges by ${key} holds objects`);
    const id = item[key];
    if (id === undefined)
      throw badRequest(`map: ${JSON.stringify(item)} does not contain declared merge key: ${key}`);
    const at = out.findIndex((old) => isMap(old) && old[key] === id);
    if (item['$patch'] === 'delete') {
      if (at >= 0) out.splice(at, 1);
    } else if (at >= 0) out[at] = mergeMaps(out[at] as Fields, item, field);
    else out.push(mergeMaps({}, item, field));
  }
  return out;
}

function withoutDirectives(value: Json): Json {
  if (Array.isArray(value)) return value.map(withoutDirectives);
  if (!isMap(value)) return value;
  const out: Fields = {};
  for (const [key, item] of Object.entries(value))
    if (!key.startsWith('$')) out[key] = withoutDirectives(item);
  return out;
}

/** $setElementOrder: listed ones in the order listed; those that the patch does not know keep their places before. */
function inOrder(list: Json[], order: Json[], key: string | undefined): Json[] {
  const idOf = (item: Json) => (key !== undefined && isMap(item) ? item[key] : item);
  const rank = new Map(order.map((item, i) => [idOf(item), i]));
  const listed = list
    .filter((item) => rank.has(idOf(item)))
    .sort((a, b) => rank.get(idOf(a))! - rank.get(idOf(b))!);
  const out: Json[] = [];
  let next = 0;
  for (const item of list) out.push(rank.has(idOf(item)) ? listed[next++]! : item);
  return out;
}

/** Server-side apply as a merge: what the applied object says wins, what it does not say stays. */
export function applyMerge(target: Json | undefined, applied: Json, parent = '', field = ''): Json {
  if (isMap(applied)) {
    const out: Fields = isMap(target) ? { ...target } : {};
    for (const [key, value] of Object.entries(applied)) {
      if (value === null) delete out[key];
      else out[key] = applyMerge(out[key], value, field, key);
    }
    return out;
  }
  if (!Array.isArray(applied)) return applied;
  if (primitiveSets.has(field)) {
    const old = Array.isArray(target) ? target : [];
    return [...old, ...applied.filter((item) => !old.includes(item))];
  }
  const single = keyOf(parent, field);
  const keys = applyKeys[`${parent}.${field}`] ?? (single === undefined ? undefined : [single]);
  if (keys === undefined) return applied;
  const idOf = (item: Json) =>
    isMap(item) ? JSON.stringify(keys.map((key) => item[key] ?? (key === 'protocol' ? 'TCP' : null))) : '';
  const out = Array.isArray(target) ? [...target] : [];
  for (const item of applied) {
    const id = idOf(item);
    const at = out.findIndex((old) => idOf(old) === id);
    if (at >= 0) out[at] = applyMerge(out[at], item, parent, field);
    else out.push(item);
  }
  return out;
}
