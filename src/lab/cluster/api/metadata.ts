// The rules of ObjectMeta: what a client may say, what only the server says, what a name looks like.
import { randomBytes } from 'node:crypto';
import type { ObjectMeta } from '../../../kube/types.ts';
import { invalidValue, required, type StatusCause } from './errors.ts';
import type { Any, Kind } from './kinds.ts';

const LABEL = /^[a-z0-9]([-a-z0-9]*[a-z0-9])?$/;
const SUBDOMAIN = /^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$/;
const QUALIFIED = /^([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]$/;
const LABEL_VALUE = /^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$/;
/** validation.TotalAnnotationSizeLimitB of apimachinery. */
const ANNOTATION_BYTES = 256 * 1024;

export function nameProblem(rule: Kind['nameRule'], name: string): string | null {
  if (rule === 'path') {
    if (name === '.' || name === '..') return `may not be '${name}'`;
    return /[/%]/.test(name) ? "may not contain '/' or '%'" : null;
  }
  if (rule === 'label') {
    if (name.length > 63) return 'must be no more than 63 characters';
    return LABEL.test(name)
      ? null
      : "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
  }
  if (name.length > 253) return 'must be no more than 253 characters';
  return SUBDOMAIN.test(name)
    ? null
    : "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
}

export function keyProblem(key: string): string | null {
  const slash = key.indexOf('/');
  if (slash >= 0) {
    const prefix = key.slice(0, slash);
    if (prefix.length > 253 || !SUBDOMAIN.test(prefix))
      return 'prefix part must be a lowercase RFC 1123 subdomain';
  }
  const name = key.slice(slash + 1);
  if (name.length === 0 || name.length > 63 || !QUALIFIED.test(name)) {
    return "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
  }
  return null;
}

export function metadataProblems(meta: ObjectMeta): StatusCause[] {
  const causes: StatusCause[] = [];
  for (const [key, value] of Object.entries(meta.labels ?? {})) {
    const problem = keyProblem(key);
    if (problem) causes.push(invalidValue('metadata.labels', key, problem));
    if (typeof value !== 'string' || value.length > 63 || !LABEL_VALUE.test(value)) {
      causes.push(
        invalidValue(
          'metadata.labels',
          value,
          "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')",
        ),
      );
    }
  }
  let bytes = 0;
  for (const [key, value] of Object.entries(meta.annotations ?? {})) {
    const problem = keyProblem(key.toLowerCase());
    if (problem) causes.push(invalidValue('metadata.annotations', key, problem));
    if (typeof value !== 'string')
      causes.push(invalidValue(`metadata.annotations.${key}`, value, 'must be a string'));
    else bytes += key.length + value.length;
  }
  if (bytes > ANNOTATION_BYTES) {
    causes.push({
      reason: 'FieldValueTooLong',
      message: `Too long: may not be more than ${ANNOTATION_BYTES} bytes`,
      field: 'metadata.annotations',
    });
  }
  (meta.finalizers ?? []).forEach((finalizer, i) => {
    if (typeof finalizer !== 'string' || keyProblem(finalizer)) {
      causes.push(invalidValue(`metadata.finalizers[${i}]`, finalizer, 'must be a qualified name'));
    }
  });
  (meta.ownerReferences ?? []).forEach((owner, i) => {
    for (const field of ['apiVersion', 'kind', 'name', 'uid'] as const) {
      if (!owner?.[field]) causes.push(required(`metadata.ownerReferences[${i}].${field}`));
    }
  });
  return causes;
}

/** Wrong types that would break whoever reads metadata; the message is that of a failed decode. */
export function metadataShape(object: Any): string | null {
  const meta: unknown = object.metadata;
  if (meta === null || typeof meta !== 'object' || Array.isArray(meta)) return 'metadata must be an object';
  const m = meta as Record<string, unknown>;
  for (const field of ['name', 'generateName', 'namespace', 'uid', 'resourceVersion', 'deletionTimestamp']) {
    if (m[field] === null) delete m[field];
    else if (m[field] !== undefined && typeof m[field] !== 'string')
      return `metadata.${field} must be a string`;
  }
  for (const field of ['labels', 'annotations']) {
    if (m[field] === null) delete m[field];
    else if (m[field] !== undefined && (typeof m[field] !== 'object' || Array.isArray(m[field]))) {
      return `metadata.${field} must be a map of strings`;
    }
  }
  for (const field of ['finalizers', 'ownerReferences']) {
    if (m[field] === null) delete m[field];
    else if (m[field] !== undefined && !Array.isArray(m[field])) return `metadata.${field} must be a list`;
  }
  return null;
}

const SUFFIX = 'bcdfghjklmnpqrstvwxz2456789';

/** generateName: at most 58 characters of the base, then five that make no words. */
export function generatedName(base: string): string {
  let suffix = '';
  for (const byte of randomBytes(5)) suffix += SUFFIX[byte % SUFFIX.length];
  return base.slice(0, 58) + suffix;
}

/** Fields that a client may set on create, with the rest cleared. */
export function serverMetadata(meta: ObjectMeta, kind: Kind): ObjectMeta {
  const { name, generateName, namespace, labels, annotations, ownerReferences, finalizers } = meta;
  return {
    name: name!,
    ...(generateName ? { generateName } : {}),
    ...(kind.namespaced && namespace !== undefined ? { namespace } : {}),
    ...some('labels', labels),
    ...some('annotations', annotations),
    ...(ownerReferences?.length ? { ownerReferences } : {}),
    ...(finalizers?.length ? { finalizers } : {}),
  };
}

const some = (key: 'labels' | 'annotations', map: Record<string, string> | undefined) =>
  map !== undefined && Object.keys(map).length > 0 ? { [key]: map } : {};

/** What only the server says stays as it was; the rest comes from the client. */
export function keepMetadata(meta: ObjectMeta, before: ObjectMeta): ObjectMeta {
  const {
    name,
    generateName,
    namespace,
    uid,
    creationTimestamp,
    deletionTimestamp,
    deletionGracePeriodSeconds,
    generation,
  } = before;
  const { labels, annotations, ownerReferences, finalizers } = meta;
  return {
    name: name!,
    ...(generateName ? { generateName } : {}),
    ...(namespace !== undefined ? { namespace } : {}),
    ...some('labels', labels),
    ...some('annotations', annotations),
    ...(ownerReferences?.length ? { ownerReferences } : {}),
    ...(finalizers?.length ? { finalizers } : {}),
    ...(uid !== undefined ? { uid } : {}),
    ...(creationTimestamp !== undefined ? { creationTimestamp } : {}),
    ...(deletionTimestamp !== undefined ? { deletionTimestamp } : {}),
    ...(deletionGracePeriodSeconds !== undefined ? { deletionGracePeriodSeconds } : {}),
    ...(generation !== undefined ? { generation } : {}),
  };
}
