// The daemon of one lab: `main LAB`. Holds the lab's lock, serves the control socket, opens the lab when it has a record
// and otherwise waits for the first `lab up`. SIGTERM lets go and leaves nodes, pods and packets as they are.
import { rmSync } from 'node:fs';
import { pino } from 'pino';
import { Control } from './control.ts';
import { privateDir, writeJson } from './files.ts';
import { serveControl } from './http.ts';
import { takeLock } from './lock.ts';
import { checkLabName, labPaths } from './paths.ts';
import { identify } from './processes.ts';

process.umask(0o077);
const lab = checkLabName(process.argv[2] ?? '');
const paths = labPaths(lab);
privateDir(paths.root);
const log = pino({ base: { lab } }, pino.destination({ fd: 1, sync: true }));

const lock = takeLock(paths.lock);
if (!lock) {
  log.info('another process holds this lab');
  process.exit(0);
}
writeJson(paths.pid, identify(process.pid));

process.on('uncaughtException', (error) => {
  log.fatal({ err: error }, 'unexpected error; the lab goes on at the next lab up');
  process.exit(1);
});
process.on('unhandledRejection', (error) => {
  log.fatal({ err: error }, 'unexpected rejection; the lab goes on at the next lab up');
  process.exit(1);
});

const control = new Control(paths, log);
const server = await serveControl(paths.control, control.routes());

let ending = false;
async function end(reason: string): Promise<void> {
  if (ending) return;
  ending = true;
  log.info({ reason }, 'letting go of the lab');
  server.close();
  server.closeAllConnections();
  // A part that hangs must not keep the process: what it holds is on disk already.
  setTimeout(() => process.exit(0), 3000).unref();
  await control.close();
  rmSync(paths.control, { force: true });
  rmSync(paths.pid, { force: true });
  lock?.release();
  process.exit(0);
}
process.on('SIGTERM', () => void end('SIGTERM'));
process.on('SIGINT', () => void end('SIGINT'));
process.on('SIGHUP', () => {});
control.onExit = () => void end('asked to');
control.resume();
