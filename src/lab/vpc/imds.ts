// The instance metadata service, version 2 (and 1 where the instance allows it), for a caller that is known already.
// Tokens carry their end and their instance under an HMAC: nothing is stored, and one instance's token is 401 elsewhere.
// Answers as AWS does: 400 for a bad TTL, 401 without a valid token, 403 when forwarded or disabled, 404, 405.
import { randomBytes, timingSafeEqual } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { ImdsView } from './faults/imds-lag.ts';
import { type ImdsNode, type ImdsSource, imdsTree, VERSIONS } from './imds-tree.ts';
import type { Instance, VpcState } from './model.ts';

const MAX_TTL_SECONDS = 21_600;
const TTL_HEADER = 'x-aws-ec2-metadata-token-ttl-seconds';
const TOKEN_HEADER = 'x-aws-ec2-metadata-token';
const TOKEN_PATH = /^\/([^/]+)\/api\/token\/?$/;
/** The versions, and what one has, are listed without trailing slashes; all below with them. */
const PLAIN_DEPTH = 1;

export type ImdsCaller = {
  instanceId: string;
  /**
   * Called right before an answer is written: a token answer must leave with IP TTL `hopLimit`, any other with the
   * usual one.
   */
  beforeAnswer?: (answer: { token: boolean; hopLimit: number }) => void;
};

export type ImdsBackend = ImdsSource & { state(): VpcState; sign(text: string): Buffer };

type Reply = { status: number; body: string; headers?: Record<string, string>; token?: boolean };

const TITLES: Record<number, string> = {
  400: 'Bad Request',
  401: 'Unauthorized',
  403: 'Forbidden',
  404: 'Not Found',
  405: 'Method Not Allowed',
  429: 'Too Many Requests',
  500: 'Internal Server Error',
  503: 'Service Unavailable',
};
const refusal = (status: number): Reply => {
  const title = `${status} - ${TITLES[status] ?? 'Error'}`;
  return {
    status,
    headers: { 'content-type': 'text/html' },
    body: `<?xml version="1.0" encoding="iso-8859-1"?>
<!DOCTYPE html PUBLIC "-//W3C//DTD XHTML 1.0 Transitional//EN"
	"http://www.w3.org/TR/xhtml1/DTD/xhtml1-transitional.dtd">
<html xmlns="http://www.w3.org/1999/xhtml" xml:lang="en" lang="en">
 <head>
  <title>${title}</title>
 </head>
 <body>
  <h1>${title}</h1>
 </body>
</html>
`,
  };
};

/** How one request may be answered: from a view of the state, else the present one; or without looking, as told. */
type ImdsAnswers = { answer(view: ImdsView | undefined): void; plain(status: number, body: string): void };

export function createImds(
  backend: ImdsBackend,
): (request: IncomingMessage, response: ServerResponse, caller: ImdsCaller) => ImdsAnswers {
  return (request, response, caller) => {
    const instance = backend.state().instances[caller.instanceId];
    return {
      answer: (view) => write(instance ? replyTo(backend, instance, request, view) : refusal(404)),
      plain: (status, body) => write(status === 200 ? { status, body } : refusal(status)),
    };
    function write(reply: Reply): void {
      caller.beforeAnswer?.({ token: reply.token ?? false, hopLimit: instance?.hopLimit ?? 1 });
      const text = Buffer.from(reply.body);
      // The request's body is not read: the connection ends with the answer.
      const hasBody =
        request.headers['transfer-encoding'] !== undefined ||
        Number(request.headers['content-length'] ?? 0) > 0;
      response.writeHead(reply.status, {
        server: 'EC2ws',
        'content-type': 'text/plain',
        'content-length': text.length,
        'accept-ranges': 'none',
        ...(hasBody ? { connection: 'close' } : {}),
        ...reply.headers,
      });
      response.end(request.method === 'HEAD' ? undefined : text);
    }
  };
}

