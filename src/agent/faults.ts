// The tests' kill -9 inside the agent: with PODWAY_FAULT=kill in its environment the agent ends itself at a point that a
// file names, at the boundaries of its journal's writes, its system calls and its answers. The file is read once and
// removed before it acts, so a restarted agent lives. Without the variable nothing of this exists.
import { readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { watchSystemCalls } from '../kernel/ffi.ts';

export type Scope = 'START' | 'ADD' | 'DEL';

export type Faults = {
  /** A point where a kill may fall. */
  boundary(name: string): void;
  /** The agent begins `scope`: if the file names it, boundaries are counted from here on. */
  begin(scope: string): void;
};

/** `<run>/kill-at` holds `SCOPE NAME COUNT`: kill at the COUNT-th boundary (from 0) named NAME (`*`: any) in SCOPE. */
export const KILL_AT = 'kill-at';
/** `<run>/killed-at` records where the kill happened: `SCOPE COUNT NAME`. */
export const KILLED_AT = 'killed-at';

export function openFaults(runDir: string): Faults | undefined {
  if (process.env['PODWAY_FAULT'] !== 'kill') return undefined;
  const file = join(runDir, KILL_AT);
  let armed: { scope: string; name: string; left: number; passed: number } | undefined;
  const faults: Faults = {
    boundary(name) {
      if (!armed) return;
      armed.passed++;
      if (armed.name !== '*' && !name.startsWith(armed.name)) return;
      if (armed.left-- > 0) return;
      const told = join(runDir, KILLED_AT);
      writeFileSync(`${told}.new`, `${armed.scope} ${armed.passed - 1} ${name}`);
      renameSync(`${told}.new`, told);
      process.kill(process.pid, 'SIGKILL');
    },
    begin(scope) {
      if (armed) return;
      let text: string;
      try {
        text = readFileSync(file, 'utf8');
      } catch {
        return;
      }
      const [wanted, name, count] = text.trim().split(' ');
      if (wanted !== scope || name === undefined) return;
      // The file is renamed away first, so that two verbs that begin at once arm one kill.
      renameSync(file, `${file}.taken`);
      rmSync(`${file}.taken`);
      armed = { scope, name, left: Number(count), passed: 0 };
    },
  };
  watchSystemCalls(faults.boundary);
  return faults;
}
