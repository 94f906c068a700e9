// The VPC's state on disk: one SQLite file, one row per object, one transaction per action, written before the answer.
// WAL, so that a killed process loses at most what it had not yet answered. Owned by one lab process at a time.
// Fails when the file was written by another version of this format, or is gone, with a sentence that says so.
import { chmodSync, existsSync, statSync } from 'node:fs';
import { DatabaseSync } from 'node:sqlite';
import { type Draft, type LabState, type TableName, tableNames } from './context.ts';
import { Ec2Error } from './errors.ts';
import { emptyVpcState } from './model.ts';

const VERSION = '1';

const goneText = (file: string): string =>
  `somebody removed or replaced ${file}, in which the lab keeps its VPC (lab down, then up, makes the lab anew)`;

/** An answer kept for a client token. */
export type StoredToken = { key: string; request: string; answer: string; at: number };

export class VpcStore {
  readonly #db: DatabaseSync;
  readonly #file: string;
  readonly #inode: number;

  /** `isOld`: the lab was there before, so a missing file is a loss and no first start. */
  constructor(file: string, isOld: boolean) {
    this.#file = file;
    if (isOld && !existsSync(file)) throw new Error(goneText(file));
    this.#db = new DatabaseSync(file);
    chmodSync(file, 0o600);
    this.#inode = statSync(file).ino;
    this.#db.exec(`PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA busy_timeout = 2000;
      CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
      CREATE TABLE IF NOT EXISTS objects (kind TEXT, id TEXT, json TEXT NOT NULL, PRIMARY KEY (kind, id)) STRICT;
      CREATE TABLE IF NOT EXISTS tokens (key TEXT PRIMARY KEY, request TEXT NOT NULL, answer TEXT NOT NULL, at INTEGER NOT NULL) STRICT;`);
  }

  /** What was stored, else an empty state of that region and zones. */
  load(region: string, zones: string[]): LabState {
    const meta = new Map(
      this.#db
        .prepare('SELECT name, value FROM meta')
        .all()
        .map((r) => [String(r['name']), String(r['value'])]),
    );
    const version = meta.get('version');
    if (version !== undefined && version !== VERSION) {
      throw new Error(
        `${this.#file} has format ${version}, this version reads ${VERSION} (lab down, then up, makes it anew)`,
      );
    }
    const state: LabState = { ...emptyVpcState(meta.get('region') ?? region, zones), transitions: {} };
    if (version === undefined) {
      const insert = this.#db.prepare('INSERT OR REPLACE INTO meta VALUES (?, ?)');
      this.#inTransaction(() => {
        insert.run('version', VERSION);
        insert.run('region', region);
        insert.run('zones', JSON.stringify(zones));
      });
    } else {
      state.zones = JSON.parse(meta.get('zones') ?? '[]') as string[];
    }
    for (const row of this.#db.prepare('SELECT kind, id, json FROM objects ORDER BY rowid').all()) {
      const kind = String(row['kind']) as TableName;
      if (tableNames.includes(kind))
        (state[kind] as Record<string, unknown>)[String(row['id'])] = JSON.parse(String(row['json']));
    }
    return state;
  }

  tokens(): StoredToken[] {
    return this.#db.prepare('SELECT key, request, answer, at FROM tokens ORDER BY at').all() as StoredToken[];
  }

  /** All rows that a draft changed and the token of its action, or nothing. */
  save(draft: Draft, token?: StoredToken, expired: readonly string[] = []): void {
    if (draft.changed.size === 0 && !token && expired.length === 0) return;
    const put = this.#db.prepare(
      'INSERT INTO objects VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET json = excluded.json',
    );
    const remove = this.#db.prepare('DELETE FROM objects WHERE kind = ? AND id = ?');
    this.#inTransaction(() => {
      for (const [table, keys] of draft.changed) {
        const rows = draft.state[table] as Record<string, unknown>;
        for (const key of keys) {
          if (Object.hasOwn(rows, key)) put.run(table, key, JSON.stringify(rows[key]));
          else remove.run(table, key);
        }
      }
      const forget = this.#db.prepare('DELETE FROM tokens WHERE key = ?');
      for (const key of expired) forget.run(key);
      if (token) {
        this.#db
          .prepare('INSERT OR REPLACE INTO tokens VALUES (?, ?, ?, ?)')
          .run(token.key, token.request, token.answer, token.at);
      }
    });
  }

  close(): void {
    this.#db.close();
  }

  #inTransaction(write: () => void): void {
    // SQLite would go on writing to a file that nobody finds again.
    if (statSync(this.#file, { throwIfNoEntry: false })?.ino !== this.#inode)
      throw new Ec2Error('InternalError', goneText(this.#file));
    this.#db.exec('BEGIN IMMEDIATE');
    try {
      write();
      this.#db.exec('COMMIT');
    } catch (error) {
      this.#db.exec('ROLLBACK');
      throw error;
    }
  }
}
