// Finds processes by identity (pid and start time, so that a reused pid does not match) and by network namespace. The
// lab's processes are detached and outlive the daemon; they are adopted or ended by identity, never by name.
import { readdirSync, readFileSync, readlinkSync, statSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';

export type ProcessId = {
  pid: number /** Clock ticks since boot: field 22 of /proc/PID/stat. */;
  startTime: string;
};

type Stat = { state: string; startTime: string };

function readStat(pid: number): Stat | undefined {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, 'utf8');
    // The command's name stands in parentheses and may hold anything: fields count from the last one.
    const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
    return { state: fields[0]!, startTime: fields[19]! };
  } catch {
    return undefined;
  }
}

export function identify(pid: number): ProcessId | undefined {
  const stat = readStat(pid);
  return stat === undefined ? undefined : { pid, startTime: stat.startTime };
}

export function isAlive(id: ProcessId | undefined): boolean {
  if (id === undefined) return false;
  const stat = readStat(id.pid);
  return stat !== undefined && stat.startTime === id.startTime && stat.state !== 'Z' && stat.state !== 'X';
}

export function signal(id: ProcessId, name: NodeJS.Signals): void {
  if (!isAlive(id)) return;
  try {
    process.kill(id.pid, name);
  } catch {
    // It ended between the look and the kill.
  }
}

/** SIGTERM, then SIGKILL after `graceMs`; resolves when the process is gone (or 5 s after SIGKILL). */
export async function endProcess(id: ProcessId | undefined, graceMs: number): Promise<void> {
  if (id === undefined || !isAlive(id)) return;
  signal(id, 'SIGTERM');
  if (await waitGone(id, graceMs)) return;
  signal(id, 'SIGKILL');
  await waitGone(id, 5000);
}

async function waitGone(id: ProcessId, boundMs: number): Promise<boolean> {
  const end = performance.now() + boundMs;
  for (let pause = 2; isAlive(id); pause = Math.min(pause * 2, 50)) {
    if (performance.now() >= end) return false;
    await sleep(pause);
  }
  return true;
}

/** Every process (ours excepted) whose network namespace is one of these files under /run/netns. */
export function processesInNamespaces(paths: string[]): ProcessId[] {
  const inodes = new Set<string>();
  for (const path of paths) {
    try {
      inodes.add(`net:[${statSync(path).ino}]`);
    } catch {
      // The namespace does not exist, so no process can be in it.
    }
  }
  if (inodes.size === 0) return [];
  const found: ProcessId[] = [];
  for (const entry of readdirSync('/proc')) {
    const pid = Number(entry);
    if (!Number.isInteger(pid) || pid === process.pid) continue;
    try {
      if (!inodes.has(readlinkSync(`/proc/${pid}/ns/net`))) continue;
    } catch {
      continue;
    }
    const id = identify(pid);
    if (id) found.push(id);
  }
  return found;
}

/** Every process (ours excepted) that was started with this variable in its environment. */
export function processesWith(variable: string, value: string): ProcessId[] {
  const wanted = `\0${variable}=${value}\0`;
  return readdirSync('/proc').flatMap((entry) => {
    const pid = Number(entry);
    if (!Number.isInteger(pid) || pid === process.pid) return [];
    return bears(pid, wanted) ? (identify(pid) ?? []) : [];
  });
}

function bears(pid: number, wanted: string): boolean {
  try {
    return `\0${readFileSync(`/proc/${pid}/environ`, 'latin1')}\0`.includes(wanted);
  } catch {
    return false; // It ended, or it is not ours to look at.
  }
}

export async function endAll(ids: ProcessId[], graceMs: number): Promise<void> {
  await Promise.all(ids.map((id) => endProcess(id, graceMs)));
}
