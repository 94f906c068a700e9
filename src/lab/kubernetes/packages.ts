// Debian packages that only a lab with a real Kubernetes needs, installed when it is asked for, with a line that says so.
// None of them brings a service. Where there is no apt-get, nothing happens: what is missing is told by findBinaries.
// Fails with PACKAGES, which has apt-get's last line.
import { execFile } from 'node:child_process';
import { accessSync, constants } from 'node:fs';
import { delimiter, join } from 'node:path';
import { promisify } from 'node:util';
import { LabError } from '../daemon/errors.ts';

const APT_BOUND_MS = 300_000;
/** Another apt-get may hold the lock. */
const LOCK_SECONDS = 120;

/** `programs`: each of a package of its own name. */
export async function ensurePackages(
  programs: readonly string[],
  say: (text: string) => void,
  path: string = process.env['PATH'] ?? '',
): Promise<void> {
  const missing = programs.filter((program) => !isOn(path, program));
  if (missing.length === 0 || !isOn(path, 'apt-get')) return;
  say(`apt-get install ${missing.join(' ')}: a real Kubernetes needs it, and nothing else of the lab`);
  const wait = ['-o', `DPkg::Lock::Timeout=${LOCK_SECONDS}`];
  const args = [...wait, 'install', '-y', '-qq', '--no-install-recommends', ...missing];
  try {
    await promisify(execFile)('apt-get', args, {
      timeout: APT_BOUND_MS,
      env: { ...process.env, PATH: path, DEBIAN_FRONTEND: 'noninteractive' },
    });
  } catch (error) {
    const said = (error as { stderr?: string }).stderr?.trim().split('\n').at(-1);
    throw new LabError(
      'PACKAGES',
      `apt-get did not install ${missing.join(', ')}: ${said || (error as Error).message}`,
      `apt-get update && apt-get install ${missing.join(' ')}`,
      { cause: error },
    );
  }
}

function isOn(path: string, program: string): boolean {
  return path.split(delimiter).some((dir) => {
    try {
      if (dir === '') return false;
      accessSync(join(dir, program), constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}
