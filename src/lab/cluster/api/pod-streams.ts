// Between the API and the streams of pods: what refuses them, in the API's words.
import { type PodAccess, StreamRefusal } from '../streaming/access.ts';
import * as errors from './errors.ts';

/** The pod's process has no open standard input, and its output is its log. */
export const noAttach = (name: string): errors.ApiError =>
  errors.badRequest(
    `pods/attach is not served here: kubectl logs -f ${name} shows what it writes, kubectl exec runs a command`,
  );

export function podAccess(rest: { access: () => PodAccess | null }): PodAccess {
  const found = rest.access();
  if (found === null) throw errors.notServed('no node of this API runs pods');
  return found;
}

export const streamError = (error: unknown): unknown =>
  error instanceof StreamRefusal
    ? new errors.ApiError(error.code, REASONS[error.code], error.message)
    : error;

const REASONS = { 400: 'BadRequest', 404: 'NotFound', 500: 'InternalError' } as const;
