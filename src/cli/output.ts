// What a command writes: tables and sentences for people, JSON for scripts, progress on a terminal. Colour and the
// redrawn line only on a terminal; NO_COLOR (no-color.org) turns colour off. A reader that has seen enough (head) ends the
// command silently; an answer that cannot be written is OUTPUT_LOST; an unread stderr stops nothing.
import { writeSync } from 'node:fs';
import { stripVTControlCharacters } from 'node:util';
import { LabError } from '../lab/daemon/errors.ts';

export type OutputOptions = { output?: string; quiet?: boolean };

const colour = process.stdout.isTTY === true && !process.env['NO_COLOR'];
const paint = (code: number) => (text: string) => (colour ? `\x1b[${code}m${text}\x1b[0m` : text);
export const bold = paint(1);
export const dim = paint(2);
export const red = paint(31);
export const green = paint(32);
export const yellow = paint(33);

/** The launcher's word: Node finds /dev/null where standard output was closed. */
const closed = process.env['PODWAY_STDOUT'] === 'closed';
delete process.env['PODWAY_STDOUT'];

/** Synchronous: nothing is lost in a pipe when the process exits next. */
function write(fd: 1 | 2, text: string | Uint8Array): void {
  if (fd === 1 && closed) throw lost('it is closed');
  let rest = Buffer.from(text as Uint8Array);
  while (rest.length > 0) {
    try {
      rest = rest.subarray(writeSync(fd, rest));
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code !== 'EAGAIN') {
        if (fd === 2) return;
        if (code === 'EPIPE') process.exit();
        throw lost((error as Error).message, error);
      }
      // A full pipe that is not blocking: give the reader a moment.
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 5);
    }
  }
}

export const LOST = 'OUTPUT_LOST';
const lost = (why: string, cause?: unknown): LabError =>
  new LabError(
    LOST,
    `standard output takes no more: ${why}`,
    'write it to a pipe or to a file that has room',
    { cause },
  );

/** Bytes as they are: a log's. */
export const writeOut = (text: string | Uint8Array): void => write(1, text);
export const print = (text: string): void => write(1, `${text}\n`);
export const printError = (text: string): void => write(2, `${text}\n`);
export const printJson = (value: unknown): void => write(1, `${JSON.stringify(value, null, 2)}\n`);

/** Columns as wide as their widest cell; the last one runs free. */
export function table(head: string[], rows: string[][]): string {
  const plain = (text: string) => stripVTControlCharacters(text);
  const widths = head.map((title, column) =>
    Math.max(title.length, ...rows.map((row) => plain(row[column] ?? '').length)),
  );
  const line = (cells: string[]) =>
    cells
      .map((cell, column) =>
        column === cells.length - 1
          ? cell
          : cell + ' '.repeat(Math.max(0, widths[column]! - plain(cell).length)),
      )
      .join('  ')
      .trimEnd();
  return [bold(line(head)), ...rows.map(line)].join('\n');
}

export type Progress = { say(text: string): void; done(): void };

/** Progress goes to stderr: stdout is the command's answer. One redrawn line on a terminal, plain lines elsewhere. */
export function progress(options: OutputOptions): Progress {
  if (options.quiet || options.output === 'json') return { say: () => {}, done: () => {} };
  if (process.stderr.isTTY !== true) return { say: (text) => printError(text), done: () => {} };
  return {
    say: (text) => write(2, `\r\x1b[2K${text.slice(0, Math.max(20, (process.stderr.columns ?? 80) - 1))}`),
    done: () => write(2, '\r\x1b[2K'),
  };
}
