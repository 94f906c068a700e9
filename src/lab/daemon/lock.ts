// One daemon per lab: an exclusive transaction on a SQLite file holds a lock that the kernel drops when the process
// dies, whatever killed it, and that no child inherits (fcntl locks belong to the process).
import { DatabaseSync } from 'node:sqlite';

/** Takes the lock or returns undefined when another process holds it. */
export function takeLock(file: string): { release(): void } | undefined {
  const database = new DatabaseSync(file, { timeout: 0 });
  try {
    database.exec('PRAGMA journal_mode = DELETE; BEGIN EXCLUSIVE');
  } catch (error) {
    database.close();
    if (/locked|busy/i.test((error as Error).message)) return undefined;
    throw error;
  }
  return { release: () => database.close() };
}
