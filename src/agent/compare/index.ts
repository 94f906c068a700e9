// `ipam check`: the journal, the kernel, the cloud and the Kubernetes API side by side, a file for each pair. Changes
// nothing. Each view says what it has, as text; a difference names the object that they disagree about. The kernel's view
// yields between pods, so that no ADD waits for it.
import { systemClock } from '../../base/clock.ts';
import { journalAndApi } from './api.ts';
import { journalAndCloud } from './cloud.ts';
import type { CompareOptions, Comparison } from './difference.ts';
import { journalAndKernel } from './kernel.ts';

/** Between the two looks of a comparison that found something: longer than a pod's ADD or an EC2 call takes. */
const RECHECK_MS = 500;

/** Looks once, and again when something differed: what is on its way between two views differs for a moment only. */
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
  ];
  return { ok: differences.length === 0, differences };
}