function replyTo(
  backend: ImdsBackend,
  instance: Instance,
  request: IncomingMessage,
  view: ImdsView | undefined,
): Reply {
  if (instance.httpEndpoint === 'disabled') return refusal(403);
  const path = (request.url ?? '/').split('?', 1)[0]!;
  if (request.method === 'PUT')
    return VERSIONS.includes(TOKEN_PATH.exec(path)?.[1] ?? '')
      ? newToken(backend, instance, request)
      : refusal(405);
  if (request.method !== 'GET' && request.method !== 'HEAD') return refusal(405);
  const token = request.headers[TOKEN_HEADER];
  let remaining: number | undefined;
  if (token === undefined) {
    if (instance.httpTokens === 'required') return refusal(401);
  } else {
    remaining = secondsLeft(backend, instance.id, String(token));
    if (remaining === undefined) return refusal(401);
  }
  const body = lookUp(imdsTree(backend, view?.state ?? backend.state(), instance, view?.bare), path);
  if (body === undefined) return refusal(404);
  return { status: 200, body, headers: remaining === undefined ? {} : { [TTL_HEADER]: String(remaining) } };
}

function newToken(backend: ImdsBackend, instance: Instance, request: IncomingMessage): Reply {
  // Open proxies add this header; a token must not travel through one.
  if (request.headers['x-forwarded-for'] !== undefined) return refusal(403);
  const text = request.headers[TTL_HEADER];
  const ttl = Number(text);
  if (typeof text !== 'string' || !/^[0-9]{1,5}$/.test(text) || ttl < 1 || ttl > MAX_TTL_SECONDS)
    return refusal(400);
  const body = Buffer.concat([Buffer.alloc(8), randomBytes(8)]);
  body.writeBigUInt64BE(BigInt(backend.now() + ttl * 1000));
  const sealed = Buffer.concat([body, seal(backend, instance.id, body)]).toString('base64url');
  return { status: 200, token: true, body: `${sealed}==`, headers: { [TTL_HEADER]: String(ttl) } };
}

const seal = (backend: ImdsBackend, instanceId: string, body: Uint8Array): Buffer =>
  backend.sign(`imds:${instanceId}:${Buffer.from(body).toString('hex')}`).subarray(0, 24);

/** Seconds that a token is still good for on that instance; undefined for any other token. */
function secondsLeft(backend: ImdsBackend, instanceId: string, token: string): number | undefined {
  const bytes = Buffer.from(token, 'base64url');
  if (bytes.length !== 40) return undefined;
  const body = bytes.subarray(0, 16);
  if (!timingSafeEqual(seal(backend, instanceId, body), bytes.subarray(16))) return undefined;
  const left = Number(body.readBigUInt64BE()) - backend.now();
  return left > 0 ? Math.ceil(left / 1000) : undefined;
}

function lookUp(root: ImdsNode, path: string): string | undefined {
  let node: ImdsNode | undefined = root;
  const steps = path.split('/').filter((part) => part !== '');
  for (const step of steps) {
    if (typeof node !== 'object') return undefined;
    // Names in the tree carry no escapes but the colons of a MAC, which clients may send either way.
    node = childOf(node, step.replace(/%3a/gi, ':'));
    if (node === undefined) return undefined;
  }
  return typeof node === 'object' ? list(node, steps.length > PLAIN_DEPTH ? '/' : '') : node();
}

const childOf = (node: Exclude<ImdsNode, () => string>, name: string): ImdsNode | undefined =>
  Object.hasOwn(node, name) ? node[name] : undefined;

/** A directory's entries, one a line, directories with `mark` behind them. */
const list = (node: Exclude<ImdsNode, () => string>, mark: string): string =>
  Object.entries(node)
    .filter((entry) => entry[1] !== undefined)
    .map(([name, child]) => (typeof child === 'object' ? name + mark : name))
    .sort()
    .join('\n');
