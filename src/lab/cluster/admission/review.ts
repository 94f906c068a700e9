// The AdmissionReview that a webhook gets, and what its answer means. Pure.
import type { Status } from '../../../kube/types.ts';
import { ApiError } from '../api/errors.ts';
import type { Any } from '../api/kinds.ts';
import type { User } from '../api/pki.ts';
import type { Operation } from './hooks.ts';

export type GroupVersionKind = { group: string; version: string; kind: string };

/** A request as webhooks see it; the objects are the request's version. */
export type AdmissionRequest = {
  operation: Operation;
  kind: GroupVersionKind;
  resource: { group: string; version: string; resource: string };
  subresource: string;
  namespace: string;
  name: string;
  user: User;
  dryRun: boolean;
  /** Kind of the options; `CreateOptions`. */
  options: string;
};

const API_VERSION = 'admission.k8s.io/v1';

/** `version`: the one that the webhook asked for. */
export function reviewOf(
  request: AdmissionRequest,
  uid: string,
  version: string,
  object: Any | null,
  oldObject: Any | null,
): object {
  const { kind, resource, subresource, user } = request;
  const sub = subresource === '' ? {} : { subResource: subresource, requestSubResource: subresource };
  // A subresource has a version of its own kind.
  const kindThere = subresource === '' || subresource === 'status' ? { ...kind, version } : kind;
  return {
    kind: 'AdmissionReview',
    apiVersion: API_VERSION,
    request: {
      uid,
      kind: kindThere,
      resource: { ...resource, version },
      requestKind: kind,
      requestResource: resource,
      ...sub,
      ...(request.name === '' ? {} : { name: request.name }),
      ...(request.namespace === '' ? {} : { namespace: request.namespace }),
      operation: request.operation,
      userInfo: {
        username: user.name,
        ...(user.uid === undefined ? {} : { uid: user.uid }),
        groups: [...user.groups],
        ...(user.extra === undefined ? {} : { extra: user.extra }),
      },
      object,
      oldObject,
      dryRun: request.dryRun,
      options: { kind: request.options, apiVersion: 'meta.k8s.io/v1' },
    },
  };
}

export type Verdict = { allowed: boolean; patch: unknown; warnings: string[]; result: Partial<Status> };

/** Throws an Error with the words of kube-apiserver for an answer that is none. */
export function verdictOf(answer: unknown, uid: string, mutating: boolean): Verdict {
  const { apiVersion, kind, response } = (answer ?? {}) as {
    apiVersion?: string;
    kind?: string;
    response?: {
      uid?: string;
      allowed?: boolean;
      patch?: string;
      patchType?: string;
      warnings?: string[];
      status?: Partial<Status>;
    };
  };
  if (response === null || typeof response !== 'object') throw new Error('webhook response was absent');
  if (response.uid !== uid) throw new Error(`expected response.uid="${uid}", got "${response.uid ?? ''}"`);
  if (apiVersion !== API_VERSION || kind !== 'AdmissionReview')
    throw new Error(
      `expected webhook response of ${API_VERSION}, Kind=AdmissionReview, got ${apiVersion}, Kind=${kind}`,
    );
  const { patch, patchType } = response;
  if (!mutating && patch) throw new Error('validating webhook may not return response.patch');
  if (!mutating && patchType) throw new Error('validating webhook may not return response.patchType');
  if (patch && !patchType) throw new Error('webhook returned response.patch but not response.patchType');
  if (!patch && patchType) throw new Error('webhook returned response.patchType but not response.patch');
  if (patch && patchType !== 'JSONPatch') throw new Error(`unsupported patch type "${patchType}"`);
  return {
    allowed: response.allowed === true,
    patch: patch ? (JSON.parse(Buffer.from(patch, 'base64').toString()) as unknown) : undefined,
    warnings: (response.warnings ?? []).filter((each) => typeof each === 'string'),
    result: response.status ?? {},
  };
}

/** As statuserror.go of apiserver. */
export function denial(hook: string, { message, reason, code = 0, details }: Partial<Status>): ApiError {
  const by = `admission webhook "${hook}" denied the request`;
  const why = message || reason;
  const text = why ? `${by}: ${why}` : `${by} without explanation`;
  return new ApiError(code < 400 || code > 599 ? 400 : code, reason || 'BadRequest', text, details);
}
