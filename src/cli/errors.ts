// How a command fails: one line on stderr, with `-o json` the same as an object on stdout, exit 1, or 2 for wrong usage.
import { errorBody, LabError } from '../lab/daemon/errors.ts';
import { explained } from './explained.ts';
import { LOST, printError, printJson, red } from './output.ts';

export const usageError = (message: string, next: string): LabError =>
  new LabError('USAGE', message, next, { exit: 2 });

/** Ends a command with this exit code after it has said all there is to say. */
export class ExitCode extends Error {
  readonly code: number;
  constructor(code: number) {
    super(`exit ${code}`);
    this.code = code;
  }
}

/** Reports the failure and returns the exit code. */
export function report(error: unknown, json: boolean): number {
  if (error instanceof ExitCode) return error.code;
  return reportKnown(explained(error), json);
}

function reportKnown(error: unknown, json: boolean): number {
  const body = errorBody(error);
  if (json && body.code !== LOST) printJson({ error: body });
  const colour = process.stderr.isTTY === true && !process.env['NO_COLOR'];
  const line = (text: string) => text.replace(/\s*\n\s*/g, ' ').replace(/[.\s]+$/, '');
  const code = colour ? red(body.code) : body.code;
  printError(`podway: ${code}: ${line(body.message)} (${line(body.next)})`);
  if (process.env['PODWAY_DEBUG'] && error instanceof Error) printError(error.stack ?? '');
  return error instanceof LabError ? error.exit : 1;
}

/** Of several nodes some did not answer: a line each on stderr. The command's exit code. */
export function reportFailed(failed: readonly LabError[]): number {
  for (const error of failed) report(error, false);
  return failed.length > 0 ? 1 : 0;
}
