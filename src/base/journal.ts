// An append-only journal of JSON records in one file, for what must survive kill -9 and die with the boot.
// Each record is one line, `CRC32 JSON\n`, so that an operator can read the file. Invariant: a record whose append
// has returned is in the file and comes back at the next open, whatever byte a later write was torn at. Records whose
// appends are in flight share one write. A file that is damaged before its end is kept aside and reported, and what
// can be read of it is replayed. Fails by throwing JournalError, after cutting the file back to its last whole record.
import {
  closeSync,
  fsyncSync,
  ftruncateSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  writeSync,
} from 'node:fs';
import { dirname } from 'node:path';
import { crc32 } from 'node:zlib';

/** One record may be a whole ENI with its addresses, never more than this (bytes). */
const MAX_RECORD = 1 << 20;
/** Below this size (bytes) a compaction frees nothing worth its write. */
const COMPACT_FLOOR = 256 * 1024;
/** A file this many times as large as its last compaction is due for the next. */
const COMPACT_GROWTH = 4;

export class JournalError extends Error {
  override name = 'JournalError';
}

/** What an open found: `damaged` counts whole lines that could not be read. */
export type Replay<R> = { records: R[]; tornBytes: number; damaged: number; keptAside?: string };

export type JournalOptions = {
  /** Called at each point where a kill may fall; tests kill the process there. */
  onBoundary?: (name: string) => void;
  /** Waits for the disk at each write; a file under /run needs none. */
  fsync?: boolean;
};

type Pending = { resolve: () => void; reject: (error: unknown) => void };

export class Journal<R> implements Disposable {
  readonly path: string;
  readonly replay: Replay<R>;
  #fd: number;
  #size: number;
  #compactedSize: number;
  #queue: string[] = [];
  #waiting: Pending[] = [];
  #scheduled = false;
  readonly #options: JournalOptions;

  private constructor(path: string, fd: number, size: number, replay: Replay<R>, options: JournalOptions) {
    this.path = path;
    this.#fd = fd;
    this.#size = size;
    // What is live of it is not known yet: a process that is killed again and again must not let the file grow.
    this.#compactedSize = 0;
    this.replay = replay;
    this.#options = options;
  }

  /** Opens or makes the journal at `path` (mode 0600) and reads what it holds; a torn end is cut off. */
  static open<R>(path: string, options: JournalOptions = {}): Journal<R> {
    rmSync(asidePath(path), { force: true });
    const bytes = readIfPresent(path);
    const scan = scanRecords<R>(bytes);
    const replay: Replay<R> = {
      records: scan.records,
      tornBytes: bytes.length - scan.goodEnd,
      damaged: scan.damaged,
    };
    if (scan.damaged > 0) {
      replay.keptAside = `${path}.damaged`;
      writeWhole(replay.keptAside, bytes);
    }
    const fd = openSync(path, 'a', 0o600);
    if (replay.tornBytes > 0) ftruncateSync(fd, scan.goodEnd);
    return new Journal<R>(path, fd, scan.goodEnd, replay, options);
  }

  get size(): number {
    return this.#size;
  }

  /** Writes the records, and those in flight before them, in one write; they survive once this returns. */
  appendSync(...records: R[]): void {
    const lines = records.map(encodeRecord);
    const earlier = this.#takeWaiting();
    try {
      this.#write(earlier.lines.concat(lines).join(''));
    } catch (error) {
      for (const one of earlier.waiting) one.reject(error);
      throw error;
    }
    for (const one of earlier.waiting) one.resolve();
  }

