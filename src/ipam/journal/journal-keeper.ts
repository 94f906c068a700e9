// Keeps the journal in order: tries whether what could not be written can be now, and compacts when that is due or was
// missed. Fails by throwing JournalError while it cannot be written; a compaction that fails is only told, since records
// are written all the same.
import { JournalError } from '../../base/journal.ts';
import { type Core, probeJournal } from '../core.ts';
import { liveRecords } from './records.ts';

/** After a compaction that failed (ms). */
const COMPACT_AGAIN = 60_000;

export class JournalKeeper {
  readonly #core: Core;
  /** What the file holds is not what a start should have left. */
  #mustCompact = false;
  #compactAfter = 0;

  constructor(core: Core) {
    this.#core = core;
  }

  /** The file is gone from its place: it is written anew at the next turn. */
  missed(): void {
    this.#mustCompact = true;
  }

  tend(now: number): void {
    const core = this.#core;
    const { journal } = core;
    if (core.unwritable) {
      probeJournal(core);
      this.#mustCompact = true;
    }
    if (!(this.#mustCompact || journal.compactionDue) || now < this.#compactAfter) return;
    try {
      journal.compact(liveRecords(core.state, core.identity));
      this.#mustCompact = false;
    } catch (error) {
      if (!(error instanceof JournalError)) throw error;
      this.#compactAfter = now + COMPACT_AGAIN;
      core.log.warn({ cause: error.code }, error.message);
    }
  }
}
