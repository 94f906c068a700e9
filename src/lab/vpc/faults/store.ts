// What was asked for with `lab fault` and `lab throttle`, and how far each fault has come: one SQLite file, written
// before the request that a fault meets is answered, so that a run goes on after a kill where it was.
import { chmodSync } from 'node:fs';
import { DatabaseSync } from 'node:sqlite';
import type { Rate } from './bucket.ts';
import type { FaultRule, FaultView } from './rules.ts';

export class FaultStore {
  readonly #db: DatabaseSync;

  constructor(file: string) {
    this.#db = new DatabaseSync(file);
    chmodSync(file, 0o600);
    this.#db.exec(`PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA busy_timeout = 2000;
      CREATE TABLE IF NOT EXISTS faults (number INTEGER PRIMARY KEY AUTOINCREMENT, json TEXT NOT NULL,
        seen INTEGER NOT NULL DEFAULT 0, hit INTEGER NOT NULL DEFAULT 0) STRICT;
      CREATE TABLE IF NOT EXISTS sizes (action TEXT PRIMARY KEY, json TEXT NOT NULL) STRICT;
      CREATE TABLE IF NOT EXISTS done (what TEXT PRIMARY KEY) STRICT;`);
  }

  faults(): FaultView[] {
    const rows = this.#db.prepare('SELECT number, json, seen, hit FROM faults ORDER BY number').all();
    return rows.map((row) => ({
      id: `f-${row['number']}`,
      ...(JSON.parse(String(row['json'])) as Omit<FaultRule, 'id'>),
      seen: Number(row['seen']),
      hit: Number(row['hit']),
    }));
  }

  addFault(rule: Omit<FaultRule, 'id'>): FaultView {
    const { lastInsertRowid } = this.#db
      .prepare('INSERT INTO faults (json) VALUES (?)')
      .run(JSON.stringify(rule));
    return { id: `f-${lastInsertRowid}`, ...rule, seen: 0, hit: 0 };
  }

  count({ id, seen, hit }: FaultView): void {
    this.#db.prepare('UPDATE faults SET seen = ?, hit = ? WHERE number = ?').run(seen, hit, numberOf(id));
  }

  removeFault(id: string): void {
    this.#db.prepare('DELETE FROM faults WHERE number = ?').run(numberOf(id));
  }

  sizes(): Map<string, Rate> {
    const rows = this.#db.prepare('SELECT action, json FROM sizes').all();
    return new Map(rows.map((row) => [String(row['action']), JSON.parse(String(row['json'])) as Rate]));
  }

  setSize(action: string, size: Rate | undefined): void {
    if (size)
      this.#db.prepare('INSERT OR REPLACE INTO sizes VALUES (?, ?)').run(action, JSON.stringify(size));
    else this.#db.prepare('DELETE FROM sizes WHERE action = ?').run(action);
  }

  /** True for the first call with that text ever. */
  once(what: string): boolean {
    return this.#db.prepare('INSERT OR IGNORE INTO done VALUES (?)').run(what).changes > 0;
  }

  close(): void {
    this.#db.close();
  }
}

const numberOf = (id: string): number => Number(id.slice(2));
