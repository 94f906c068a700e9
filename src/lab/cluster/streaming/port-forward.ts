// `pods/portforward`: connections to the localhost of a running pod, as kubectl tunnels them: one WebSocket carries SPDY,
// a connection is a stream for its data and one for its error. All end with the WebSocket.
import type { IncomingMessage } from 'node:http';
import { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import type { WebSocket } from 'ws';
import { openNetns } from '../../../kernel/netns.ts';
import { connectTcpIn } from '../../../kernel/sockets.ts';
import type { Pod } from '../../../kube/types.ts';
import { type PodAccess, type RunningPod, runningOf } from './access.ts';
import { SpdyServer } from './spdy.ts';
import { acceptWebSocket, protocolOf, send } from './websocket.ts';

export const FORWARD_PROTOCOLS = ['SPDY/3.1+portforward.k8s.io'];
const LOCALHOST = '127.0.0.1';
/** Connections of one client at once. */
const MAX_CONNECTIONS = 512;

export async function servePortForward(
  access: PodAccess,
  pod: Pod,
  query: URLSearchParams,
  request: IncomingMessage,
  socket: Duplex,
  head: Buffer,
): Promise<void> {
  const running = runningOf(access, pod, query);
  const protocol = protocolOf(request, FORWARD_PROTOCOLS);
  const client = await acceptWebSocket(request, socket, head, protocol);
  forward(client, running, `pod ${pod.metadata.name}, uid ${pod.metadata.uid}`);
}

type Connection = { port: number; error: number; data: number; socket: Socket | undefined };

function forward(client: WebSocket, running: RunningPod, what: string): void {
  /** By the client's number of the connection; its streams come one after the other. */
  const waiting = new Map<string, Connection>();
  const byData = new Map<number, Connection>();
  const server = new SpdyServer((bytes, source) => send(client, bytes, source), {
    accepts: (headers) =>
      portIn(headers) !== 0 &&
      ['error', 'data'].includes(headers.get('streamtype') ?? '') &&
      waiting.size + byData.size < MAX_CONNECTIONS,
    open(id, headers) {
      const request = headers.get('requestid') ?? '';
      const connection = waiting.get(request) ?? {
        port: portIn(headers),
        error: 0,
        data: 0,
        socket: undefined,
      };
      connection[headers.get('streamtype') as 'error' | 'data'] = id;
      waiting.set(request, connection);
      if (connection.error === 0 || connection.data === 0) return;
      waiting.delete(request);
      byData.set(connection.data, connection);
      begin(connection);
    },
    data(id, bytes) {
      const connection = byData.get(id);
      if (connection?.socket?.write(bytes) === false) {
        client.pause();
        connection.socket.once('drain', () => client.resume());
        connection.socket.once('close', () => client.resume());
      }
    },
    end: (id) => void byData.get(id)?.socket?.end(),
    reset(id) {
      if (id === 0) return client.close(1000);
      const connection = byData.get(id);
      if (!byData.delete(id)) return;
      connection!.socket?.destroy();
      server.end(connection!.error);
    },
  });

  function begin(connection: Connection): void {
    let refused: string | undefined;
    const finish = () => {
      if (!byData.delete(connection.data)) return;
      if (refused !== undefined) {
        const text = `error forwarding port ${connection.port} to ${what}: ${refused}`;
        server.write(connection.error, Buffer.from(text));
      }
      server.end(connection.error);
      if (refused === undefined) server.end(connection.data);
      else server.reset(connection.data);
    };
    try {
      connection.socket = localhostOf(running.netns, connection.port);
    } catch (error) {
      refused = (error as Error).message;
      finish();
      return;
    }
    const { socket } = connection;
    socket.on('data', (bytes: Buffer) => server.write(connection.data, bytes, socket));
    // The pod has sent all; the client may not have.
    socket.once('end', () => server.end(connection.data));
    socket.once('error', (error) => {
      refused = error.message;
    });
    socket.once('close', finish);
  }

  client.on('message', (message: Buffer) => {
    server.read(message).catch(() => client.close(1002, 'no SPDY'));
  });
  client.once('close', () => {
    server.close();
    for (const { socket } of byData.values()) socket?.destroy();
    byData.clear();
  });
}

/** 0 for none. */
function portIn(headers: ReadonlyMap<string, string>): number {
  const port = Number(headers.get('port'));
  return Number.isInteger(port) && port > 0 && port < 65536 ? port : 0;
}

function localhostOf(path: string, port: number): Socket {
  using netns = openNetns(path);
  const fd = connectTcpIn(netns, LOCALHOST, port);
  return new Socket({ fd, readable: true, writable: true, allowHalfOpen: true });
}
