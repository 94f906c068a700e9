// A watch as a stream of changes: what was there at the start, then each change that its selection sees.
// An object that stops matching is a DELETED, one that starts matching an ADDED, as in Kubernetes.
// Delivery is synchronous with the write; whoever listens must not write, and must not throw.
import { type ApiError, badRequest, expired, futureVersion } from './errors.ts';
import type { Selection } from './selection.ts';
import type { Change, Collection, Stored } from './storage.ts';

export type WatchSignal =
  | { readonly type: 'ADDED' | 'MODIFIED' | 'DELETED'; readonly stored: Stored }
  /** All objects of the start were sent; the version is theirs. */
  | { readonly type: 'INITIAL_END'; readonly version: number };

export type WatchStart =
  | { readonly from: 'version'; readonly version: number }
  | { readonly from: 'state'; readonly mark: boolean; readonly notOlderThan: number }
  | { readonly from: 'now' };

export type WatchOptions = {
  resourceVersion?: string | undefined;
  resourceVersionMatch?: string | undefined;
  sendInitialEvents?: boolean | undefined;
};

export function watchStart(options: WatchOptions): WatchStart {
  const { resourceVersion = '', resourceVersionMatch = '', sendInitialEvents } = options;
  if (resourceVersion !== '' && !/^[0-9]{1,15}$/.test(resourceVersion)) {
    throw badRequest(
      `Invalid value: "${resourceVersion}": strconv.ParseUint: parsing "${resourceVersion}": invalid syntax`,
    );
  }
  if (sendInitialEvents === undefined) {
    if (resourceVersionMatch !== '') {
      throw badRequest('resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided');
    }
    return resourceVersion === '' || resourceVersion === '0'
      ? { from: 'state', mark: false, notOlderThan: 0 }
      : { from: 'version', version: Number(resourceVersion) };
  }
  if (resourceVersionMatch !== 'NotOlderThan') {
    throw badRequest('sendInitialEvents requires setting resourceVersionMatch to NotOlderThan');
  }
  if (sendInitialEvents) return { from: 'state', mark: true, notOlderThan: Number(resourceVersion) };
  return resourceVersion === '' || resourceVersion === '0'
    ? { from: 'now' }
    : { from: 'version', version: Number(resourceVersion) };
}

/** Starts delivering at once, in the call; the result stops it. Throws 410 and 504 for versions out of reach. */
export function openWatch(
  collection: Collection,
  current: number,
  selection: Selection,
  start: WatchStart,
  emit: (signal: WatchSignal) => void,
): () => void {
  if (start.from === 'version') {
    if (start.version > current) throw futureVersion(start.version, current);
    const missed = collection.since(start.version);
    if (missed === null) throw tooOld(start.version, collection.oldest);
    for (const change of missed) deliver(selection, change, emit);
  } else if (start.from === 'state') {
    if (start.notOlderThan > current) throw futureVersion(start.notOlderThan, current);
    for (const stored of collection.sorted()) {
      if (selection.matches(stored)) emit({ type: 'ADDED', stored });
    }
    if (start.mark) emit({ type: 'INITIAL_END', version: current });
  }
  const listener = (change: Change) => deliver(selection, change, emit);
  collection.listeners.add(listener);
  return () => collection.listeners.delete(listener);
}

const tooOld = (asked: number, oldest: number): ApiError =>
  expired(`too old resource version: ${asked} (${oldest})`);

function deliver(selection: Selection, change: Change, emit: (signal: WatchSignal) => void): void {
  const { now, before } = change;
  if (selection.everything && selection.namespace === '') {
    emit({ type: change.type, stored: now });
    return;
  }
  const is = change.type !== 'DELETED' && selection.matches(now);
  const was = before !== null && selection.matches(before);
  if (is) emit({ type: was ? 'MODIFIED' : 'ADDED', stored: now });
  // The object as it was when it last matched, at the version of the change that took it out.
  else if (was)
    emit({ type: 'DELETED', stored: change.type === 'DELETED' ? now : atVersion(before, change.version) });
}

function atVersion(stored: Stored, version: number): Stored {
  const metadata = { ...stored.object.metadata, resourceVersion: String(version) };
  const object = { ...stored.object, metadata };
  return { ...stored, version, object, json: JSON.stringify(object) };
}