  /** Resolves when the record is in the file; appends of the same turn of the event loop share one write. */
  append(record: R): Promise<void> {
    const line = encodeRecord(record);
    return new Promise((resolve, reject) => {
      this.#queue.push(line);
      this.#waiting.push({ resolve, reject });
      if (this.#scheduled) return;
      this.#scheduled = true;
      setImmediate(() => this.#flush());
    });
  }

  /** True when the file has grown enough that `compact` is worth its write. */
  get compactionDue(): boolean {
    return this.#size > Math.max(COMPACT_FLOOR, this.#compactedSize * COMPACT_GROWTH);
  }

  /** Replaces the file by one that holds just `live`; a kill leaves either the old file or the new one. */
  compact(live: Iterable<R>): void {
    this.#flush();
    let text = '';
    for (const record of live) text += encodeRecord(record);
    const aside = asidePath(this.path);
    const bytes = Buffer.from(text);
    this.#boundary('journal:compact:before-write');
    writeWhole(aside, bytes);
    const fd = openSync(aside, 'a', 0o600);
    try {
      this.#boundary('journal:compact:before-rename');
      renameSync(aside, this.path);
    } catch (error) {
      closeSync(fd);
      throw new JournalError(`cannot replace ${this.path}`, { cause: error });
    }
    closeSync(this.#fd);
    this.#fd = fd;
    this.#size = bytes.length;
    this.#compactedSize = bytes.length;
    this.#boundary('journal:compact:after-rename');
  }

  close(): void {
    if (this.#fd < 0) return;
    try {
      this.#flush();
    } finally {
      closeSync(this.#fd);
      this.#fd = -1;
    }
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #takeWaiting(): { lines: string[]; waiting: Pending[] } {
    const taken = { lines: this.#queue, waiting: this.#waiting };
    this.#queue = [];
    this.#waiting = [];
    return taken;
  }

  #flush(): void {
    this.#scheduled = false;
    const { lines, waiting } = this.#takeWaiting();
    if (lines.length === 0) return;
    try {
      this.#write(lines.join(''));
    } catch (error) {
      for (const one of waiting) one.reject(error);
      return;
    }
    for (const one of waiting) one.resolve();
  }

  #write(text: string): void {
    if (this.#fd < 0) throw new JournalError(`${this.path} is closed`);
    const bytes = Buffer.from(text);
    this.#boundary('journal:before-write');
    try {
      if (this.#options.onBoundary && bytes.length > 1) {
        // With a fault hook the write is torn in two on purpose, so that a kill can fall in its middle.
        const half = bytes.length >> 1;
        writeAll(this.#fd, bytes.subarray(0, half));
        this.#boundary('journal:mid-write');
        writeAll(this.#fd, bytes.subarray(half));
      } else {
        writeAll(this.#fd, bytes);
      }
      if (this.#options.fsync) fsyncSync(this.#fd);
    } catch (error) {
      ftruncateSync(this.#fd, this.#size);
      throw new JournalError(`cannot write ${bytes.length} bytes to ${this.path}`, { cause: error });
    }
    this.#size += bytes.length;
    this.#boundary('journal:after-write');
  }

  #boundary(name: string): void {
    this.#options.onBoundary?.(name);
  }
}

export function encodeRecord(record: unknown): string {
  const json = JSON.stringify(record);
  if (json.length > MAX_RECORD) {
    throw new JournalError(`a record of ${json.length} characters is over the limit of ${MAX_RECORD}`);
  }
  return `${checksum(json)} ${json}\n`;
}

/** Reads whole records; `goodEnd` is the offset after the last one, `damaged` the whole lines that cannot be read. */
export function scanRecords<R>(bytes: Buffer): { records: R[]; goodEnd: number; damaged: number } {
  const records: R[] = [];
  let goodEnd = 0;
  let damaged = 0;
  let bad = 0;
  for (let start = 0; start < bytes.length; ) {
    const end = bytes.indexOf(0x0a, start);
    if (end < 0) break;
    const record = decodeLine<R>(bytes.toString('utf8', start, end));
    start = end + 1;
    if (record === undefined) {
      bad++;
      continue;
    }
    records.push(record);
    goodEnd = start;
    damaged += bad;
    bad = 0;
  }
  // A tear leaves no newline, so a whole line that cannot be read is damage, at the end of the file too.
  return { records, goodEnd, damaged: damaged + bad };
}

function decodeLine<R>(line: string): R | undefined {
  if (line.length < 10 || line[8] !== ' ') return undefined;
  const json = line.slice(9);
  if (checksum(json) !== line.slice(0, 8)) return undefined;
  try {
    return JSON.parse(json) as R;
  } catch {
    return undefined;
  }
}

const checksum = (text: string): string => crc32(text).toString(16).padStart(8, '0');
const asidePath = (path: string): string => `${path}.next`;

function readIfPresent(path: string): Buffer {
  try {
    return readFileSync(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return Buffer.alloc(0);
    throw new JournalError(`cannot read ${path} in ${dirname(path)}`, { cause: error });
  }
}

function writeWhole(path: string, bytes: Buffer): void {
  const fd = openSync(path, 'w', 0o600);
  try {
    writeAll(fd, bytes);
  } finally {
    closeSync(fd);
  }
}

function writeAll(fd: number, bytes: Uint8Array): void {
  for (let at = 0; at < bytes.length; ) at += writeSync(fd, bytes, at, bytes.length - at);
}
