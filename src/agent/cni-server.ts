// The plugin's socket: one request and one answer per connection. Owns the listener and nothing of what a verb means.
// An answer is written only when the work is whole; a caller that goes away before that aborts the request's signal,
// so that an ADD nobody waits for is undone. Bounded in connections, bytes and time.
import { createServer, type Server, type Socket } from 'node:net';
import { PodwayError } from '../base/errors.ts';
import { type CniCall, encodeAnswer, RequestDecoder } from '../cni/wire.ts';
import { listenPrivately } from './listen.ts';

/** Two hundred sandboxes starting at once, with room; a runtime has one call in flight per sandbox. */
const MAX_CONNECTIONS = 1024;
/** The plugin waits 60 s for an answer; a request that takes this long to arrive is not from it. */
const REQUEST_TIMEOUT_MS = 5_000;

export type CniAnswer = { exit: 0 | 1; stdout: string };
export type CniHandler = (call: CniCall, signal: AbortSignal) => Promise<CniAnswer>;

function serveOne(socket: Socket, handler: CniHandler): void {
  const decoder = new RequestDecoder();
  const gone = new AbortController();
  let answered = false;
  let started = false;
  // For the whole request, not between two pieces of it: byte by byte a caller could stay for ever.
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
  // The plugin half-closes nothing: it reads until the end of the answer, so `allowHalfOpen` stays off and the end of
  // its side is the end of its interest.
  const server = createServer((socket) => serveOne(socket, handler));
  server.maxConnections = MAX_CONNECTIONS;
  return listenPrivately(server, path);
}
