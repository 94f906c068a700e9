// Reports what people should know of this node: a line in the log, and a callback (Events). The same thing is reported
// again only after a pause, so that a program that keeps changing the node does not fill the log.
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
  /** Identifies the thing; equal for two reports of the same thing. */
  object: string;
  text: string;
  /** The pod that it concerns; the node when absent. */
  pod?: PodName;
};

export type Tell = (telling: Telling) => void;

/** Ms during which the same thing is not reported again. */
const PAUSE_MS = 60_000;
/** Things that are remembered as told. */
const MOST = 1_000;

/** `onTold` is called after the line is logged. */
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
