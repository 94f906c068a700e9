// The HTTP side: who calls, whether he may, what is asked for, and answers within bounds. Every failure is a Status
// object.
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { TLSSocket } from 'node:tls';
import { type Attributes, attributesOf } from './attributes.ts';
import type { Calls } from './calls.ts';
import type { Discovery } from './discovery.ts';
import * as errors from './errors.ts';
import { impersonated } from './impersonate.ts';
import type { Kinds } from './kinds.ts';
import { baseType, parseJson, parseYaml } from './negotiate.ts';
import type { OpenApi } from './openapi.ts';
import type { ReadBody, Reply } from './options.ts';
import type { Pki, User } from './pki.ts';
import { decodeProtobuf, PROTOBUF } from './protobuf.ts';
import type { Rbac } from './rbac.ts';
import { type Rest, targetOf } from './rest.ts';
import { answerReview, reviewOf } from './reviews.ts';

/** As kube-apiserver: three mebibytes in one object. */
export const MAX_BODY = 3 * 1024 * 1024;
/** Requests being worked on at once, watches not counted. */
const MAX_INFLIGHT = 400;

export type HttpParts = {
  kinds: Kinds;
  rest: Rest;
  pki: Pki;
  rbac: Rbac;
  calls: Calls;
  discovery: Discovery;
  openApi: OpenApi;
};

export function createHandler(
  parts: HttpParts,
): (request: IncomingMessage, response: ServerResponse) => void {
  let inflight = 0;
  return (request, response) => {
    const reply: Reply = (code, body, contentType = 'application/json') => {
      if (response.headersSent) return;
      const finish = (text: string) => {
        response.writeHead(code, {
          'content-type': contentType,
          'content-length': Buffer.byteLength(text),
          'cache-control': 'no-cache, private',
        });
        response.end(request.method === 'HEAD' ? undefined : text);
      };
      if (contentType !== 'application/yaml') return finish(body);
      import('yaml').then(
        (yaml) => finish(yaml.stringify(JSON.parse(body))),
        (error: unknown) => refuse(response, error),
      );
    };
    inflight++;
    response.once('close', () => inflight--);
    if (inflight > MAX_INFLIGHT + parts.rest.streams.size) {
      return refuse(response, errors.tooManyRequests('too many requests at once, please try again later'));
    }
    answer(parts, request, response, reply).catch((error: unknown) => refuse(response, error));
  };
}

function refuse(response: ServerResponse, error: unknown): void {
  const known = errors.asApiError(error);
  if (response.headersSent || response.destroyed) {
    response.destroy();
    return;
  }
  const text = JSON.stringify(known.status());
  const retry = known.details?.retryAfterSeconds;
  response.writeHead(known.code, {
    'content-type': 'application/json',
    'content-length': Buffer.byteLength(text),
    'cache-control': 'no-cache, private',
    ...(retry === undefined ? {} : { 'retry-after': String(retry) }),
    // The rest of a body that was refused is not worth reading.
    ...(known.code === 413 || known.code === 401 ? { connection: 'close' } : {}),
  });
  response.end(text);
}

/** Everybody who is known is also one of these. */
const AUTHENTICATED = 'system:authenticated';

function callerOf(parts: HttpParts, request: IncomingMessage): User | null {
  const user = bearerOf(parts, request);
  if (user === null || user.groups.includes(AUTHENTICATED)) return user;
  return { ...user, groups: [...user.groups, AUTHENTICATED] };
}

function bearerOf({ pki, rest }: HttpParts, request: IncomingMessage): User | null {
  const header = request.headers.authorization;
  if (header !== undefined) {
    const token = /^Bearer ([A-Za-z0-9\-._~+/]+=*)$/i.exec(header)?.[1];
    if (token === undefined) return null;
    return pki.userOfToken(token) ?? rest.tokens.userOf(token)?.user ?? null;
  }
  return pki.userOfSocket(request.socket as TLSSocket);
}

