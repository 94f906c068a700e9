// The mark of one lab: its name and a unique number, in a file of the lab's folder and in the environment of every
// process that the lab starts. `lab down` ends all processes with the mark, in any namespace. A lab of the same name
// on another machine, or in a container of this one, has another mark.
import { randomUUID } from 'node:crypto';
import { linkSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import type { LabPaths } from './paths.ts';
import { type ProcessId, processesWith } from './processes.ts';

/** Environment variable that bears the mark; every process hands it on to those it starts. */
export const MARK = 'PODWAY_MARK';

export function readMark(paths: LabPaths): string | undefined {
  try {
    return readFileSync(paths.mark, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}

/** The lab's mark, made when it has none. Two that make it at once agree on one. */
export function makeMark(paths: LabPaths): string {
  const aside = `${paths.mark}.${process.pid}.new`;
  writeFileSync(aside, `${paths.lab}/${randomUUID()}`, { mode: 0o600 });
  try {
    linkSync(aside, paths.mark);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
  } finally {
    rmSync(aside, { force: true });
  }
  return readFileSync(paths.mark, 'utf8');
}

/** Every process but this one that was started with the mark. */
export const processesMarked = (mark: string | undefined): ProcessId[] =>
  mark === undefined ? [] : processesWith(MARK, mark);
