// Watches over HTTP: one JSON line per change, bookmarks, an end after the time asked for.
// A client that does not read is dropped when what waits for it passes MAX_WATCH_BUFFER; it lists again, as after any
// lost watch. Lines of one turn of the loop leave in one write.
import type { ServerResponse } from 'node:http';
import { ApiError, tooManyRequests } from './errors.ts';
import { type Any, fromStored, type Served } from './kinds.ts';
import type { Answer } from './negotiate.ts';
import type { Selection } from './selection.ts';
import type { Collection, Stored } from './storage.ts';
import { type IncludeObject, objectJson, partial, renderTable } from './table.ts';
import { openWatch, type WatchSignal, type WatchStart } from './watch.ts';

/** Bytes that may wait for one slow watcher. */
export const MAX_WATCH_BUFFER = 4 * 1024 * 1024;
/** Open watches over all clients; each costs a connection and a listener. */
export const MAX_WATCHES = 2000;
const BOOKMARK_MS = 30_000;
/** As kube-apiserver's --min-request-timeout: a watch without a timeout ends after 30 to 60 minutes. */
const DEFAULT_SECONDS = 1800;

export type StreamRequest = {
  served: Served;
  collection: Collection;
  selection: Selection;
  start: WatchStart;
  bookmarks: boolean;
  timeoutSeconds: number;
  as: Answer['as'];
  include: IncludeObject;
};

type Stream = { collection: string; bookmark: () => void; end: () => void };

export class Streams {
  private readonly open = new Set<Stream>();
  private timer: NodeJS.Timeout | null = null;
  private readonly version: () => number;
  private readonly now: () => number;

  constructor(version: () => number, now: () => number) {
    this.version = version;
    this.now = now;
  }

  get size(): number {
    return this.open.size;
  }

  serve(response: ServerResponse, request: StreamRequest): void {
    if (this.open.size >= MAX_WATCHES) throw tooManyRequests(`too many watches are open (${MAX_WATCHES})`);
    const { served, selection } = request;
    response.writeHead(200, { 'content-type': 'application/json', 'cache-control': 'no-cache, private' });
    response.flushHeaders();
    let pending = '';
    let scheduled = false;
    let over = false;
    let firstRow = true;
    const flush = () => {
      scheduled = false;
      if (over || pending === '') return;
      const text = pending;
      pending = '';
      response.write(text);
      if (response.writableLength > MAX_WATCH_BUFFER) {
        stop();
        response.destroy();
      }
    };
    const send = (type: string, json: string) => {
      pending += `{"type":"${type}","object":${json}}\n`;
      if (!scheduled) {
        scheduled = true;
        setImmediate(flush);
      }
    };
    const render = (stored: Stored): string => {
      if (request.as === 'table') {
        const meta = { resourceVersion: String(stored.version) };
        const table = renderTable(served, [stored], meta, request.include, this.now(), firstRow);
        firstRow = false;
        return JSON.stringify(table);
      }
      if (request.as === 'partial') return JSON.stringify(partial(fromStored(served, stored.object as Any)));
      return objectJson(served, stored);
    };
    const mark = (version: number, end: boolean) => {
      const metadata = {
        resourceVersion: String(version),
        ...(end ? { annotations: { 'k8s.io/initial-events-end': 'true' } } : {}),
      };
      const plain = { kind: served.kind.kind, apiVersion: served.apiVersion, metadata };
      if (request.as === 'table') {
        const columns = renderTable(served, [], { resourceVersion: String(version) }, 'None', 0, firstRow);
        send('BOOKMARK', JSON.stringify({ ...columns, rows: [{ cells: [], object: plain }] }));
      } else
        send('BOOKMARK', JSON.stringify(request.as === 'partial' ? partial(plain as unknown as Any) : plain));
    };
    const emit = (signal: WatchSignal) => {
      if (signal.type === 'INITIAL_END') mark(signal.version, true);
      else send(signal.type, render(signal.stored));
    };
    let unwatch: (() => void) | null = null;
    const stop = () => {
      if (over) return;
      over = true;
      unwatch?.();
      clearTimeout(deadline);
      this.open.delete(stream);
    };
    const finish = () => {
      flush();
      stop();
      response.end();
    };
    const stream: Stream = {
      collection: request.collection.id,
      bookmark: () => {
        if (request.bookmarks && response.writableLength === 0) mark(this.version(), false);
      },
      end: finish,
    };
    const seconds =
      request.timeoutSeconds > 0 ? request.timeoutSeconds : DEFAULT_SECONDS * (1 + Math.random());
    const deadline = setTimeout(
      () => {
        // Whoever watches again from here misses nothing and gets no 410.
        if (request.bookmarks) mark(this.version(), false);
        finish();
      },
      Math.min(seconds * 1000, 2 ** 31 - 1),
    );
    deadline.unref();
    response.on('close', stop);
    response.on('error', stop);
    this.open.add(stream);
    this.schedule();
    try {
      unwatch = openWatch(request.collection, this.version(), selection, request.start, emit);
    } catch (error) {
      // The answer has begun, as with kube-apiserver: the refusal is the only event of the stream.
      if (!(error instanceof ApiError)) throw error;
      send('ERROR', JSON.stringify(error.status()));
      finish();
    }
    if (over) unwatch?.();
  }

  /** One timer for all streams, running only while there are any. */
  private schedule(): void {
    if (this.timer !== null || this.open.size === 0) return;
    this.timer = setTimeout(() => {
      this.timer = null;
      for (const stream of this.open) stream.bookmark();
      this.schedule();
    }, BOOKMARK_MS);
    this.timer.unref();
  }

  endOf(collection: string): void {
    for (const stream of [...this.open]) if (stream.collection === collection) stream.end();
  }

  close(): void {
    if (this.timer !== null) clearTimeout(this.timer);
    for (const stream of [...this.open]) stream.end();
  }
}
