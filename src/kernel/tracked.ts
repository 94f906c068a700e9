// How full the kernel's table of tracked connections is, from /proc of this process's own namespace. When it is full,
// the kernel drops what begins a connection (net/netfilter/nf_conntrack_core.c); those that stand go on.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

/** `dropped`: packets for which there was no room, since the namespace was made. */
export type Tracked = { readonly count: number; readonly limit: number; readonly dropped: number };

/** Null where the kernel tracks nothing. */
export function trackedConnections(proc = '/proc'): Tracked | null {
  const number = (name: string) => Number(readFileSync(join(proc, 'sys/net/netfilter', name), 'utf8'));
  try {
    return {
      count: number('nf_conntrack_count'),
      limit: number('nf_conntrack_max'),
      dropped: droppedIn(readFileSync(join(proc, 'net/stat/nf_conntrack'), 'utf8')),
    };
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null;
    throw error;
  }
}

/** A line of names, then one of hexadecimal numbers for each CPU. */
function droppedIn(text: string): number {
  const [names = '', ...cpus] = text.trim().split('\n');
  const at = names.trim().split(/\s+/).indexOf('drop');
  return cpus.reduce((sum, line) => sum + Number.parseInt(line.trim().split(/\s+/)[at] ?? '0', 16), 0);
}
