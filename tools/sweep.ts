// Removes what a test run left that was killed: labs, namespaces and folders whose names carry the id of a process that
// is gone. `node tools/sweep.ts` sweeps at once; with --at-end it first waits for the end of its standard input, which
// is the run's pipe and closes however the run ends. Names without a dead process's id are never touched.
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, readSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

const root = join(import.meta.dirname, '..');

/** What tests make, and where the name has the process's id. A namespace of a lab goes with its lab. */
const NAMES = {
  lab: /^(?:e2e-[a-z0-9]+-|pwt-[a-d]-|storm-[a-z]|fuzz-)(?<pid>\d+)$/,
  namespace:
    /^(?:(?:pwt-(?:kernel|kernel-ct|fuzz|datapath|repl)|e2e-why)-(?<pid>\d+)(?:-.*)?|podway_pwtfabric(?<pid>\d+)x.*)$/,
};
/** Folders have no process's id in their names: an hour is longer than any run. */
const FOLDER = /^(?:podway|pwt)-[a-z-]+-[A-Za-z0-9]{6}$/;
const FOLDER_AGE_MS = 3_600_000;
/** The runner's limit for one test file, and some more. */
const LONGEST_TEST_MS = 400_000;

/** Id of the process whose test made the thing of this name; undefined for what no test made. */
export function makerOf(kind: keyof typeof NAMES, name: string): number | undefined {
  const pid = NAMES[kind].exec(name)?.groups?.['pid'];
  return pid === undefined ? undefined : Number(pid);
}

const isAlive = (pid: number): boolean => existsSync(`/proc/${pid}`);
const names = (folder: string): string[] => (existsSync(folder) ? readdirSync(folder) : []);
const PLACES = { lab: '/run/podway/labs', namespace: '/run/netns' } as const;

/** Names of labs or namespaces that tests made and whose test process lives (`alive`) or has ended. */
const madeBy = (kind: keyof typeof NAMES, alive: boolean): string[] =>
  names(PLACES[kind]).filter((name) => {
    const pid = makerOf(kind, name);
    return pid !== undefined && isAlive(pid) === alive;
  });

export function sweep(): string[] {
  const swept: string[] = [];
  for (const lab of madeBy('lab', false)) {
    spawnSync(join(root, 'bin/podway'), ['lab', 'down', '--lab', lab, '--quiet'], { stdio: 'ignore' });
    swept.push(`lab ${lab}`);
  }
  for (const name of madeBy('namespace', false)) {
    spawnSync('ip', ['netns', 'del', name], { stdio: 'ignore' });
    swept.push(`namespace ${name}`);
  }
  for (const name of names(tmpdir())) {
    const path = join(tmpdir(), name);
    const stat = FOLDER.test(name) ? statSync(path, { throwIfNoEntry: false }) : undefined;
    if (!stat || stat.uid !== process.getuid?.() || Date.now() - stat.mtimeMs < FOLDER_AGE_MS) continue;
    rmSync(path, { recursive: true, force: true });
    swept.push(`folder ${path}`);
  }
  return swept;
}

/** Blocks until the process at the other end of standard input has ended. */
function untilInputEnds(): void {
  const buffer = Buffer.alloc(64);
  for (;;) {
    try {
      if (readSync(0, buffer) === 0) return;
    } catch {
      return;
    }
  }
}

if (import.meta.main) {
  const atEnd = process.argv.includes('--at-end');
  if (atEnd) untilInputEnds();
  for (const what of sweep()) console.log(`swept: ${what}`);
  // Tests whose runner was killed go on for a while, or die a moment after it.
  const end = performance.now() + LONGEST_TEST_MS;
  while (
    atEnd &&
    performance.now() < end &&
    madeBy('lab', true).length + madeBy('namespace', true).length > 0
  ) {
    await sleep(1000);
    sweep();
  }
}
