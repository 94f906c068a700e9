// Runs a command of the user's in a namespace of the lab, as `docker exec` counts: the command's own exit code, 125 for a
// failure of ours, 126 for what cannot be executed, 127 for what is not found.
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { constants } from 'node:os';
import { printError } from './output.ts';

export const OURS = 125;

/** With a resolv.conf of the lab's in place of the machine's, seen by the command alone; where it cannot be, without. */
const withResolver = (file: string, cmd: string[]): string[] => [
  ...['unshare', '--mount', '--propagation', 'private', 'sh', '-c'],
  'mount --bind "$0" /etc/resolv.conf 2>/dev/null; exec "$@"',
  file,
  ...cmd,
];

export async function runInNamespace(
  path: string,
  cmd: string[],
  env: Record<string, string> = {},
  /** A process whose file system is entered too, or a resolv.conf. */
  { holder, resolvConf }: { holder?: number; resolvConf?: string } = {},
): Promise<number> {
  if (!existsSync(path)) {
    printError(`podway: NO_NAMESPACE: ${path} does not exist (podway lab status lists what there is)`);
    return OURS;
  }
  const view = holder === undefined ? [] : [`--mount=/proc/${holder}/ns/mnt`];
  const command = resolvConf !== undefined && existsSync(resolvConf) ? withResolver(resolvConf, cmd) : cmd;
  const child = spawn('nsenter', [`--net=${path}`, ...view, '--', ...command], {
    stdio: 'inherit',
    env: { ...process.env, ...env },
  });
  const forward = (['SIGTERM', 'SIGHUP', 'SIGQUIT'] as const).map((name) => {
    const pass = () => void child.kill(name);
    process.on(name, pass);
    return () => process.off(name, pass);
  });
  // A terminal's Ctrl-C reaches the command itself; we only wait for its end.
  const ignore = () => {};
  process.on('SIGINT', ignore);
  try {
    return await new Promise<number>((resolve) => {
      child.once('error', (error) => {
        printError(`podway: NSENTER_FAILED: nsenter does not start: ${error.message} (install util-linux)`);
        resolve(OURS);
      });
      child.once('exit', (code, name) => resolve(code ?? 128 + (name ? constants.signals[name] : 0)));
    });
  } finally {
    for (const stop of forward) stop();
    process.off('SIGINT', ignore);
  }
}
