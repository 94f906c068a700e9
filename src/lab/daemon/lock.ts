// One daemon per lab: an exclusive transaction on a SQLite file holds a lock that the kernel drops when the process
// dies for any reason, and that no child inherits (fcntl locks belong to the process).
// A lock on a file that is no longer the lab's (a `lab down` removed it meanwhile) is no lock.
import { statSync } from 'node:fs';
import { dirname } from 'node:path';
import { DatabaseSync } from 'node:sqlite';

/** Takes the lock or returns undefined when another process holds it, or the folder goes away. */
export function takeLock(file: string): { release(): void } | undefined {
  let database: DatabaseSync | undefined;
  try {
    database = new DatabaseSync(file, { timeout: 0 });
    const mine = inode(file);
    database.exec('PRAGMA journal_mode = DELETE; BEGIN EXCLUSIVE');
    if (mine !== undefined && inode(file) === mine) {
      const held = database;
      return { release: () => held.close() };
    }
    database.close();
    return undefined;
  } catch (error) {
    database?.close();
    if (/locked|busy/i.test((error as Error).message)) return undefined;
    if (statSync(dirname(file), { throwIfNoEntry: false }) === undefined || inode(file) === undefined)
      return undefined;
    throw error;
  }
}

const inode = (file: string): bigint | undefined =>
  statSync(file, { bigint: true, throwIfNoEntry: false })?.ino;
