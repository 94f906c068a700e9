// What this machine and its programs can do for a container runtime, found by trying: the version of containerd, whether
// an overlay can be mounted, whether a process may be made harder to kill.
import { execFile } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, rmSync } from 'node:fs';
import { delimiter, dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { LabError } from '../daemon/errors.ts';
import type { RuntimeChoice } from '../shape/settings.ts';
import type { Runtime } from './configs.ts';

const run = promisify(execFile);
const TIMEOUT_MS = 10_000;
const CAP_SYS_RESOURCE = 24n;

type Programs = { containerd: string; ctr: string; runc: string };

/** Debian's containerd is on the search path; what was built lies elsewhere. Both may be there. */
export async function chooseRuntime(
  programs: Programs,
  choice: RuntimeChoice,
  dir: string,
): Promise<Runtime> {
  const found = await Promise.all(candidates(programs).map(withMajor));
  const wanted = choice === 'auto' ? undefined : choice === 'containerd1' ? 1 : 2;
  const ordered = found.filter((each) => each !== undefined).sort((a, b) => b.major - a.major);
  const chosen = ordered.find(({ major }) => wanted === undefined || major === wanted);
  if (!chosen) {
    const there = ordered.map(({ containerd, major }) => `${containerd} (${major})`).join(', ') || 'none';
    throw new LabError(
      'KUBERNETES_MISSING',
      `there is no containerd ${wanted ?? ''}; found: ${there}`,
      wanted === 1 ? 'apt-get install containerd' : 'podway lab kubernetes install builds it where Go is',
    );
  }
  return {
    ...chosen,
    runc: programs.runc,
    snapshotter: (await canOverlay(dir)) ? 'overlayfs' : 'native',
    restrictOomScoreAdj: !hasCapability(readFileSync('/proc/self/status', 'utf8'), CAP_SYS_RESOURCE),
  };
}

function candidates({ containerd, ctr }: Programs): { containerd: string; ctr: string }[] {
  const dirs = (process.env['PATH'] ?? '').split(delimiter).filter((each) => each !== '');
  const onPath = dirs
    .map((dir) => ({ containerd: join(dir, 'containerd'), ctr: join(dir, 'ctr') }))
    .filter((each) => existsSync(each.containerd) && existsSync(each.ctr));
  return [{ containerd, ctr }, ...onPath.filter((each) => each.containerd !== containerd)];
}

async function withMajor<T extends { containerd: string }>(
  found: T,
): Promise<(T & { major: 1 | 2 }) | undefined> {
  try {
    const { stdout } = await run(found.containerd, ['--version'], { timeout: TIMEOUT_MS });
    const major = majorOf(stdout);
    return major === undefined ? undefined : { ...found, major };
  } catch {
    return undefined;
  }
}

/** "containerd github.com/containerd/containerd/v2 v2.4.2 …"; a build of `go install` may tell no version but the module. */
export function majorOf(text: string): 1 | 2 | undefined {
  const [, module = '', version = ''] = text.trim().split(/\s+/);
  const digit = /^v?(\d+)\./.exec(version)?.[1] ?? /\/v(\d+)$/.exec(module)?.[1];
  return digit === '1' ? 1 : digit === '2' ? 2 : undefined;
}

/** An overlay on an overlay, or in some containers, is refused. */
async function canOverlay(dir: string): Promise<boolean> {
  const at = join(dir, `overlay-${process.pid}`);
  const [lower, upper, work, merged] = ['lower', 'upper', 'work', 'merged'].map((name) => join(at, name));
  for (const each of [lower, upper, work, merged]) mkdirSync(each!, { recursive: true });
  const options = `lowerdir=${lower},upperdir=${upper},workdir=${work}`;
  const script = 'mount -t overlay overlay -o "$1" "$2"';
  try {
    // In a mount namespace of its own: nothing is left when it ends.
    await run('unshare', ['--mount', '--', 'sh', '-c', script, 'sh', options, merged!], {
      timeout: TIMEOUT_MS,
    });
    return true;
  } catch {
    return false;
  } finally {
    rmSync(at, { recursive: true, force: true });
  }
}

/** `status`: text of /proc/PID/status. */
export function hasCapability(status: string, number: bigint): boolean {
  const effective = /^CapEff:\s*([0-9a-f]+)$/m.exec(status)?.[1] ?? '0';
  return ((BigInt(`0x${effective}`) >> number) & 1n) === 1n;
}

/** The shim is found beside containerd. */
export const pathFor = ({ containerd }: Runtime): string =>
  [dirname(containerd), process.env['PATH'] ?? '/usr/sbin:/usr/bin:/sbin:/bin'].join(delimiter);
