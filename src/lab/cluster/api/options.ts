// What a resource request says besides its path: query parameters, options in bodies, and how a body and an answer
// pass between the HTTP side and the verbs. Fails with 400 naming the parameter.
import type { IncomingMessage, ServerResponse } from 'node:http';
import * as errors from './errors.ts';
import type { Any, Served } from './kinds.ts';
import type { Answer } from './negotiate.ts';
import type { IncludeObject } from './table.ts';
import type { DeleteOptions, FieldValidation, UpdateOptions, WriteOptions } from './verbs.ts';

export type Target = {
  served: Served;
  namespace: string;
  name: string | undefined;
  subresource: string | undefined;
};

export type Reply = (code: number, body: string, contentType?: string) => void;

export type ReadBody = (types: readonly string[]) => Promise<{ value: unknown; type: string }>;

export const WRITE_TYPES = ['application/json', 'application/yaml'] as const;
export const PATCH_TYPES = [
  'application/json-patch+json',
  'application/merge-patch+json',
  'application/strategic-merge-patch+json',
  'application/apply-patch+yaml',
] as const;

export function objectOf(value: unknown): Any {
  if (value === null || typeof value !== 'object' || Array.isArray(value)) {
    throw errors.badRequest('the object provided is not an object');
  }
  return value as Any;
}

/** The media type of an answer; a Table or discovery document says what it is in parameters. */
export const contentTypeOf = (accept: Answer): string =>
  accept.kind === 'yaml' ? 'application/yaml' : 'application/json';

/** As apimachinery converts query parameters: only absence, "false" and "0" are false. */
export const isTrue = (text: string | null): boolean =>
  text !== null && text.toLowerCase() !== 'false' && text !== '0';

export function numberOf(query: URLSearchParams, name: string): number | undefined {
  const text = query.get(name);
  if (text === null || text === '') return undefined;
  if (!/^[0-9]{1,10}$/.test(text))
    throw errors.badRequest(`Invalid value: "${text}": ${name} must be a number`);
  return Number(text);
}

export const selectors = (query: URLSearchParams, namespace: string) => ({
  namespace,
  labelSelector: query.get('labelSelector') ?? undefined,
  fieldSelector: query.get('fieldSelector') ?? undefined,
});

export function includeOf(query: URLSearchParams): IncludeObject {
  const text = query.get('includeObject') ?? '';
  if (text === '') return 'Metadata';
  if (text === 'None' || text === 'Metadata' || text === 'Object') return text;
  throw errors.badRequest(`Invalid value: "${text}": includeObject must be None, Metadata or Object`);
}

/** Warning headers of one answer; the header section of a response is bounded at the client. */
const MAX_WARNINGS = 20;

export function warnIn(response: ServerResponse | null): NonNullable<WriteOptions['warn']> {
  let warnings = 0;
  return (text) => {
    if (warnings++ >= MAX_WARNINGS) return;
    response?.appendHeader(
      'warning',
      `299 - "${text.replace(/["\\]/g, '\\$&').replace(/[^\x20-\x7e]/g, '?')}"`,
    );
  };
}

export function writeOptions(
  query: URLSearchParams,
  response: ServerResponse | null,
  status: boolean,
): UpdateOptions {
  const dryRun = query.getAll('dryRun');
  if (dryRun.some((d) => d !== 'All')) {
    throw errors.badRequest(
      `dryRun: Unsupported value: ${JSON.stringify(dryRun.find((d) => d !== 'All'))}: supported values: "All"`,
    );
  }
  const validation = query.get('fieldValidation') ?? '';
  if (!['', 'Strict', 'Warn', 'Ignore'].includes(validation)) {
    throw errors.badRequest(
      `fieldValidation: Unsupported value: "${validation}": supported values: "Ignore", "Strict", "Warn"`,
    );
  }
  return {
    dryRun: dryRun.length > 0,
    fieldValidation: (validation || 'Warn') as FieldValidation,
    warn: warnIn(response),
    subresource: status ? 'status' : undefined,
  };
}

/** Options of a delete come in its body or, without one, in the query. */
export async function deleteOptions(
  request: IncomingMessage,
  query: URLSearchParams,
  body: ReadBody,
): Promise<DeleteOptions> {
  const hasBody =
    request.headers['transfer-encoding'] !== undefined || Number(request.headers['content-length'] ?? 0) > 0;
  const sent = hasBody
    ? (objectOf((await body(WRITE_TYPES)).value) as unknown as Record<string, unknown>)
    : {};
  const grace = sent['gracePeriodSeconds'] ?? numberOf(query, 'gracePeriodSeconds');
  if (grace !== undefined && grace !== null && !Number.isSafeInteger(grace)) {
    throw errors.badRequest('gracePeriodSeconds must be a whole number');
  }
  const policy =
    sent['propagationPolicy'] ??
    query.get('propagationPolicy') ??
    (sent['orphanDependents'] === true ? 'Orphan' : undefined);
  if (policy !== undefined && policy !== 'Orphan' && policy !== 'Background' && policy !== 'Foreground') {
    throw errors.badRequest(
      `propagationPolicy: Unsupported value: ${JSON.stringify(policy)}: supported values: "Foreground", "Background", "Orphan"`,
    );
  }
  const conditions = sent['preconditions'];
  const dryRun = Array.isArray(sent['dryRun']) ? sent['dryRun'] : query.getAll('dryRun');
  return {
    ...(typeof grace === 'number' ? { gracePeriodSeconds: grace } : {}),
    ...(policy ? { propagationPolicy: policy } : {}),
    ...(conditions !== null && typeof conditions === 'object'
      ? { preconditions: conditions as { uid?: string; resourceVersion?: string } }
      : {}),
    dryRun: dryRun.includes('All'),
  };
}