/** Notes the call, and throws Forbidden for one that no role allows. */
export function authorise({ rbac, calls }: HttpParts, user: User, attributes: Attributes): void {
  const { allowed } = rbac.decide(user, attributes);
  calls.note(user, attributes, allowed);
  if (!allowed) rbac.check(user, attributes);
}

/** Who asks for what, known and allowed. */
export function identify(parts: HttpParts, request: IncomingMessage) {
  const caller = callerOf(parts, request);
  if (caller === null) throw errors.unauthorized();
  const url = request.url?.startsWith('/') ? URL.parse(`https://api${request.url}`) : null;
  if (url === null) throw errors.badRequest('the URL of the request does not parse');
  const segments = segmentsOf(url.pathname);
  const user = impersonated(caller, request.headers, (attributes) => authorise(parts, caller, attributes));
  const attributes = attributesOf(request.method ?? 'GET', segments, url.searchParams);
  authorise(parts, user, attributes);
  return { user, url, segments, attributes, query: url.searchParams };
}

async function answer(
  parts: HttpParts,
  request: IncomingMessage,
  response: ServerResponse,
  reply: Reply,
): Promise<void> {
  const { user, url, segments } = identify(parts, request);
  const read: ReadBody = (types) => readBody(request, types);

  const [root, ...path] = segments;
  if (root === 'api' && path.length >= 2) {
    const target = targetOf(parts.kinds, '', path[0]!, path.slice(1));
    if (target !== null)
      return parts.rest.answer(request, response, target, user, url.searchParams, read, reply);
  } else if (root === 'apis' && path.length >= 3) {
    const target = targetOf(parts.kinds, path[0]!, path[1]!, path.slice(2));
    if (target !== null)
      return parts.rest.answer(request, response, target, user, url.searchParams, read, reply);
    const asked = request.method === 'POST' ? reviewOf(path) : undefined;
    if (asked) {
      const { value } = await read(['application/json', 'application/yaml']);
      return reply(201, JSON.stringify(answerReview(reviewParts(parts), asked.review, user, value)));
    }
  }
  if (request.method === 'GET' || request.method === 'HEAD') {
    const openId = parts.rest.tokens.openId(segments);
    if (openId !== null) return reply(200, JSON.stringify(openId));
    if (parts.discovery.answer(segments, request, response, reply)) return;
    if (parts.openApi.answer(segments, request, reply)) return;
  }
  throw errors.noSuchPath();
}

const reviewParts = ({ rbac, pki, rest }: HttpParts) => ({
  rbac,
  userOf: (token: string, audiences: readonly string[]) => {
    const user = pki.userOfToken(token);
    return user === null ? rest.tokens.userOf(token, audiences) : { user, audiences: [...audiences] };
  },
});

function segmentsOf(pathname: string): string[] {
  try {
    const parts = pathname.split('/').slice(1).map(decodeURIComponent);
    return parts.at(-1) === '' ? parts.slice(0, -1) : parts;
  } catch {
    throw errors.badRequest('the URL of the request does not parse');
  }
}

async function readBody(
  request: IncomingMessage,
  types: readonly string[],
): Promise<{ value: unknown; type: string }> {
  // Clients that name no type send JSON, as kube-apiserver takes it.
  const type = baseType(request.headers['content-type']) || 'application/json';
  const protobuf = type === PROTOBUF && types.includes('application/json');
  if (!types.includes(type) && !protobuf) throw errors.unsupportedMediaType(types);
  if (Number(request.headers['content-length'] ?? 0) > MAX_BODY) throw errors.tooLarge(MAX_BODY);
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of request.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
    size += chunk.length;
    if (size > MAX_BODY) throw errors.tooLarge(MAX_BODY);
    chunks.push(chunk);
  }
  if (protobuf) return { value: decodeProtobuf(Buffer.concat(chunks)), type };
  const text = Buffer.concat(chunks).toString('utf8');
  if (text.trim() === '') throw errors.badRequest('the request has no body');
  const value = type.endsWith('yaml') && !/^\s*\{/.test(text) ? await parseYaml(text) : parseJson(text);
  return { value, type };
}
