// Says on the Node whether it serves pods, in the condition NetworkUnavailable. A trouble counts when it has lasted, so
// that a restart or a short repair does not taint the node; its end counts at once. While nobody asks EC2 or IMDS
// successfully, at a first start, the node is unavailable too. Never throws.
import { type Clock, systemClock } from '../base/clock.ts';
import type { PodwayError } from '../base/errors.ts';
import { type NodeCondition, networkCondition } from './node-condition.ts';

/** Between two looks, and how long a trouble must last (ms). */
const LOOK_MS = 1_000;
const LASTING_MS = 10_000;

export async function tellNetwork(
  trouble: () => PodwayError | null,
  say: (condition: NodeCondition) => void,
  signal: AbortSignal,
  clock: Clock = systemClock,
): Promise<void> {
  let said: string | null = null;
  let since: number | null = null;
  while (!signal.aborted) {
    const now = clock.now();
    const found = trouble();
    since = found ? (since ?? now) : null;
    if (!found || now - since! >= LASTING_MS) {
      const condition = networkCondition(found, since ?? now);
      const word = `${condition.status} ${condition.reason}`;
      if (word !== said) say(condition);
      said = word;
    }
    await clock.sleep(LOOK_MS, signal).catch(() => undefined);
  }
}
