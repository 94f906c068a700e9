// Prints a log file, and follows it when asked: new bytes as they come, until the reader or the file goes away.
import { closeSync, fstatSync, openSync, readSync, watch } from 'node:fs';
import { LabError } from '../lab/daemon/errors.ts';
import { writeOut } from './output.ts';

export async function tail(file: string, follow: boolean): Promise<void> {
  let fd: number;
  try {
    fd = openSync(file, 'r');
  } catch (error) {
    throw new LabError('NO_LOG', `there is no log ${file}`, 'podway lab status lists what runs', {
      cause: error,
    });
  }
  const buffer = Buffer.alloc(1 << 16);
  let at = 0;
  const drain = () => {
    if (fstatSync(fd).size < at) at = 0;
    for (;;) {
      const read = readSync(fd, buffer, 0, buffer.length, at);
      if (read === 0) return;
      at += read;
      writeOut(buffer.subarray(0, read));
    }
  };
  try {
    drain();
    if (!follow) return;
    const abort = new AbortController();
    for (const name of ['SIGINT', 'SIGTERM'] as const) process.once(name, () => abort.abort());
    await new Promise<void>((resolve, reject) => {
      const watcher = watch(file, { signal: abort.signal }, () => {
        try {
          drain();
        } catch (error) {
          watcher.close();
          reject(error);
          return;
        }
        // Nobody holds a name for it any more: the pod or the lab is gone.
        if (fstatSync(fd).nlink === 0) watcher.close();
      });
      watcher.once('close', resolve);
      watcher.once('error', reject);
    });
  } finally {
    closeSync(fd);
  }
}
