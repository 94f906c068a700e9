// What tests with a real Kubernetes share.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { LabError } from '../../src/lab/daemon/errors.ts';
import { type Binaries, findBinaries } from '../../src/lab/kubernetes/binaries.ts';

/** Why Kubernetes' programs are not there, or what `lacks` says of those that are; false when nothing is missing. */
export function missingKubernetes(
  lacks: (binaries: Binaries) => string | false = () => false,
): string | false {
  try {
    return lacks(findBinaries({}));
  } catch (error) {
    const { message, next } = error as LabError;
    return `${message} (${next})`;
  }
}

/** Applies objects of any kind by `kubectl`. */
export async function applyObjects(
  kubectl: (...args: string[]) => Promise<unknown>,
  items: readonly object[],
): Promise<void> {
  const dir = mkdtempSync(join(tmpdir(), 'podway-apply-'));
  try {
    const file = join(dir, 'objects.json');
    writeFileSync(file, JSON.stringify({ apiVersion: 'v1', kind: 'List', items }));
    await kubectl('apply', '-f', file);
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
}
