// Opens the agent's unix sockets; only their owner may connect.
import { chmodSync, rmSync } from 'node:fs';
import type { Server } from 'node:net';

/** Listens on `path` (mode 0600 from the first moment). A socket left by an earlier agent is replaced. */
export function listenPrivately<T extends Server>(server: T, path: string): Promise<T> {
  rmSync(path, { force: true });
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    const umask = process.umask(0o177);
    server.listen(path, () => {
      chmodSync(path, 0o600);
      resolve(server);
    });
    process.umask(umask);
  });
}
