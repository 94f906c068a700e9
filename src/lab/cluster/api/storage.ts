// The objects: all in memory, each write first in SQLite, one counter for resourceVersion that only grows.
// A write that returned survives kill -9 (WAL: the bytes are with the kernel; power loss is not in the promise).
// Stored objects are frozen and shared; every change is kept in its collection's bounded window for watches.
// Fails by throwing: a second process on the same file gets "database is locked".
import { DatabaseSync, type StatementSync } from 'node:sqlite';
import type { KubeObject } from '../../../kube/types.ts';

/** Changes that a collection remembers; a watch from before them gets 410. */
export const WATCH_WINDOW = 1024;

export type Stored = {
  /** `namespace/name`, or `/name` for cluster scope: the order of lists. */
  readonly key: string;
  readonly namespace: string;
  readonly name: string;
  readonly version: number;
  readonly object: KubeObject;
  readonly json: string;
};

export type Change = {
  readonly type: 'ADDED' | 'MODIFIED' | 'DELETED';
  readonly version: number;
  readonly now: Stored;
  readonly before: Stored | null;
};

export class Collection {
  readonly id: string;
  readonly items = new Map<string, Stored>();
  readonly listeners = new Set<(change: Change) => void>();
  /** A watch may begin at this version or later. */
  oldest: number;
  private window: Change[] = [];
  private start = 0;
  private order: Stored[] | null = null;

  constructor(id: string, oldest: number) {
    this.id = id;
    this.oldest = oldest;
  }

  sorted(): readonly Stored[] {
    this.order ??= [...this.items.values()].sort((a, b) => (a.key < b.key ? -1 : a.key > b.key ? 1 : 0));
    return this.order;
  }

  /** Changes after `version`, or null when the window no longer reaches back that far. */
  since(version: number): Change[] | null {
    if (version < this.oldest) return null;
    const live = this.window;
    let low = this.start;
    let high = live.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (live[middle]!.version <= version) low = middle + 1;
      else high = middle;
    }
    return live.slice(low);
  }

  record(change: Change): void {
    if (change.type === 'DELETED') this.items.delete(change.now.key);
    else this.items.set(change.now.key, change.now);
    if (this.order !== null) {
      // A change of an object keeps the order: replace in place, so that lists under churn need no sort.
      const at = change.type === 'MODIFIED' ? findKey(this.order, change.now.key) : -1;
      if (at < 0) this.order = null;
      else {
        this.order = this.order.slice();
        this.order[at] = change.now;
      }
    }
    this.window.push(change);
    if (this.window.length - this.start > WATCH_WINDOW) {
      this.oldest = this.window[this.start]!.version;
      this.start++;
      if (this.start >= WATCH_WINDOW) {
        this.window = this.window.slice(this.start);
        this.start = 0;
      }
    }
    for (const listener of this.listeners) listener(change);
  }
}

function findKey(order: readonly Stored[], key: string): number {
  let low = 0;
  let high = order.length - 1;
  while (low <= high) {
    const middle = (low + high) >> 1;
    const at = order[middle]!.key;
    if (at === key) return middle;
    if (at < key) low = middle + 1;
    else high = middle - 1;
  }
  return -1;
}

export class Storage {
  private readonly database: DatabaseSync;
  private readonly put: StatementSync;
  private readonly drop: StatementSync;
  private readonly collections = new Map<string, Collection>();
  private counter: number;

  constructor(file: string) {
    this.database = new DatabaseSync(file);
    // EXCLUSIVE: one process owns the file, and WAL needs no shared memory then.
    this.database.exec(`
      PRAGMA locking_mode = EXCLUSIVE;
      PRAGMA journal_mode = WAL;
      PRAGMA synchronous = NORMAL;
      PRAGMA wal_autocheckpoint = 2000;
      CREATE TABLE IF NOT EXISTS objects (
        collection TEXT NOT NULL, key TEXT NOT NULL, version INTEGER NOT NULL, json TEXT NOT NULL,
        PRIMARY KEY (collection, key)) WITHOUT ROWID;
      CREATE TABLE IF NOT EXISTS counter (id INTEGER PRIMARY KEY CHECK (id = 1), version INTEGER NOT NULL);
      INSERT OR IGNORE INTO counter VALUES (1, 0);
    `);
    this.put = this.database.prepare('INSERT OR REPLACE INTO objects VALUES (?, ?, ?, ?)');
    this.drop = this.database.prepare('DELETE FROM objects WHERE collection = ? AND key = ?');
    // A delete leaves no row that holds its version, so it writes the counter; other writes need not.
    const row = this.database
      .prepare(
        'SELECT max((SELECT version FROM counter), coalesce((SELECT max(version) FROM objects), 0)) AS v',
      )
      .get() as { v: number };
    this.counter = row.v;
    for (const each of this.database.prepare('SELECT * FROM objects ORDER BY version').iterate()) {
      const { collection, key, version, json } = each as {
        collection: string;
        key: string;
        version: number;
        json: string;
      };
      const slash = key.indexOf('/');
      this.collection(collection).items.set(key, {
        key,
        namespace: key.slice(0, slash),
        name: key.slice(slash + 1),
        version,
        object: deepFreeze(JSON.parse(json)) as KubeObject,
        json,
      });
    }
  }

  /** The version of the last write. */
  get version(): number {
    return this.counter;
  }

  collection(id: string): Collection {
    let found = this.collections.get(id);
    if (found === undefined) {
      found = new Collection(id, this.counter);
      this.collections.set(id, found);
    }
    return found;
  }

  ids(): string[] {
    return [...this.collections.keys()];
  }

  /** Takes ownership of `object`: stamps its resourceVersion, freezes it. */
  write(collection: Collection, namespace: string, name: string, object: KubeObject): Stored {
    const version = this.counter + 1;
    object.metadata.resourceVersion = String(version);
    const key = `${namespace}/${name}`;
    const before = collection.items.get(key) ?? null;
    const json = JSON.stringify(object);
    this.put.run(collection.id, key, version, json);
    this.counter = version;
    const now: Stored = { key, namespace, name, version, object: deepFreeze(object) as KubeObject, json };
    collection.record({ type: before === null ? 'ADDED' : 'MODIFIED', version, now, before });
    return now;
  }

  /** The deleted object as it was last, with the version of its deletion. */
  remove(collection: Collection, stored: Stored, last: KubeObject = stored.object): Stored {
    const version = this.counter + 1;
    this.database.exec('BEGIN');
    try {
      this.drop.run(collection.id, stored.key);
      this.database.exec(`UPDATE counter SET version = ${version}`);
      this.database.exec('COMMIT');
    } catch (error) {
      this.database.exec('ROLLBACK');
      throw error;
    }
    this.counter = version;
    const object = deepFreeze({
      ...last,
      metadata: { ...last.metadata, resourceVersion: String(version) },
    }) as KubeObject;
    const now: Stored = { ...stored, version, object, json: JSON.stringify(object) };
    collection.record({ type: 'DELETED', version, now, before: stored });
    return now;
  }

  close(): void {
    this.database.close();
  }
}

export function deepFreeze<T>(value: T): T {
  if (value !== null && typeof value === 'object' && !Object.isFrozen(value)) {
    Object.freeze(value);
    for (const key in value) {
      const child = value[key];
      if (child !== null && typeof child === 'object') deepFreeze(child);
    }
  }
  return value;
}
