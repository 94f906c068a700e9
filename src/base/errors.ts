// PodwayError: one class for everything that has a typed cause. `message` names the object, the number and the limit.
import { getSystemErrorMessage } from 'node:util';
import { type Cause, causes, docOf } from './causes.ts';

export type ErrorDetails = {
  object?: string;
  has?: number | string;
  limit?: number | string;
  /** Milliseconds since 1970 at which the cause began. */
  since?: number;
  /** Milliseconds since 1970 at which Podway tries again by itself; absent when it waits for somebody. */
  nextAt?: number;
  /** What an operator can do. */
  next?: string;
};

/** A cause with its numbers, as the CNI error's `details` and `podway ipam explain` have it. Times are ms since 1970. */
export type ExplainedCause = ErrorDetails & {
  cause: Cause;
  /** What Podway does by itself. */
  does: string;
  /** Page and heading in the docs. */
  doc: string;
};

export class PodwayError extends Error {
  override name = 'PodwayError';
  readonly code: Cause;
  readonly details: ErrorDetails;

  constructor(code: Cause, message: string, details: ErrorDetails = {}, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
    this.details = { next: causes[code].next, ...details };
  }

  get cni(): number {
    return causes[this.code].cni;
  }

  get transient(): boolean {
    return causes[this.code].transient;
  }
}

export function explainCause({ code, details }: PodwayError): ExplainedCause {
  const { object, has, limit, since, next, nextAt } = details;
  return {
    cause: code,
    ...(object === undefined ? {} : { object }),
    ...(has === undefined ? {} : { has }),
    ...(limit === undefined ? {} : { limit }),
    ...(since === undefined ? {} : { since }),
    does: causes[code].does,
    ...(nextAt === undefined ? {} : { nextAt }),
    next: next ?? causes[code].next,
    doc: docOf(code),
  };
}

/** A write to the run directory that failed: the path, and the system's word for it, once. */
export function unwritable(path: string, error: unknown): PodwayError {
  return new PodwayError(
    'RUN_DIR_UNWRITABLE',
    unwritableText(path, error),
    { object: path },
    { cause: error },
  );
}

export function unwritableText(path: string, error: unknown): string {
  const { code, errno, message } = error as NodeJS.ErrnoException;
  const why = errno === undefined ? message : `${code} (${getSystemErrorMessage(errno)})`;
  return `${path} cannot be written: ${why}`;
}

/** Wraps whatever was thrown; a PodwayError passes through. */
export function asPodwayError(error: unknown): PodwayError {
  if (error instanceof PodwayError) return error;
  return new PodwayError(
    'INTERNAL',
    error instanceof Error ? error.message : String(error),
    {},
    { cause: error },
  );
}
