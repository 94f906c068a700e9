// PodwayError: one class for everything that has a typed cause. `message` names the object, the number and the limit.
import { type Cause, causes } from './causes.ts';

export type ErrorDetails = {
  object?: string;
  has?: number | string;
  limit?: number | string;
  /** Milliseconds since 1970 at which the cause began. */
  since?: number;
  next?: string;
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
