// Runs test files by node:test, each in a process of its own, several side by side, in the order given. Says of each
// file whether it passed, its counts, how long it took and, of one that failed, all that it wrote.
import { relative } from 'node:path';
import { run } from 'node:test';
import { dot, spec } from 'node:test/reporters';

export type FileRun = {
  file: string;
  ok: boolean;
  seconds: number;
  passed: number;
  failed: number;
  skipped: number;
  /** What it wrote to standard output and standard error. */
  wrote: string;
};

export type RunOptions = {
  root: string;
  atOnce: number;
  /** For the Node that runs a file. */
  flags: string[];
  /** Names every test; else a dot each, and what failed at the end. */
  full: boolean;
};

/** Of one test; a file has many. */
const TIMEOUT_MS = 300_000;

export async function runFiles(files: readonly string[], options: RunOptions): Promise<FileRun[]> {
  const { root, atOnce, flags, full } = options;
  const runs = new Map<string, FileRun>();
  const runOf = (path: string): FileRun => {
    const file = relative(root, path);
    const known = runs.get(file);
    const made = known ?? { file, ok: true, seconds: 0, passed: 0, failed: 0, skipped: 0, wrote: '' };
    if (!known) runs.set(file, made);
    return made;
  };
  const began = new Map<string, number>();
  const stream = run({
    cwd: root,
    files: files.map((file) => `${root}/${file}`),
    concurrency: atOnce,
    timeout: TIMEOUT_MS,
    execArgv: flags,
  });
  const wrote = ({ file, message }: { file?: string | undefined; message: string }) => {
    if (file) runOf(file).wrote += message;
  };
  stream.on('test:stdout', wrote).on('test:stderr', wrote);
  stream.on('test:dequeue', ({ file, name }) => {
    if (file && name === file) began.set(file, performance.now());
  });
  stream.on('test:summary', ({ file, success, counts, duration_ms }) => {
    if (!file) return;
    const of = runOf(file);
    const failed = counts.tests - counts.passed - counts.skipped - counts.todo;
    const { passed, skipped } = counts;
    Object.assign(of, { ok: success, passed, failed, skipped, seconds: duration_ms / 1000 });
  });
  // A file that ends before its tests do has no summary.
  stream.on('test:fail', ({ file, name }) => {
    if (!file || name !== file) return;
    const seconds = (performance.now() - (began.get(file) ?? performance.now())) / 1000;
    const of = runOf(file);
    Object.assign(of, { ok: false, failed: Math.max(1, of.failed), seconds });
  });
  const shown = full ? stream.compose(new spec()) : stream.compose(dot);
  for await (const text of shown) process.stdout.write(text as string);
  return [...runs.values()];
}

/** More that fail at once do not fail by chance. */
const MOST_AGAIN = 3;
/** Seconds: the whole run has a bound. */
const LONGEST_AGAIN = 180;
/** Tests of whole labs, by the path of their file. */
const OF_LABS = /^(?:test\/e2e\/|test\/integration\/|test\/kubernetes\/smoke\.|src\/cli\/lab\.root\.)/;

/**
 * The files that are run a second time, alone: tests of whole labs, which the machine itself can hold up. Whatever
 * fails twice has failed, and what passes then is told as flaky: the first failure is a finding all the same.
 */
export function runAgain(runs: readonly FileRun[]): string[] {
  const failed = runs.filter(({ ok }) => !ok);
  const may = failed.every(({ file, seconds }) => OF_LABS.test(file) && seconds < LONGEST_AGAIN);
  return may && failed.length <= MOST_AGAIN ? failed.map(({ file }) => file) : [];
}

/** The longest first, so that no processor is left with nothing while the last one has a minute to go. */
export function longestFirst(files: readonly string[], longest: readonly string[]): string[] {
  return [
    ...longest.filter((file) => files.includes(file)),
    ...files.filter((file) => !longest.includes(file)),
  ];
}
