// Events of the lab's own components. A Warning is one per object, reason and cause: it is counted up while its words
// may change. What is normal is one per message: each step of a rollout is told.
import { createHash } from 'node:crypto';
import { rfc3339 } from '../../base/clock.ts';
import { events } from '../../kube/resources.ts';
import type { KubeEvent, KubeObject } from '../../kube/types.ts';
import { ApiError, type Store } from './api/index.ts';

type Notice = { type: 'Normal' | 'Warning'; reason: string; message: string };

export function recordEvent(
  store: Store,
  now: () => number,
  about: KubeObject,
  component: string,
  { type, reason, message }: Notice,
): void {
  const { apiVersion = 'v1', kind = 'Pod' } = about;
  const { name = '', namespace = 'default', uid } = about.metadata;
  const cause =
    type === 'Normal'
      ? createHash('sha256').update(message).digest('hex').slice(0, 10)
      : (/^[A-Z][A-Z0-9_]+(?=: )/.exec(message)?.[0] ?? 'plain');
  const eventName = `${name}.${uid?.slice(0, 8)}.${reason}.${cause}`
    .toLowerCase()
    .replace(/[^a-z0-9.-]/g, '-')
    .slice(0, 250);
  const at = rfc3339(now());
  const known = store.find(events, eventName, namespace) as KubeEvent | null;
  if (known) {
    store.update(events, { ...known, message, count: (known.count ?? 1) + 1, lastTimestamp: at });
    return;
  }
  const event: KubeEvent = {
    apiVersion: 'v1',
    kind: 'Event',
    metadata: { name: eventName, namespace },
    involvedObject: { apiVersion, kind, name, namespace, ...(uid === undefined ? {} : { uid }) },
    type,
    reason,
    message,
    count: 1,
    firstTimestamp: at,
    lastTimestamp: at,
    source: { component },
    reportingComponent: component,
    reportingInstance: '',
  };
  try {
    store.create(events, event);
  } catch (error) {
    // An Event is a courtesy: a namespace that is going takes none.
    if (!(error instanceof ApiError)) throw error;
  }
}
