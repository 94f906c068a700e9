// The controller's HTTP face: /healthz, /readyz and /metrics, which only read. Bounded in connections and header time.
// Fails with LISTEN_FAILED, which names the address and the system's word.
import { createServer, type Server } from 'node:http';
import { PodwayError } from '../base/errors.ts';
import type { Listen } from './options.ts';

const MAX_CONNECTIONS = 32;

export type Faces = {
  /** Null when all is well, else why not. */
  ready: () => string | null;
  metrics: () => Promise<string>;
};

export function serveFaces({ host, port }: Listen, faces: Faces): Promise<Server> {
  const answers: Record<string, () => Promise<[number, string]>> = {
    '/healthz': async () => [200, 'ok\n'],
    '/readyz': async () => {
      const trouble = faces.ready();
      return trouble === null ? [200, 'ok\n'] : [503, `${trouble}\n`];
    },
    '/metrics': async () => [200, await faces.metrics()],
  };
  const server = createServer({ requestTimeout: 5_000, headersTimeout: 5_000 }, (request, response) => {
    const answer = answers[(request.url ?? '/').split('?')[0]!];
    void (request.method === 'GET' && answer ? answer() : Promise.resolve([404, 'not here\n'] as const))
      .catch((error: Error) => [500, `${error.message}\n`] as const)
      .then(([status, body]) => {
        response.writeHead(status, { 'content-type': 'text/plain; charset=utf-8' });
        response.end(body);
      });
  });
  server.maxConnections = MAX_CONNECTIONS;
  return new Promise((resolve, reject) => {
    const at = `${host.includes(':') ? `[${host}]` : host}:${port}`;
    server.once('error', (error) => {
      const text = `metrics and health cannot be served on ${at}: ${error.message}`;
      reject(new PodwayError('LISTEN_FAILED', text, { object: at }, { cause: error }));
    });
    server.listen(host === '' ? { port } : { host, port }, () => resolve(server));
  });
}
