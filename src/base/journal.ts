// An append-only journal of JSON records in one file, for what must survive kill -9 and die with the boot.
// Each record is one line, `CRC32 JSON\n`, so that an operator can read the file; the checksum goes on from the line before,
// so that a line that is taken away is missed, and the first line says which version wrote the file and where. Invariant: a record whose append has returned is in the file and comes back at the next open. Records whose
// appends are in flight share one write. What is lost is told by `found`, kept aside, and told again at each open until a
// compaction. A disk that takes no write fails the append with JournalError, and the next append tries again.
import {
  closeSync,
  fsyncSync,
  ftruncateSync,
  openSync,
  readFileSync,
  renameSync,
  unlinkSync,
  writeSync,
} from 'node:fs';
import { dirname } from 'node:path';
import { crc32 } from './crc32.ts';
import { PodwayError, unwritableText } from './errors.ts';
import { isAt } from './files.ts';

/** Version of the format: 1 had no first line that says so. */
const VERSION = 2;
/** One record may be a whole ENI with its addresses, never more than this (bytes). */
const MAX_RECORD = 1 << 20;
/** Below this size (bytes) a compaction frees nothing worth its write. */
const COMPACT_FLOOR = 256 * 1024;
/** A file this many times as large as its last compaction is due for the next. */
const COMPACT_GROWTH = 4;
/** Ends a line that was left open, so that it is never read, and begins the checksums anew behind it. */
const BREAK = '!\n!\n';
const NO_CHECKSUM = 0;
/** Unreadable lines that are handed on, for what can be guessed from them. */
const MAX_LOST_LINES = 1_000;

export class JournalError extends PodwayError {
  override name = 'JournalError';

  constructor(path: string, message: string, options?: ErrorOptions) {
    super('RUN_DIR_UNWRITABLE', message, { object: path, since: Date.now() }, options);
  }
}

/**
 * `earlier`: of version 1, which said nothing of its origin. `foreign`: of another origin. `version`: of a version that
 * this one does not know, whose records are not read. `cut`: its last line has no end, as after a kill inside a write.
 */
export type Found = 'whole' | 'earlier' | 'foreign' | 'missing' | 'empty' | 'cut' | 'damaged' | 'version';

/** What an open found: `damaged` counts whole lines that could not be read, `lost` is their text. */
export type Replay<R> = {
  found: Found;
  records: R[];
  tornBytes: number;
  damaged: number;
  lost: string[];
  keptAside?: string;
};

export type JournalOptions = {
  /** Where the records are true, such as the boot: written first, compared at the next open. */
  origin?: Readonly<Record<string, string>>;
  /** Called at each point where a kill may fall; tests kill the process there. */
  onBoundary?: (name: string) => void;
  /** Waits for the disk at each write; a file under /run needs none. */
  fsync?: boolean;
};

const asJournalError = (path: string, error: unknown): JournalError =>
  error instanceof JournalError
    ? error
    : new JournalError(path, unwritableText(path, error), { cause: error });

type Pending = { resolve: () => void; reject: (error: unknown) => void };

export class Journal<R> implements Disposable {
  readonly path: string;
  readonly replay: Replay<R>;
  readonly #header: string;
  /** Checksum of the last line. */
  #last: number;
  /** Null until the file can be opened for writing. */
  #fd: number | null = null;
  #closed = false;
  #size: number;
  /** Written before the next record: the header of a new file, or the end of a line that a kill or a cut left open. */
  #lead: string;
  #compactedSize: number;
  #queue: string[] = [];
  #waiting: Pending[] = [];
  #scheduled = false;
  readonly #options: JournalOptions;

  private constructor(path: string, size: number, scan: Scan<R>, replay: Replay<R>, options: JournalOptions) {
    this.path = path;
    this.#size = size;
    this.#header = headerLine(options);
    this.#lead = size === 0 ? this.#header : scan.tornBytes > 0 ? BREAK : '';
    this.#last = size === 0 ? checksumIn(this.#header) : scan.tornBytes > 0 ? NO_CHECKSUM : scan.last;
    // What is live of it is not known yet: a process that is killed again and again must not let the file grow.
    this.#compactedSize = 0;
    this.replay = replay;
    this.#options = options;
  }

