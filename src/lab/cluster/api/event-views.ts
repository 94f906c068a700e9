// core/v1 and events.k8s.io/v1 Events are two views of one object; core/v1 is what is stored.
import type { Any } from './kinds.ts';

/** events.k8s.io name to core name, where they differ. */
const renamed: readonly (readonly [string, string])[] = [
  ['regarding', 'involvedObject'],
  ['note', 'message'],
  ['reportingController', 'reportingComponent'],
  ['deprecatedSource', 'source'],
  ['deprecatedFirstTimestamp', 'firstTimestamp'],
  ['deprecatedLastTimestamp', 'lastTimestamp'],
  ['deprecatedCount', 'count'],
];

function rename(object: Any, pairs: Iterable<readonly [string, string]>): Any {
  const out: Any = { ...object };
  for (const [from, to] of pairs) {
    if (!(from in out)) continue;
    out[to] = out[from];
    delete out[from];
  }
  return out;
}

export const eventToCore = (object: Any): Any => rename(object, renamed);
export const eventFromCore = (object: Any): Any =>
  rename(
    object,
    renamed.map(([a, b]) => [b, a] as const),
  );
