// ApiError: every refusal of the API, with the code, reason, message and details that Kubernetes answers.
// One constructor per reason; the HTTP side renders `status()`, in-process callers catch the class.
import type { Status } from '../../../kube/types.ts';

export type StatusCause = { reason: string; message: string; field: string };
type Details = NonNullable<Status['details']>;

/** Group and plural: `pods`, `deployments.apps`. */
export type Named = { readonly group: string; readonly plural: string; readonly kind: string };

const qualified = (group: string, name: string) => (group === '' ? name : `${name}.${group}`);

export class ApiError extends Error {
  override name = 'ApiError';
  readonly code: number;
  readonly reason: string;
  readonly details: Details | undefined;

  constructor(code: number, reason: string, message: string, details?: Details) {
    super(message);
    this.code = code;
    this.reason = reason;
    this.details = details;
  }

  status(): Status {
    return {
      kind: 'Status',
      apiVersion: 'v1',
      metadata: {},
      status: 'Failure',
      message: this.message,
      reason: this.reason,
      ...(this.details ? { details: this.details } : {}),
      code: this.code,
    };
  }
}

/** Whatever was thrown, as an answer. */
export const asApiError = (error: unknown): ApiError =>
  error instanceof ApiError
    ? error
    : new ApiError(
        500,
        'InternalError',
        `Internal error occurred: ${error instanceof Error ? error.message : String(error)}`,
      );

const about = (r: Named, name: string): Details => ({
  name,
  ...(r.group === '' ? {} : { group: r.group }),
  kind: r.plural,
});

export const notFound = (r: Named, name: string) =>
  new ApiError(404, 'NotFound', `${qualified(r.group, r.plural)} "${name}" not found`, about(r, name));

export const alreadyExists = (r: Named, name: string) =>
  new ApiError(
    409,
    'AlreadyExists',
    `${qualified(r.group, r.plural)} "${name}" already exists`,
    about(r, name),
  );

export const conflict = (r: Named, name: string, why: string) =>
  new ApiError(
    409,
    'Conflict',
    `Operation cannot be fulfilled on ${qualified(r.group, r.plural)} "${name}": ${why}`,
    about(r, name),
  );

export const staleVersion = (r: Named, name: string) =>
  conflict(
    r,
    name,
    'the object has been modified; please apply your changes to the latest version and try again',
  );

export const forbidden = (r: Named, name: string, why: string) =>
  new ApiError(
    403,
    'Forbidden',
    `${qualified(r.group, r.plural)} "${name}" is forbidden: ${why}`,
    about(r, name),
  );

export function invalid(r: Named, name: string, causes: readonly StatusCause[]): ApiError {
  const texts = causes.map((c) => `${c.field}: ${c.message}`);
  const text = texts.length === 1 ? texts[0] : `[${texts.join(', ')}]`;
  return new ApiError(422, 'Invalid', `${qualified(r.group, r.kind)} "${name}" is invalid: ${text}`, {
    name,
    ...(r.group === '' ? {} : { group: r.group }),
    kind: r.kind,
    causes: [...causes],
  });
}

export const required = (field: string, why = ''): StatusCause => ({
  reason: 'FieldValueRequired',
  message: why === '' ? 'Required value' : `Required value: ${why}`,
  field,
});

export const invalidValue = (field: string, value: unknown, why: string): StatusCause => ({
  reason: 'FieldValueInvalid',
  message: `Invalid value: ${JSON.stringify(value)}: ${why}`,
  field,
});

export const badRequest = (message: string) => new ApiError(400, 'BadRequest', message);
export const unauthorized = () => new ApiError(401, 'Unauthorized', 'Unauthorized');
export const notServed = (message: string): ApiError => new ApiError(404, 'NotFound', message, {});
export const noSuchPath = () =>
  new ApiError(404, 'NotFound', 'the server could not find the requested resource', {});
export const methodNotAllowed = () =>
  new ApiError(
    405,
    'MethodNotAllowed',
    'the server does not allow this method on the requested resource',
    {},
  );
export const notAcceptable = (types: readonly string[]) =>
  new ApiError(406, 'NotAcceptable', `only the following media types are accepted: ${types.join(', ')}`);
export const unsupportedMediaType = (types: readonly string[]) =>
  new ApiError(
    415,
    'UnsupportedMediaType',
    `the body of the request was in an unknown format - accepted media types include: ${types.join(', ')}`,
  );
export const tooLarge = (limit: number) =>
  new ApiError(413, 'RequestEntityTooLarge', `Request entity too large: limit is ${limit}`);
export const tooManyRequests = (what: string) =>
  new ApiError(429, 'TooManyRequests', what, { retryAfterSeconds: 1 });
export const expired = (message: string) => new ApiError(410, 'Expired', message);
export const futureVersion = (asked: number, current: number) =>
  new ApiError(504, 'Timeout', `Too large resource version: ${asked}, current: ${current}`, {
    causes: [{ reason: 'ResourceVersionTooLarge', message: 'Too large resource version' }],
    retryAfterSeconds: 1,
  });
