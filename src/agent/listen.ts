// Opens the agent's unix sockets; only their owner may connect.
import { chmodSync, unlinkSync } from 'node:fs';
import type { Server } from 'node:net';
import { unwritable } from '../base/errors.ts';

/**
 * Listens on `path` (mode 0600 from the first moment). A socket left by an earlier agent is replaced. Rejects with
 * RUN_DIR_UNWRITABLE where it cannot be made.
 */
export async function listenPrivately<T extends Server>(server: T, path: string): Promise<T> {
  try {
    unlinkSync(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw unwritable(path, error);
  }
  return new Promise((resolve, reject) => {
    server.once('error', (error) => reject(unwritable(path, error)));
    const umask = process.umask(0o177);
    server.listen(path, () => {
      chmodSync(path, 0o600);
      resolve(server);
    });
    process.umask(umask);
  });
}
