// The plugin's socket: one request and one answer per connection. Owns the listener; knows nothing of the verbs.
// The answer is written when the work is complete. A caller that disconnects earlier aborts the request's signal, so
// that its ADD is undone. Bounded in connections, bytes and time.
import { createServer, type Server, type Socket } from 'node:net';
import { PodwayError } from '../base/errors.ts';
import { type CniCall, encodeAnswer, RequestDecoder } from '../cni/wire.ts';
import { listenPrivately } from './listen.ts';

/** Room for more than 200 sandboxes starting at once; a runtime has one call in flight per sandbox. */
const MAX_CONNECTIONS = 1024;
/** A request must arrive within this time. The plugin sends at once and waits 60 s for the answer. */
const REQUEST_TIMEOUT_MS = 5_000;

export type CniAnswer = { exit: 0 | 1; stdout: string };
export type CniHandler = (call: CniCall, signal: AbortSignal) => Promise<CniAnswer>;

function serveOne(socket: Socket, handler: CniHandler): void {
  const decoder = new RequestDecoder();
  const gone = new AbortController();
  let answered = false;
  let started = false;
  // The timer covers the whole request: with a timer per chunk a caller could send byte by byte for ever.
  const late = setTimeout(() => socket.destroy(), REQUEST_TIMEOUT_MS);
  socket.on('error', () => socket.destroy());
  socket.on('close', () => {
    clearTimeout(late);
    if (!answered) gone.abort(new PodwayError('IO_FAILURE', 'the caller went away before its answer'));
  });
  socket.on('data', (bytes: Buffer) => {
    let call: CniCall | null;
    try {
      call = started ? null : decoder.push(bytes);
    } catch {
      socket.destroy();
      return;
    }
    if (!call) return;
    started = true;
    clearTimeout(late);
    handler(call, gone.signal).then(
      (answer) => {
        answered = true;
        socket.end(encodeAnswer(answer.exit, answer.stdout));
      },
      () => socket.destroy(),
    );
  });
}

/** Listens on `path` (mode 0600). A socket left by an earlier agent is replaced. */
export function serveCni(path: string, handler: CniHandler): Promise<Server> {
  // The plugin keeps its side open until it has read the answer, so `allowHalfOpen` stays off: an end from the plugin
  // means that it has gone.
  const server = createServer((socket) => serveOne(socket, handler));
  server.maxConnections = MAX_CONNECTIONS;
  return listenPrivately(server, path);
}
