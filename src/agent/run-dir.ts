// Keeps what the agent has in its run directory while it serves: the directory with its lock, the sockets and the journal.
// Whoever cleans /run takes them from under it: then no pod starts or ends, and the next agent knows no pod but by its
// link. What is wrong at two looks is made again; an agent that is about to take over changes the sockets for a moment.
// Invariant: where another agent has the directory's lock, this one hands over. Rejects when nothing can be made there.
import { mkdirSync, statSync } from 'node:fs';
import { basename } from 'node:path';
import { systemClock } from '../base/clock.ts';
import { asPodwayError, PodwayError, unwritable } from '../base/errors.ts';
import type { AddressPool } from '../ipam/pool.ts';
import { type DirectoryLock, tryLockDirectory } from '../kernel/lock.ts';
import type { Parts } from './parts.ts';
import type { Sockets } from './sockets.ts';

/** Between two looks (ms). */
const LOOK_MS = 1_000;

export type RunDirectoryOptions = Pick<Parts, 'events' | 'log'> & {
  runDir: string;
  sockets: Pick<Sockets, 'lost' | 'reopen'>;
  pool: Pick<AddressPool, 'hasJournal' | 'rewriteJournal'>;
  /** The lock of the directory, which this may exchange. */
  seat: { lock: DirectoryLock };
  handOver: () => void;
};

/** Looks until `signal` aborts. */
export async function keepRunDirectory(options: RunDirectoryOptions, signal: AbortSignal): Promise<void> {
  const keeper = new RunDirectory(options);
  for (;;) {
    await systemClock.sleep(LOOK_MS, signal).catch(() => undefined);
    if (signal.aborted) return;
    await keeper.look();
  }
}

export class RunDirectory {
  readonly #o: RunDirectoryOptions;
  /** What the last look missed. */
  #missed = '';
  /** Looks in a row that missed the journal; a disk that takes no write makes them many. */
  #withoutJournal = 0;
  /** Why it could not be made again. */
  #lack = '';

  constructor(options: RunDirectoryOptions) {
    this.#o = options;
  }

  async look(): Promise<void> {
    this.#refuseRemoved();
    try {
      await this.#restore();
      this.#lack = '';
    } catch (thrown) {
      const { code, message } = asPodwayError(thrown);
      if (this.#lack !== message) this.#o.log.error({ cause: code }, message);
      this.#lack = message;
    }
  }

  async #restore(): Promise<void> {
    const { runDir, sockets, pool, seat } = this.#o;
    const isOther = !seat.lock.isOf(runDir);
    const lost = sockets.lost();
    const missed = [isOther ? runDir : '', ...lost].join();
    const isAgain = missed === this.#missed;
    this.#missed = missed;
    this.#withoutJournal = pool.hasJournal ? 0 : this.#withoutJournal + 1;
    if (missed === '') {
      if (this.#withoutJournal > 1) pool.rewriteJournal();
      if (this.#withoutJournal === 2) this.#tell('journal');
      return;
    }
    if (!isAgain || (isOther && !this.#lockAgain())) return;
    for (const path of lost) await sockets.reopen(path);
    if (!pool.hasJournal) pool.rewriteJournal();
    this.#missed = '';
    this.#tell(
      [...(isOther ? ['directory', 'journal'] : []), ...lost.map((path) => basename(path))].join(', '),
    );
  }

  /** A directory that is removed and still found (it is mounted here by itself) takes no file ever again. */
  #refuseRemoved(): void {
    const { runDir } = this.#o;
    if (statSync(runDir, { throwIfNoEntry: false })?.nlink !== 0) return;
    const message = `${runDir} was removed under its mount: the agent ends, and the next one gets a new one`;
    throw new PodwayError('RUN_DIR_UNWRITABLE', message, { object: runDir });
  }

  /** False when another agent has the directory. */
  #lockAgain(): boolean {
    const { runDir, log, seat, handOver } = this.#o;
    let lock: DirectoryLock | null;
    try {
      mkdirSync(runDir, { recursive: true, mode: 0o700 });
      lock = tryLockDirectory(runDir);
    } catch (error) {
      throw unwritable(runDir, error);
    }
    if (lock === null) {
      log.error(
        { runDir },
        'the run directory is another one, and another agent serves there: handing over to it',
      );
      handOver();
      return false;
    }
    seat.lock.release();
    seat.lock = lock;
    return true;
  }

  #tell(what: string): void {
    const { runDir, log, events } = this.#o;
    const text = `made again what was gone from ${runDir}: ${what}`;
    log.warn({}, text);
    events.node('Warning', 'RunDirectoryRestored', text);
  }
}
