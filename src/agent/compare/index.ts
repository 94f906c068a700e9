// `ipam check` compares the journal with the kernel, the cloud and the Kubernetes API, each in a file of its own. For
// branches it compares all four at once (branches.ts). It changes nothing. A difference names the object and tells what
// each side has. The comparison with the kernel yields between pods, so that no ADD waits for it.
import { systemClock } from '../../base/clock.ts';
import { journalAndApi } from './api.ts';
import { branchViews } from './branches.ts';
import { journalAndCloud } from './cloud.ts';
import type { CompareOptions, Comparison } from './difference.ts';
import { journalAndKernel } from './kernel.ts';

/** Between the two looks of a comparison that found something: longer than a pod's ADD or an EC2 call takes. */
const RECHECK_MS = 500;

/** Compares once, and again when something differed: a change in progress differs only for a moment. */
export async function compareTwice(options: CompareOptions): Promise<Comparison> {
  const first = await compareViews(options);
  if (first.ok) return first;
  await systemClock.sleep(RECHECK_MS);
  const seen = new Set(first.differences.map(({ kind, object }) => `${kind} ${object}`));
  const second = await compareViews(options);
  const differences = second.differences.filter(({ kind, object }) => seen.has(`${kind} ${object}`));
  return { ok: differences.length === 0, differences };
}

async function compareViews(options: CompareOptions): Promise<Comparison> {
  await options.pool.reconcileNow();
  const differences = [
    ...(await journalAndKernel(options)),
    ...(await journalAndCloud(options)),
    ...(await journalAndApi(options)),
    ...(await branchViews(options)),
  ];
  return { ok: differences.length === 0, differences };
}