  /** Reads the journal at `path`; it is made (mode 0600) by the first write, which may fail and be tried again. */
  static open<R>(path: string, options: JournalOptions = {}): Journal<R> {
    const bytes = readIfPresent(path);
    const scan = scanRecords<R>(bytes ?? Buffer.alloc(0));
    const found = judge(bytes, scan, options);
    const replay: Replay<R> = {
      found,
      records: found === 'version' ? [] : scan.records,
      tornBytes: scan.tornBytes,
      damaged: scan.damaged,
      lost: scan.lost,
    };
    if (bytes && (found === 'damaged' || found === 'cut' || found === 'version')) {
      const aside = `${path}.damaged`;
      if (tryWriteWhole(aside, bytes)) replay.keptAside = aside;
    }
    return new Journal<R>(path, bytes?.length ?? 0, scan, replay, options);
  }

  get size(): number {
    return this.#size;
  }

  /** Writes the records, and those in flight before them, in one write; they survive once this returns. */
  appendSync(...records: R[]): void {
    const texts = records.map(toText);
    const earlier = this.#takeWaiting();
    try {
      this.#write(earlier.texts.concat(texts));
    } catch (error) {
      for (const one of earlier.waiting) one.reject(error);
      throw error;
    }
    for (const one of earlier.waiting) one.resolve();
  }

