// What an API server must be told of an older etcd. Without RequestWatchProgress (of 3.4.31 and 3.5.13: Kubernetes'
// feature_support_checker.go) a watch that begins at no version fails, as the server would stream the list; with the
// feature off, clients list first, as they did before.
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';

const VERSION_BOUND_MS = 10_000;
/** Per minor version of etcd 3 the first patch that has it; all later minors do. */
const FIRST: Record<number, number> = { 4: 31, 5: 13 };

/** Flags for the API server that this etcd serves. An etcd that does not tell its version is taken for a new one. */
export async function flagsForEtcd(etcd: string): Promise<string[]> {
  const told = await promisify(execFile)(etcd, ['--version'], { timeout: VERSION_BOUND_MS }).catch(
    () => undefined,
  );
  return progressTold(told?.stdout ?? '') ? [] : ['--feature-gates=WatchList=false'];
}

/** `text` as `etcd --version` prints it. */
export function progressTold(text: string): boolean {
  const [, minor, patch] = /^etcd Version: 3\.(\d+)\.(\d+)/m.exec(text) ?? [];
  if (minor === undefined) return true;
  const first = FIRST[Number(minor)];
  return first === undefined ? Number(minor) > 5 : Number(patch) >= first;
}
