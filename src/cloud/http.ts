// One HTTP exchange with a bound on time and size, over node:http: loading it costs less than global fetch.
// Fails by throwing HttpFailure; `sent` tells whether the far side may have acted on the request.
import type { Agent as HttpAgent, IncomingMessage, RequestOptions } from 'node:http';

/** Not imported: an import reads every export, and behind those of node:http stand undici, http2 and TLS (16 MB). */
const { Agent, request: httpRequest } = process.getBuiltinModule('node:http');

/** A describe page of 1,000 interfaces with 50 addresses each stays below this (bytes). */
const MAX_BODY = 32 << 20;
/** Few: calls are rare, and actions of several ENIs may overlap. */
const MAX_SOCKETS = 8;

export type HttpRequest = {
  method: 'GET' | 'PUT' | 'POST';
  url: URL;
  headers?: Record<string, string>;
  body?: string;
  timeoutMs: number;
  signal?: AbortSignal | undefined;
};
export type HttpAnswer = { status: number; headers: Record<string, string>; body: string };

export class HttpFailure extends Error {
  override name = 'HttpFailure';
  readonly timedOut: boolean;
  readonly sent: boolean;
  constructor(message: string, timedOut: boolean, sent: boolean, options?: ErrorOptions) {
    super(message, options);
    this.timedOut = timedOut;
    this.sent = sent;
  }
}

const keepAlive = { keepAlive: true, maxSockets: MAX_SOCKETS, timeout: 60_000 } as const;
const plainAgent = new Agent(keepAlive);

type Transport = { request: typeof httpRequest; agent: HttpAgent };
const PROXY_VARIABLES = ['https_proxy', 'HTTPS_PROXY', 'no_proxy', 'NO_PROXY'];
/** This machine and what is beside it (169.254/16, fe80::/10, EC2's fd00:ec2::/32): no proxy could reach it for us. */
const NEAR = /^(localhost|127\.|169\.254\.|\[::1\]|\[fe[89ab]|\[fd00:ec2:)/;

let secure: { proxy: string; transport: Transport } | undefined;
let secureNear: Transport | undefined;

/**
 * node:https is loaded at the first https address: the lab has none. HTTPS_PROXY and NO_PROXY are Node's own doing;
 * plain http addresses (IMDS, the lab) never go by a proxy.
 */
function transportFor(url: URL): Transport {
  if (url.protocol !== 'https:') return { request: httpRequest, agent: plainAgent };
  const https = process.getBuiltinModule('node:https');
  const request = https.request as typeof httpRequest;
  if (NEAR.test(url.hostname)) {
    secureNear ??= { request, agent: new https.Agent(keepAlive) };
    return secureNear;
  }
  const env = Object.fromEntries(PROXY_VARIABLES.map((name) => [name, process.env[name]]));
  const proxy = JSON.stringify(env);
  if (secure?.proxy !== proxy) {
    const agent = new https.Agent({ ...keepAlive, proxyEnv: env });
    secure = { proxy, transport: { request, agent } };
  }
  return secure.transport;
}

export async function exchange(query: HttpRequest): Promise<HttpAnswer> {
  query.signal?.throwIfAborted();
  const { request, agent } = transportFor(query.url);
  return new Promise((resolve, reject) => {
    let sent = false;
    const options: RequestOptions = { method: query.method, agent, headers: { ...query.headers } };
    const body = query.body === undefined ? undefined : Buffer.from(query.body);
    if (body) (options.headers as Record<string, string | number>)['content-length'] = body.length;
    const outgoing = request(query.url, options);
    const onAbort = () => outgoing.destroy(query.signal?.reason as Error);
    const timer = setTimeout(() => outgoing.destroy(new TimeoutError(query.timeoutMs)), query.timeoutMs);
    const settle = () => {
      clearTimeout(timer);
      query.signal?.removeEventListener('abort', onAbort);
    };
    const fail = (error: unknown) => {
      settle();
      if (query.signal?.aborted) return reject(query.signal.reason);
      const text =
        error instanceof Error
          ? error.message || String((error as NodeJS.ErrnoException).code)
          : String(error);
      reject(
        new HttpFailure(`${query.url.origin}: ${text}`, error instanceof TimeoutError, sent, {
          cause: error,
        }),
      );
    };
    query.signal?.addEventListener('abort', onAbort, { once: true });
    outgoing.on('error', fail);
    outgoing.on('finish', () => {
      sent = true;
    });
    outgoing.on('response', (incoming) => {
      readBody(incoming).then((text) => {
        settle();
        resolve({ status: incoming.statusCode ?? 0, headers: flatHeaders(incoming), body: text });
      }, fail);
    });
    outgoing.end(body);
  });
}

class TimeoutError extends Error {
  constructor(ms: number) {
    super(`no answer within ${ms} ms`);
  }
}

function flatHeaders(incoming: IncomingMessage): Record<string, string> {
  const flat: Record<string, string> = {};
  for (const [name, value] of Object.entries(incoming.headers))
    flat[name] = Array.isArray(value) ? value.join(', ') : (value ?? '');
  return flat;
}

async function readBody(incoming: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of incoming as AsyncIterable<Buffer>) {
    size += chunk.length;
    if (size > MAX_BODY) {
      incoming.destroy();
      throw new Error(`the answer is over ${MAX_BODY} bytes`);
    }
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString('utf8');
}
