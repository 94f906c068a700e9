// A server's answer to a connection without a whole request: none when no byte came, as AWS's metadata service does;
// 408 or 400 when a request was begun and did not end or could not be read. The connection ends either way.
import type { Server } from 'node:http';
import type { Socket } from 'node:net';

const TIMED_OUT = 'ERR_HTTP_REQUEST_TIMEOUT';

export function closeSilently(server: Server): void {
  server.on('clientError', (error: NodeJS.ErrnoException, socket) => {
    if (socket.writable && (socket as Socket).bytesRead > 0) {
      const status = error.code === TIMED_OUT ? '408 Request Timeout' : '400 Bad Request';
      socket.end(`HTTP/1.1 ${status}\r\nConnection: close\r\n\r\n`);
    } else socket.destroy();
  });
}
