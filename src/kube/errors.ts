// KubeError: a request that the API refused, or that did not reach it.
import type { Status } from './types.ts';

export class KubeError extends Error {
  override name = 'KubeError';
  /** HTTP status; 0 when the API was not reached. */
  readonly code: number;
  readonly reason: string;
  readonly status: Status | undefined;

  constructor(code: number, reason: string, message: string, status?: Status, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
    this.reason = reason;
    this.status = status;
  }
}

export const isNotFound = (error: unknown): boolean => error instanceof KubeError && error.code === 404;
export const isConflict = (error: unknown): boolean =>
  error instanceof KubeError && error.reason === 'Conflict';
export const isExpired = (error: unknown): boolean => error instanceof KubeError && error.code === 410;

export function errorOf(code: number, status: Status): KubeError {
  return new KubeError(
    status.code ?? code,
    status.reason ?? 'Unknown',
    status.message ?? `the API answered ${code}`,
    status,
  );
}
