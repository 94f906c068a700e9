// Writes a dump file by file: scrubbed, bounded in each file and in all, gzipped a chunk at a time (members of one gzip file,
// RFC 1952 section 2.2); whole or not there (a name beside it until the end). What was cut is in the manifest, which comes last. Fails with LabError.

import { closeSync, openSync, renameSync, rmSync, writeSync } from 'node:fs';
import { gzipSync } from 'node:zlib';
import { LabError } from '../../lab/daemon/errors.ts';
import type { Manifest } from './dump.ts';
import { scrubText } from './scrub.ts';
import { TAR_END, tarEntry } from './tar.ts';

/** Bytes: a node with 700 pods answers 300 KB to its longest question, a cluster of 10,000 pods has 20 MB of bare ones. */
const MAX_FILE = 64 << 20;
/** A log or a metrics page: the newest end is kept. */
const MAX_TEXT = 1 << 20;
const MAX_ALL = 512 << 20;

/** Bytes that are compressed together. */
const CHUNK = 4 << 20;

export class DumpWriter {
  readonly #file: string;
  readonly #fd: number;
  readonly #known: string[];
  readonly #cut: string[] = [];
  readonly #mtime = Math.floor(Date.now() / 1000);
  #pending: Buffer[] = [];
  #waiting = 0;
  #bytes = 0;
  #files = 0;

  /** `known`: secrets to look for. Throws DUMP_NOT_WRITTEN, as every other method. */
  constructor(file: string, known: string[]) {
    this.#file = file;
    this.#known = known;
    this.#fd = this.#try(() => openSync(`${file}.part`, 'w', 0o600));
  }

  /** An answer as JSON. One that is too long is replaced by an error that says so. */
  json(name: string, value: unknown): void {
    const text = scrubText(JSON.stringify(value, null, 1), this.#known);
    if (text.length <= MAX_FILE && this.#bytes < MAX_ALL) {
      this.#add(name, text);
      return;
    }
    this.#cut.push(name);
    const error = {
      code: 'NOT_IN_DUMP',
      message: `${name} was left out of the dump: it has ${text.length} characters`,
      next: 'ask that part alone where it is',
    };
    this.#add(name, JSON.stringify({ error }));
  }

  text(name: string, text: string): void {
    const whole = scrubText(text, this.#known);
    const bound = this.#bytes < MAX_ALL ? MAX_TEXT : 0;
    if (whole.length > bound) this.#cut.push(name);
    this.#add(name, bound === 0 ? '' : whole.slice(-bound));
  }

  #add(name: string, text: string): void {
    const entry = tarEntry({ name, body: Buffer.from(text) }, this.#mtime);
    this.#bytes += entry.length;
    this.#files += 1;
    this.#push(entry);
    if (this.#waiting >= CHUNK) this.#flush();
  }

  #push(bytes: Buffer): void {
    this.#pending.push(bytes);
    this.#waiting += bytes.length;
  }

  #flush(): void {
    let rest: Buffer = gzipSync(Buffer.concat(this.#pending));
    this.#pending = [];
    this.#waiting = 0;
    while (rest.length > 0) rest = rest.subarray(this.#try(() => writeSync(this.#fd, rest)));
  }

  #try<T>(work: () => T): T {
    try {
      return work();
    } catch (error) {
      throw new LabError(
        'DUMP_NOT_WRITTEN',
        `the dump cannot be written to ${this.#file}: ${(error as Error).message}`,
        'name a file in a folder with room by --out',
        { cause: error },
      );
    }
  }

  /** Adds the manifest and gives the file its name. Answers what a person is told. */
  finish(manifest: Omit<Manifest, 'cut'>): { files: number; bytes: number; cut: string[] } {
    this.#add('manifest.json', JSON.stringify({ ...manifest, cut: this.#cut } satisfies Manifest, null, 1));
    this.#push(TAR_END);
    this.#flush();
    this.#try(() => renameSync(`${this.#file}.part`, this.#file));
    closeSync(this.#fd);
    return { files: this.#files, bytes: this.#bytes, cut: this.#cut };
  }

  abandon(): void {
    closeSync(this.#fd);
    rmSync(`${this.#file}.part`, { force: true });
  }
}
