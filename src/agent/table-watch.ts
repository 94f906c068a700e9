// Hears of changes that others make to a table of ours. A process's own changes are known by their socket, or by the
// thread that made them.
import { existsSync } from 'node:fs';
import { watchKernel } from '../kernel/monitor.ts';
import type { Netns } from '../kernel/netns.ts';

export type TableWatch = {
  netns: Netns;
  /** Name of a table of family inet. */
  table: string;
  isOwn: (port: number) => boolean;
  /** `by`: name of the other process; null when the kernel dropped notifications. */
  onTouched: (by: string | null) => void;
};

export function watchTable({ netns, table, isOwn, onTouched }: TableWatch): { close(): void } {
  let isTouched = false;
  return watchKernel(netns, { groups: ['nftables'], nftTables: [table], isOwn }, (event) => {
    if (event.kind === 'lost') onTouched(null);
    else if (event.kind === 'nftables') isTouched = true;
    else if (event.kind === 'nftables-generation') {
      const isOthers = isTouched && !existsSync(`/proc/self/task/${event.threadId}`);
      isTouched = false;
      if (isOthers) onTouched(event.process);
    }
  });
}
