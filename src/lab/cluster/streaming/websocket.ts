// The server side of one WebSocket, by `ws`, which is loaded at the first one.
import type { IncomingMessage } from 'node:http';
import type { Duplex } from 'node:stream';
import type { WebSocket } from 'ws';
import { StreamRefusal } from './access.ts';

/** One message; clients of Kubernetes send at most 32 KiB each. */
const MAX_MESSAGE = 16 << 20;
/** Bytes that may wait for a slow client before its source is paused. */
const MAX_WAITING = 1 << 20;
/** A client that answers no ping for this long is gone. */
const PING_MS = 15_000;

/** The first of the client's protocols that is served. Throws StreamRefusal when there is none. */
export function protocolOf(request: IncomingMessage, served: readonly string[]): string {
  const offered = String(request.headers['sec-websocket-protocol'] ?? '')
    .split(',')
    .map((each) => each.trim());
  const found = offered.find((each) => served.includes(each));
  if (found !== undefined) return found;
  throw new StreamRefusal(
    400,
    `unable to upgrade: unable to negotiate protocol: client supports ${JSON.stringify(offered)}, server accepts ${JSON.stringify(served)}`,
  );
}

export async function acceptWebSocket(
  request: IncomingMessage,
  socket: Duplex,
  head: Buffer,
  protocol: string,
): Promise<WebSocket> {
  const { WebSocketServer } = await import('ws');
  const server = new WebSocketServer({
    noServer: true,
    maxPayload: MAX_MESSAGE,
    perMessageDeflate: false,
  });
  // `ws` takes tokens of RFC 7230 alone, and the name of kubectl's tunnel has a slash: it is kept from its eyes.
  delete request.headers['sec-websocket-protocol'];
  server.on('headers', (headers) => headers.push(`Sec-WebSocket-Protocol: ${protocol}`));
  const client = await new Promise<WebSocket>((resolve, reject) => {
    socket.once('close', () => reject(new Error('the client is gone')));
    server.handleUpgrade(request, socket, head, resolve);
  });
  watch(client);
  return client;
}

/** A connection whose other end has vanished would be kept for ever. */
function watch(client: WebSocket): void {
  let alive = true;
  client.on('pong', () => {
    alive = true;
  });
  const timer = setInterval(() => {
    if (!alive) return client.terminate();
    alive = false;
    client.ping();
  }, PING_MS);
  client.once('close', () => clearInterval(timer));
  // Told by `close`, too.
  client.on('error', () => {});
}

export type Source = { pause(): unknown; resume(): unknown };

/** Sends, and pauses the source while too much waits for the client. */
export function send(client: WebSocket, bytes: Buffer, source?: Source): void {
  if (client.readyState !== client.OPEN) return;
  const full = source !== undefined && client.bufferedAmount > MAX_WAITING;
  if (full) source.pause();
  client.send(bytes, () => {
    if (full) source.resume();
  });
}
