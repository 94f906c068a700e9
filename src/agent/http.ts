// The agent's HTTP faces: introspection on a unix socket that only the owner may open, and the three public paths
// (/metrics, /healthz, /readyz) on a TCP port of the node, which only read. Bounded in connections and header time.
import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import { asPodwayError, PodwayError } from '../base/errors.ts';
import type { Listen } from './config.ts';
import { listenPrivately } from './listen.ts';

/** Loaded with require: an import reads every export, and node:http's exports load undici, http2 and TLS (16 MB). */
const { createServer } = process.getBuiltinModule('node:http');

export type Answer = { status: number; contentType: string; body: string };
/** Handlers by path; `POST /path` for a request that changes something. */
export type Routes = Record<string, (query: URLSearchParams) => Answer | Promise<Answer>>;

/** Scrapers and the CLI need a handful; more is a leak or an attack. */
const MAX_CONNECTIONS = 64;

export const json = (value: unknown, status = 200): Answer => ({
  status,
  contentType: 'application/json',
  body: `${JSON.stringify(value)}\n`,
});
export const plain = (body: string, status = 200, contentType = 'text/plain; charset=utf-8'): Answer => ({
  status,
  contentType,
  body,
});

function serve(routes: Routes): Server {
  const answer = async (request: IncomingMessage, response: ServerResponse) => {
    let result: Answer;
    try {
      const { pathname, searchParams } = new URL(request.url ?? '/', 'http://agent');
      const route = routes[request.method === 'GET' ? pathname : `${request.method} ${pathname}`];
      if (route) result = await route(searchParams);
      else if (routes[pathname]) result = plain('only GET\n', 405);
      else result = json({ paths: Object.keys(routes) }, 404);
    } catch (error) {
      const { code, message, details } = asPodwayError(error);
      result = json({ error: { code, message, next: details.next } }, 500);
    }
    response.writeHead(result.status, { 'content-type': result.contentType });
    response.end(result.body);
  };
  const server = createServer({ requestTimeout: 5_000, headersTimeout: 5_000 }, (request, response) => {
    void answer(request, response);
  });
  server.maxConnections = MAX_CONNECTIONS;
  return server;
}

/** Serves `routes` on a unix socket of mode 0600. */
export const serveUnix = (path: string, routes: Routes): Promise<Server> =>
  listenPrivately(serve(routes), path);

/** Throws LISTEN_FAILED, which names the address and the system's word. */
export function serveTcp({ host, port }: Listen, routes: Routes): Promise<Server> {
  const server = serve(routes);
  return new Promise((resolve, reject) => {
    server.once('error', (error) => {
      const at = `${host.includes(':') ? `[${host}]` : host}:${port}`;
      reject(
        new PodwayError(
          'LISTEN_FAILED',
          `metrics and health cannot be served on ${at}: ${error.message}`,
          { object: at },
          { cause: error },
        ),
      );
    });
    const where = host === '' ? { port } : { host, port };
    server.listen(where, () => resolve(server));
  });
}
