// What people should know of this node: a line in the log, and what listens beside it. Told once, and again when the same
// thing was not told for a while: whoever fights with the node fills no log.
import type { Log } from '../base/log.ts';

export type PodName = { namespace: string; name: string; uid?: string };

export type Telling = {
  kind:
    | 'withheld'
    | 'fight'
    | 'address'
    | 'taken'
    | 'restored'
    | 'lost-link'
    | 'restored-link'
    | 'eni-link'
    | 'obstacle'
    | 'kernel-rule';
  /** Names the thing; the same as long as it is the same thing. */
  object: string;
  text: string;
  /** Whose it is; the node's when absent. */
  pod?: PodName;
};

export type Tell = (telling: Telling) => void;

/** Ms within which the same is not told again. */
const PAUSE_MS = 60_000;
/** Things that are remembered as told. */
const MOST = 1_000;

/** `onTold` gets what is told, after the log. */
export function createTell(log: Log, onTold: Tell, now: () => number = () => performance.now()): Tell {
  const last = new Map<string, number>();
  return (telling) => {
    const { kind, object, text, pod } = telling;
    const key = `${kind} ${object}`;
    const at = now();
    if (at - (last.get(key) ?? Number.NEGATIVE_INFINITY) < PAUSE_MS) return;
    last.delete(key);
    last.set(key, at);
    if (last.size > MOST) last.delete(last.keys().next().value!);
    log.warn({ kind, object, ...(pod ? { pod: `${pod.namespace}/${pod.name}` } : {}) }, text);
    onTold(telling);
  };
}
