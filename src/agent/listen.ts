// Opens the agent's unix sockets; only their owner may connect.
import { chmodSync, renameSync, unlinkSync } from 'node:fs';
import type { Server } from 'node:net';
import { basename, dirname, join } from 'node:path';
import { unwritable } from '../base/errors.ts';

/**
 * Listens on `path` (mode 0600 from the first moment). The socket of an earlier agent is replaced in one step, so that no
 * caller finds none, and that agent's close leaves the new one alone: a server removes the name that it was bound to.
 * Rejects with RUN_DIR_UNWRITABLE where it cannot be made.
 */
export async function listenPrivately<T extends Server>(server: T, path: string): Promise<T> {
  const aside = join(dirname(path), `.${basename(path)}`);
  try {
    unlinkSync(aside);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw unwritable(path, error);
  }
  return new Promise((resolve, reject) => {
    server.once('error', (error) => reject(unwritable(path, error)));
    const umask = process.umask(0o177);
    server.listen(aside, () => {
      try {
        chmodSync(aside, 0o600);
        renameSync(aside, path);
      } catch (error) {
        return reject(unwritable(path, error));
      }
      resolve(server);
    });
    process.umask(umask);
  });
}
