// Deletes the links that cutPod left, many at a time. A veth's deletion costs the kernel an RCU wait of 17-24 ms, fifty
// in one group little more than one, and it holds the rtnl lock meanwhile: so it runs on a socket and thread of its
// own, one bounded group after another, and waits while ADDs are queued, up to a bound. Fails into the log; the next
// reap, or sync, tries again.
import type { Log } from '../base/log.ts';
import type { Kernel, Memory } from './memory.ts';

/** Ms from the last cut to the deletion: the DELs of a storm share one deletion and do not wait for its lock. */
const GATHER_MS = 30;
/** A cut link is deleted after this long (ms) even while ADDs wait. */
const LATEST_MS = 80;
const STEP_MS = 10;

export type Reaper = {
  /** Resolves when every link that was cut before the call is gone. */
  reap(): Promise<void>;
  /** Deletes at once and ends; nothing is scheduled afterwards. */
  close(): Promise<void>;
};

export type ReaperOptions = {
  kernel: Kernel;
  memory: Memory;
  log: Log;
  now: () => number;
  /** True while ADDs wait for their turn: each would wait for the deletion's lock. */
  addsQueued: () => boolean;
};

export function createReaper({ kernel, memory, log, now, addsQueued }: ReaperOptions): Reaper {
  let running: Promise<void> | undefined;
  let closing = false;

  const pause = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms));
  const cutAt = () => [...memory.cut.values()].map((link) => link.at);
  const oldest = () => Math.min(...cutAt());
  const newest = () => Math.max(...cutAt());

  async function round(): Promise<void> {
    const mayWait = () => !closing && now() < oldest() + LATEST_MS;
    while (mayWait() && (addsQueued() || now() < newest() + GATHER_MS)) await pause(STEP_MS);
    const group = memory.cut.values().next().value?.group;
    if (group === undefined) return;
    const links = [...memory.cut].filter(([, link]) => link.group === group);
    const [error] = await kernel.rt.applyAsync([{ op: 'group-del', group }]);
    if (error && error.code !== 'ENODEV') throw error;
    // The name may have been wired and cut again meanwhile; then it names another link.
    for (const [name, link] of links) if (memory.cut.get(name) === link) memory.cut.delete(name);
  }

  async function drain(): Promise<void> {
    while (memory.cut.size > 0) {
      const before = memory.cut.size;
      try {
        await round();
      } catch (error) {
        log.warn({ err: error, links: before }, 'cut links could not be deleted; a sync will try again');
        return;
      }
    }
  }

  return {
    reap() {
      running ??= drain().finally(() => {
        running = undefined;
      });
      return running;
    },
    async close() {
      closing = true;
      await running;
    },
  };
}
