// What tests against the real kernel share: the root check with its reason, namespaces that vanish with the test, and
// waiting for a condition with a bound.
import { setTimeout as sleep } from 'node:timers/promises';
import { createAnonymousNetns, type Netns } from './netns.ts';
import { NetlinkError } from './rtnetlink.ts';

/** Options of a suite: skipped, with the reason, where namespaces cannot be made. */
export const needsRoot: { skip: string | false } = {
  skip: process.getuid?.() === 0 ? false : 'needs root: it makes network namespaces',
};

/** Runs a test in a nameless namespace that goes with it. */
export async function inFreshNetns(test: (ns: Netns) => void | Promise<void>): Promise<void> {
  using ns = createAnonymousNetns();
  await test(ns);
}

/** Resolves when the condition holds; rejects, naming it, after the bound (ms). */
export async function eventually(what: string, holds: () => boolean, bound = 30_000): Promise<void> {
  const end = performance.now() + bound;
  while (!holds()) {
    if (performance.now() > end) throw new Error(`not within ${bound} ms: ${what}`);
    await sleep(2);
  }
}

/** The error with which the kernel refuses what `run` asks of it; any other error, or none, is thrown. */
export function refusal(run: () => void): NetlinkError {
  try {
    run();
  } catch (error) {
    if (error instanceof NetlinkError) return error;
    throw error;
  }
  throw new Error('the kernel refused nothing');
}