  /** Resolves when the record is in the file; appends of the same turn of the event loop share one write. */
  append(record: R): Promise<void> {
    const text = toText(record);
    return new Promise((resolve, reject) => {
      this.#queue.push(text);
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

  /** False when the path names another file than the one that is written, or none: `compact` puts one there. */
  get isInPlace(): boolean {
    return this.#fd === null || isAt(this.#fd, this.path);
  }

  /** Replaces the file by one that holds just `live`; a kill leaves either the old file or the new one. */
  compact(live: Iterable<R>): void {
    this.#flush();
    const { lines, last } = chain([...live].map(toText), checksumIn(this.#header));
    const aside = asidePath(this.path);
    const bytes = Buffer.from(this.#header + lines);
    this.#boundary('journal:compact:before-write');
    let fd: number | undefined;
    try {
      writeWhole(aside, bytes);
      fd = openSync(aside, 'a', 0o600);
      this.#boundary('journal:compact:before-rename');
      renameSync(aside, this.path);
    } catch (error) {
      if (fd !== undefined) closeSync(fd);
      tryRemove(aside);
      throw asJournalError(this.path, error);
    }
    if (this.#fd !== null) closeSync(this.#fd);
    this.#fd = fd;
    this.#size = bytes.length;
    this.#lead = '';
    this.#last = last;
    this.#compactedSize = bytes.length;
    this.#boundary('journal:compact:after-rename');
  }

  close(): void {
    if (this.#closed) return;
    try {
      this.#flush();
    } finally {
      this.#closed = true;
      if (this.#fd !== null) closeSync(this.#fd);
      this.#fd = null;
    }
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #takeWaiting(): { texts: string[]; waiting: Pending[] } {
    const taken = { texts: this.#queue, waiting: this.#waiting };
    this.#queue = [];
    this.#waiting = [];
    return taken;
  }

  #flush(): void {
    this.#scheduled = false;
    const { texts, waiting } = this.#takeWaiting();
    if (texts.length === 0) return;
    try {
      this.#write(texts);
    } catch (error) {
      for (const one of waiting) one.reject(error);
      return;
    }
    for (const one of waiting) one.resolve();
  }

  #write(texts: readonly string[]): void {
    if (this.#closed) throw new JournalError(this.path, `${this.path} is closed`);
    const { lines, last } = chain(texts, this.#last);
    const bytes = Buffer.from(this.#lead + lines);
    this.#boundary('journal:before-write');
    try {
      this.#fd ??= openSync(this.path, 'a', 0o600);
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
      this.#cutBack();
      throw asJournalError(this.path, error);
    }
    this.#lead = '';
    this.#last = last;
    this.#size += bytes.length;
    this.#boundary('journal:after-write');
  }

  /** Takes what a failed write left off again; where even that fails, the next write ends the broken line. */
  #cutBack(): void {
    if (this.#fd === null) return;
    try {
      ftruncateSync(this.#fd, this.#size);
    } catch {
      if (this.#lead.startsWith(BREAK)) return;
      this.#lead = BREAK + this.#lead;
      this.#last = this.#lead.endsWith(this.#header) ? checksumIn(this.#header) : NO_CHECKSUM;
    }
  }

  #boundary(name: string): void {
    this.#options.onBoundary?.(name);
  }
}

function toText(record: unknown): string {
  const json = JSON.stringify(record);
  if (json.length > MAX_RECORD) {
    throw new JournalError(
      'journal',
      `a record of ${json.length} characters is over the limit of ${MAX_RECORD}`,
    );
  }
  return json;
}

/** The line of a record; `last` is the checksum of the line before it. */
const encodeText = (text: string, last: number): string => `${checksum(text, last)} ${text}\n`;
export const encodeRecord = (record: unknown, last: number = NO_CHECKSUM): string =>
  encodeText(toText(record), last);

function chain(texts: readonly string[], from: number): { lines: string; last: number } {
  let lines = '';
  let last = from;
  for (const text of texts) {
    const line = encodeText(text, last);
    lines += line;
    last = checksumIn(line);
  }
  return { lines, last };
}

type Scan<R> = {
  header: Header | null;
  records: R[];
  damaged: number;
  lost: string[];
  /** Bytes behind the last newline: a tear leaves none. */
  tornBytes: number;
  /** Checksum of the last line. */
  last: number;
};

/** Reads whole records; whole lines that cannot be read are damage. */
export function scanRecords<R>(bytes: Buffer): Scan<R> {
  const scan: Scan<R> = { header: null, records: [], damaged: 0, lost: [], tornBytes: 0, last: NO_CHECKSUM };
  let start = 0;
  for (let end = bytes.indexOf(0x0a); end >= 0; end = bytes.indexOf(0x0a, start)) {
    const line = bytes.toString('utf8', start, end);
    let record = decodeLine<R | Header>(line, scan.last);
    // Version 1 had neither a first line nor checksums that go on.
    if (record === undefined && !scan.header) record = decodeLine<R>(line);
    scan.last = checksumIn(line);
    if (record === undefined) {
      scan.damaged++;
      if (scan.lost.length < MAX_LOST_LINES) scan.lost.push(line);
    } else if (isHeader(record)) scan.header ??= record;
    else scan.records.push(record);
    start = end + 1;
  }
  scan.tornBytes = bytes.length - start;
  return scan;
}

type Header = { journal: number } & Record<string, unknown>;
const isHeader = (record: unknown): record is Header =>
  typeof record === 'object' && record !== null && typeof (record as Header).journal === 'number';
const headerLine = ({ origin }: JournalOptions): string => encodeRecord({ journal: VERSION, ...origin });

function judge(bytes: Buffer | null, scan: Scan<unknown>, options: JournalOptions): Found {
  if (!bytes) return 'missing';
  if (bytes.length === 0) return 'empty';
  if (scan.header && scan.header.journal !== VERSION) return 'version';
  if (scan.damaged > 0) return 'damaged';
  if (scan.tornBytes > 0) return 'cut';
  if (!scan.header) return 'earlier';
  const { origin = {} } = options;
  return Object.keys(origin).every((key) => scan.header![key] === origin[key]) ? 'whole' : 'foreign';
}

function decodeLine<R>(line: string, last: number = NO_CHECKSUM): R | undefined {
  if (line.length < 10 || line[8] !== ' ') return undefined;
  const json = line.slice(9);
  if (checksum(json, last) !== line.slice(0, 8)) return undefined;
  try {
    return JSON.parse(json) as R;
  } catch {
    return undefined;
  }
}

const checksum = (text: string, last: number): string => crc32(text, last).toString(16).padStart(8, '0');
/** As the line says it, right or wrong. */
const checksumIn = (line: string): number => Number.parseInt(line.slice(0, 8), 16) >>> 0;
const asidePath = (path: string): string => `${path}.next`;

/** Null when there is none. */
function readIfPresent(path: string): Buffer | null {
  try {
    return readFileSync(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null;
    throw new JournalError(path, `cannot read ${path} in ${dirname(path)}`, { cause: error });
  }
}

/** False on a disk that takes no write: the copy is for the operator, nothing rests on it. */
function tryWriteWhole(path: string, bytes: Buffer): boolean {
  try {
    writeWhole(path, bytes);
    return true;
  } catch {
    tryRemove(path);
    return false;
  }
}

function tryRemove(path: string): void {
  try {
    unlinkSync(path);
  } catch (error) {
    // A directory that is read-only keeps it; the next compaction writes over it.
    if (!['ENOENT', 'EROFS'].includes((error as NodeJS.ErrnoException).code ?? '')) throw error;
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
