// The folders that a node's containers have in the machine's cgroup hierarchies (v1, v2 or both): who is in them, and
// their end. containerd's own folder on disk names the containers, so that they are found with nothing running; other
// containers of the machine, in the same parent, are not touched.
import { existsSync, readdirSync, readFileSync, rmdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { endAll, identify, type ProcessId } from '../daemon/processes.ts';
import { CONTAINERS, type RealNodePaths } from './layout.ts';

const TRIES = 50;
const PAUSE_MS = 20;

/** Where each hierarchy is mounted. `mountinfo`: text of /proc/PID/mountinfo. */
export function cgroupMounts(mountinfo: string): string[] {
  const found = mountinfo.split('\n').flatMap((line) => {
    const [before = '', after = ''] = line.split(' - ');
    const [type] = after.split(' ');
    return type === 'cgroup' || type === 'cgroup2' ? [before.split(' ')[4]!] : [];
  });
  return [...new Set(found)];
}

/** A group below each hierarchy's root for each container of the node. */
export function containerGroups({
  tasks,
  containers,
}: Pick<RealNodePaths, 'tasks' | 'containers'>): string[] {
  const ids = [tasks, ...containers].flatMap((dir) => (existsSync(dir) ? readdirSync(dir) : []));
  return [...new Set(ids)].map((id) => `/${CONTAINERS}/${id}`);
}

const foldersOf = (group: string): string[] =>
  cgroupMounts(readFileSync('/proc/self/mountinfo', 'utf8')).map((mount) => join(mount, group));

export function processesInCgroups(groups: string[]): ProcessId[] {
  const pids = new Set(groups.flatMap(foldersOf).flatMap(pidsBelow));
  return [...pids].flatMap((pid) => identify(pid) ?? []);
}

function pidsBelow(folder: string): number[] {
  try {
    const own = readFileSync(join(folder, 'cgroup.procs'), 'utf8').split('\n').filter(Boolean).map(Number);
    const inner = readdirSync(folder, { withFileTypes: true }).filter((entry) => entry.isDirectory());
    return [...own, ...inner.flatMap((entry) => pidsBelow(join(folder, entry.name)))];
  } catch {
    // No such folder in this hierarchy, or it went meanwhile.
    return [];
  }
}

/** Ends all that runs in it, then removes it from every hierarchy, and the folders above that are empty then. */
export async function removeCgroup(group: string): Promise<void> {
  await endAll(processesInCgroups([group]), 0);
  for (const folder of foldersOf(group)) {
    // The kernel lets a folder go a moment after its last process.
    for (let tries = 0; tries < TRIES && !removeFolder(folder); tries += 1) await sleep(PAUSE_MS);
    const depth = group.split('/').filter(Boolean).length;
    for (let up = 1, at = dirname(folder); up < depth; up += 1, at = dirname(at)) {
      try {
        rmdirSync(at);
      } catch {
        // Another node or lab is in it, or the hierarchy never had it.
        break;
      }
    }
  }
}

/** False while something in it still lives. */
function removeFolder(folder: string): boolean {
  try {
    for (const entry of readdirSync(folder, { withFileTypes: true }))
      if (entry.isDirectory() && !removeFolder(join(folder, entry.name))) return false;
    rmdirSync(folder);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'ENOENT';
  }
}
