// Network sysctls of a namespace. /proc/sys/net shows the namespace of the thread that opens the file, so both calls
// enter the namespace for the length of one read or write. Reading a key that is not there gives null; writing one
// throws with the key's name.
import { readFileSync, writeFileSync } from 'node:fs';
import { type Netns, withNetns } from './netns.ts';

/** In a container /proc/sys is read-only; the node's own is mounted beside it, and is writable where this says. */
const ROOT = process.env['PODWAY_PROC_SYS'] || '/proc/sys';

/** `net/ipv4/conf/eth0.100/rp_filter`: slashes between parts, so that link names may hold dots. */
function sysctlPath(key: string): string {
  if (!key.startsWith('net/') || key.includes('..') || key.includes('\0')) {
    throw new TypeError(`"${key}" is not a network sysctl (net/…, with slashes)`);
  }
  return `${ROOT}/${key}`;
}

/** The value without its newline; null when the kernel has no such key (or no such link). */
export function readSysctl(ns: Netns, key: string): string | null {
  const path = sysctlPath(key);
  return withNetns(ns, () => readValue(path));
}

function readValue(path: string): string | null {
  try {
    return readFileSync(path, 'utf8').trimEnd();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null;
    throw error;
  }
}

/** Many at once: the namespace is entered once. In the order of the keys; null for one that is not there. */
export function readSysctls(ns: Netns, keys: readonly string[]): (string | null)[] {
  const paths = keys.map(sysctlPath);
  return withNetns(ns, () => paths.map(readValue));
}

/** Many at once, in the namespace of a pod: a key that the kernel does not have is left. */
export function writeKnownSysctls(
  ns: Netns,
  values: readonly (readonly [key: string, value: string])[],
): void {
  const paths = values.map(([key, value]) => [sysctlPath(key), value] as const);
  withNetns(ns, () => {
    for (const [path, value] of paths) {
      try {
        writeFileSync(path, value, { flag: 'r+' });
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
      }
    }
  });
}

export function writeSysctl(ns: Netns, key: string, value: string | number): void {
  const path = sysctlPath(key);
  withNetns(ns, () => {
    try {
      // Not 'w': O_CREAT and O_TRUNC have no meaning in /proc/sys, and a missing key must be ENOENT.
      writeFileSync(path, String(value), { flag: 'r+' });
    } catch (cause) {
      const code = (cause as NodeJS.ErrnoException).code ?? 'error';
      throw new Error(`cannot set ${key} = ${value} in ${ns.path}: ${code}`, { cause });
    }
  });
}
