// Reports what people should know of this node: a line in the log, and a callback (Events). The same thing is reported
// again only after a pause, so that a program that keeps changing the node does not fill the log.
import type { Log } from '../base/log.ts';
import { createNews } from './news.ts';

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
    | 'kernel-rule'
    | 'sandbox'
    | 'policy'
    | 'isolated'
    | 'stale'
    | 'groups'
    | 'trunk'
    | 'arrivals';
  /** Identifies the thing; equal for two reports of the same thing. */
  object: string;
  text: string;
  /** The pod that it concerns; the node when absent. */
  pod?: PodName;
};

export type Tell = (telling: Telling) => void;

/** `onTold` is called after the line is logged. */
export function createTell(log: Log, onTold: Tell, now: () => number = () => performance.now()): Tell {
  const isNews = createNews(now);
  return (telling) => {
    const { kind, object, text, pod } = telling;
    if (!isNews(`${kind} ${object}`)) return;
    log.warn({ kind, object, ...(pod ? { pod: `${pod.namespace}/${pod.name}` } : {}) }, text);
    onTold(telling);
  };
}
