// Failures of the lab and its command line: a code, a sentence that names the object, and the next step. Causes of the
// network itself are PodwayErrors (base/errors); both travel over the control socket as {code, message, next}.

export type ErrorBody = { code: string; message: string; next: string };

export class LabError extends Error {
  override name = 'LabError';
  readonly code: string;
  readonly next: string;
  /** Exit code of the command that meets it: 1 failed, 2 wrong usage. */
  readonly exit: number;

  constructor(code: string, message: string, next: string, options: ErrorOptions & { exit?: number } = {}) {
    super(message, options);
    this.code = code;
    this.next = next;
    this.exit = options.exit ?? 1;
  }
}

type Explained = Error & { code?: unknown; next?: unknown; details?: { next?: unknown } };

/** Any thrown value as the body that the command line prints. */
export function errorBody(error: unknown): ErrorBody {
  if (!(error instanceof Error)) return { code: 'INTERNAL', message: String(error), next: 'report it' };
  const { code, next, details } = error as Explained;
  const known = typeof code === 'string' && code !== '' ? code : 'INTERNAL';
  const step = typeof next === 'string' ? next : details?.next;
  return {
    code: known,
    message: error.message || error.name,
    next: typeof step === 'string' ? step : 'see podway lab logs vpc',
  };
}
