// The control socket's small HTTP: JSON in, JSON or NDJSON out, bodies bounded. The socket is 0600 in a 0700 folder:
// who can open it is root already.
import { chmodSync, rmSync } from 'node:fs';
import http from 'node:http';
import { errorBody, LabError } from './errors.ts';

const MAX_BODY_BYTES = 1 << 20;

/** One line of a streamed answer: progress for people, then the result or the error. */
export type StreamLine =
  | { kind: 'progress'; text: string }
  | { kind: 'item'; item: unknown }
  | { kind: 'done'; result: unknown }
  | { kind: 'error'; error: { code: string; message: string; next: string } };

export type Call = {
  path: string[];
  query: URLSearchParams;
  body: unknown;
  signal: AbortSignal;
};
export type Emit = (line: Extract<StreamLine, { kind: 'progress' | 'item' }>) => void;
/** `stream`: the answer is NDJSON and `emit` may be called until it returns. */
export type Route = {
  method: string;
  pattern: string;
  stream?: boolean;
  answer(call: Call, emit: Emit): Promise<unknown> | unknown;
};

export function serveControl(socketPath: string, routes: Route[]): Promise<http.Server> {
  const server = http.createServer((request, response) => {
    void answer(routes, request, response);
  });
  server.requestTimeout = 0;
  rmSync(socketPath, { force: true });
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    // umask 077 at the daemon's start: the socket is never open to others, not even before the chmod.
    server.listen(socketPath, () => {
      chmodSync(socketPath, 0o600);
      resolve(server);
    });
  });
}

async function answer(
  routes: Route[],
  request: http.IncomingMessage,
  response: http.ServerResponse,
): Promise<void> {
  const abort = new AbortController();
  response.once('close', () => abort.abort(new Error('the caller is gone')));
  try {
    const { url, path } = target(request);
    const route = routes.find((each) => each.method === request.method && matches(each.pattern, path));
    if (!route)
      throw new LabError(
        'NO_ROUTE',
        `${request.method} ${url.pathname} is not served`,
        'update podway: command and lab differ',
      );
    const body = await readBody(request);
    const call: Call = { path, query: url.searchParams, body, signal: abort.signal };
    if (!route.stream) {
      const value = await route.answer(call, () => {});
      response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(value ?? null));
      return;
    }
    response.writeHead(200, { 'content-type': 'application/x-ndjson' });
    const send = (line: StreamLine) => void response.write(`${JSON.stringify(line)}\n`);
    try {
      send({ kind: 'done', result: (await route.answer(call, send)) ?? null });
    } catch (error) {
      send({ kind: 'error', error: errorBody(error) });
    }
    response.end();
  } catch (error) {
    if (response.headersSent) return void response.destroy();
    response.writeHead(error instanceof LabError ? 400 : 500, { 'content-type': 'application/json' });
    response.end(
      JSON.stringify({ error: errorBody(error), exit: error instanceof LabError ? error.exit : 1 }),
    );
  }
}

function target({ url: text = '/' }: http.IncomingMessage): { url: URL; path: string[] } {
  try {
    const url = new URL(text, 'http://lab');
    const parts = url.pathname.split('/').filter((part) => part !== '');
    return { url, path: parts.map(decodeURIComponent) };
  } catch (cause) {
    throw new LabError('BAD_REQUEST', `${text} is no path of the lab`, 'use the podway command', { cause });
  }
}

function matches(pattern: string, path: string[]): boolean {
  const parts = pattern.split('/').filter((part) => part !== '');
  return (
    parts.length === path.length && parts.every((part, index) => part.startsWith(':') || part === path[index])
  );
}

async function readBody(request: http.IncomingMessage): Promise<unknown> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    size += chunk.length;
    if (size > MAX_BODY_BYTES)
      throw new LabError('TOO_LARGE', `the request is larger than ${MAX_BODY_BYTES} bytes`, 'send less');
    chunks.push(chunk);
  }
  return size === 0 ? undefined : (JSON.parse(Buffer.concat(chunks).toString()) as unknown);
}
